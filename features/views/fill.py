"""What becomes of missing inputs and of words, as the training rows tell it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from features.core.types import Array, Mask
from features.schemas.schema import Schema

MAX_WORDS = 64  # columns of a category where it is shown as such: rarer words share the last


@dataclass(frozen=True)
class Fill:
    """Puts the training fold's mean where an input is missing (NaN), level by level.

    Only inputs whose policy is ``impute`` can be missing: see :mod:`features.views.missing`.
    A category's word gets a code: its position or, where there are more than ``MAX_WORDS``, its
    rank in the training rows. A word that these lack is as one that is missing: NaN.

    Attributes:
        columns: indices of inputs that are filled, (n,).
        mean: of the training rows that are there, 0 where none is, (n,).
        codes: by the index of each category the code of each word, (n_words,), -1 of one that the
            training rows lack.
    """

    columns: NDArray[np.intp]
    mean: Array
    codes: dict[int, NDArray[np.intp]] = field(default_factory=dict)

    @classmethod
    def fit(cls, schema: Schema, blocks: Iterable[Array]) -> Fill:
        """Learn means and words from blocks of training inputs, each (n, n_inputs)."""
        columns, categories = schema.imputed_inputs, schema.categories
        columns = columns[~np.isin(columns, list(categories))]
        total, count = np.zeros(len(columns)), np.zeros(len(columns))
        seen = {at: np.zeros(len(words), dtype=np.intp) for at, words in categories.items()}
        for block in blocks if len(columns) or categories else ():
            values = block[:, columns]
            there = ~np.isnan(values)
            total += np.where(there, values, 0.0).sum(axis=0)
            count += there.sum(axis=0)
            for at, times in seen.items():
                known = block[:, at][~np.isnan(block[:, at])].astype(np.intp)
                times += np.bincount(known, minlength=len(times))
        codes = {at: _codes(times) for at, times in seen.items()}
        return cls(columns, total / np.maximum(count, 1.0), codes)

    def apply(self, inputs: Array) -> Array:
        """Inputs without gaps, (n, n_inputs), but in categories, whose codes they hold.

        The same array where nothing can be missing.
        """
        if not len(self.columns) and not self.codes:
            return inputs
        values = inputs[:, self.columns]
        filled = inputs.copy()
        filled[:, self.columns] = np.where(np.isnan(values), self.mean, values)
        for at, codes in self.codes.items():
            word = inputs[:, at]
            known = (word >= 0) & (word < len(codes)) & (np.floor(word) == word)
            code = codes[np.where(known, word, 0).astype(np.intp)]
            filled[:, at] = np.where(known & (code >= 0), code, np.nan)
        return filled

    def holes(self, inputs: Array) -> Mask:
        """Where inputs that are filled miss, (n, n_columns)."""
        missing: Mask = np.isnan(inputs[:, self.columns])
        return missing


def _codes(times: NDArray[np.intp]) -> NDArray[np.intp]:
    """Code of each word from how often it stands in training rows; of no rows all are known."""
    known = times > 0 if times.any() else np.ones(len(times), dtype=bool)
    codes = np.arange(len(times))
    if len(times) > MAX_WORDS:
        codes[np.argsort(-times, kind="stable")] = np.arange(len(times))
    return np.where(known, codes, -1)


def one_hot(codes: Array, n_words: int) -> Array:
    """Codes (n,) as columns (n, at most ``MAX_WORDS``) of 0 and 1; NaN is 0 in all of them."""
    width = min(n_words, MAX_WORDS)
    column = np.minimum(codes, width - 1)
    return np.asarray(column[:, None] == np.arange(width), dtype=np.float64)


def phases(days: Array) -> Array:
    """Sine and cosine of the year, then of the day, of days since 1970: (n,) to (n, 4)."""
    turns = 2 * np.pi * np.stack([days / 365.2425, days % 1.0], axis=1)
    return np.stack([f(turns[:, i]) for i in (0, 1) for f in (np.sin, np.cos)], axis=1)
