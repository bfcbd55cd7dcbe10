"""What is wrong or odd in a sample of a store, as ``data check`` says it of a file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from itertools import chain

import numpy as np
import polars as pl

from features.core.metrics import r2_score
from features.explore.column_facts import FAR
from features.explore.sample import Sample
from features.schemas.schema import Schema
from features.sources.findings import Finding, compress
from features.store.store import Store

Groups = list[list[str]]
Found = Iterator[Finding]
error = partial(Finding, "error")
warning = partial(Finding, "warning")
note = partial(Finding, "note")
RULE_R2 = 0.9999  # an exact rule scores at least this


def check_sample(
    store: Store, sample: Sample, columns: pl.DataFrame, repeats: tuple[Groups, Groups]
) -> list[Finding]:
    """Findings on a sample.

    Args:
        store: where it is from.
        sample: its rows.
        columns: facts on each column, from :func:`features.explore.column_facts.describe`.
        repeats: groups of equal and of almost equal inputs, from
            :func:`features.explore.relations.copies`.
    """
    n_inputs = len(store.schema.input_columns)
    rows = f"{'all' if sample.everything else 'the sampled'} {len(sample)} rows"
    may_miss = {name for v in store.schema.variables if v.may_miss for name in v.columns}
    checks = [_missing(columns, may_miss, rows)]
    if len(sample) > 1:
        checks.append(_inputs(columns.filter(pl.col("role") == "input"), rows))
    if len(sample) > 1 and store.schema.n_grid_columns is not None:
        checks.append(_keys(columns.filter(pl.col("role") == "input"), len(sample), rows))
    checks += [_copies(*repeats, rows), _sizes(columns, rows)]
    if len(sample.names) > n_inputs and len(sample) > 1:
        checks.append(_targets(sample, store.schema, columns[n_inputs:], rows))
    return [Finding(f.level, f"{store.called}: {f.sentence}") for f in chain(*checks)]


def _missing(columns: pl.DataFrame, may_miss: Collection[str], rows: str) -> Found:
    missing = columns.filter(pl.col("bad") > 0)
    left_out = pl.col("name").is_in(list(may_miss))
    if len(bad := missing.filter(~left_out)):
        yield error(
            f"{bad['bad'].sum()} values in {rows} are NaN or infinite, in {compress(bad['name'])}:"
            " fill them or drop their rows"
        )
    for role, then in (
        ("input", "trees see them as missing, other models as the training fold's mean"),
        ("target", "each target is learned and scored on the rows that have it"),
    ):
        if len(gaps := missing.filter(left_out & (pl.col("role") == role))):
            yield note(
                f"{gaps['bad'].sum()} {role} values in {rows} are missing, as the schema allows;"
                f" {then}: {compress(gaps['name'])}"
            )


def _inputs(inputs: pl.DataFrame, rows: str) -> Found:
    if len(constant := inputs.filter(pl.col("distinct") == 1)):
        yield warning(
            f"{len(constant)} inputs are constant in {rows} and teach nothing:"
            f" {compress(constant['name'])}"
        )


def _keys(inputs: pl.DataFrame, n_rows: int, rows: str) -> Found:
    if len(unique := inputs.filter(pl.col("distinct") == n_rows)):
        yield note(
            f"{len(unique)} inputs differ in every one of {rows}, so each is a unique key of time"
            " and column: a model may read them, a split must not group by them:"
            f" {compress(unique['name'])}"
        )


def _copies(equal: Groups, almost: Groups, rows: str) -> Found:
    if equal:
        names = "; ".join(f"{group[0]} = {compress(group[1:])}" for group in equal)
        n_repeats = sum(len(group) - 1 for group in equal)
        yield warning(f"{n_repeats} inputs repeat another one in {rows}: {names}")
    if almost:
        names = "; ".join(f"{group[0]} and {compress(group[1:])}" for group in almost)
        yield note(f"{len(almost)} groups of inputs rise and fall together in {rows}: {names}")


def _sizes(columns: pl.DataFrame, rows: str) -> Found:
    if len(lost := columns.filter(pl.col("lost") + pl.col("subnormal") > 0)):
        yield warning(
            f"float32 would turn {lost['lost'].sum()} values in {rows} to 0 and round"
            f" {lost['subnormal'].sum()} more coarsely (smallest"
            f" {lost['smallest'].to_numpy().min():.2g}), in {compress(lost['name'])}: keep float64"
        )
    if len(far := columns.filter(pl.col("far") > 0)):
        furthest = far.row(int(far["reach"].arg_max() or 0), named=True)
        yield note(
            f"{far['far'].sum()} values in {rows} lie more than {FAR:.0f} standard deviations from"
            f" their column's mean, in {len(far)} columns; the furthest, {furthest['reach']:.0f},"
            f" in {furthest['name']}"
        )


def _targets(sample: Sample, schema: Schema, targets: pl.DataFrame, rows: str) -> Found:
    """Targets that never change, and the schema's closed-form rules held against the values."""
    still = targets.filter((pl.col("distinct") == 1) & (pl.Series(schema.weights) > 0))
    if len(still):
        yield warning(
            f"{len(still)} scored targets are constant in {rows}, so only their exact value scores:"
            f" {compress(still['name'])}"
        )
    inputs, truth = np.split(sample.values, [len(schema.input_columns)], axis=1)
    names = np.array(schema.target_columns)
    places, ruled = schema.closed_form("exact", inputs)
    known = np.isfinite(ruled).all(axis=1) & np.isfinite(truth[:, places]).all(axis=1)
    if len(places) and known.sum() > 1:
        r2 = r2_score(truth[:, places][known], ruled[known])
        broken = names[places][r2 < RULE_R2]
        if len(broken):
            yield warning(
                f"the closed-form rule of schema {schema.name} does not hold (R2 down to"
                f" {r2.min():.4f}) for {compress(broken)}: is this another version of the data?"
            )
        else:
            yield note(
                f"the closed-form rule holds in {rows} (R2 at least {r2.min():.6f}):"
                f" {compress(names[places])} need no model"
            )
    places, bound = schema.closed_form("lower_bound", inputs)
    # The bound is a difference of two stored numbers: rounding may put the truth just below it.
    below = truth[:, places] < bound - 1e-9 * np.abs(bound)
    if below.any():
        yield warning(
            f"{below.sum()} values in {rows} lie below the schema's lower bound, to which a blend"
            f" is clipped, in {compress(names[places][below.any(axis=0)])}: is this another"
            " version of the data?"
        )
