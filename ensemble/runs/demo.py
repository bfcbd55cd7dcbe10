"""The whole job on generated data: ``climstack demo``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble.evaluation.leaderboard import Row
from ensemble.experiment.experiment import Experiment, experiment_from_table
from ensemble.experiment.folder import RunFolder
from ensemble.inference.submission import score_files
from ensemble.runs.pipeline import run_experiment
from features.core.errors import ClimstackError
from features.core.types import Progress
from features.synthetic import write_dataset

N_TIMESTEPS, N_COLUMNS, TEST_TIMESTEPS, SEED = 80, 96, 20, 7
FILES = ("train", "test", "sample_submission", "solution")


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        leaderboard: rows, best honest score first.
        test_score: LEAP score of the submission against the generated solution.
        folder: the run's folder.
    """

    leaderboard: list[Row]
    test_score: float
    folder: Path


def demo_experiment(out: Path) -> Experiment:
    """The demo's experiment, for generated files under ``out/data``."""
    table = {
        "name": out.resolve().name,
        "seed": SEED,
        "data": {
            "train": "data/train.parquet",
            "test": "data/test.parquet",
            "sample_submission": "data/sample_submission.parquet",
            "grid_columns": N_COLUMNS,
        },
        "folds": {"n_folds": 4, "embargo": 2},
        "models": [
            {"family": "ridge"},
            {
                "family": "lightgbm",
                "params": {"n_rounds": 60, "learning_rate": 0.12, "num_leaves": 15},
            },
            {
                "name": "network",
                "family": "convnext1d",
                "params": {"dim": 64, "depth": 4, "epochs": 16},
            },
        ],
    }
    return experiment_from_table(table, out)


def run_demo(out: str | Path, progress: Progress | None = None) -> DemoResult:
    """Generate data, run the demo's experiment, score its submission.

    Args:
        out: the run's folder; the generated files lie in its ``data``. A second call resumes.
        progress: called with (what, done, total).

    Raises:
        ClimstackError: ``out`` is not usable as a run's folder.
    """
    out = Path(out)
    if out.is_file():
        raise ClimstackError(f"{out} is a file: give a folder")
    experiment = demo_experiment(out)
    data = out / "data"
    if not all((data / f"{name}.parquet").is_file() for name in FILES):
        if progress is not None:
            progress("generate data", 0, 1)
        write_dataset(data, N_TIMESTEPS, N_COLUMNS, SEED, TEST_TIMESTEPS)
        if progress is not None:
            progress("generate data", 1, 1)
    rows = run_experiment(experiment, out.resolve().parent, progress)
    schema = experiment.schema
    r2 = score_files(RunFolder(out).submission, data / "solution.parquet", schema)
    return DemoResult(rows, float(np.mean(list(r2.values()))), out)
