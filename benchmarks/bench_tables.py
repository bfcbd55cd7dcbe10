"""Tables without levels: climstack as it comes, beside plain libraries, on the same folds.

Six public tables that scikit-learn ships or generates, and three of climstack's own generators. The
stack is ridge, LightGBM, XGBoost and ExtraTrees with the settings that they take by themselves. The
others are one regressor per target with its own defaults, fitted on the rows of the run's fold plan
that have the target. Scores are the mean over targets of the R2 of all held-out rows, honest, and
in brackets are 95 % intervals over blocks of rows. One thread.

    python benchmarks/bench_tables.py [PART_OF_A_NAME ...]
"""

import math
import os
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from common import Options
from lightgbm import LGBMRegressor
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from threadpoolctl import threadpool_limits

from ensemble import RunFolder, StackedRegressor
from features import FoldPlan, r2_score
from features.synthetic import tables as generated

PEERS = {
    "LGBMRegressor": partial(LGBMRegressor, random_state=0, n_jobs=1, verbosity=-1),
    "HistGradientBoosting": partial(HistGradientBoostingRegressor, random_state=0),
    "RandomForest": partial(RandomForestRegressor, random_state=0, n_jobs=1),
}
NOTHING: Mapping[str, Any] = MappingProxyType({})
QUICK = ("friedman", "molecules", "wind farm")  # a table of each kind of folds


class Size(NamedTuple):
    """How much is done; ``forest`` and ``boosting`` are parameters of scikit-learn's own."""

    rows: int = 1500
    targets: int = 4
    folds: int = 5
    forest: Mapping[str, Any] = NOTHING
    boosting: Mapping[str, Any] = NOTHING


TINY = Size(60, 1, 3, {"n_estimators": 5}, {"max_iter": 5})


class Task(NamedTuple):
    """Inputs (n, n_inputs) and targets (n, n_targets), and what folds must know of the rows."""

    x: np.ndarray
    y: np.ndarray
    about: Mapping[str, Any] = NOTHING


def friedman(n: int) -> Task:
    """Friedman's first function of 5 of 12 inputs, other ones for each target."""
    rng = np.random.default_rng(0)
    x = rng.random((n, 12))
    parts = [np.roll(x, -start, axis=1) for start in (0, 3, 5, 8)]
    y = np.stack(
        [
            10 * np.sin(np.pi * a[:, 0] * a[:, 1]) + 20 * (a[:, 2] - 0.5) ** 2
            + 10 * a[:, 3] + 5 * a[:, 4]
            for a in parts
        ], axis=1
    )  # fmt: skip
    return Task(x, y + 0.3 * y.std(axis=0) * rng.normal(size=y.shape))


def linear(n: int) -> Task:
    return Task(*datasets.make_regression(
        n, 64, n_informative=20, n_targets=4, noise=100.0, random_state=0
    ))  # fmt: skip


def digits(n: int) -> Task:
    """The upper half of an 8 x 8 image to pixels of the lower half that vary."""
    pixels = datasets.load_digits().data[:n]
    below = pixels[:, 32:]
    return Task(pixels[:, :32], below[:, below.std(axis=0) > 1])


def cancer(n: int) -> Task:
    """Means and errors of cells' features to their worst values."""
    cells = datasets.load_breast_cancer().data[:n]
    return Task(cells[:, :20], cells[:, 20:])


def wine(n: int) -> Task:
    measured = datasets.load_wine().data[:n]
    return Task(measured[:, :8], measured[:, 8:])


def diabetes(n: int) -> Task:
    found = datasets.load_diabetes()
    return Task(found.data[:n], found.target[:n, None])


def robot_arm(n: int) -> Task:
    table = generated.robot_arm(n, np.random.default_rng(0))
    return Task(table.rows.drop(table.targets).to_numpy(), table.rows[table.targets].to_numpy())


def molecules(n: int) -> Task:
    """30 % of the labels are missing; whole scaffolds are held out."""
    table = generated.molecules(n, np.random.default_rng(0))
    rows, words = table.rows, table.rows["solvent"].to_numpy()
    x = rows.select("^d[0-9]+$").to_numpy()
    x = np.column_stack([x, *(words == word for word in ("water", "ethanol", "hexane"))])
    return Task(x, rows[table.targets].to_numpy(), {"groups": rows["scaffold"].to_numpy()})


def wind_farm(n: int) -> Task:
    """Blocks of hours are held out; turbine and model are numbers, to be the same for all."""
    table = generated.wind_farm(n, np.random.default_rng(0))
    rows = table.rows
    x = [rows[name].to_numpy().astype(float) for name in ("wind", "direction", "temperature")]
    words = [np.unique(rows[name].to_numpy(), return_inverse=True)[1]
             for name in ("turbine", "model")]  # fmt: skip
    x = np.column_stack([*x, rows["curtailed"].to_numpy(), *words])
    return Task(x, rows[table.targets].to_numpy(), {"times": rows["date"].to_numpy()})


TABLES = {
    "friedman": friedman, "linear": linear, "digits": digits, "breast cancer": cancer,
    "wine": wine, "diabetes": diabetes, "robot arm": robot_arm, "molecules": molecules,
    "wind farm": wind_farm,
}  # fmt: skip


def peer_score(make, task: Task, plan: FoldPlan) -> float:
    """Mean R2 of one regressor per target and fold."""
    predicted = np.empty_like(task.y)
    for fold in range(plan.n_folds):
        train, valid = plan.train_rows(fold), plan.valid_rows(fold)
        for target, values in enumerate(task.y.T):
            own = train[~np.isnan(values[train])]
            predicted[valid, target] = (
                make().fit(task.x[own], values[own]).predict(task.x[valid])
            )  # fmt: skip
    return float(r2_score(task.y, predicted).mean())


def measure(task: Task, size: Size, folder: Path) -> tuple[dict[str, float], dict, dict]:
    """Score of every single model; the rows of the chosen contender and of the best blend."""
    forest = {"family": "sklearn", "name": "extra_trees", "params": size.forest}
    models = ["ridge", "lightgbm", "xgboost", forest]
    stack = StackedRegressor(models, n_folds=size.folds, run=folder)
    rows = stack.fit(task.x, task.y, **task.about).leaderboard_
    plan = FoldPlan.load(RunFolder(folder).folds)
    single = {row["model"]: row["score"] for row in rows if not row["blend"]}
    own = {"RandomForest": size.forest, "HistGradientBoosting": size.boosting}
    for name, make in PEERS.items():
        single[name] = peer_score(partial(make, **own.get(name, {})), task, plan)
    [chosen] = [row for row in rows if row["chosen"]]
    return single, chosen | {"scheme": plan.scheme}, next(row for row in rows if row["blend"])


def main(names: list[str], quick: bool) -> None:
    size = TINY if quick else Size()
    chosen_tables = [
        name for name in (QUICK if quick else TABLES)
        if not names or any(part in name for part in names)
    ]  # fmt: skip
    shown = ("lightgbm", *PEERS)
    heads = ("table", "rows", "inputs to targets", "folds", "chosen", "best blend - best member",
             *shown, "best single model", "CPU s")  # fmt: skip
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    against, beyond = {}, {}
    for name in chosen_tables:
        start = time.process_time()
        task = TABLES[name](size.rows)
        spread = np.linspace(0, task.y.shape[1] - 1, min(size.targets, task.y.shape[1]))
        task = task._replace(y=task.y[:, spread.round().astype(int)])
        with tempfile.TemporaryDirectory() as temporary, threadpool_limits(1):
            single, chosen, blend = measure(task, size, Path(temporary) / "run")
        best = max(single, key=single.__getitem__)
        against[name] = single["lightgbm"] - single["LGBMRegressor"]
        beyond[name] = chosen["score"] - single[best]
        print(
            f"| {name} | {len(task.x)} | {task.x.shape[1]} to {task.y.shape[1]}"
            f" | {chosen['scheme']} | {chosen['score']:.4f} [{chosen['ci_low']:.4f},"
            f" {chosen['ci_high']:.4f}], {chosen['model']}"
            f" | {blend['gain']:+.4f} [{blend['gain_low']:+.4f}, {blend['gain_high']:+.4f}] | "
            + " | ".join(f"{single[model]:.4f}" for model in shown)
            + f" | {best} {single[best]:.4f} | {time.process_time() - start:.0f} |",
            flush=True,
        )
        assert all(math.isfinite(value) for value in single.values())
    for what, gains in (
        ("lightgbm by default against LGBMRegressor", against),
        ("chosen against the best single model", beyond),
    ):
        worst = min(gains, key=gains.__getitem__)
        mean = sum(gains.values()) / len(gains)
        print(f"{what}: {mean:+.4f} in the mean, {gains[worst]:+.4f} at worst ({worst})")


if __name__ == "__main__":
    options = Options(__doc__)
    options.add_argument("names", nargs="*", help="parts of the names of the tables to take")
    asked = options.parse()
    main(asked.names, asked.quick)
