"""Boosted trees per target: climstack beside the scikit-learn wrappers, in turns, in one run.

Real rows where CLIMSTACK_REAL_DATA names them, else generated ones; one fold; a fixed set of
targets spread over the 292, in rounds of a few, so that contenders alternate. Each round bins
afresh, which a run over all targets does once: the extrapolation to 292 is unkind to climstack.

Usage: python benchmarks/bench_trees.py [N_TARGETS]
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from features import convert, load_schema, r2_score, time_blocks
from features.synthetic import write_dataset
from models import CellStore, FoldData, ModelSpec, cross_validate

ROUNDS = 4
FOLD = 1
PLAIN = {
    "n_rounds": 100, "learning_rate": 0.1, "num_leaves": 31, "max_bin": 255,
    "feature_fraction": 1.0, "lambda_l2": 0.0, "label_clip": 1e9,
}  # fmt: skip
OURS = {
    "climstack default": ("lightgbm", {}),
    "climstack quick": ("lightgbm", {"n_rounds": 100, "learning_rate": 0.12}),
    "climstack, wrapper's parameters": ("lightgbm", PLAIN),
    "climstack xgboost, wrapper's parameters": (
        "xgboost",
        {
            "n_rounds": 100, "learning_rate": 0.3, "max_bin": 256, "colsample_bytree": 1.0,
            "min_child_weight": 1.0, "label_clip": 1e9, "early_stopping_rounds": 0,
        },
    ),
}  # fmt: skip


def lightgbm_wrapper(x, z, x_valid):
    from lightgbm import LGBMRegressor
    from sklearn.multioutput import MultiOutputRegressor

    model = LGBMRegressor(n_estimators=100, num_leaves=31, verbosity=-1)
    return MultiOutputRegressor(model).fit(x, z).predict(x_valid)


def xgboost_wrapper(x, z, x_valid):
    from sklearn.multioutput import MultiOutputRegressor
    from xgboost import XGBRegressor

    return MultiOutputRegressor(XGBRegressor(n_estimators=100)).fit(x, z).predict(x_valid)


WRAPPERS = {
    "MultiOutputRegressor(LGBMRegressor)": lightgbm_wrapper,
    "MultiOutputRegressor(XGBRegressor)": xgboost_wrapper,
}


def make_store(folder: Path):
    schema = load_schema("leap")
    real = os.environ.get("CLIMSTACK_REAL_DATA")
    if real:
        return convert(Path(real) / "train.parquet", folder / "store", schema), 0
    files = write_dataset(folder / "data", 40, 384, seed=0)
    return convert(files["train"], folder / "store", schema), 2


def main(n_targets: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store, embargo = make_store(folder)
        plan = time_blocks(store.time, 5, embargo)
        modelled = store.schema.modelled_targets
        chosen = modelled[np.linspace(0, len(modelled) - 1, n_targets).round().astype(int)]
        seconds = {name: [] for name in (*OURS, *WRAPPERS)}
        r2 = {name: [] for name in seconds}
        for turn, targets in enumerate(np.array_split(chosen, ROUNDS)):
            data = FoldData(store, plan, FOLD, targets, both=False)
            x, z = data.arrays(data.train_rows)
            valid = plan.valid_rows(FOLD)
            x_valid, truth = data.arrays(valid)
            names = list(seconds)
            for name in names if turn % 2 else names[::-1]:
                start = time.perf_counter()
                if name in WRAPPERS:
                    predicted = WRAPPERS[name](x, z, x_valid)
                else:
                    family, params = OURS[name]
                    member = cross_validate(
                        store, plan, ModelSpec(name, family, params),
                        CellStore(folder / f"cells {name} {turn}"), targets=targets, folds=[FOLD],
                    )  # fmt: skip
                    predicted = data.scaler.transform(member.oof(0))
                seconds[name].append((time.perf_counter() - start) / len(targets))
                r2[name].append(np.clip(r2_score(truth, np.asarray(predicted, float)), 0, None))
        print(f"{len(x)} rows x {x.shape[1]} features, {n_targets} of {len(modelled)} targets")
        print("| contender | s per target | all targets, minutes | mean R2, negatives 0 |")
        print("|---|---|---|---|")
        for name in seconds:
            each = statistics.median(seconds[name])
            mean = np.concatenate(r2[name]).mean()
            print(f"| {name} | {each:.2f} | {each * len(modelled) / 60:.1f} | {mean:.4f} |")
        for ours, peer in (
            ("climstack default", "MultiOutputRegressor(LGBMRegressor)"),
            ("climstack quick", "MultiOutputRegressor(LGBMRegressor)"),
            ("climstack, wrapper's parameters", "MultiOutputRegressor(LGBMRegressor)"),
            ("climstack xgboost, wrapper's parameters", "MultiOutputRegressor(XGBRegressor)"),
        ):
            ratios = [p / o for p, o in zip(seconds[peer], seconds[ours], strict=True)]
            print(f"{ours}: {statistics.median(ratios):.1f} x faster than {peer}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
