"""What the tree engine adds to bare ``lgb.train`` calls, and how its cost grows.

1. Overhead: the engine in one process beside the sum of bare calls on ready Datasets, in turns; and
   both cores as two threads of a bare call, or as two processes of the engine. 36 targets (six
   variables on six levels) of the rows that CLIMSTACK_REAL_DATA names, else of generated ones. Bare
   calls include no prediction, no model file, no joining of levels; by default they write the model
   as text and read it back, as the engine does once for its file.
2. Growth: rows x 1, 2, 4 and targets x 1, 2, 4 on generated rows, all cores; with --plot FILE.svg
   a picture of it (needs matplotlib).

    python benchmarks/bench_tree_engine.py [--growth] [--plot FILE.svg]
"""

import statistics
import tempfile
import time
from pathlib import Path

import lightgbm as lgb
import numpy as np
from common import Options, make_store, spread_targets

from features import FoldedStore, convert, load_schema, time_blocks
from features.synthetic import write_dataset
from models import CellStore, FitContext, FoldData, ModelSpec, cross_validate, load_family
from models.base import TableShape

ROUNDS = 3
LEVELS = (30, 35, 40, 45, 50, 55)
GROWTH_TIMESTEPS, N_COLUMNS, N_TARGETS = 16, 384, 24


def wall(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def spec_of(quick: bool) -> ModelSpec:
    return ModelSpec(name="m", family="lightgbm", params={"n_rounds": 3} if quick else {})


def overhead(folder: Path, quick: bool) -> None:
    rounds, shown = (1, LEVELS[-1:]) if quick else (ROUNDS, LEVELS)
    spec, family = spec_of(quick), load_family("lightgbm")
    store, embargo = make_store(folder, quick)
    plan = time_blocks(store.time, 5, embargo)
    modelled = store.schema.modelled_targets
    targets = modelled[np.isin(store.schema.target_levels[modelled], shown)]
    params = family.settle(spec.parsed, TableShape.of(store))
    data = FoldData(data=FoldedStore(store, plan), fold=1, targets=targets, kind="trees")
    sets = family.target_sets(store.schema, targets, params)
    (folder / "prepared").mkdir()
    prepared = family.prepare(data, params, folder / "prepared")
    features, labels = data.arrays(data.train_rows)
    ready = []
    for levels, together in prepared.windows(sets, params.window):
        x = features[:, prepared.columns(levels)]
        dataset = lgb.Dataset(x, np.zeros(len(x)), params=params.engine(0)).construct()
        ready.append((dataset, [served[0] for served in together]))

    def bare(n_threads: int = 1, keep: bool = False) -> None:
        engine = params.engine(0) | {"num_threads": n_threads}
        for dataset, together in ready:
            for target in together:
                dataset.set_label(np.clip(labels[:, target], -10, 10))
                lgb.train(engine, dataset, params.n_rounds, keep_training_booster=keep)

    names = ("bare lgb.train", "bare, model left in memory", "bare, two threads",
             "engine, fitted models", "engine, stored cells",
             "engine, stored cells, two processes")  # fmt: skip
    seconds = {name: [] for name in names}
    for turn in range(rounds):
        turns = {
            "bare lgb.train": bare,
            "bare, model left in memory": lambda: bare(keep=True),
            "bare, two threads": lambda: bare(2),
            "engine, fitted models": lambda: list(family.fit(prepared, sets, params, FitContext())),
        }
        for name in list(turns) if turn % 2 else list(turns)[::-1]:
            seconds[name].append(wall(turns[name]))
        once = folder / f"prepared{turn}"
        once.mkdir()
        fresh = FoldData(data=FoldedStore(store, plan), fold=1, targets=targets, kind="trees")
        shared = wall(lambda f=fresh, o=once: family.prepare(f, params, o))
        for n_jobs, name in ((1, names[4]), (2, names[5])):
            cells = CellStore(folder / f"cells{turn}-{n_jobs}")
            whole = wall(
                lambda c=cells, n=n_jobs: cross_validate(
                    FoldedStore(store, plan), spec, c, targets=targets, folds=[1], n_jobs=n
                )
            )
            seconds[name].append(whole - shared)
    bare_seconds = statistics.median(seconds["bare lgb.train"])
    print(f"{len(features)} rows, {len(targets)} targets, one process (median of {rounds}):")
    for name, values in seconds.items():
        each = statistics.median(values)
        print(f"  {name}: {each:.2f} s, {each / bare_seconds - 1:+.1%}")


def growth(folder: Path, quick: bool) -> list[tuple[int, int, float, float]]:
    """Training rows, targets, seconds of one fold, seconds of it before the first fit."""
    n_columns, n_targets = (8, 2) if quick else (N_COLUMNS, N_TARGETS)
    schema, stores = load_schema("leap"), {}
    for times in (1, 2, 4):
        files = write_dataset(folder / f"data{times}", GROWTH_TIMESTEPS * times, n_columns, seed=0)
        stores[times] = convert(files["train"], folder / f"store{times}", schema, n_columns)
    found = []
    print("| rows to fit | targets | seconds for one fold | of them before the first fit |")
    print("|---|---|---|---|")
    spec, family = spec_of(quick), load_family("lightgbm")
    for times_rows, times_targets in ((1, 1), (2, 1), (4, 1), (1, 2), (1, 4)):
        store = stores[times_rows]
        plan = time_blocks(store.time, 5, 2)
        targets = spread_targets(store, n_targets * times_targets)
        place = folder / f"growth-{times_rows}-{times_targets}"
        place.mkdir()
        data = FoldData(data=FoldedStore(store, plan), fold=1, targets=targets, kind="trees")
        settled = family.settle(spec.parsed, TableShape.of(store))
        before = wall(lambda d=data, p=place, s=settled: family.prepare(d, s, p))
        cells = CellStore(place / "cells")
        seconds = wall(
            lambda s=store, p=plan, c=cells, t=targets: cross_validate(
                FoldedStore(s, p), spec, c, targets=t, folds=[1]
            )
        )
        row = (len(plan.train_rows(1)), len(targets), seconds, before)
        print(f"| {row[0]} | {row[1]} | {row[2]:.1f} | {row[3]:.1f} |", flush=True)
        found.append(row)
    return found


def plot(found: list[tuple[int, int, float, float]], file: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    first = found[0]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
    for axis, column, name in ((axes[0], 0, "rows to fit"), (axes[1], 1, "targets")):
        other = 1 - column
        rows = sorted(row for row in found if row[other] == first[other])
        x = [row[column] for row in rows]
        axis.plot(x, [row[2] for row in rows], "o-", label="one fold")
        axis.plot(x, [row[3] for row in rows], "s--", label="before the first fit")
        axis.plot(
            x, [rows[0][2] * each / x[0] for each in x], ":", color="grey", label="in proportion"
        )
        axis.set(xlabel=name, xlim=(0, None), ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds, two cores")
    axes[0].legend()
    figure.savefig(file)


def main() -> None:
    options = Options(__doc__)
    options.add_argument("--growth", action="store_true", help="only the growth")
    options.add_argument("--plot", type=Path, help="where to draw the growth")
    asked = options.parse()
    with tempfile.TemporaryDirectory() as temporary:
        if not asked.growth:
            overhead(Path(temporary), asked.quick)
        found = growth(Path(temporary), asked.quick)
    if asked.plot:
        plot(found, asked.plot)


if __name__ == "__main__":
    main()
