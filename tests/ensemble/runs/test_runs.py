"""Every scheme of folds from an experiment to a submission."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ensemble import DataSettings, Experiment, FoldSettings, load_experiment, run_experiment
from ensemble.runs.planner import plan_run
from features import ClimstackError, DataWarning, LeakageWarning, Store
from features.core.files import read_json
from models import ModelSpec

N, M = 150, 20
SITES = np.random.default_rng(1).choice(["oslo", "rome", "bern", "riga", "lyon", "faro"], N)
SCHEMES = {
    "time_blocks": {},
    "forward_chaining": {},
    "random_rows": {},
    "groups": {},
    "kfold": {},
    "stratified": {"by": "y1"},
    "column": {},
    "file": {"file": "folds.csv"},
}
BLOCKS = {"groups": "whole groups", "kfold": "whole rows", "time_blocks": "whole blocks of time"}


def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(n).normal(size=(n, 4))
    return x, x @ np.arange(8.0).reshape(4, 2) + 0.1 * np.sin(5 * x[:, :2])


@pytest.fixture(params=[*SCHEMES, None])
def scheme(request) -> str | None:
    return request.param


@pytest.fixture
def stores(tmp_path, scheme) -> dict[str, Store]:
    x, y = rows(N)
    known = {"ids": np.arange(N) * 2, "folds": np.arange(N) % 4}
    if scheme in ("time_blocks", "forward_chaining", "random_rows"):
        known["times"] = np.arange(N) // 3
    if scheme == "groups":
        known["groups"] = SITES
    train = Store.from_arrays(tmp_path / "train", x, y, **known)
    test = Store.from_arrays(tmp_path / "test", rows(M)[0], schema=train.schema)
    return {"train": train, "test": test}


def test_from_experiment_to_submission(tmp_path, stores, scheme):
    pl.DataFrame({"sample_id": np.arange(N) * 2, "fold": np.arange(N) // 50}).write_csv(
        tmp_path / "folds.csv"
    )
    more = SCHEMES.get(scheme, {})
    lines = [f'scheme = "{scheme}"'] if scheme else []
    lines += [f'{key} = "{value}"' for key, value in more.items()]
    (tmp_path / "e.toml").write_text(f"""
name = "e"
[data]
train = "{stores["train"].path}"
test = "{stores["test"].path}"
schema = "schema.toml"
[folds]
n_folds = 3
{chr(10).join(lines)}
[stack]
blenders = ["mean", "nnls"]
refit = ["short"]
[[models]]
family = "ridge"
[[models]]
name = "short"
family = "ridge"
params = {{clip = 1.0}}
""")
    (tmp_path / "schema.toml").write_text(stores["train"].schema.to_toml())
    experiment = load_experiment(tmp_path / "e.toml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        warnings.simplefilter("ignore" if scheme == "random_rows" else "error", LeakageWarning)
        outlook = plan_run(experiment, tmp_path / "runs")
        board = run_experiment(experiment, tmp_path / "runs")
    run = tmp_path / "runs" / "e"
    n_folds = {"column": 4, "file": 3}.get(scheme, 3)
    assert outlook.folds == n_folds
    assert read_json(run / "run.json")["scheme"] == scheme or (scheme is None)
    assert len(board[0]["score_per_fold"]) == n_folds
    assert board[0]["score"] > 0.9
    submission = pl.read_parquet(run / "submission.parquet")
    truth = rows(M)[1]
    assert submission["sample_id"].to_list() == [f"row_{row}" for row in range(M)]
    assert np.abs(submission["y0"].to_numpy() - truth[:, 0]).mean() < 0.2
    page = (run / "report.html").read_text()
    assert BLOCKS.get(scheme or "kfold", "whole") in page
    again = load_experiment(run / "experiment.toml")
    assert again.folds == experiment.folds
    if scheme == "file":
        assert Path(str(again.folds.file)) == tmp_path / "folds.csv"


def test_the_scheme_that_was_chosen_stands_in_the_facts(tmp_path):
    x, y = rows(N)
    for number, (name, known) in enumerate(
        {"time_blocks": {"times": np.arange(N)}, "groups": {"groups": SITES}, "kfold": {}}.items()
    ):
        train = Store.from_arrays(tmp_path / name, x, y, **known)
        experiment = Experiment(
            name=f"e{number}",
            data=DataSettings(train=str(train.path), schema=train.schema),
            models=(ModelSpec(name="ridge", family="ridge"),),
            folds=FoldSettings(n_folds=3),
        )
        run_experiment(experiment, tmp_path / "runs")
        assert read_json(tmp_path / "runs" / f"e{number}" / "run.json")["scheme"] == name


def test_two_folds_of_ones_own_are_too_few_to_stack(tmp_path):
    x, y = rows(N)
    train = Store.from_arrays(tmp_path / "train", x, y, folds=np.arange(N) % 2)
    experiment = Experiment(
        name="e",
        data=DataSettings(train=str(train.path), schema=train.schema),
        models=(ModelSpec(name="ridge", family="ridge"),),
        folds=FoldSettings(scheme="column"),
    )
    with pytest.raises(ClimstackError, match=r"column finds 2 folds named, .* at least 3"):
        run_experiment(experiment, tmp_path / "runs")
    assert not list((tmp_path / "runs" / "e").glob("cells/*"))


def test_a_regressor_of_scikit_learn_is_a_member_of_a_run(tmp_path):
    x, y = rows(N)
    train = Store.from_arrays(tmp_path / "train", x, y)
    test = Store.from_arrays(tmp_path / "test", rows(M)[0], schema=train.schema)
    (tmp_path / "schema.toml").write_text(train.schema.to_toml())
    (tmp_path / "e.toml").write_text(f"""
name = "e"
[data]
train = "{train.path}"
test = "{test.path}"
schema = "schema.toml"
[[models]]
family = "ridge"
[[models]]
name = "extra"
family = "sklearn"
[models.params]
estimator = "sklearn.ensemble.ExtraTreesRegressor"
params = {{n_estimators = 10, max_features = "None"}}
""")
    board = run_experiment(load_experiment(tmp_path / "e.toml"), tmp_path / "runs")
    assert "extra" in {row["model"] for row in board}
    again = load_experiment(tmp_path / "runs" / "e" / "experiment.toml")
    assert again.model("extra").parsed == load_experiment(tmp_path / "e.toml").model("extra").parsed
    assert len(pl.read_parquet(tmp_path / "runs" / "e" / "submission.parquet")) == M
