"""A CV leaderboard of two model families on shared time-block folds. About ten seconds.

Usage: python examples/cv_leaderboard.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np

from features import FoldedStore, convert, load_schema, r2_score, time_blocks
from features.synthetic import write_dataset
from models import CellStore, ModelSpec, cross_validate


def main(folder: Path) -> None:
    files = write_dataset(folder / "data", n_timesteps=24, n_columns=32, seed=0)
    store = convert(files["train"], folder / "store", load_schema("leap"), n_grid_columns=32)
    plan = time_blocks(store.time, n_folds=3, embargo=1)
    data = FoldedStore(store, plan)
    targets = store.schema.modelled_targets[::20]  # every 20th of the 292

    rows = []
    for spec in (
        ModelSpec(name="ridge", family="ridge"),
        ModelSpec(name="trees", family="lightgbm", params={"n_rounds": 60}),
    ):
        member = cross_validate(data, spec, CellStore(folder / "cells"), targets=targets)
        per_fold = []
        for fold in range(plan.n_folds):
            truth = store.require_targets()[plan.valid_rows(fold)][:, targets]
            per_fold.append(np.clip(r2_score(truth, member.oof(fold)), 0, None).mean())
        rows.append((np.mean(per_fold), spec.name, per_fold))
    for mean, name, per_fold in sorted(rows, reverse=True):
        print(f"{name:8} mean R2 {mean:.3f}   folds", " ".join(f"{r2:.3f}" for r2 in per_fold))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/cv_leaderboard"))
