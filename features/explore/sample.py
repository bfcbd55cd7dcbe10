"""Rows drawn from a store to look at: whole timesteps spread over its time, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.core.types import Array, Rows
from features.store.matrix import BLOCK_ROWS
from features.store.store import Store

SAMPLE_ROWS = 49_152  # 128 timesteps of LEAP's grid: 364 MB with its targets
MIN_TIMESTEPS = 64  # or a quarter of them: of a finer grid fewer columns are drawn instead


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows read from a store.

    Attributes:
        rows: their numbers in the store, ascending, (n_rows,).
        time: timestep of each, -1 where unknown, (n_rows,).
        column: grid column of each, -1 where unknown, (n_rows,).
        values: inputs and then targets, if the store has any: (n_rows, n_columns), each column
            contiguous.
        names: of the columns, (n_columns,).
        everything: whether these are all the store's rows.
    """

    rows: Rows
    time: NDArray[np.int64]
    column: NDArray[np.int64]
    values: Array
    names: list[str]
    everything: bool

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Rows) -> Sample:
        """Some of its rows, by their place in it."""
        return replace(
            self,
            rows=self.rows[places],
            time=self.time[places],
            column=self.column[places],
            values=np.asfortranarray(self.values[places]),
            everything=False,
        )


def draw(store: Store, n_rows: int = SAMPLE_ROWS, seed: int = 0) -> Sample:
    """Draw about ``n_rows`` rows: whole timesteps where time is known, else single rows.

    Time is cut into strata of equal length and one timestep is drawn in each, so that a fixed
    stride can't fall in step with the day. All of a small store is taken.

    Args:
        store: training or test data.
        n_rows: rows at most; a grid so fine that these are fewer than 64 timesteps (and than a
            quarter of them) is thinned.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    time, column = store.time, store.column
    if len(store) <= n_rows:
        rows = np.arange(len(store))
    elif time.min() < 0:
        rows = draw_rows(len(store), n_rows, rng)
    else:
        rows = _timesteps(time, column, n_rows, rng)
    return read(store, rows)


def draw_rows(n_there: int, n_rows: int, rng: np.random.Generator) -> Rows:
    """Numbers of ``n_rows`` single rows (all if there are fewer), each once, ascending."""
    if n_there <= n_rows:
        return np.arange(n_there)
    return np.sort(rng.choice(n_there, n_rows, replace=False))


def _timesteps(
    time: NDArray[np.int64], column: NDArray[np.int64], n_rows: int, rng: np.random.Generator
) -> Rows:
    times, columns = np.unique(time), np.unique(column)
    least = min(MIN_TIMESTEPS, max(1, len(times) // 4))
    n_columns = min(len(columns), max(1, n_rows // least))
    n_times = min(len(times), max(1, n_rows // n_columns))
    edges = np.linspace(0, len(times), n_times + 1).astype(np.int64)
    drawn = np.isin(time, times[rng.integers(edges[:-1], edges[1:])])
    if n_columns < len(columns):
        drawn &= np.isin(column, rng.choice(columns, n_columns, replace=False))
    return np.flatnonzero(drawn)


def read(store: Store, rows: Rows, *, targets: bool = True) -> Sample:
    """Read rows of a store, in blocks.

    Args:
        store: where from.
        rows: their numbers, ascending.
        targets: also the targets, if the store has any.
    """
    names = list(store.schema.input_columns)
    n_inputs = len(names)
    targets = targets and store.targets is not None
    if targets:
        names += store.schema.target_columns
    values = np.empty((len(rows), len(names)), order="F")
    for start in range(0, len(rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        values[block, :n_inputs] = store.inputs[rows[block]]
        if targets:
            values[block, n_inputs:] = store.require_targets()[rows[block]]
    return Sample(
        rows=rows,
        time=store.time[rows],
        column=store.column[rows],
        values=values,
        names=names,
        everything=len(rows) == len(store),
    )
