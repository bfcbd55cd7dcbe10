"""What building on another model gives: 24 targets, all folds, honest out-of-fold scores.

Real rows where CLIMSTACK_REAL_DATA names them, else generated ones. The gain over LightGBM alone
is given with its standard error over folds.

    python benchmarks/bench_tree_bases.py [24]
"""

import tempfile
from pathlib import Path

import numpy as np
from common import Options, make_store, spread_targets

from features import FoldedStore, r2_score, time_blocks
from models import CellStore, ModelSpec, cross_validate


def main(n_targets: int, quick: bool) -> None:
    ridge = ModelSpec(name="ridge", family="ridge")
    trees = ModelSpec(name="lightgbm", family="lightgbm")
    specs = [
        ridge,
        trees,
        ModelSpec(name="lightgbm fed with ridge", family="lightgbm", inputs_from=(ridge,)),
        ModelSpec(
            name="lightgbm fed with lightgbm", family="lightgbm", seed=1, inputs_from=(trees,)
        ),
        ModelSpec(name="xgboost", family="xgboost"),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store, embargo = make_store(folder, quick)
        plan = time_blocks(store.time, 3 if quick else 5, embargo)
        targets = spread_targets(store, n_targets)
        cells, scores = CellStore(folder / "cells"), {}
        print("| model | mean R2, negatives 0, of the folds | gain | CPU s per target and fold |")
        print("|---|---|---|---|")
        for spec in specs:
            member = cross_validate(FoldedStore(store, plan), spec, cells, targets=targets)
            scores[spec.name] = np.array([
                np.clip(r2_score(store.targets[plan.valid_rows(k)][:, targets], member.oof(k)),
                        0, None).mean()
                for k in range(plan.n_folds)
            ])  # fmt: skip
            gains = scores[spec.name] - scores.get("lightgbm", scores[spec.name])
            error = gains.std(ddof=1) / np.sqrt(len(gains))
            seconds = member.seconds / n_targets / plan.n_folds
            print(
                f"| {spec.name} | {scores[spec.name].mean():.4f} | {gains.mean():+.4f} +-"
                f" {error:.4f} | {seconds:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    options = Options(__doc__)
    options.add_argument("targets", type=int, nargs="?", help="how many")
    asked = options.parse()
    main(asked.targets or (1 if asked.quick else 24), asked.quick)
