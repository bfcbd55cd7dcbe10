"""From generated files to a stacked, scored submission. About half a minute.

Usage: python examples/stacked_submission.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np

from ensemble import DataSettings, Experiment, FoldSettings, run_experiment, score_files
from features import load_schema
from features.synthetic import write_dataset
from models import ModelSpec


def main(folder: Path) -> None:
    files = write_dataset(folder / "data", n_timesteps=24, n_columns=32, seed=0)
    paths = {name: str(path) for name, path in files.items() if name != "solution"}
    experiment = Experiment(
        name="stacked",
        data=DataSettings(**paths, grid_columns=32),
        folds=FoldSettings(n_folds=3, embargo=1),
        models=(
            ModelSpec(name="ridge", family="ridge"),
            ModelSpec(name="trees", family="lightgbm", params={"n_rounds": 20, "num_leaves": 8}),
        ),
    )
    for row in run_experiment(experiment, runs=folder):
        print(f"{row['model']:12} honest {row['score']:.4f}  in-sample {row['in_sample']:.4f}")
    submission = folder / "stacked" / "submission.parquet"
    r2 = score_files(submission, files["solution"], load_schema("leap"))
    print(f"test score {np.mean(list(r2.values())):.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/stacked_submission"))
