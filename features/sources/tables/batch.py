"""Some rows of a source on their way into a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.types import Array

Item = TypeVar("Item")
Place = dict[str, int]
Unknown = dict[str, dict[str, int]]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some rows of a source.

    Attributes:
        ids: id of each row, (n,); None where rows have none, so that they are counted.
        inputs: (n, n_inputs), NaN where nothing stands.
        targets: (n, n_targets), or None.
        time: timestep of each row, (n,); None where only the ids may tell it.
        column: grid column of each row, (n,); None likewise.
        first_row: number of the first row in its source.
        bytes_read: how much of the source was read up to here.
        path: the file that holds the rows.
        place_after: from a number of rows of this batch, where to go on after them.
        row_of: from a row of this batch, its number as a person counts it in ``path``.
        is_empty: from a row and a column's name, whether nothing at all stands there.
        skipped: sentences on what was left out before this batch.
        notes: what was done to values on their way in (another unit, levels turned over), and the
            file where.
        targets_path: the file that holds the targets, where it is another.
        labels: place, group and fold of each row where the source tells them, (n,) each.
        unknown: from a first and a one-past-last row of this batch, words there that no category
            of the schema is, with their counts, by column.
        rounded: of values that stand in the source in fewer digits than a float64 has, how many:
            by how they are stored ("float32", "int16 in steps of 0.01"), then by the name of the
            variable or column.
    """

    ids: pl.Series | None
    inputs: Array
    targets: Array | None
    time: NDArray[np.int64] | None
    column: NDArray[np.int64] | None
    first_row: int
    bytes_read: int
    path: Path
    place_after: Callable[[int], Place]
    row_of: Callable[[int], int]
    is_empty: Callable[[int, str], bool]
    skipped: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    rounded: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    targets_path: Path | None = None
    labels: Mapping[str, pl.Series] = field(default_factory=dict)
    unknown: Callable[[int, int], Unknown] = lambda _start, _stop: {}

    def __len__(self) -> int:
        return len(self.inputs)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; the next is made in a thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
