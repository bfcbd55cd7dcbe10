import numpy as np
import pandas as pd
import polars as pl
import pytest

from ensemble import Blend, RunFolder, load_experiment, predict, run_experiment
from features import ClimstackError, FoldedStore, FoldPlan, Store, describe
from models import CellStore, read_member

EXPERIMENT = """
name = "first"
[data]
train = "train.parquet"
schema = "mine.toml"
[folds]
n_folds = 3
[[models]]
family = "ridge"
"""


def test_stores_frames_and_arrays_give_the_same_predictions(tmp_path):
    rng = np.random.default_rng(0)
    table = pl.DataFrame({f"x{i}": rng.normal(size=90) for i in range(4)})
    table = table.with_columns(y=pl.col("x0") - 2 * pl.col("x3"))
    table.write_parquet(tmp_path / "train.parquet")
    schema = describe(table, ["y"])
    (tmp_path / "mine.toml").write_text(schema.to_toml())
    (tmp_path / "first.toml").write_text(EXPERIMENT)
    experiment = load_experiment(tmp_path / "first.toml")
    run_experiment(experiment, tmp_path / "runs")
    run = RunFolder(tmp_path / "runs" / "first")
    data = FoldedStore(Store(run.train_store), FoldPlan.load(run.folds))
    members = [read_member(data, spec, CellStore(run.cells)) for spec in experiment.models]
    blend = Blend.load(run.blend)

    def outputs(rows):
        return np.concatenate(list(predict(blend, members, rows, scratch=tmp_path)))

    inputs = table.select("x0", "x1", "x2", "x3")
    expected = outputs(data.store)
    assert np.corrcoef(expected[:, 0], table["y"])[0, 1] > 0.99
    turned = inputs.select("x3", "x2", "x1", "x0")
    for rows in (inputs, pd.DataFrame(inputs.to_dict()), inputs.to_numpy(), turned):
        np.testing.assert_array_equal(outputs(rows), expected)
    with pytest.raises(ClimstackError, match="has no column 'x2'"):
        outputs(inputs.drop("x2"))
    with pytest.raises(ClimstackError, match=r"shape \(90, 3\)"):
        outputs(inputs.to_numpy()[:, :3])
    assert {path.name for path in tmp_path.iterdir()} == {
        "train.parquet", "mine.toml", "first.toml", "runs",
    }  # fmt: skip
