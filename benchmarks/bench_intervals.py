"""How often 90 % intervals hold: generated columns, ridge and small trees, one blend of both.

    python benchmarks/bench_intervals.py [--timesteps 100] [--columns 96] [--seed 11]

Prints the share of modelled targets whose coverage lies between 87 and 93 %, on later blocks of
time and on test rows five days later; their interval score against that of intervals of constant
width; CRPS of the members against the blend's absolute error. First, seconds and peak memory of the
pass over 100,000 and 400,000 repeated rows.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
from common import Options, spread_targets

from ensemble import (
    Blend,
    HeldOut,
    candidates,
    choose,
    collect_moments,
    evaluate,
    fit_contenders,
    fit_uncertainty,
    write_errors,
)
from ensemble.evaluation.held_out import Block
from ensemble.inference.predict import predict_blocks
from ensemble.uncertainty.calibration import ScoreCounts
from ensemble.uncertainty.conformal import CONFIDENCE
from ensemble.uncertainty.intervals import covered
from features import FoldedStore, convert, load_schema, time_blocks
from features.synthetic import simulate, write_dataset
from models import CellStore, ModelSpec, cross_validate
from models.process import peak_memory_mb

TREES = {"n_rounds": 40, "num_leaves": 15, "learning_rate": 0.15, "feature_fraction": 0.2}
LOW, HIGH = 0.87, 0.93


def coverage(n_timesteps: int, n_columns: int, seed: int, n_targets: int | None) -> None:
    """How often the intervals of so many targets hold; None takes all."""
    with tempfile.TemporaryDirectory() as name:
        folder, schema = Path(name), load_schema("leap")
        files = write_dataset(folder, n_timesteps, n_columns, seed)
        store = convert(files["train"], folder / "store", schema, n_columns)
        data, cells = FoldedStore(store, time_blocks(store.time, 5, 1)), CellStore(folder / "cells")
        specs = [
            ModelSpec(name="ridge", family="ridge"),
            ModelSpec(name="trees", family="lightgbm", params=TREES),
        ]
        targets = spread_targets(store, n_targets or len(schema.modelled_targets))
        members = [cross_validate(data, spec, cells, targets=targets) for spec in specs]
        held_out = HeldOut(data=data, members=members)
        blends = candidates(["mean", "best", "nnls"], ["group", "target"])
        contenders = fit_contenders(schema, members, collect_moments(held_out), blends)
        chosen = choose(contenders, evaluate(held_out, contenders))
        held_out = replace(held_out, honest=chosen.honest)
        print(f"{len(store)} rows, {len(held_out.targets)} targets, blend {chosen.name}")

        start = time.perf_counter()
        conformal = fit_uncertainty(held_out, chosen.final)
        print(f"fit_uncertainty: {time.perf_counter() - start:.1f} s")
        start = time.perf_counter()
        errors = write_errors(held_out, folder / "errors.parquet")
        print(f"write_errors: {time.perf_counter() - start:.1f} s, {len(errors)} rows")
        table, intervals = conformal.table(), conformal.intervals
        for column in ("coverage_in", "coverage_later", "coverage_fixed"):
            _say(column, table[column].to_numpy())
        gain = np.exp(np.log(table["interval_score"].to_numpy() / _constant_width(held_out)).mean())
        print(f"interval score over that of constant width, geometric mean: {gain:.3f}")
        print(f"CRPS over the blend's MAE, median: {(table['crps'] / table['mae']).median():.3f}")

        test = convert(files["test"], folder / "test", schema, n_columns)
        solution = pl.read_parquet(files["solution"], columns=["sample_id", *schema.target_columns])
        ids = pl.DataFrame({"sample_id": test.sample_ids})
        truth = ids.join(solution, on="sample_id", how="left", maintain_order="left")
        y = truth.drop("sample_id").to_numpy()
        inside, n_rows = 0.0, 0
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


def stream(n_rows: int, per_timestep: int, n_members: int = 4) -> None:
    """Intervals and errors of repeated rows: what they cost where only the rows are many."""
    schema, n_short = load_schema("leap"), min(4096, n_rows)
    made = simulate(-(-n_short // per_timestep), per_timestep, seed=11)
    targets = schema.modelled_targets
    rng, truth = np.random.default_rng(0), made.targets[:n_short]
    time_of_row = np.arange(n_rows) // per_timestep
    plan = time_blocks(time_of_row, 5, 1)
    store = SimpleNamespace(
        schema=schema,
        inputs=Repeated(made.inputs[:n_short], n_rows),
        time=time_of_row,
        grid=None,
        levels=None,
        require_targets=lambda: Repeated(truth, n_rows),
    )

    def member(name: str) -> SimpleNamespace:
        values = truth[:, targets] * rng.normal(1, 0.3, (n_short, len(targets)))
        of_row = Repeated(values, n_rows)
        return SimpleNamespace(
            spec=SimpleNamespace(name=name),
            targets=targets,
            cells=[[SimpleNamespace(has_uncertainty=False)]] * 5,
            oof=lambda fold, at: of_row[plan.valid_rows(fold)[at]],
        )

    names = [f"member {i}" for i in range(n_members)]
    members = [member(name) for name in names]
    y = truth[:, targets]
    blend = Blend(
        schema=schema,
        blender="mean",
        members=names,
        targets=targets,
        weights=np.full((n_members, len(targets)), 1 / n_members),
        intercept=np.zeros(len(targets)),
        action=["blend"] * len(targets),
        mean=y.mean(0),
        low=y.min(0),
        high=y.max(0),
    )
    data = SimpleNamespace(store=store, plan=plan)
    held_out = HeldOut(data=data, members=members, honest=[blend] * 5)
    with tempfile.TemporaryDirectory() as folder:
        before = peak_memory_mb()
        start = time.perf_counter()
        fit_uncertainty(held_out, blend)
        middle = time.perf_counter()
        write_errors(held_out, Path(folder) / "errors.parquet")
        end = time.perf_counter()
    print(
        f"{n_rows} rows x {len(targets)} targets x {n_members} members: fit_uncertainty"
        f" {middle - start:.1f} s, write_errors {end - middle:.1f} s; peak memory {before} MB"
        f" before, {peak_memory_mb()} MB after"
    )


def _say(what: str, coverage: np.ndarray) -> None:
    within = ((coverage >= LOW) & (coverage <= HIGH)).mean()
    low, median, high = np.quantile(coverage, [0.05, 0.5, 0.95])
    print(
        f"{what}: {within:.1%} of targets within 87 to 93 %;"
        f" 5th, 50th, 95th percentile {low:.3f} {median:.3f} {high:.3f}"
    )


class Residuals:
    """Collects the absolute residuals of each block of time."""

    def __init__(self, held_out: HeldOut) -> None:
        self.targets = held_out.targets
        self.of_block: list[list[np.ndarray]] = [[] for _ in range(held_out.n_blocks)]

    def add(self, block: Block) -> None:
        """Note a block's."""
        residual = np.abs(block.truth - block.outputs)[:, self.targets]
        self.of_block[block.number].append(residual)


def _constant_width(held_out: HeldOut) -> np.ndarray:
    """Interval score of the same rolling calibration with one width per target, (n_targets,)."""
    found = Residuals(held_out)
    held_out.walk(found, what="constant width")
    blocks = [np.concatenate(parts) for parts in found.of_block]
    first, later = blocks[: held_out.first_later], blocks[held_out.first_later :]
    # Scores are counted in units of the first half's mean residual.
    unit = np.concatenate(first).mean(0)
    counts, score = ScoreCounts.empty(len(unit)), 0.0
    for residual in first:
        counts.add(residual / unit)
    for residual in later:
        half = counts.quantile(CONFIDENCE) * unit
        missed = np.maximum(residual - half, 0)
        score = score + (2 * half + 2 / (1 - CONFIDENCE) * missed).sum(0)
        counts.add(residual / unit)
    return score / sum(map(len, later))


def main() -> None:
    options = Options(__doc__)
    options.add_argument("--timesteps", type=int, default=100)
    options.add_argument("--columns", type=int, default=96)
    options.add_argument("--seed", type=int, default=11)
    asked = options.parse()
    for n_rows in (400, 800) if asked.quick else (100_000, 400_000):
        stream(n_rows, per_timestep=16 if asked.quick else 384)
    n_timesteps, n_columns = (40, 12) if asked.quick else (asked.timesteps, asked.columns)
    coverage(n_timesteps, n_columns, asked.seed, 6 if asked.quick else None)


if __name__ == "__main__":
    main()
