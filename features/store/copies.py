"""Rows that stand twice, and what else of a store its user should hear of.

A copy of a row is equal to it in all inputs. Parities find the candidates, a digest of the values
confirms them, so that a store of few copies is hardly read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from features.core.types import Array, Rows
from features.sources.findings import compress
from features.store.matrix import BLOCK_ROWS
from features.store.store import Store

SIGN = np.uint64(1) << np.uint64(63)  # 0 and -0 are equal, and differ in it


def first_equal(stores: Sequence[Store]) -> Rows:
    """For each row of some stores, joined, the first row that is equal to it in all inputs.

    That is its own number where no row before it is equal. Shape (n_rows,).
    """
    parity = np.concatenate([store.row_parities("inputs") & ~SIGN for store in stores])
    first = np.arange(len(parity))
    order = np.argsort(parity, kind="stable")
    same = parity[order[1:]] == parity[order[:-1]]
    twice = np.zeros(len(parity), np.bool_)
    twice[order[1:][same]] = twice[order[:-1][same]] = True
    seen: dict[bytes, int] = {}
    start = 0
    for store in stores:
        rows = np.flatnonzero(twice[start : start + len(store)])
        for row, digest in zip(rows, _digests(store, rows), strict=True):
            first[start + row] = seen.setdefault(digest, start + int(row))
        start += len(store)
    return first


def digest_of_row(values: Array) -> bytes:
    """16 bytes that are equal for equal rows and differ for others: of (n_columns,) in float64."""
    alike = np.where(np.isnan(values), np.nan, values + 0.0)  # one NaN, and no -0
    return hashlib.blake2b(alike.astype("<f8").data, digest_size=16).digest()


def oddities(store: Store) -> list[str]:
    """Sentences on what is no error in a store, and may surprise: copies, lost digits."""
    found = []
    first = first_equal([store])
    if len(copies := np.flatnonzero(first != np.arange(len(first)))):
        row, ids = int(copies[0]), store.sample_ids
        found.append(
            f"{store.called}: {said_twice(len(copies))}, first row {row} ('{ids[row]}') of row"
            f" {first[row]} ('{ids[int(first[row])]}')"
        )
    for kind, counts in store.rounded.items():
        found.append(f"{store.called}: {said_rounded(kind, counts)}")
    return found


def said_twice(n_copies: int) -> str:
    """How many rows are copies, and what becomes of them."""
    rows = "1 row is a copy" if n_copies == 1 else f"{n_copies} rows are copies"
    return f"{rows} of a row before, in all inputs; no copy of a held-out row trains"


def said_rounded(kind: str, counts: dict[str, int]) -> str:
    """Which values came in fewer digits."""
    return (
        f"{sum(counts.values())} values came as {kind} and not as float64, so small ones and small"
        f" differences may be lost already, in {compress(counts)}: convert the original data if you"
        " have them"
    )


def shared_rows(train: Store, test: Store) -> NDArray[np.intp]:
    """Rows of a test store that the training store holds, too: (n, 2), theirs and ours."""
    first = first_equal([train, test])
    ours = first[len(train) :]
    theirs = np.flatnonzero(ours < len(train))
    return np.stack([theirs, ours[theirs]], axis=1)


def said_shared(train: Store, test: Store) -> list[str]:
    """A sentence on test rows that stand in the training data; none where there are none."""
    pairs = shared_rows(train, test)
    if not len(pairs):
        return []
    theirs, ours = (int(row) for row in pairs[0])
    return [
        f"{len(pairs)} of {len(test)} rows of {test.called} stand in {train.called}, too, in all"
        f" inputs, first row {theirs} ('{test.sample_ids[theirs]}') as row {ours}"
        f" ('{train.sample_ids[ours]}'): their truth is known, so a score on them flatters"
    ]


def _digests(store: Store, rows: Rows) -> Iterator[bytes]:
    for start in range(0, len(rows), BLOCK_ROWS):
        for values in store.inputs[rows[start : start + BLOCK_ROWS]]:
            yield digest_of_row(values)
