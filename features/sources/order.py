"""Where rows stand in time and on the grid: told by their ids, held against the data.

A table says nothing on time and place but by the order of its rows, which are numbered from
timestep to timestep. So the ids must count up, and what never changes at a place (the share of
land) must not change there from one timestep to the next. Rows that were dropped, shuffled or
sorted otherwise, and a grid of another size, are found by one or the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array

Numbers = NDArray[np.int64]
EQUAL = 1e-6  # a static field's values at a place differ by no more: text may round them


@dataclass
class Order:
    """Places the rows of one training table by the numbers in their ids.

    Attributes:
        path: the table.
        width: rows of a timestep.
    """

    path: Path
    width: int
    _expected: int | None = None

    def places(
        self, numbers: Numbers, name: Callable[[int], str], first_row: int
    ) -> tuple[Numbers, Numbers]:
        """Timestep and grid column of the next rows, (n,) each: quotient and rest of the number.

        Whole timesteps may be missing between two rows.

        Args:
            numbers: in the ids of the next rows, (n,).
            name: the id of a number.
            first_row: number of their first row in the table.

        Raises:
            ClimstackError: a row is not where its number says.
        """
        start = numbers[0] if self._expected is None else self._expected
        expected = np.concatenate([[start], numbers[:-1] + 1])
        on_edge = expected % self.width == 0
        later = (numbers > expected) & on_edge & (numbers % self.width == 0)
        wrong = np.flatnonzero((numbers != expected) & ~later)
        if len(wrong):
            row = int(wrong[0])
            raise ClimstackError(
                f"{self.path}: row {first_row + row} has sample_id '{name(numbers[row])}',"
                f" expected '{name(expected[row])}': time and place are told by the order"
                f" of ids, so sort the rows by them, and drop only whole timesteps ({self.width}"
                " rows each)"
            )
        if self._expected is None and start % self.width:
            raise ClimstackError(
                f"{self.path}: row {first_row} has sample_id '{name(start)}', which is in the"
                f" middle of a timestep: the first id of a training table is a multiple of its"
                f" {self.width} grid columns, so begin at a whole timestep, or give the grid's size"
            )
        self._expected = int(numbers[-1]) + 1
        return np.divmod(numbers, self.width)


@dataclass
class Static:
    """Sees that what never changes in time at a place is the same in every timestep of a source.

    Attributes:
        width: rows of a timestep.
        names: of the static columns, (k,).
        first: their values in the first timestep, (width, k), NaN where not seen.
    """

    width: int
    names: Sequence[str]
    first: Array

    @classmethod
    def begin(cls, width: int, names: Sequence[str]) -> Static:
        """Nothing is seen yet."""
        return cls(width, names, np.full((width, len(names)), np.nan))

    def fault(self, values: Array, first_row: int) -> tuple[int, str] | None:
        """Look at the next rows, whatever comes first in a timestep being its first column.

        Args:
            values: (n, k).
            first_row: number of their first row in the source.

        Returns:
            The first row that can't stand there, and why; None where all is well.
        """
        place = (first_row + np.arange(len(values))) % self.width
        n_new = int(np.clip(self.width - first_row, 0, len(values)))
        self.first[place[:n_new]] = values[:n_new]
        wrong = np.abs(values - self.first[place]) > EQUAL
        if wrong.any():
            row = int(wrong.any(axis=1).argmax())
            at = int(wrong[row].argmax())
            was, now, name = self.first[place[row], at], values[row, at], self.names[at]
            return row, (
                f"'{name}' is {now:g}, but {was:g} at this place in the first timestep of"
                f" {self.width} rows, and it never changes in time: "
            ) + self._cause(values if first_row == 0 else values[:0])
        if first_row < self.width <= first_row + len(values):
            size = _period(self.first, [n for n in range(2, self.width) if self.width % n == 0])
            if size is not None:
                return 0, self._repeats(self.width, size)
        return None

    def _cause(self, values: Array) -> str:
        size = _period(values, range(2, len(values) // 2 + 1))
        if size is None:
            return (
                "rows are missing or out of order, so sort them by time and place, unless the"
                " column itself is wrong"
            )
        return self._repeats(len(values), size)

    def _repeats(self, n_rows: int, size: int) -> str:
        return (
            f"'{self.names[0]}' of the first {n_rows} rows repeats every {size}, so the grid has"
            f" {size} columns and not {self.width}: give the grid's size"
        )


def _period(values: Array, sizes: Sequence[int]) -> int | None:
    """The least size of a grid that rows (n, k) repeat after, or None; a constant tells none."""
    if not len(values) or (np.ptp(values, axis=0) <= EQUAL).all():
        return None
    alike = (np.abs(values - values[0]) <= EQUAL).all(axis=1)
    for size in sizes:
        if alike[size] and (np.abs(values[size:] - values[:-size]) <= EQUAL).all():
            return size
    return None
