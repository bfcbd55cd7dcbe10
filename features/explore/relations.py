"""Which columns move together: rank correlations of inputs with targets, and inputs that repeat."""

from __future__ import annotations

import numpy as np
import polars as pl

from features.core.types import Array, Float32, Mask
from features.explore.sample import Sample
from features.schemas.schema import Schema

ALMOST = 0.9999  # inputs of at least this rank correlation tell a tree the same


def normal_ranks(values: Array) -> Float32:
    """Ranks of each column, ties at their mean, scaled so that a product is a correlation.

    Values that are not finite stand at the mean; a constant column is 0 throughout.

    Args:
        values: (n_rows, n_columns).

    Returns:
        (n_rows, n_columns); ``normal_ranks(a).T @ normal_ranks(b)`` holds Spearman's (1904)
        correlation of every column of a with every one of b.
    """
    ranks = np.zeros(values.shape, dtype=np.float32, order="F")
    for place, column in enumerate(values.T):
        finite = np.flatnonzero(np.isfinite(column))
        order = finite[np.argsort(column[finite], kind="stable")]
        if not len(order):
            continue
        ordered = column[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        sizes = np.diff(np.r_[starts, len(order)])
        rank = np.repeat(starts + (sizes - 1) / 2, sizes)
        rank -= rank.mean()
        length = np.sqrt((rank**2).sum())
        ranks[order, place] = rank / length if length > 0 else 0.0
    return ranks


def group_correlations(
    schema: Schema, inputs: Float32, targets: Float32, present: Mask | None = None
) -> pl.DataFrame:
    """Rank correlation of each group of targets with each group of inputs.

    Args:
        schema: whose columns they are.
        inputs: ranks of the inputs, (n_rows, n_inputs), from :func:`normal_ranks`.
        targets: ranks of the targets, (n_rows, n_targets).
        present: where values are, (n_rows, n_inputs + n_targets): a pair is compared on rows that
            have both; None where none is missing.

    Returns:
        ``target_group``, ``input_group``, ``strength`` (mean over the group's targets of the
        largest absolute correlation with an input of the group; constant targets left out),
        ``target``, ``input`` and ``correlation`` of the closest pair.
    """
    found = inputs.T @ targets
    if present is not None:
        has_input, has_target = np.split(present.astype(np.float32), [inputs.shape[1]], axis=1)
        size = np.sqrt(((inputs**2).T @ has_target) * (has_input.T @ targets**2))
        found = found / np.where(size > 0, size, 1.0)
    alive = np.abs(targets).max(0) > 0
    rows = []
    for group in schema.targets:
        there = np.arange(found.shape[1])[schema.slice_of(group.name)]
        there = there[alive[there]]
        if not len(there):
            continue
        for source in schema.inputs:
            block = found[schema.slice_of(source.name)][:, there]
            size = np.abs(block)
            i, j = np.unravel_index(size.argmax(), size.shape)
            pair = (schema.target_columns[there[j]], source.columns[i], float(block[i, j]))
            rows.append((group.name, source.name, float(size.max(0).mean()), *pair))
    kinds = {"target_group": pl.String, "input_group": pl.String, "strength": pl.Float64}
    kinds |= {"target": pl.String, "input": pl.String, "correlation": pl.Float64}
    return pl.DataFrame(rows, kinds, orient="row")


def copies(sample: Sample, inputs: Float32) -> tuple[list[list[str]], list[list[str]]]:
    """Inputs that repeat another one: groups of equal ones, and groups of almost equal ones.

    Args:
        sample: rows whose first columns are the inputs.
        inputs: their ranks, (n_rows, n_inputs), from :func:`normal_ranks`.

    Returns:
        Groups with the same value in every row, and groups in which each input has a rank
        correlation of at least .9999 (or at most -.9999) with the first; constant ones left out.
    """
    alive = np.flatnonzero(np.abs(inputs).max(0) > 0)
    equal: dict[bytes, list[int]] = {}
    for place in alive.tolist():
        equal.setdefault(sample.values[:, place].tobytes(), []).append(place)
    firsts = np.array([places[0] for places in equal.values()], dtype=np.intp)
    close = np.abs(inputs[:, firsts].T @ inputs[:, firsts]) >= ALMOST
    taken, almost = np.zeros(len(firsts), dtype=bool), []
    for place in range(len(firsts)):
        together = np.flatnonzero(close[place] & ~taken)
        if not taken[place] and len(together) > 1:
            almost.append([sample.names[firsts[each]] for each in together])
            taken[together] = True
    same = [[sample.names[each] for each in places] for places in equal.values() if places[1:]]
    return same, almost
