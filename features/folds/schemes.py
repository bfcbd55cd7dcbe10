"""Ways to cut rows into folds: blocks of time or of places, by default with an embargo."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError, LeakageWarning, closest
from features.core.types import Array, Mask
from features.folds.plan import FoldPlan
from features.folds.sphere import compact_parts, mean_spacing, unit_vectors, within
from features.sources.grid import Grid


def time_blocks(time: NDArray[np.int64], n_folds: int = 5, embargo: int = 1) -> FoldPlan:
    """Contiguous blocks of time; rows within ``embargo`` timesteps of a block don't train for it.

    Every row is validated exactly once.

    Args:
        time: timestep number of each row, (n_samples,).
        n_folds: number of blocks.
        embargo: timesteps kept free on both sides.

    Raises:
        ClimstackError: fewer timesteps than folds, or a negative embargo.
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
    """
    _not_negative(embargo)
    found, position = np.unique(column, return_inverse=True)
    if len(found) and not 0 <= found[0] <= found[-1] < len(lat):
        raise ClimstackError(
            f"rows lie in grid columns {found[0]} to {found[-1]}, but the grid has columns 0 to"
            f" {len(lat) - 1}: give the grid of these data"
        )
    _at_least("grid columns", len(found), n_folds)
    places = unit_vectors(lat[found], lon[found])
    fold, near = np.empty(len(found), dtype=np.int64), np.empty((n_folds, len(found)), dtype=bool)
    order = []
    for k, region in enumerate(compact_parts(places, n_folds)):
        fold[region] = k
        near[k] = within(places, places[region], embargo * mean_spacing(len(lat)))
        order += [region[at] for at in compact_parts(places[region], len(region))]
    unit = np.argsort(np.concatenate(order))
    excluded = near & (fold != np.arange(n_folds)[:, None])
    return _plan("regions", embargo, fold[position], unit[position], excluded[:, position])


def forward_chaining(time: NDArray[np.int64], n_folds: int = 5, embargo: int = 1) -> FoldPlan:
    """Train on the past, validate on the block that follows; the first block only trains.

    Args:
        time: timestep number of each row, (n_samples,).
        n_folds: number of validation blocks; time is cut into ``n_folds + 1``.
        embargo: timesteps before a validation block that don't train for it.

    Raises:
        ClimstackError: fewer timesteps than blocks, or a negative embargo.
    """
    block, first, _ = _cut("timesteps", time, n_folds + 1, embargo)
    excluded = np.stack(
        [(block - 1 != k) & (time >= first[k + 1] - embargo) for k in range(n_folds)]
    )
    return _plan("forward_chaining", embargo, block - 1, time, excluded)


def groups(labels: NDArray[np.int64], n_folds: int = 5) -> FoldPlan:
    """Whole groups: no group is on both sides of a fold. Sizes are balanced, largest group first.

    Args:
        labels: group number of each row, (n_samples,).
        n_folds: number of folds.

    Raises:
        ClimstackError: fewer groups than folds.
    """
    found, position, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    _at_least("groups", len(found), n_folds)
    fold_of_group, load = np.zeros(len(found), np.int64), np.zeros(n_folds, np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold_of_group[group] = load.argmin()
        load[fold_of_group[group]] += sizes[group]
    excluded = np.zeros((n_folds, len(labels)), dtype=bool)
    return _plan("groups", 0, fold_of_group[position], labels, excluded)


def random_rows(n_samples: int, n_folds: int = 5, seed: int = 0) -> FoldPlan:
    """Rows at random: flatters, because the neighbours in time of a validation row train.

    Args:
        n_samples: number of rows.
        n_folds: number of folds.
        seed: of the shuffle.

    Raises:
        ClimstackError: fewer rows than folds.
    """
    warnings.warn(
        "random folds put neighbours in time on both sides, so their score is too good: use"
        " time_blocks for a score you can trust",
        LeakageWarning,
        stacklevel=2,
    )
    _at_least("rows", n_samples, n_folds)
    fold = np.arange(n_samples) % n_folds
    np.random.default_rng(seed).shuffle(fold)
    excluded = np.zeros((n_folds, n_samples), dtype=bool)
    return _plan("random_rows", 0, fold, np.arange(n_samples), excluded)


SCHEMES = ("time_blocks", "forward_chaining", "column_blocks", "regions", "random_rows")


def make_plan(
    scheme: str,
    time: NDArray[np.int64],
    column: NDArray[np.int64],
    *,
    n_folds: int,
    embargo: int,
    seed: int = 0,
    grid: Grid | None = None,
) -> FoldPlan:
    """Make a plan by the scheme's name, from the index of a store and its grid.

    Raises:
        ClimstackError: unknown scheme, time is unknown (test data), or ``regions`` without a grid.
    """
    if scheme not in SCHEMES:
        raise ClimstackError(f"no fold scheme '{scheme}': {closest(scheme, SCHEMES)}")
    if len(time) and time.min() < 0:
        raise ClimstackError("these rows have no known time (a test file?): folds need train data")
    if scheme == "random_rows":
        return random_rows(len(time), n_folds, seed)
    if scheme == "column_blocks":
        return column_blocks(column, n_folds, embargo)
    if scheme == "regions":
        if grid is None:
            raise ClimstackError(
                "the scheme 'regions' needs to know where the grid columns lie, but the store has"
                " no grid: convert with --grid, or name the grid file in [data] grid"
            )
        return regions(column, grid.lat, grid.lon, n_folds, embargo)
    along_time = {"time_blocks": time_blocks, "forward_chaining": forward_chaining}
    return along_time[scheme](time, n_folds, embargo)


def _blocks(
    scheme: str, what: str, unit: NDArray[np.int64], n_folds: int, embargo: int
) -> FoldPlan:
    block, first, last = _cut(what, unit, n_folds, embargo)
    near = [(unit >= first[k] - embargo) & (unit <= last[k] + embargo) for k in range(n_folds)]
    excluded = np.stack([near[k] & (block != k) for k in range(n_folds)])
    return _plan(scheme, embargo, block, unit, excluded)


def _cut(
    what: str, unit: NDArray[np.int64], n_blocks: int, embargo: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut the distinct units into blocks: block of each row, first and last unit of each block."""
    _not_negative(embargo)
    found, position = np.unique(unit, return_inverse=True)
    _at_least(what, len(found), n_blocks)
    edges = np.linspace(0, len(found), n_blocks + 1).round().astype(np.int64)
    block_of_unit = np.searchsorted(edges, np.arange(len(found)), side="right") - 1
    return block_of_unit[position], found[edges[:-1]], found[edges[1:] - 1]


def _not_negative(embargo: int) -> None:
    if embargo < 0:
        raise ClimstackError(f"embargo must be at least 0, but got {embargo}")


def _at_least(what: str, found: int, n_folds: int) -> None:
    if n_folds < 2:
        raise ClimstackError(f"n_folds must be at least 2, but got {n_folds}")
    if found < n_folds:
        raise ClimstackError(
            f"{found} {what} can't be cut into {n_folds} folds: use fewer folds, or give the grid's"
            " size if it has another number of columns"
        )


def _plan(
    scheme: str, embargo: int, fold: NDArray[np.integer], unit: NDArray[np.int64], excluded: Mask
) -> FoldPlan:
    return FoldPlan(
        scheme=scheme,
        embargo=embargo,
        fold=fold.astype(np.int16),
        excluded=excluded,
        unit=np.ascontiguousarray(unit, dtype=np.int64),
    )
