"""Stacking from moments: seconds for the pass over rows, and for all blends of all targets."""

import time

import numpy as np

from ensemble import candidates
from ensemble.moments import Moments

N_FOLDS, N_ROWS, N_TARGETS, N_MEMBERS = 5, 20_000, 40, 6


def main() -> None:
    rng = np.random.default_rng(0)
    folds, wall = [], 0.0
    for _ in range(N_FOLDS):
        truth = rng.normal(size=(N_ROWS, N_TARGETS))
        members = [truth + rng.normal(size=truth.shape) for _ in range(N_MEMBERS)]
        start = time.perf_counter()
        blocks = [
            Moments.of_block([m[i : i + 4096] for m in members], truth[i : i + 4096])
            for i in range(0, N_ROWS, 4096)
        ]
        folds.append(Moments.concatenate(blocks).merged())
        wall += time.perf_counter() - start
    moments = Moments.concatenate(folds)
    n_rows = N_FOLDS * N_ROWS
    print(f"moments of {n_rows} rows x {N_TARGETS} targets x {N_MEMBERS} members: {wall:.2f} s")
    groups = [str(target // 10) for target in range(N_TARGETS)]
    start = time.perf_counter()
    blends = candidates(["mean", "best", "nnls"], ["all", "group", "target"])
    for candidate in blends:
        for fold in range(N_FOLDS):
            candidate.weights(moments.folds([k for k in range(N_FOLDS) if k != fold]), groups)
    wall = time.perf_counter() - start
    print(f"{len(blends)} blends cross-fitted over {N_FOLDS} folds: {wall:.2f} s")


if __name__ == "__main__":
    main()
