"""Row ids are well formed and unique, over all files of a store, in little memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError

Runs = NDArray[np.int64]


@dataclass
class IdCheck:
    """Sees every sample_id of a file once and finds malformed and repeated ones.

    Ids are kept as runs of consecutive numbers: one run where they count up, as in a training file,
    and one for each row where they are shuffled (24 bytes a row).
    """

    path: Path
    _prefix: str | None = None
    _width: int = field(default=18, init=False)
    _runs: list[Runs] = field(default_factory=list)

    @property
    def prefix(self) -> str | None:
        """What stands before the numbers; None before the first id."""
        return self._prefix

    def name(self, number: int) -> str:
        """The id of a number, as the file writes it."""
        return f"{self._prefix}_{number:0{self._width}d}"

    def add(self, ids: pl.Series, first_row: int) -> Runs:
        """Look at the next ids.

        Returns:
            The numbers in them, (n,).

        Raises:
            ClimstackError: an id is missing, malformed, or of another prefix than the first.
        """
        if not len(ids):
            return np.empty(0, np.int64)
        parts = ids.str.extract_groups(r"^([A-Za-z_]+)_(\d{1,18})$").struct.unnest()
        prefixes, numbers = parts.to_series(0), parts.to_series(1)
        if self._prefix is None:
            self._prefix = prefixes[0]
        known = self._prefix is not None
        wrong = (prefixes != self._prefix).fill_null(True) if known else prefixes.is_null()
        if wrong.any():
            row = int(wrong.arg_true()[0])
            found, where = ids[row], f"in row {first_row + row}"
            what = (
                f"{where} is missing" if found is None else f"{shown(found)} {where} is malformed"
            )
            raise ClimstackError(
                f"{self.path}: sample_id {what}: expected {self._prefix or 'train'}_ and a number"
                " of at most 18 digits"
            )
        self._width = min(self._width, int(numbers.str.len_bytes().to_numpy().min()))
        found = numbers.cast(pl.Int64).to_numpy()
        self._runs.append(_runs(found, first_row))
        return found

    def close(self) -> None:
        """Look for repeated ids.

        Raises:
            ClimstackError: an id stands twice.
        """
        check_unique([self])


def check_unique(checks: Sequence[IdCheck]) -> None:
    """Look for ids that stand twice, in one file or in two.

    Raises:
        ClimstackError: names the id and both its places.
    """
    for prefix in dict.fromkeys(check._prefix for check in checks):
        same = [check for check in checks if check._prefix == prefix and check._runs]
        runs = [np.concatenate(check._runs) for check in same]
        if not runs:
            continue
        file = np.repeat(np.arange(len(same)), [len(found) for found in runs])
        first, length, row = np.concatenate(runs).T
        order = np.argsort(first, kind="stable")
        last = np.maximum.accumulate((first + length)[order])  # furthest that any run has reached
        twice = np.flatnonzero(first[order][1:] < last[:-1])
        if not len(twice):
            continue
        again = order[twice[0] + 1]
        number = first[again]
        held = order[: twice[0] + 1]
        before = held[(first[held] + length[held] > number).argmax()]
        places = [(int(file[run]), int(row[run] + number - first[run])) for run in (before, again)]
        (file_a, row_a), (file_b, row_b) = sorted(places)
        where = "" if file_a == file_b else f" of {same[file_a].path}"
        raise ClimstackError(
            f"{same[file_b].path}: sample_id '{same[file_b].name(number)}' in row {row_b} stands"
            f" already in row {row_a}{where}: ids must be unique"
        )


def shown(text: str) -> str:
    """A value for a sentence: quoted, on one line, not longer than a reader wants."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _runs(numbers: NDArray[np.int64], first_row: int) -> Runs:
    """First number, length and first row of each run of consecutive numbers, (n_runs, 3)."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(numbers) != 1) + 1])
    lengths = np.diff(np.append(starts, len(numbers)))
    return np.stack([numbers[starts], lengths, first_row + starts], axis=1)
