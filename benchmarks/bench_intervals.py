"""How often 90 % intervals hold: generated columns, ridge and small trees, one blend of both.

``bench_intervals.py [TIMESTEPS] [COLUMNS] [SEED]``, by default 100 x 96. Prints the share of
modelled targets whose coverage lies between 87 and 93 %, on later blocks of time and on test rows
five days later; their interval score against that of intervals of constant width; CRPS of the
members against the blend's absolute error. First, seconds and peak memory of the pass over 100,000
and 400,000 repeated rows.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl

from ensemble import candidates, choose, collect_moments, evaluate, fit_contenders
from ensemble.evaluation.held_out import HeldOut
from ensemble.evaluation.regime_errors import write_errors
from ensemble.inference.predict import predict_blocks
from ensemble.stacking.graph import Graph
from ensemble.uncertainty.calibration import ScoreCounts
from ensemble.uncertainty.conformal import fit_uncertainty, time_blocks_of
from ensemble.uncertainty.intervals import Intervals, covered
from features import FoldedStore, convert, load_schema, time_blocks
from features.synthetic import simulate, write_dataset
from models import CellStore, ModelSpec, cross_validate

SEED = 11
TREES = {"n_rounds": 40, "num_leaves": 15, "learning_rate": 0.15, "feature_fraction": 0.2}
LOW, HIGH, LEVEL = 0.87, 0.93, 0.9


def main(n_timesteps: int = 100, n_columns: int = 96, seed: int = SEED) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, schema = Path(name), load_schema("leap")
        files = write_dataset(folder, n_timesteps, n_columns, seed)
        store = convert(files["train"], folder / "store", schema, n_columns)
        plan, cells = time_blocks(store.time, 5, 1), CellStore(folder / "cells")
        specs = [
            ModelSpec(name="ridge", family="ridge"),
            ModelSpec(name="trees", family="lightgbm", params=TREES),
        ]
        members = [cross_validate(FoldedStore(store, plan), spec, cells) for spec in specs]
        moments = collect_moments(store, plan, members)
        blends = candidates(["mean", "best", "nnls"], ["group", "target"])
        contenders = fit_contenders(store, plan, members, moments, blends)
        chosen = choose(contenders, evaluate(store, plan, members, contenders))
        held_out = HeldOut.of_graphs(store, plan, members, chosen.honest)
        print(f"{len(store)} rows, {len(held_out.targets)} targets, blend {chosen.name}")

        start = time.perf_counter()
        table = fit_uncertainty(held_out, chosen.final, folder)
        print(f"fit_uncertainty: {time.perf_counter() - start:.1f} s")
        start = time.perf_counter()
        errors = write_errors(held_out, folder / "errors.parquet")
        print(f"write_errors: {time.perf_counter() - start:.1f} s, {len(errors)} rows")
        for column in ("coverage_in", "coverage_later", "coverage_fixed"):
            _say(column, table[column].to_numpy())
        fixed = _constant_width(held_out)
        gain = np.exp(np.log(table["interval_score"].to_numpy() / fixed["score"]).mean())
        print(f"interval score over that of constant width, geometric mean: {gain:.3f}")
        print(f"CRPS over the blend's MAE, median: {(table['crps'] / table['mae']).median():.3f}")

        test = convert(files["test"], folder / "test", schema, n_columns)
        solution = pl.read_parquet(files["solution"], columns=["sample_id", *schema.target_columns])
        ids = pl.DataFrame({"sample_id": test.sample_ids})
        truth = ids.join(solution, on="sample_id", how="left", maintain_order="left")
        y = truth.drop("sample_id").to_numpy()
        intervals, inside, n_rows = Intervals.load(folder), 0.0, 0
        for block in predict_blocks(chosen.final, members, test, scratch=folder):
            low, high = intervals.apply(
                chosen.final, block.outputs, block.predictions, block.heads, block.inputs
            )
            here = y[n_rows : n_rows + len(low)]
            inside = inside + covered(low, high, here).sum(0)
            n_rows += len(low)
        _say(f"test rows ({n_rows})", inside[held_out.targets] / n_rows)


class Repeated:
    """A long array that repeats a short one."""

    def __init__(self, values: np.ndarray, n_rows: int) -> None:
        self.values, self.shape = values, (n_rows, values.shape[1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows % len(self.values)]


def stream(n_rows: int, n_members: int = 4, per_timestep: int = 384) -> None:
    """Intervals and errors of repeated rows: what they cost where only the rows are many."""
    schema, n_short = load_schema("leap"), 4096
    data = simulate(-(-n_short // per_timestep), per_timestep, SEED)
    targets = schema.modelled_targets
    rng, truth = np.random.default_rng(0), data.targets[:n_short]
    time_of_row = np.arange(n_rows) // per_timestep
    plan = time_blocks(time_of_row, 5, 1)
    store = SimpleNamespace(
        schema=schema,
        inputs=Repeated(data.inputs[:n_short], n_rows),
        time=time_of_row,
        require_targets=lambda: Repeated(truth, n_rows),
    )

    def member(name: str) -> SimpleNamespace:
        values = truth[:, targets] * rng.normal(1, 0.3, (n_short, len(targets)))
        of_row = Repeated(values, n_rows)
        return SimpleNamespace(
            spec=SimpleNamespace(name=name),
            cells=[[SimpleNamespace(has_uncertainty=False)]] * 5,
            oof=lambda fold, at: of_row[plan.valid_rows(fold)[at]],
        )

    names = [f"member {i}" for i in range(n_members)]
    members = [member(name) for name in names]
    y, flat = truth[:, targets], np.zeros(len(targets))
    graph = Graph(
        schema.name, "mean", names, targets, np.full((n_members, len(targets)), 1 / n_members),
        flat, ["blend"] * len(targets), y.mean(0), y.min(0), y.max(0),
    )  # fmt: skip
    outputs = graph.apply({m.spec.name: m.oof(0, np.arange(n_short)) for m in members},
                          store.inputs[np.arange(n_short)])  # fmt: skip
    of_folds = [Repeated(outputs, len(plan.valid_rows(fold))) for fold in range(5)]
    held_out = HeldOut(store, plan, members, [graph] * 5, of_folds)
    with tempfile.TemporaryDirectory() as folder:
        before = _peak()
        start = time.perf_counter()
        fit_uncertainty(held_out, graph, Path(folder))
        middle = time.perf_counter()
        write_errors(held_out, Path(folder) / "errors.parquet")
        end = time.perf_counter()
    print(
        f"{n_rows} rows x {len(targets)} targets x {n_members} members: fit_uncertainty"
        f" {middle - start:.1f} s, write_errors {end - middle:.1f} s; peak memory {before} MB"
        f" before, {_peak()} MB after"
    )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _say(what: str, coverage: np.ndarray) -> None:
    within = ((coverage >= LOW) & (coverage <= HIGH)).mean()
    low, median, high = np.quantile(coverage, [0.05, 0.5, 0.95])
    print(
        f"{what}: {within:.1%} of targets within 87 to 93 %;"
        f" 5th, 50th, 95th percentile {low:.3f} {median:.3f} {high:.3f}"
    )


def _constant_width(held_out: HeldOut) -> dict[str, np.ndarray]:
    """The same rolling calibration on the residuals as they are: one width per target."""
    block_of_row, n_blocks = time_blocks_of(held_out)
    # Scores are counted in units of the first half's mean residual.
    first = [_residuals(held_out, block_of_row == k) for k in range(n_blocks // 2)]
    unit = np.concatenate(first).mean(0)
    counts, score, n_rows = ScoreCounts.empty(len(held_out.targets)), 0.0, 0
    for k in range(n_blocks):
        residual = first[k] if k < n_blocks // 2 else _residuals(held_out, block_of_row == k)
        if k >= n_blocks // 2:
            half = counts.quantile(LEVEL) * unit
            missed = np.maximum(residual - half, 0)
            score = score + (2 * half + 2 / (1 - LEVEL) * missed).sum(0)
            n_rows += len(residual)
        counts.add(residual / unit)
    return {"score": score / n_rows}


def _residuals(held_out: HeldOut, of: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [np.abs(block.truth - block.outputs)[:, held_out.targets] for block in held_out.blocks(of)]
    )


if __name__ == "__main__":
    for n in (100_000, 400_000):
        stream(n)
    main(*map(int, sys.argv[1:]))
