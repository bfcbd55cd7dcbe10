"""Tuning few targets for many, beside tuning every target: cell fits, and score on unseen rows.

    CLIMSTACK_REAL_DATA=... python benchmarks/bench_tuning.py [--constant-leaves]

40 targets of the real rows (generated ones where they are not at hand), LightGBM. A study clusters
them, fits trials for representatives and prunes; then its best trials race over all targets. Full
tuning fits the same trials for all targets on all folds and takes the best for all, or gives each
target its own. All are scored on the fold that none has seen.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import Options, make_store

from features import FoldedStore, Schema, time_blocks
from models import CellStore, ModelSpec, cross_validate
from tuning import TuneSettings, tune
from tuning.objective import with_params

N_TARGETS, N_TRIALS, N_FOLDS = 40, 12, 4


def scores(member):
    """R2 of each fold and target, negatives as 0, (n_folds, n_targets)."""
    return np.array([[max(0.0, cell.score["r2"][0]) for cell in fold] for fold in member.cells])


def main() -> None:
    options = Options(__doc__)
    options.add_argument("--constant-leaves", action="store_true")
    asked = options.parse()
    params = {"linear_tree": False} if asked.constant_leaves else {}
    n_targets, n_trials, n_folds = (3, 2, 3) if asked.quick else (N_TARGETS, N_TRIALS, N_FOLDS)
    with tempfile.TemporaryDirectory(prefix="bench_tuning.") as name:
        folder = Path(name)
        store, embargo = make_store(folder, asked.quick)
        modelled = store.schema.modelled_targets
        # The study is to know of these targets alone.
        chosen = modelled[:: len(modelled) // n_targets][:n_targets]
        Schema.modelled_targets = property(lambda _: chosen)  # type: ignore[assignment]
        plan = time_blocks(store.time, n_folds, embargo)
        spec, unseen = ModelSpec(name="lightgbm", family="lightgbm", params=params), n_folds - 1
        n_clusters = min(4, n_targets - 1)
        how = TuneSettings(n_trials=n_trials, n_clusters=n_clusters, n_representatives=2)
        data = FoldedStore(store, plan)
        found = tune(data, spec, folder / "run", how)
        raced = tune(data, spec, folder / "run", replace(how, n_finalists=4))
        cells = CellStore(folder / "full")

        def fit(own, folds):
            return scores(cross_validate(data, own, cells, targets=chosen, folds=folds))

        trials = [with_params(spec, row["params"]) for row in found.trials]
        seen = np.stack([fit(own, range(unseen)).mean(0) for own in trials])
        best = seen.argmax(0)  # of each target
        held_out = np.stack([fit(own, [unseen])[0] for own in trials])
        at = np.arange(len(chosen))
        n_full = len(trials) * len(chosen) * unseen
        print(
            f"{len(chosen)} targets, {len(trials)} trials, {unseen} folds to tune on,"
            f" {len(store)} rows"
        )
        print(f"full tuning, each its own: {n_full} cell fits, {held_out[best, at].mean():.4f}")
        for what, result in (("clusters and pruning", found), ("and a race of 4", raced)):
            places, rows = np.zeros(len(chosen), dtype=int), [row["place"] for row in result.trials]
            for choice in result.choices:
                places[choice.targets or slice(None)] = rows.index(choice.place)
            print(
                f"{what}: {result.cells_fitted} cell fits ({result.cells_fitted / n_full:.1%}),"
                f" unseen fold {held_out[places, at].mean():.4f}"
            )
        print(f"full tuning, one for all: {held_out[seen.mean(1).argmax()].mean():.4f}")
        print(f"defaults: {held_out[0].mean():.4f}")


if __name__ == "__main__":
    main()
