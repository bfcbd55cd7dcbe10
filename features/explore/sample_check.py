"""What is wrong or odd in a sample of a store, as ``data check`` says it of a file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

import numpy as np
import polars as pl

from features.core.metrics import r2_score
from features.explore.column_facts import FAR
from features.explore.sample import Sample
from features.schemas.schema import Schema
from features.sources.check import Finding, compress
from features.store.store import Store

Level = Literal["error", "warning", "note"]
Groups = list[list[str]]
Say = Callable[[Level, str], None]
RULE_R2 = 0.9999  # an exact rule scores at least this


def check_sample(
    store: Store, sample: Sample, columns: pl.DataFrame, repeats: tuple[Groups, Groups]
) -> list[Finding]:
    """Findings on a sample, errors first.

    Args:
        store: where it is from.
        sample: its rows.
        columns: facts on each column, from :func:`features.explore.column_facts.describe`.
        repeats: groups of equal and of almost equal inputs, from
            :func:`features.explore.relations.copies`.
    """
    schema, imputed = store.schema, store.repaired.get("imputed", {})
    rows = f"{'all' if sample.everything else 'the sampled'} {len(sample)} rows"
    findings: list[Finding] = []

    def say(level: Level, sentence: str) -> None:
        findings.append(Finding(level, f"{store.path}: {sentence}"))

    _check_missing(say, columns, imputed, rows)
    if len(sample) > 1:
        _check_inputs(say, columns.filter(pl.col("role") == "input"), len(sample), rows)
    _check_copies(say, *repeats, rows)
    _check_sizes(say, columns, rows)
    if len(sample.names) > len(schema.input_columns) and len(sample) > 1:
        _check_targets(say, sample, schema, columns, rows)
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(findings, key=lambda finding: order[finding.level])


def _check_missing(say: Say, columns: pl.DataFrame, imputed: Collection[str], rows: str) -> None:
    missing = columns.filter(pl.col("bad") > 0)
    left_out = pl.col("name").is_in(list(imputed))
    if len(bad := missing.filter(~left_out)):
        say(
            "error",
            f"{bad['bad'].sum()} values in {rows} are NaN or infinite, in {compress(bad['name'])}:"
            " fill them or drop their rows",
        )
    if len(gaps := missing.filter(left_out)):
        say(
            "note",
            f"{gaps['bad'].sum()} values in {rows} were left out by the schema's policy, to be"
            f" imputed from the training fold, in {compress(gaps['name'])}",
        )


def _check_inputs(say: Say, inputs: pl.DataFrame, n_rows: int, rows: str) -> None:
    constant = inputs.filter(pl.col("distinct") == 1)
    if len(constant):
        say(
            "warning",
            f"{len(constant)} inputs are constant in {rows} and teach nothing:"
            f" {compress(constant['name'])}",
        )
    unique = inputs.filter(pl.col("distinct") == n_rows)
    if len(unique):
        say(
            "note",
            f"{len(unique)} inputs differ in every one of {rows}, so each is a unique key of time"
            " and column: a model may read them, a split must not group by them:"
            f" {compress(unique['name'])}",
        )


def _check_copies(say: Say, equal: Groups, almost: Groups, rows: str) -> None:
    if equal:
        names = "; ".join(f"{group[0]} = {compress(group[1:])}" for group in equal)
        n_repeats = sum(len(group) - 1 for group in equal)
        say("warning", f"{n_repeats} inputs repeat another one in {rows}: {names}")
    if almost:
        names = "; ".join(f"{group[0]} and {compress(group[1:])}" for group in almost)
        say("note", f"{len(almost)} groups of inputs rise and fall together in {rows}: {names}")


def _check_sizes(say: Say, columns: pl.DataFrame, rows: str) -> None:
    lost = columns.filter(pl.col("lost") + pl.col("subnormal") > 0)
    if len(lost):
        n_zero, n_rough = lost["lost"].sum(), lost["subnormal"].sum()
        smallest = lost["smallest"].to_numpy().min()
        say(
            "warning",
            f"float32 would turn {n_zero} values in {rows} to 0 and round {n_rough} more coarsely"
            f" (smallest {smallest:.2g}), in {compress(lost['name'])}: keep float64",
        )
    far = columns.filter(pl.col("far") > 0)
    if len(far):
        furthest = far.row(int(far["reach"].arg_max() or 0), named=True)
        say(
            "note",
            f"{far['far'].sum()} values in {rows} lie more than {FAR:.0f} standard deviations from"
            f" their column's mean, in {len(far)} columns; the furthest, {furthest['reach']:.0f},"
            f" in {furthest['name']}",
        )


def _check_targets(
    say: Say, sample: Sample, schema: Schema, columns: pl.DataFrame, rows: str
) -> None:
    """Targets that never change, and the schema's closed-form rules held against the values."""
    n_inputs = len(schema.input_columns)
    targets = columns[n_inputs:]
    still = targets.filter((pl.col("distinct") == 1) & (pl.Series(schema.weights) > 0))
    if len(still):
        say(
            "warning",
            f"{len(still)} scored targets are constant in {rows}, so only their exact value scores:"
            f" {compress(still['name'])}",
        )
    inputs, truth = sample.values[:, :n_inputs], sample.values[:, n_inputs:]
    places, ruled = schema.closed_form("exact", inputs)
    names = np.array([schema.target_columns[place] for place in places])
    known = np.isfinite(ruled).all(axis=1) & np.isfinite(truth[:, places]).all(axis=1)
    if len(places) and known.sum() > 1:
        r2 = r2_score(truth[:, places][known], ruled[known])
        if (r2 < RULE_R2).any():
            say(
                "warning",
                f"the closed-form rule of schema {schema.name} does not hold (R2 down to"
                f" {r2.min():.4f}) for {compress(names[r2 < RULE_R2])}: is this another version"
                " of the data?",
            )
        else:
            say(
                "note",
                f"the closed-form rule holds in {rows} (R2 at least {r2.min():.6f}):"
                f" {compress(names)} need no model",
            )
    places, bound = schema.closed_form("lower_bound", inputs)
    # The bound is a difference of two stored numbers: rounding may put the truth just below it.
    below = truth[:, places] < bound - 1e-9 * np.abs(bound)
    if below.any():
        names = np.array([schema.target_columns[place] for place in places])
        say(
            "warning",
            f"{below.sum()} values in {rows} lie below the schema's lower bound, to which a blend"
            f" is clipped, in {compress(names[below.any(axis=0)])}: is this another version of the"
            " data?",
        )
