"""Shuffled batches of rows that lie in files: neighbours are read in one piece, and mixed."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Rows
from features.store.matrix import Matrix

BLOCK_ROWS = 256  # neighbours that are read in one piece
MIXED_ROWS = 8192  # rows that are mixed; twice as many are held: these, and the next ones

Piece = tuple[Rows, Rows]  # neighbours in the files, and their places in a mix


class _Memory:
    """Room for a mix, used again once nobody looks at it; page faults cost more than reading."""

    def __init__(self, matrices: Sequence[Matrix], n_rows: int) -> None:
        self._held = [np.empty((n_rows, m.shape[1]), m.dtype).data for m in matrices]
        self._views: list[weakref.ref[NDArray[Any]]] = []

    def arrays(self, n_rows: int) -> list[NDArray[Any]]:
        """An array for each matrix; any view of it keeps it alive."""
        views = [np.asarray(held) for held in self._held]
        self._views = [weakref.ref(view) for view in views]
        return [view[:n_rows] for view in views]

    @property
    def is_free(self) -> bool:
        return all(view() is None for view in self._views)


class _Mix(NamedTuple):
    """Rows that are read and mixed together."""

    rows: Rows
    arrays: list[NDArray[Any]]
    reading: Future[None]


def shuffled(
    matrices: Sequence[Matrix],
    size: int,
    rng: np.random.Generator,
    rows: Rows | None = None,
    share: slice = slice(None),
) -> Iterator[tuple[Rows, list[NDArray[Any]]]]:
    """Batches of ``size`` rows in random order, each row once: row numbers, values of each matrix.

    Blocks of ``BLOCK_ROWS`` neighbours are put in random order; ``MIXED_ROWS`` rows of them are
    mixed while the next ones are read. Batches are views of memory that is filled again only when
    nobody holds one: what a caller keeps stays as it is.

    Args:
        matrices: of as many rows each.
        size: rows of a batch; the last one may be short.
        rng: the order is a function of its state, ``size``, ``rows`` and ``share``.
        rows: ascending; None takes all.
        share: a stretch of the rows in the order of their blocks; processes that draw alike and
            take stretches apart see different rows.

    Raises:
        ClimstackError: a batch of no rows is asked for.
    """
    if size < 1:
        raise ClimstackError(f"a batch must have at least 1 row, but got size={size}")
    n_rows = len(matrices[0]) if rows is None else len(rows)
    starts = rng.permutation(np.arange(0, n_rows, BLOCK_ROWS))
    ends = np.cumsum(np.minimum(starts + BLOCK_ROWS, n_rows) - starts)
    begin, end, _ = share.indices(n_rows)
    n_mixed = min(max(MIXED_ROWS // size, 1) * size, max(end - begin, 0))  # whole batches
    memories: list[_Memory] = []

    def blocks(start: int, stop: int) -> Iterator[Rows]:
        """Neighbours at these places in the order of the blocks."""
        for block in range(int(np.searchsorted(ends, start, "right")), len(starts)):
            low = 0 if block == 0 else int(ends[block - 1])
            if low >= stop:
                return
            taken = range(max(start, low) - low, min(stop, int(ends[block])) - low)
            here = np.arange(taken.start, taken.stop) + starts[block]
            yield here if rows is None else rows[here]

    def begin_mix(start: int) -> _Mix:
        neighbours = list(blocks(start, min(start + n_mixed, end)))
        places = rng.permutation(sum(map(len, neighbours)))
        mixed = np.empty_like(places)
        mixed[places] = np.concatenate(neighbours)
        memory = next((held for held in memories if held.is_free), None)
        memory = _Memory(matrices, n_mixed) if memory is None else memory
        memories[:] = [*[held for held in memories if held is not memory][-1:], memory]
        arrays = memory.arrays(len(mixed))
        cuts = np.cumsum([len(part) for part in neighbours])[:-1]
        pieces = list(zip(neighbours, np.split(places, cuts), strict=True))
        return _Mix(mixed, arrays, reader.submit(_read, matrices, pieces, arrays))

    with ThreadPoolExecutor(1) as reader:
        coming = begin_mix(begin) if begin < end else None
        following = begin + n_mixed
        while coming is not None:
            mix, coming = coming, None
            mix.reading.result()
            for start in range(0, len(mix.rows), size):
                taken = slice(start, start + size)
                yield mix.rows[taken], [array[taken] for array in mix.arrays]
                if coming is None and following < end:  # the caller has let go of the last mix
                    coming, following = begin_mix(following), following + n_mixed


def _read(matrices: Sequence[Matrix], pieces: list[Piece], arrays: list[NDArray[Any]]) -> None:
    """Read neighbours in one piece, which stays in the processor's cache, and scatter them."""
    for matrix, array in zip(matrices, arrays, strict=True):
        held = np.empty((BLOCK_ROWS, matrix.shape[1]), matrix.dtype)
        for rows, places in pieces:
            part = held[: len(rows)]
            matrix.read(rows, part)
            array[places] = part
