"""How far blocks of time, or a test set, lie from each other: one input or target at a time."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.types import Array
from features.explore.sample import Sample

N_BLOCKS = 5  # as many as the default folds
POINTS = 256  # quantiles at which distributions are compared


def kolmogorov_smirnov(a: Array, b: Array, points: Array) -> float:
    """Largest gap between two distribution functions at some points: 0 alike, 1 apart.

    Source: the two-sample statistic of Smirnov (1948), Ann. Math. Statist. 19, 279-281.

    Args:
        a: sorted values, (n_a,).
        b: sorted values, (n_b,).
        points: where to compare; quantiles of either give the statistic to within their spacing.

    >>> kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([1.5, 2.5]))
    1.0
    """
    below = [np.searchsorted(x, points, side="right") / len(x) for x in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def auc(a: Array, b: Array) -> float:
    """Chance that a value of b exceeds one of a, ties counting half: area under the ROC curve.

    Args:
        a: sorted values, (n_a,).
        b: values, (n_b,).

    >>> auc(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.875
    """
    beaten = np.searchsorted(a, b, "left").mean() + np.searchsorted(a, b, "right").mean()
    return float(beaten / (2 * len(a)))


def cut_time(time: NDArray[np.int64], n_blocks: int = N_BLOCKS) -> NDArray[np.int64]:
    """Contiguous blocks of timesteps: number of each row's block, (n_rows,).

    There are fewer blocks than asked for when there are fewer timesteps; one where time is unknown.
    """
    times, position = np.unique(time, return_inverse=True)
    n_blocks = min(n_blocks, len(times))
    block: NDArray[np.int64] = position * n_blocks // len(times)
    return block


def block_drift(sample: Sample, block: NDArray[np.int64]) -> pl.DataFrame:
    """Each column of a sample in each block against all other blocks.

    Args:
        sample: rows of a store.
        block: number of each row's block, (n_rows,).

    Returns:
        ``name``, ``block``, ``ks`` (see :func:`kolmogorov_smirnov`) and ``shift`` (the block's mean
        less that of the others, in standard deviations of all rows); empty for a single block.
    """
    rows = []
    n_blocks = int(block.max()) + 1
    for name, values in zip(sample.names, sample.values.T, strict=True):
        finite = np.isfinite(values)
        whole = values[finite]
        for number in range(n_blocks if n_blocks > 1 else 0):
            inside = block[finite] == number
            rows.append((name, number, *_compare(whole[~inside], whole[inside], whole)))
    kinds = {"name": pl.String, "block": pl.Int64, "ks": pl.Float64, "shift": pl.Float64}
    return pl.DataFrame(rows, kinds, orient="row")


def sample_drift(train: Sample, test: Sample) -> pl.DataFrame:
    """Each column that two samples share.

    Returns:
        ``name``, ``ks``, ``auc`` (how well this column alone tells one set from the other, 0.5 to
        1), ``shift`` (mean of test less that of train, in standard deviations of train),
        ``outside`` (share of test values below train's smallest or above its largest),
        ``train_mean`` and ``test_mean``.
    """
    places = {name: place for place, name in enumerate(train.names)}
    rows = []
    for name, values in zip(test.names, test.values.T, strict=True):
        if name not in places:
            continue
        here = train.values[:, places[name]]
        a, b = here[np.isfinite(here)], values[np.isfinite(values)]
        ks, shift = _compare(a, b, a)
        alone, outside, means = np.nan, np.nan, (np.nan, np.nan)
        if len(a) and len(b):
            chance = auc(np.sort(a), b)
            alone = max(chance, 1 - chance)
            outside = float(((b < a.min()) | (b > a.max())).mean())
            means = (float(a.mean()), float(b.mean()))
        rows.append((name, ks, alone, shift, outside, *means))
    numbers = ("ks", "auc", "shift", "outside", "train_mean", "test_mean")
    kinds = {"name": pl.String} | dict.fromkeys(numbers, pl.Float64)
    return pl.DataFrame(rows, kinds, orient="row")


def _compare(a: Array, b: Array, whole: Array) -> tuple[float, float]:
    """Distance and shift of b against a; NaN where one of them is empty."""
    if not len(a) or not len(b):
        return np.nan, np.nan
    a, b = np.sort(a), np.sort(b)
    points = np.concatenate([_spread(a), _spread(b)])
    size = np.abs(whole).max() or 1.0
    deviation = float((whole / size).std())
    shift = float((b / size).mean() - (a / size).mean())
    shift = shift / deviation if deviation > 0 else (np.sign(shift) * np.inf if shift else 0.0)
    return kolmogorov_smirnov(a, b, points), shift


def _spread(ordered: Array) -> Array:
    return ordered[np.linspace(0, len(ordered) - 1, min(POINTS, len(ordered))).astype(np.int64)]
