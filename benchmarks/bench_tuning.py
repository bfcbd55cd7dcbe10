"""Tuning few targets for many, beside tuning every target: cell fits, and score on unseen rows.

    CLIMSTACK_REAL_DATA=... python benchmarks/bench_tuning.py [--constant-leaves]

40 targets of the real rows (generated ones where they are not at hand), LightGBM. A study clusters
them, fits trials for representatives and prunes; then its best trials race over all targets. Full
tuning fits the same trials for all targets on all folds and takes the best for all, or gives each
target its own. All are scored on the fold that none has seen.
"""

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from features import FoldedStore, Schema, convert, load_schema, time_blocks
from features.synthetic import write_dataset
from models import CellStore, ModelSpec, cross_validate
from tuning import TuneSettings, tune
from tuning.objective import with_params

N_TARGETS, N_TRIALS, N_FOLDS = 40, 12, 4


def scores(member):
    """R2 of each fold and target, negatives as 0, (n_folds, n_targets)."""
    return np.array([[max(0.0, cell.score["r2"][0]) for cell in fold] for fold in member.cells])


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--constant-leaves", action="store_true")
    params = {"linear_tree": False} if options.parse_args().constant_leaves else {}
    schema = load_schema("leap")
    forty = schema.modelled_targets[:: len(schema.modelled_targets) // N_TARGETS][:N_TARGETS]
    # The study is to know of these targets alone.
    Schema.modelled_targets = property(lambda _: forty)  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(prefix="bench_tuning.") as name:
        folder = Path(name)
        if "CLIMSTACK_REAL_DATA" in os.environ:
            source, n_columns = Path(os.environ["CLIMSTACK_REAL_DATA"]) / "train.parquet", None
        else:
            n_columns = 96
            source = write_dataset(folder / "data", 60, n_columns, seed=0)["train"]
        store = convert(source, folder / "store", schema, n_columns)
        plan = time_blocks(store.time, N_FOLDS, embargo=0)
        spec, unseen = ModelSpec(name="lightgbm", family="lightgbm", params=params), N_FOLDS - 1
        how = TuneSettings(n_trials=N_TRIALS, n_clusters=4, n_representatives=2)
        data = FoldedStore(store, plan)
        found = tune(data, spec, folder / "run", how)
        raced = tune(data, spec, folder / "run", replace(how, n_finalists=4))
        cells = CellStore(folder / "full")

        def fit(own, folds):
            return scores(cross_validate(data, own, cells, targets=forty, folds=folds))

        trials = [with_params(spec, row["params"]) for row in found.trials]
        seen = np.stack([fit(own, range(unseen)).mean(0) for own in trials])
        best = seen.argmax(0)  # of each target
        held_out = np.stack([fit(own, [unseen])[0] for own in trials])
        at = np.arange(len(forty))
        n_full = len(trials) * len(forty) * unseen
        print(
            f"{len(forty)} targets, {len(trials)} trials, {unseen} folds to tune on,"
            f" {len(store)} rows"
        )
        print(f"full tuning, each its own: {n_full} cell fits, {held_out[best, at].mean():.4f}")
        for what, result in (("clusters and pruning", found), ("and a race of 4", raced)):
            places, rows = np.zeros(len(forty), dtype=int), [row["place"] for row in result.trials]
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
