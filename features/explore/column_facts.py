"""Facts on each column of a sample: counts, moments, quantiles, tails, what float32 would lose."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.types import Array
from features.explore.sample import Sample
from features.schemas.schema import Schema
from features.schemas.variable import Variable
from features.sources.findings import SMALLEST_FLOAT32

QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
# Edges of bins in standard deviations: fine near the mean, and out to where LEAP's targets reach.
TAIL_EDGES = np.sinh(np.linspace(-np.arcsinh(400.0), np.arcsinh(400.0), 82))
FAR = 10.0  # standard deviations from which a value counts as an outlier
N_BINS = 60
COUNTS = ("distinct", "nonzero", "lost", "subnormal", "far")


def describe(sample: Sample, schema: Schema) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Describe every column of a sample.

    Returns:
        Three frames. Columns: name, group (its variable), role, level (-1 for a scalar), bad (not
        finite), distinct, nonzero, lost (0 in float32), subnormal (in float32), far (beyond 10
        standard deviations), smallest (size other than 0), mean, std, reach (largest distance
        from the mean in standard deviations), min, quantiles ``q0.001`` to ``q0.999``, max; NaN
        where no value is finite. Tails: group, role, low, high, share, by distance from the mean
        of the column in standard deviations, over all levels. Histograms: the same of each scalar,
        by value.
    """
    rows, bins = [], []
    tails: dict[Variable, NDArray[np.int64]] = {}
    of = [(v, level) for v in schema.variables for level in range(v.n_levels)][: len(sample.names)]
    for (variable, level), values in zip(of, sample.values.T, strict=True):
        ordered = np.sort(values[np.isfinite(values)])
        fact = _column(ordered)
        rows.append(
            {
                "name": variable.columns[level],
                "group": variable.name,
                "role": variable.role,
                "level": level if variable.n_levels > 1 else -1,
                "bad": len(values) - len(ordered),
                **fact,
            }
        )
        if fact["std"] > 0 and variable.kind != "category":
            # Divided, not multiplied: a standard deviation of 1e-58 has edges that float64 holds.
            apart = (ordered - fact["mean"]) / fact["std"]
            counts = np.diff(np.searchsorted(apart, TAIL_EDGES))
            tails[variable] = tails.get(variable, np.zeros(len(counts), dtype=np.int64)) + counts
            if variable.n_levels == 1:
                counts, edges = np.histogram(apart, N_BINS)
                bins += _shares(variable, edges * fact["std"] + fact["mean"], counts)
    spread = [row for v, counts in tails.items() for row in _shares(v, TAIL_EDGES, counts)]
    kinds = {"group": pl.String, "role": pl.String, "low": pl.Float64, "high": pl.Float64}
    kinds["share"] = pl.Float64
    tail, histogram = (pl.DataFrame(each, kinds, orient="row") for each in (spread, bins))
    return pl.DataFrame(rows), tail, histogram


def words(sample: Sample, schema: Schema) -> pl.DataFrame:
    """Of each category: variable, word, ``(missing)`` where none is, rows, share."""
    parts = [
        pl.DataFrame({"variable": schema.input_columns[at], "code": sample.values[:, at]})
        .group_by("variable", pl.col("code").fill_nan(None).cast(pl.Int64))
        .agg(pl.len().alias("rows"))
        .join(pl.DataFrame({"word": known}).with_row_index("code").cast({"code": pl.Int64}),
              on="code", how="left")
        .sort("rows", "code", descending=[True, False])
        .select("variable", pl.col("word").fill_null("(missing)"), "rows",
                (pl.col("rows") / len(sample)).alias("share"))
        for at, known in schema.categories.items()
    ]  # fmt: skip
    kinds = {"variable": pl.String, "word": pl.String, "rows": pl.UInt32, "share": pl.Float64}
    return pl.concat(parts) if parts else pl.DataFrame(schema=kinds)


def _shares(variable: Variable, edges: Array, counts: NDArray[np.int64]) -> list[tuple[Any, ...]]:
    shares = (counts / counts.sum()).tolist()
    ends = zip(edges[:-1].tolist(), edges[1:].tolist(), shares, strict=True)
    return [(variable.name, variable.role, *each) for each in ends]


def _column(ordered: Array) -> dict[str, float]:
    """Facts on the finite values of one column, sorted; NaN where there are none."""
    if not len(ordered):
        return dict.fromkeys(_column(np.zeros(1)), float("nan")) | dict.fromkeys(COUNTS, 0)
    size = np.abs(ordered)
    largest = float(size.max())
    scaled = ordered / (largest or 1.0)  # squares of 1e-200 would vanish
    mean, std = float(scaled.mean()), float(scaled.std())
    if ordered[0] == ordered[-1]:
        mean, std = float(scaled[0]), 0.0  # the sum of equal numbers has rounding errors
    ends = np.abs(scaled[[0, -1]] - mean).max()
    positions = np.array(QUANTILES) * (len(ordered) - 1)
    below = positions.astype(np.int64)
    above = np.minimum(below + 1, len(ordered) - 1)
    quantiles = ordered[below] + (positions - below) * (ordered[above] - ordered[below])
    lost = (size > 0) & (size < SMALLEST_FLOAT32)
    gone = lost & (size.astype(np.float32) == 0)
    return {
        "distinct": int(1 + (ordered[1:] != ordered[:-1]).sum()),
        "nonzero": int((size > 0).sum()),
        "lost": int(gone.sum()),
        "subnormal": int((lost & ~gone).sum()),
        "far": int((np.abs(scaled - mean) > FAR * std).sum()) if std > 0 else 0,
        "smallest": float(size[size > 0].min()) if largest > 0 else float("nan"),
        "mean": mean * largest,
        "std": std * largest,
        "reach": float(ends / std) if std > 0 else 0.0,
        "min": float(ordered[0]),
        **{f"q{q}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
        "max": float(ordered[-1]),
    }
