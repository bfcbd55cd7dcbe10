"""Boosted trees per target: climstack beside the scikit-learn wrappers, in turns, in one run.

Real rows where CLIMSTACK_REAL_DATA names them, else generated ones; one fold, all cores; a fixed
set of targets spread over the 292, in rounds, so that contenders alternate. A fold's shared costs
(features, binning) are measured apart and counted once for all 292 targets, which are extrapolated.

The wrapper fits one target after the other with all threads. "Obvious code" gives it the 556 inputs
as they are; "same inputs" gives it, target by target, what climstack's trees see. At equal
parameters climstack runs on both: the 556 inputs (no derived features, no window), its own windows.

    python benchmarks/bench_trees.py [PART_OF_A_CONTENDER ...] [--library lightgbm --targets 40]
"""

import statistics
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from common import Options, make_store, spread_targets

from features import FoldedStore, r2_score, time_blocks
from features.climate import derived
from features.views import encoding
from models import CellStore, FoldData, ModelSpec, cross_validate, load_family
from models.base import TableShape
from models.trees.boosting import Parts

ROUNDS = 2
FOLD = 1
LIGHTGBM_PLAIN = {
    "n_rounds": 100, "learning_rate": 0.1, "num_leaves": 31, "max_bin": 255,
    "feature_fraction": 1.0, "lambda_l2": 0.0, "linear_tree": False, "label_clip": 1e9,
}  # fmt: skip
XGBOOST_PLAIN = {
    "n_rounds": 100, "learning_rate": 0.3, "max_bin": 256, "colsample_bytree": 1.0,
    "min_child_weight": 1.0, "label_clip": 1e9,
}  # fmt: skip
OURS = {
    "climstack lightgbm, default": ("lightgbm", {}),
    "climstack lightgbm, quick": ("lightgbm", {"n_rounds": 60, "learning_rate": 0.14,
                                               "feature_fraction": 0.15, "window": 2}),
    "climstack lightgbm, thorough": ("lightgbm", {"n_rounds": 200, "learning_rate": 0.06,
                                                  "max_bin": 255}),
    "climstack lightgbm, wrapper's parameters": ("lightgbm", LIGHTGBM_PLAIN),
    "climstack lightgbm, wrapper's parameters, 556 inputs": ("lightgbm",
                                                             LIGHTGBM_PLAIN | {"window": -1}),
    "climstack xgboost, default": ("xgboost", {}),
    "climstack xgboost, wrapper's parameters": ("xgboost", XGBOOST_PLAIN),
    "climstack xgboost, wrapper's parameters, 556 inputs": ("xgboost",
                                                            XGBOOST_PLAIN | {"window": -1}),
}  # fmt: skip


WRAPPERS = {"lightgbm": "LGBMRegressor", "xgboost": "XGBRegressor"}
DEFAULT_TARGETS = {"lightgbm": 40, "xgboost": 16}


def lightgbm(n_rounds, x, z):
    from lightgbm import LGBMRegressor

    return LGBMRegressor(n_estimators=n_rounds, num_leaves=31, verbosity=-1).fit(x, z)


def xgboost(n_rounds, x, z):
    from xgboost import XGBRegressor

    return XGBRegressor(n_estimators=n_rounds).fit(x, z)


WRAPPED = {"lightgbm": lightgbm, "xgboost": xgboost}


def obvious(regressor, store, data, position):
    """What ``MultiOutputRegressor`` does with a target, on the inputs as they are."""
    x = store.inputs[data.train_rows]
    z = data.scaler.transform(store.targets[data.train_rows][:, data.targets])[:, position]
    x_valid = store.inputs[data.plan.valid_rows(FOLD)]
    start = time.perf_counter()
    model = regressor(x, z)
    return model.predict(x_valid), time.perf_counter() - start


def same_inputs(regressor, arrays, columns, position):
    (x, z), (x_valid, _) = arrays
    start = time.perf_counter()
    model = regressor(x[:, columns], z[:, position])
    return model.predict(x_valid[:, columns]), time.perf_counter() - start


@contextmanager
def derived_features(shown: bool):
    """Without them trees see the inputs alone, moisture as its logarithm."""
    every = derived.DERIVED
    derived.DERIVED = every if shown else ()
    encoding.columns_of.cache_clear()
    try:
        yield
    finally:
        derived.DERIVED = every
        encoding.columns_of.cache_clear()


def main(library: str, n_targets: int, wording: list[str], quick: bool) -> None:
    def wanted(name: str) -> bool:
        return not wording or any(part in name for part in wording)

    rounds, n_rounds = (1, 10) if quick else (ROUNDS, 100)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store, embargo = make_store(folder, quick)
        plan = time_blocks(store.time, 5, embargo)
        n_all = len(store.schema.modelled_targets)
        peers = [f"{kind}({WRAPPERS[library]})" for kind in ("obvious code", "same inputs")]
        peers = [name for name in peers if wanted(name)]
        contenders = [name for name in OURS if OURS[name][0] == library and wanted(name)]
        shared = {name: [] for name in contenders}
        seconds = {name: [] for name in (*contenders, *peers)}
        r2 = {name: [] for name in seconds}
        chosen = spread_targets(store, n_targets)
        for turn in range(rounds):
            targets = chosen[turn::rounds]
            data = FoldData(data=FoldedStore(store, plan), fold=FOLD, targets=targets, kind="trees")
            valid = plan.valid_rows(FOLD)
            arrays = data.arrays(data.train_rows), data.arrays(valid)
            parts = Parts(
                folder=folder,
                feature_levels=data.feature_levels,
                target_levels=data.target_levels,
                watched=False,
                misses=False,
                categories=data.feature_categories,
            )
            window = load_family("lightgbm").Params().window
            columns = {
                served[0]: parts.columns(levels)
                for levels, sets in parts.windows([[i] for i in range(len(targets))], window)
                for served in sets
            }
            truth = arrays[1][1]
            names = list(seconds)
            for name in names if turn % 2 else names[::-1]:
                if name in OURS:
                    family, params = OURS[name]
                    params = params | ({"n_rounds": n_rounds} if quick else {})
                    spec = ModelSpec(name="m", family=family, params=params)
                    place = folder / f"prepared {name} {turn}"
                    place.mkdir()
                    cells = CellStore(folder / f"cells {name} {turn}")
                    with derived_features(shown="556 inputs" not in name):
                        fresh = FoldData(
                            data=FoldedStore(store, plan), fold=FOLD, targets=targets, kind="trees"
                        )
                        start = time.perf_counter()
                        settled = load_family(family).settle(spec.parsed, TableShape.of(store))
                        load_family(family).prepare(fresh, settled, place)
                        shared[name].append(time.perf_counter() - start)
                        start = time.perf_counter()
                        member = cross_validate(
                            FoldedStore(store, plan), spec, cells, targets=targets, folds=[FOLD]
                        )
                    each = time.perf_counter() - start - shared[name][-1]
                    predicted = data.scaler.transform(member.oof(0))
                else:
                    regressor = partial(WRAPPED[library], n_rounds)
                    found = [
                        obvious(regressor, store, data, position)
                        if name.startswith("obvious")
                        else same_inputs(regressor, arrays, columns[position], position)
                        for position in range(len(targets))
                    ]
                    predicted = np.stack([values for values, _ in found], axis=1)
                    each = sum(wall for _, wall in found)
                seconds[name].append(each / len(targets))
                r2[name].append(np.clip(r2_score(truth, np.asarray(predicted, float)), 0, None))
                print(f"  {name}: {seconds[name][-1]:.2f} s, {r2[name][-1].mean():.4f}", flush=True)
        print(f"{len(data.train_rows)} rows, {n_targets} of {n_all} targets, one fold")
        report(n_all, shared, seconds, r2)


def report(n_all, shared, seconds, r2) -> None:
    print("| contender | s per target | all targets, minutes | mean R2, negatives 0 |")
    print("|---|---|---|---|")
    minutes = {}
    for name, walls in seconds.items():
        each = statistics.median(walls)
        minutes[name] = (each * n_all + statistics.median(shared.get(name, [0]))) / 60
        mean = np.concatenate(r2[name]).mean()
        print(f"| {name} | {each:.2f} | {minutes[name]:.1f} | {mean:.4f} |")
    for ours, peer in (
        ("climstack lightgbm, default", "obvious code(LGBMRegressor)"),
        ("climstack lightgbm, quick", "obvious code(LGBMRegressor)"),
        ("climstack lightgbm, wrapper's parameters", "same inputs(LGBMRegressor)"),
        ("climstack lightgbm, wrapper's parameters, 556 inputs", "obvious code(LGBMRegressor)"),
        ("climstack xgboost, default", "obvious code(XGBRegressor)"),
        ("climstack xgboost, wrapper's parameters", "same inputs(XGBRegressor)"),
        ("climstack xgboost, wrapper's parameters, 556 inputs", "obvious code(XGBRegressor)"),
    ):
        if ours in minutes and peer in minutes:
            print(f"{ours}: {minutes[peer] / minutes[ours]:.1f} x faster than {peer}")


if __name__ == "__main__":
    options = Options(__doc__)
    options.add_argument("contenders", nargs="*", help="parts of the names of those to run")
    options.add_argument("--library", choices=sorted(WRAPPERS))
    options.add_argument("--targets", type=int)
    asked = options.parse()
    for library in [asked.library] if asked.library else WRAPPERS:
        n_targets = asked.targets or (1 if asked.quick else DEFAULT_TARGETS[library])
        main(library, n_targets, asked.contenders, asked.quick)
