"""Rows that stand twice.

A copy of a row is equal to it in all inputs. Parities find the candidates, a digest of the values
confirms them, so that a store of few copies is hardly read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from features.core.types import Array, Rows
from features.store.matrix import BLOCK_ROWS, Matrix

SIGN = np.uint64(1) << np.uint64(63)  # 0 and -0 are equal, and differ in it


def first_equal(inputs: Sequence[Matrix], parities: Sequence[NDArray[np.uint64]]) -> Rows:
    """For each row of some matrices, joined, the first row that is equal to it.

    That is its own number where no row before it is equal.

    Args:
        inputs: (n_rows, n_inputs) each.
        parities: of their rows, (n_rows,) each.

    Returns:
        (n_rows of all,).
    """
    parity = np.concatenate(parities) & ~SIGN
    first = np.arange(len(parity))
    order = np.argsort(parity, kind="stable")
    same = parity[order[1:]] == parity[order[:-1]]
    twice = np.zeros(len(parity), np.bool_)
    twice[order[1:][same]] = twice[order[:-1][same]] = True
    seen: dict[bytes, int] = {}
    start = 0
    for matrix in inputs:
        rows = np.flatnonzero(twice[start : start + len(matrix)])
        for row, digest in zip(rows, _digests(matrix, rows), strict=True):
            first[start + row] = seen.setdefault(digest, start + int(row))
        start += len(matrix)
    return first


def digest_of_row(values: Array) -> bytes:
    """16 bytes that are equal for equal rows and differ for others: of (n_columns,) in float64."""
    alike = np.where(np.isnan(values), np.nan, values + 0.0)  # one NaN, and no -0
    return hashlib.blake2b(alike.astype("<f8").data, digest_size=16).digest()


def _digests(matrix: Matrix, rows: Rows) -> Iterator[bytes]:
    for start in range(0, len(rows), BLOCK_ROWS):
        for values in matrix[rows[start : start + BLOCK_ROWS]]:
            yield digest_of_row(values)
