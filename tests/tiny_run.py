"""A run that takes a second: a schema of eight columns, two or three models, a study.

For tests that repeat its commands hundreds of times. Nothing is fitted in other processes.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

import ensemble.inference.predict
import ensemble.runs.store
import models.cross_validation
from ensemble import load_experiment, load_leaderboard, open_run, run_experiment, submit_run
from ensemble.report import write_report
from ensemble.runs.tune import tune_model
from features import Store, convert, explore_store, load_schema, write_exploration
from tuning import TuneSettings

N_GRID = 4
TOY = Path(__file__).parent / "toy.toml"
EXPERIMENT = """
name = "run"
[data]
train = "data/train.parquet"
test = "data/test.parquet"
schema = "toy.toml"
[folds]
n_folds = 3
[stack]
blenders = ["mean", "nnls"]
[[models]]
family = "ridge"
[[models]]
name = "trees"
family = "lightgbm"
[models.params]
n_rounds = 2
num_leaves = 8
[models.search]
n_rounds = [1, 4]
"""
NETWORK = """
[[models]]
name = "network"
family = "convnext1d"
[models.params]
preset = "tiny"
epochs = 1
device = "cpu"
"""


def prepare(folder: Path, network: bool = True) -> None:
    """Write schema, tables and experiment."""
    (folder / "data").mkdir(parents=True)
    shutil.copy(TOY, folder)
    (folder / "run.toml").write_text(EXPERIMENT + (NETWORK if network else ""))
    know()
    schema, rng = load_schema(TOY), np.random.default_rng(0)
    for name, n in (("train", 160), ("test", 24)):
        x = rng.normal(size=(n, 4))
        y = np.stack([0 * x[:, 0], 2 * x[:, 1] + 0.1, x[:, 2] - x[:, 3], x[:, 3]], axis=1)
        columns = dict(zip(schema.input_columns, x.T, strict=True))
        if name == "train":
            columns |= dict(zip(schema.target_columns, y.T, strict=True))
        ids = pl.Series(schema.id_name, [f"{name}_{i}" for i in range(n)])
        pl.DataFrame([ids, *(pl.Series(k, v) for k, v in columns.items())]).write_parquet(
            folder / "data" / f"{name}.parquet"
        )


def know() -> None:
    """Do everything in this process."""
    ensemble.runs.store.run_apart = lambda call, *args: call(*args)
    for module in (models.cross_validation, ensemble.inference.predict):
        module.cpu_count = lambda: 1
    os.fsync = lambda _: None  # no test cuts the power


def _tune(folder: Path) -> None:
    experiment = load_experiment(folder / "run.toml", tuned=False)
    how = TuneSettings(n_trials=2, n_clusters=1, n_representatives=1)
    tune_model(experiment, "trees", how, folder / "runs")


def _stack(folder: Path) -> None:
    experiment = load_experiment(folder / "run.toml")
    with open_run(experiment, folder / "runs" / "run") as run:
        run.stack()


def _explore(folder: Path) -> None:
    store = Store(folder / "runs" / "run" / "store" / "train")
    store.verify()
    write_exploration(explore_store(store), folder / "explored.html")


COMMANDS: dict[str, Callable[[Path], object]] = {
    "convert": lambda at: convert(
        at / "data" / "train.parquet", at / "store", load_schema(TOY), N_GRID
    ),
    "run": lambda at: run_experiment(load_experiment(at / "run.toml"), at / "runs"),
    "stack": _stack,
    "submit": lambda at: submit_run(
        at / "runs" / "run", at / "out" / "s.parquet", intervals=at / "out" / "ends.parquet"
    ),
    "report": lambda at: write_report(at / "runs" / "run", at / "out" / "report.html"),
    "leaderboard": lambda at: load_leaderboard(at / "runs" / "run"),
    "explore": _explore,
    "tune": _tune,
}

if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
