"""What each setting of LightGBM costs and gives: 16 targets, two folds, one setting changed.

Real rows where CLIMSTACK_REAL_DATA names them, else generated ones.

Usage: python benchmarks/bench_tree_settings.py [SETTING ...]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from bench_trees import make_store

from features import r2_score, time_blocks
from models import CellStore, ModelSpec, cross_validate

N_TARGETS, FOLDS = 16, (1, 3)
SETTINGS = {
    "default": {},
    "early stopping on 10 % of the time": {"early_stopping_rounds": 25, "inner_fraction": 0.1},
    "early stopping on 5 %, patience 50": {"early_stopping_rounds": 50, "inner_fraction": 0.05},
    "no label clip": {"label_clip": 1e9},
    "feature_fraction 0.3": {"feature_fraction": 0.3},
    "150 rounds of 0.08": {"n_rounds": 150, "learning_rate": 0.08},
    "255 bins": {"max_bin": 255},
    "all features, 100 rounds": {"feature_fraction": 1.0, "n_rounds": 100, "learning_rate": 0.1},
}


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store, embargo = make_store(folder)
        plan = time_blocks(store.time, 5, embargo)
        modelled = store.schema.modelled_targets
        targets = modelled[np.linspace(0, len(modelled) - 1, N_TARGETS).round().astype(int)]
        print("| setting | mean R2, negatives 0, of each fold | CPU s per target and fold |")
        print("|---|---|---|")
        for name in names or SETTINGS:
            member = cross_validate(
                store, plan, ModelSpec("m", "lightgbm", SETTINGS[name]), CellStore(folder / name),
                targets=targets, folds=FOLDS,
            )  # fmt: skip
            scores = [
                np.clip(
                    r2_score(store.targets[plan.valid_rows(f)][:, targets], member.oof(i)), 0, None
                )
                for i, f in enumerate(FOLDS)
            ]
            means = " / ".join(f"{score.mean():.4f}" for score in scores)
            seconds = member.seconds / N_TARGETS / len(FOLDS)
            print(f"| {name} | {means} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
