"""Matrices in raw files, read by position; needs NumPy alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Rows

BLOCK_ROWS = 4096


class Matrix:
    """One (n_rows, n_columns) matrix in several raw files, read as if it were one array.

    Rows are read by their position. A memory map would serve as well, but in a virtual machine the
    faults on its pages take several times as long as reading them, and what is mapped counts as
    the process's memory. Processes share what the system caches either way.

    Args:
        files: row-major values, one file after the other.
        n_rows: rows of each file.
        n_columns: values of a row.
        dtype: type of a value.
        start: bytes before the first row of each file.
    """

    def __init__(
        self,
        files: Sequence[Path],
        n_rows: Sequence[int],
        n_columns: int,
        dtype: str = "<f8",
        start: int = 0,
    ) -> None:
        self._files = list(files)
        self._starts = np.cumsum([0, *n_rows])
        self._start = start
        self.dtype = np.dtype(dtype)
        self.shape = (int(self._starts[-1]), n_columns)

    @classmethod
    def of_npy(cls, file: Path) -> Matrix:
        """The two-dimensional array of a ``.npy`` file.

        Raises:
            ClimstackError: its values are not row by row.
        """
        held = np.load(file, mmap_mode="r")
        if not held.flags.c_contiguous or held.ndim != 2:
            raise ClimstackError(
                f"{file} holds shape {held.shape}, not row by row: write a C-contiguous matrix"
            )
        return cls([file], [held.shape[0]], held.shape[1], held.dtype.str, held.offset)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __getitem__(self, rows: slice | Rows) -> NDArray[Any]:
        """Copy rows, in the order asked for: shape (n_asked, n_columns).

        Raises:
            IndexError: there is no such row, or a mask was given.
            ClimstackError: a file has become shorter since it was opened.
        """
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows)
        if rows.dtype == bool:
            raise IndexError("rows are named by their numbers: use np.flatnonzero of a mask")
        out = np.empty((len(rows), self.shape[1]), self.dtype)
        self.read(np.asarray(rows, dtype=np.intp), out)
        return out

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        """All values in memory, so that ``np.asarray(matrix)`` works.

        Raises:
            ValueError: no copy is wanted, and files can't be shared.
        """
        if copy is False:
            raise ValueError("a matrix in files is read into memory: allow a copy")
        return self[:].astype(dtype or self.dtype, copy=False)

    def read(self, rows: Rows, out: NDArray[Any]) -> None:
        """Copy rows into an array that is there, C-contiguous, (n_asked, n_columns).

        Raises:
            IndexError: there is no such row.
            ClimstackError: a file has become shorter since it was opened.
        """
        if not len(rows):
            return
        steps = np.diff(rows)
        order = None if (steps >= 0).all() else np.argsort(rows, kind="stable")
        if order is not None:  # read forward, wherever the rows go
            rows = rows[order]
            steps = np.where(np.diff(order) == 1, np.diff(rows), 0)
        if not (rows[0] >= 0 and rows[-1] < len(self)):
            raise IndexError(f"rows 0 to {len(self) - 1} exist, but got {rows[0]}..{rows[-1]}")
        # Neighbours in a file that stay neighbours are read in one piece.
        ends = np.searchsorted(rows, self._starts)  # where the rows of each file end
        apart = np.flatnonzero(steps != 1) + 1
        first = np.unique(np.concatenate([apart, ends[ends < len(rows)]]))
        size, data = self.dtype.itemsize * self.shape[1], out.data.cast("B")
        place = first if order is None else order[first]
        starts = (place * size).tolist()
        stops = ((place + np.diff(np.append(first, len(rows)))) * size).tolist()
        for number in range(len(self._files)):
            low, high = np.searchsorted(first, ends[number : number + 2])
            if low == high:
                continue
            offsets = (rows[first[low:high]] - self._starts[number]) * size + self._start
            handle = os.open(self._files[number], os.O_RDONLY)
            try:
                pieces = zip(starts[low:high], stops[low:high], offsets.tolist(), strict=True)
                for start, stop, at in pieces:
                    if os.preadv(handle, [data[start:stop]], at) != stop - start:
                        self._again(handle, data[start:stop], at, self._files[number])
            finally:
                os.close(handle)

    @staticmethod
    def _again(handle: int, data: memoryview, offset: int, path: Path) -> None:
        """Read what the system did not give at once."""
        while len(data):
            n_read = os.preadv(handle, [data], offset)
            if n_read == 0:
                raise ClimstackError(f"{path} was cut off while in use: convert the data again")
            data, offset = data[n_read:], offset + n_read

    def blocks(self, rows: Rows | None = None, size: int = BLOCK_ROWS) -> Iterator[NDArray[Any]]:
        """Copies of ``size`` rows at a time, over ``rows`` or over everything."""
        n_rows = len(self) if rows is None else len(rows)
        for start in range(0, n_rows, size):
            stop = min(start + size, n_rows)
            yield self[slice(start, stop)] if rows is None else self[rows[start:stop]]
