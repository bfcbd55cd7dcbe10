"""What a column of an unknown table holds: numbers, dates or words; seen block by block."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array
from features.schemas.variable import Kind
from features.sources.ids import shown
from features.sources.readers import TableFile
from features.sources.tables.values import (
    DAY,
    as_numbers,
    as_seconds,
    as_text,
    is_date,
    is_word_of_none,
)

MOST_WORDS = 256  # of a category; beyond that a column of text is an id or free text
MOST_TIMES = 1_000_000  # distinct ones whose steps are counted
MOST_PLACES = 100_000  # at which static columns are looked for


@dataclass
class Column:
    """What was seen of one column so far.

    Attributes:
        name: of the column.
        n_missing: values that are not there.
        low: least number, or day; infinite before the first.
        high: greatest.
        words: distinct words, as long as they are few.
        is_static: whether it never changes at a place.
    """

    name: str
    n_missing: int = field(default=0, init=False)
    low: float = field(default=np.inf, init=False)
    high: float = field(default=-np.inf, init=False)
    words: dict[str, None] = field(default_factory=dict, init=False)
    is_static: bool = field(default=False, init=False)
    _can: dict[str, bool] = field(
        default_factory=lambda: {"number": True, "date": True}, init=False
    )
    _at: dict[str, str | None] = field(default_factory=dict, init=False)

    def add(self, values: pl.Series, places: list[str | None] | None) -> None:
        """Look at the next values, and at the place of each."""
        text = as_text(values)
        missing = text.is_null() | is_word_of_none(text)
        if values.dtype.is_float():
            missing |= values.is_nan().fill_null(False)
        self.n_missing += int(missing.sum())
        if len(self.words) <= MOST_WORDS:
            self.words |= dict.fromkeys(
                text.filter(~missing).unique().sort().to_list()[: MOST_WORDS + 1]
            )
        for kind in ("number", "date"):
            if self._can[kind]:
                self._can[kind] = self._range(values, kind, bool(missing.all()))
        if places is not None and self.is_static:
            now = text.to_list()
            for place, word in zip(places, now, strict=True):
                if place is not None and self._at.setdefault(place, word) != word:
                    self.is_static = False
                    self._at.clear()
                    break
            if len(self._at) > MOST_PLACES:
                self.is_static = False

    def kind(self, path: Path, role: str) -> tuple[Kind, tuple[str, ...]]:
        """What it is, and the words of a category.

        Raises:
            ClimstackError: text of too many words; a target that is no number.
        """
        if self._can["number"]:
            return "number", ()
        kind: Kind = "date" if self._can["date"] else "category"
        if role == "target":
            word = shown(next(iter(self.words)))
            raise ClimstackError(
                f"{path}: target '{self.name}' is no number, but as {word}: name other targets"
            )
        if kind == "date":
            return kind, ()
        if len(self.words) > MOST_WORDS:
            raise ClimstackError(
                f"{path}: column '{self.name}' is text of more than {MOST_WORDS} words, as"
                f" {shown(next(iter(self.words)))}: ignore it by --ignore {shown(self.name)}, or"
                f" if it names the rows, say --id {shown(self.name)}"
            )
        return kind, tuple(self.words)

    def _range(self, values: pl.Series, kind: str, is_empty: bool) -> bool:
        if kind == "date":
            if values.dtype.is_numeric() or values.dtype == pl.Boolean:
                return False
            found, bad = as_seconds(values)
            found = found / DAY
        elif isinstance(values.dtype, pl.Date | pl.Datetime):
            return False
        else:
            found, bad = as_numbers(values)
        if bad.any():
            return is_empty
        held = found.fill_nan(None).drop_nulls()
        if len(held):
            self.low = min(self.low, float(held.min()))  # type: ignore[arg-type]
            self.high = max(self.high, float(held.max()))  # type: ignore[arg-type]
        return True


@dataclass
class Seen:
    """What was seen of a table.

    Attributes:
        columns: by name, in its order.
        n_rows: how many rows.
        times: distinct times, ascending, (n,): seconds since 1970, or the numbers themselves.
    """

    columns: dict[str, Column]
    n_rows: int = 0
    times: Array = field(default_factory=lambda: np.empty(0))


def look_at(file: TableFile, columns: list[str], time: str | None, place: str | None) -> Seen:
    """Read all rows of some columns, block by block.

    Raises:
        ClimstackError: a file that can't be read, or a time that is none.
    """
    seen = Seen({name: Column(name) for name in columns})
    for column in seen.columns.values():
        column.is_static = place is not None
    wanted = list(dict.fromkeys([*columns, *filter(None, (time, place))]))
    for block in file.blocks(wanted, 0, 0, None, set(wanted)):
        frame = block.frame
        places = None if place is None else as_text(frame[place]).to_list()
        for name, column in seen.columns.items():
            column.add(frame[name], places)
        if time is not None:
            seen.times = _times(file.path, frame[time], seen.times, block.first_row)
        seen.n_rows += len(frame)
    return seen


def _times(path: Path, values: pl.Series, known: Array, first_row: int) -> Array:
    found, bad = (as_seconds if is_date(values) else as_numbers)(values)
    wrong: NDArray[np.bool_] = (bad | found.is_null()).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise ClimstackError(
            f"{path}: time column '{values.name}' has {shown(str(values[row]))} in row"
            f" {first_row + row}: expected a date as 2020-01-31, or a number"
        )
    if len(known) >= MOST_TIMES:
        return known
    return np.union1d(known, found.to_numpy())
