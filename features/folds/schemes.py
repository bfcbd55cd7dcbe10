"""Folds of blocks: of time or of places, by default with an embargo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array, Mask
from features.folds.plan import FoldPlan
from features.folds.sphere import compact_parts, mean_spacing, unit_vectors, within


def time_blocks(time: NDArray[np.int64], n_folds: int = 5, embargo: int = 1) -> FoldPlan:
    """Contiguous blocks of time; rows within ``embargo`` timesteps of a block don't train for it.

    Every row is validated exactly once.

    Args:
        time: timestep number of each row, (n_samples,).
        n_folds: number of blocks.
        embargo: timesteps kept free on both sides.

    Raises:
        ClimstackError: fewer timesteps than folds, or a negative embargo.

    Example:
        >>> plan = time_blocks(np.arange(9), n_folds=3, embargo=1)
        >>> plan.valid_rows(0).tolist(), plan.train_rows(0).tolist()  # row 3 is left free
        ([0, 1, 2], [4, 5, 6, 7, 8])
    """
    return _blocks("time_blocks", "timesteps", time, n_folds, embargo)


def column_blocks(column: NDArray[np.int64], n_folds: int = 5, embargo: int = 0) -> FoldPlan:
    """Contiguous blocks of grid columns: does the model know a place it never saw?

    Args:
        column: grid column of each row, (n_samples,).
        n_folds: number of blocks.
        embargo: grid columns kept free on both sides.

    Raises:
        ClimstackError: fewer columns than folds, or a negative embargo.

    Example:
        >>> column_blocks(np.tile(np.arange(6), 2), n_folds=3).valid_rows(0).tolist()
        [0, 1, 6, 7]
    """
    return _blocks("column_blocks", "grid columns", column, n_folds, embargo)


def regions(
    column: NDArray[np.int64], lat: Array, lon: Array, n_folds: int = 5, embargo: int = 0
) -> FoldPlan:
    """Compact regions of the globe of about equal numbers of columns: does the model know a place?

    Columns are bisected again and again across the direction in which they spread most, in
    proportion to the folds on either side. Going on down to single columns gives their order,
    :attr:`FoldPlan.unit`: a run of it is a compact patch, mostly. Inner blocks are such runs, with
    ``embargo`` columns of that order free on both sides.

    Args:
        column: grid column of each row, (n_samples,).
        lat: of the grid's columns, degrees north, (n_columns,).
        lon: of the grid's columns, degrees east, (n_columns,).
        n_folds: number of regions.
        embargo: columns at most ``embargo * sqrt(4 pi / n_columns)`` rad (great circle) from a
            column of a region don't train for it: 10.4 degrees each for the 384 columns of LEAP.

    Raises:
        ClimstackError: fewer columns than folds, a negative embargo, or a row's column is not one
            of the grid's.

    Example:
        >>> from features.synthetic import synthetic_grid
        >>> grid = synthetic_grid(12)
        >>> regions(np.arange(12), grid.lat, grid.lon, n_folds=3).n_folds
        3
    """
    _not_negative(embargo)
    found, position = np.unique(column, return_inverse=True)
    if len(found) and not 0 <= found[0] <= found[-1] < len(lat):
        raise ClimstackError(
            f"rows lie in grid columns {found[0]} to {found[-1]}, but the grid has columns 0 to"
            f" {len(lat) - 1}: give the grid of these data"
        )
    at_least("grid columns", len(found), n_folds)
    places = unit_vectors(lat[found], lon[found])
    fold, near = np.empty(len(found), dtype=np.int64), np.empty((n_folds, len(found)), dtype=bool)
    order = []
    for k, region in enumerate(compact_parts(places, n_folds)):
        fold[region] = k
        near[k] = within(places, places[region], embargo * mean_spacing(len(lat)))
        order += [region[at] for at in compact_parts(places[region], len(region))]
    unit = np.argsort(np.concatenate(order))
    excluded = near & (fold != np.arange(n_folds)[:, None])
    return new_plan("regions", embargo, fold[position], unit[position], excluded[:, position])


def forward_chaining(time: NDArray[np.int64], n_folds: int = 5, embargo: int = 1) -> FoldPlan:
    """Train on the past, validate on the block that follows; the first block only trains.

    Args:
        time: timestep number of each row, (n_samples,).
        n_folds: number of validation blocks; time is cut into ``n_folds + 1``.
        embargo: timesteps before a validation block that don't train for it.

    Raises:
        ClimstackError: fewer timesteps than blocks, or a negative embargo.

    Example:
        >>> plan = forward_chaining(np.arange(8), n_folds=3, embargo=0)
        >>> plan.train_rows(1).tolist(), plan.valid_rows(1).tolist()
        ([0, 1, 2, 3], [4, 5])
    """
    block, first, _ = _cut("timesteps", time, n_folds + 1, embargo)
    excluded = np.stack(
        [(block - 1 != k) & (time >= first[k + 1] - embargo) for k in range(n_folds)]
    )
    return new_plan("forward_chaining", embargo, block - 1, time, excluded)


def _blocks(
    scheme: str, what: str, unit: NDArray[np.int64], n_folds: int, embargo: int
) -> FoldPlan:
    block, first, last = _cut(what, unit, n_folds, embargo)
    near = [(unit >= first[k] - embargo) & (unit <= last[k] + embargo) for k in range(n_folds)]
    excluded = np.stack([near[k] & (block != k) for k in range(n_folds)])
    return new_plan(scheme, embargo, block, unit, excluded)


def _cut(
    what: str, unit: NDArray[np.int64], n_blocks: int, embargo: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut the distinct units into blocks: block of each row, first and last unit of each block."""
    _not_negative(embargo)
    found, position = np.unique(unit, return_inverse=True)
    at_least(what, len(found), n_blocks)
    edges = np.linspace(0, len(found), n_blocks + 1).round().astype(np.int64)
    block_of_unit = np.searchsorted(edges, np.arange(len(found)), side="right") - 1
    return block_of_unit[position], found[edges[:-1]], found[edges[1:] - 1]


def _not_negative(embargo: int) -> None:
    if embargo < 0:
        raise ClimstackError(f"embargo must be at least 0, but got {embargo}")


def at_least(what: str, found: int, n_folds: int) -> None:
    """See that there is enough to cut.

    Raises:
        ClimstackError: fewer than two folds, or more folds than units.
    """
    if n_folds < 2:
        raise ClimstackError(f"n_folds must be at least 2, but got {n_folds}")
    if found < n_folds:
        hint = ", or give the grid's size if it has another number of columns"
        raise ClimstackError(
            f"{found} {what} can't be cut into {n_folds} folds: use fewer folds"
            f"{hint if what in ('timesteps', 'grid columns') else ''}"
        )


def new_plan(
    scheme: str, embargo: int, fold: NDArray[np.integer], unit: NDArray[np.int64], excluded: Mask
) -> FoldPlan:
    """A plan of a scheme; see :class:`features.folds.plan.FoldPlan`."""
    return FoldPlan(
        scheme=scheme,
        embargo=embargo,
        fold=fold.astype(np.int16),
        excluded=excluded,
        unit=np.ascontiguousarray(unit, dtype=np.int64),
    )
