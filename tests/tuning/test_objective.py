import numpy as np
import pytest

from features import FoldedStore, Store, kfold
from features.scoring.metric import load_metric, skill
from models import CellStore, ModelSpec
from tuning import Space
from tuning.objective import Objective, Step


@pytest.mark.parametrize("metric", ["rmse", "r2"])
def test_a_model_of_some_targets_is_scored_on_its_own(metric, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    y = np.stack([rng.normal(size=300), x[:, 0] + 0.5 * rng.normal(size=300)], axis=1)
    data = FoldedStore(Store.from_arrays(tmp_path / "s", x, y), kfold(300, n_folds=3))
    spec = ModelSpec(name="m", family="lightgbm", params={"n_rounds": 20}, targets=("y1",))
    step, cells = Step(0, (0,)), CellStore(tmp_path / "c")
    with Objective(data, spec, Space.of(spec), [step], cells, metric=metric) as objective:
        [value] = objective.values(spec, step)
        _, cell = objective.find(spec, step)
    rows = data.plan.valid_rows(0)
    [expected] = skill(load_metric(metric), y[rows, 1:], np.array(cell.oof()))
    assert value == pytest.approx(expected, abs=1e-6)
    assert value > 0.2  # of the first target nothing can be known
