"""What each setting of LightGBM costs and gives: 20 targets, two folds, one setting changed.

Real rows where CLIMSTACK_REAL_DATA names them, else generated ones. Each fold is one process of one
thread; the features of a window are binned before the clock starts. Settings that climstack does
not offer are tried here through LightGBM itself, so that leaving them out is a measured choice.

    python benchmarks/bench_tree_settings.py [PART_OF_A_NAME ...]
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
from common import Options, make_store, spread_targets
from joblib import Parallel, delayed

from features import FoldedStore, FoldPlan, Store, r2_score, time_blocks
from models import FoldData, load_family
from models.base import TableShape
from models.trees.boosting import seen_levels

N_TARGETS, FOLDS = 20, (1, 3)
LIGHTGBM = load_family("lightgbm")
CLIMSIM = TableShape(n_rows=15_360, n_inputs=556, has_levels=True)
DEFAULT = LIGHTGBM.settle(LIGHTGBM.Params(), CLIMSIM)
BASE = replace(DEFAULT, window=4, linear_tree=False)  # what one setting is changed from
LINEAR = {"linear_tree": True, "window": 3}
SETTINGS = {
    "none": {},
    "window of 2 levels on each side": {"window": 2},
    "window of 3": {"window": 3},
    "window of 6": {"window": 6},
    "window of 10": {"window": 10},
    "all levels": {"window": -1},
    "all levels, inputs alone": {"window": -1, "derived": False},
    "window of 4, inputs alone": {"derived": False},
    "31 bins": {"max_bin": 31},
    "127 bins": {"max_bin": 127},
    "255 bins": {"max_bin": 255},
    "0.15 of the features per tree": {"feature_fraction": 0.15},
    "0.5 of the features per tree": {"feature_fraction": 0.5},
    "all features per tree": {"feature_fraction": 1.0},
    "15 leaves": {"num_leaves": 15},
    "63 leaves": {"num_leaves": 63},
    "50 rounds of 0.15": {"n_rounds": 50, "learning_rate": 0.15},
    "200 rounds of 0.06": {"n_rounds": 200, "learning_rate": 0.06},
    "400 rounds of 0.04": {"n_rounds": 400, "learning_rate": 0.04},
    "at least 5 rows in a leaf": {"min_data_in_leaf": 5},
    "at least 60 rows in a leaf": {"min_data_in_leaf": 60},
    "no label clip": {"label_clip": 1e9},
    "label clip 5": {"label_clip": 5.0},
    "early stopping on 10 % of the time": {"early_stopping_rounds": 25},
    "early stopping, valid rows (dishonest)": {"early_stopping_rounds": 25, "cheat": True},
    "GOSS": {"data_sample_strategy": "goss"},
    "half the rows per tree": {"bagging_fraction": 0.5, "bagging_freq": 1},
    "extra trees": {"extra_trees": True},
    "linear trees": {"linear_tree": True},
    "linear trees, window of 3: the default": LINEAR,
    "the default with slopes penalised by 10": LINEAR | {"linear_lambda": 10.0},
    "the default with 15 leaves": LINEAR | {"num_leaves": 15},
    "the default with 0.2 of the features": LINEAR | {"feature_fraction": 0.2},
    "the default with 31 bins": LINEAR | {"max_bin": 31},
    "the default with a window of 2": LINEAR | {"window": 2},
    "the default with 150 rounds of 0.07": LINEAR | {"n_rounds": 150, "learning_rate": 0.07},
    "quantised gradients": {"use_quantized_grad": True, "num_grad_quant_bins": 8},
    "row-wise histograms": {"force_col_wise": False, "force_row_wise": True},
}


def fit_all(store_path: Path, plan_file: Path, fold: int, targets, changes: dict):
    """R2 of each target, negatives 0, and CPU seconds of all fits."""
    changes = dict(changes)
    cheat, derived = changes.pop("cheat", False), changes.pop("derived", True)
    own = {k: v for k, v in changes.items() if hasattr(BASE, k)}
    params = replace(BASE, **own)
    engine = params.engine(0) | {k: v for k, v in changes.items() if k not in own}
    plan = FoldPlan.load(plan_file)
    data = FoldData(
        data=FoldedStore(Store(store_path), plan), fold=fold, targets=targets, kind="trees"
    )
    levels, valid = data.feature_levels, data.arrays(plan.valid_rows(fold))
    if not derived:
        inputs = {v.name for v in data.store.schema.inputs}
        plain = [n.removeprefix("log10_").rstrip("0123456789").rstrip("_") in inputs
                 or n in inputs for n in data.feature_names]  # fmt: skip
        levels = np.where(plain, levels, -99)
    parts = [data.arrays(r) for r in data.inner_rows(
        params.inner_fraction if params.early_stopping_rounds and not cheat else 0
    ) if len(r)]  # fmt: skip
    if cheat:
        parts.append(valid)
    there = [level for level in np.unique(levels) if level >= -1]
    scores, seconds, last = [], 0.0, None
    for position in np.argsort(data.target_levels, kind="stable"):
        seen = seen_levels(int(data.target_levels[position]), params.window, there)
        columns = np.concatenate([np.flatnonzero(levels == level) for level in seen])
        if last is None or last[0] != seen:
            binned = []
            for x, _ in parts:
                binned.append(
                    lgb.Dataset(x[:, columns], np.zeros(len(x)), params=engine,
                                reference=binned[0] if binned else None).construct()
                )  # fmt: skip
            last = (seen, binned)
        for dataset, (_, z) in zip(last[1], parts, strict=True):
            dataset.set_label(np.clip(z[:, position], -params.label_clip, params.label_clip))
        stop = params.early_stopping_rounds
        start = time.process_time()
        booster = lgb.train(
            engine, last[1][0], params.n_rounds, valid_sets=last[1][1:], keep_training_booster=True,
            callbacks=[lgb.early_stopping(stop, verbose=False)] if stop else [],
        )  # fmt: skip
        seconds += time.process_time() - start
        best = booster.best_iteration if stop else params.n_rounds
        predicted = booster.predict(valid[0][:, columns], num_threads=1, num_iteration=best)
        scores.append(r2_score(valid[1][:, [position]], predicted[:, None])[0])
    return np.clip(scores, 0, None), seconds


def main(names: list[str], quick: bool) -> None:
    n_targets, folds = (1, FOLDS[:1]) if quick else (N_TARGETS, FOLDS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store, embargo = make_store(folder, quick)
        plan = time_blocks(store.time, 5, embargo)
        plan.save(folder / "folds.parquet")
        targets = spread_targets(store, n_targets)
        print("| setting | mean R2, negatives 0, of each fold | CPU s per target |")
        print("|---|---|---|")
        for name, changes in SETTINGS.items():
            if names and not any(part in name for part in names):
                continue
            try:
                found = Parallel(len(folds), backend="loky")(
                    delayed(fit_all)(store.path, folder / "folds.parquet", fold, targets, changes)
                    for fold in folds
                )
            except lgb.basic.LightGBMError as error:
                print(f"| {name} | fails: {str(error)[:60]} | |", flush=True)
                continue
            means = " / ".join(f"{scores.mean():.4f}" for scores, _ in found)
            each = np.mean([seconds for _, seconds in found]) / n_targets
            print(f"| {name} | {means} | {each:.2f} |", flush=True)


if __name__ == "__main__":
    options = Options(__doc__)
    options.add_argument("names", nargs="*", help="parts of the names of the settings to try")
    asked = options.parse()
    main(asked.names, asked.quick)
