"""Tables of a schema without a grid: rows in any order, ids of any kind, times, words, dates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array
from features.schemas.schema import Schema
from features.schemas.variable import Kind, Variable
from features.sources.ids import shown
from features.sources.readers import CSV_BLOCK_BYTES, Block, TableFile, find_columns
from features.sources.tables.batch import Batch, Place, ahead
from features.sources.tables.values import (
    WHOLE,
    as_days,
    as_numbers,
    as_seconds,
    as_text,
    is_date,
    is_word_of_none,
    timesteps,
)

LABELS = ("place", "group", "fold")
PEEK_BYTES = 1 << 12  # of a text file, for its first time
EXPECTED = {"number": "a number", "date": "a date as 2020-01-31 or 2020-01-31T06:00:00Z"}
WORDS = (pl.String, pl.Categorical, pl.Enum, pl.Boolean)
READS: dict[Kind, tuple[Callable[[pl.Series], tuple[pl.Series, pl.Series]], tuple[Any, ...]]] = {
    "number": (as_numbers, (pl.String, pl.Boolean, pl.Null)),
    "date": (as_days, (pl.String, pl.Date, pl.Datetime, pl.Null)),
}


class PlainSource:
    """A CSV or Parquet file, or a frame, whose rows may stand in any order.

    Attributes:
        clock: what its times count: ``"dates"``, ``"numbers"``, or ``"none"`` where it has none.
        labels: which of ``place``, ``group`` and ``fold`` it has.
    """

    n_grid_columns = 1

    def __init__(self, file: TableFile, schema: Schema, ignore: Sequence[str] = ()) -> None:
        """See that header, types and the first time fit the schema."""
        self.path, self._schema, self._file = file.path, schema, file
        self.has_targets = find_columns(file, schema, ignore)
        self._variables = [*schema.inputs, *(schema.targets if self.has_targets else ())]
        there = set(file.columns)
        self._about = {what: c for what, c in schema.row_columns.items() if c in there}
        self.labels = tuple(what for what in LABELS if what in self._about)
        self._positions = {
            at: {word.strip(): float(n) for n, word in reversed(list(enumerate(words)))}
            for at, words in schema.categories.items()
        }
        numbers = {c for v in self._variables if v.kind == "number" for c in v.columns}
        about = list(self._about.values())
        columns = [c for v in self._variables for c in v.columns]
        self._columns = list(dict.fromkeys([*about, *columns]))
        self._texts = (set(self._columns) - numbers) | set(about)
        self._check_types()
        self.facts, self.n_bytes = file.facts, file.n_bytes
        self.clock = self._first_clock()

    def batches(self, place: Place, block_bytes: int) -> Iterator[Batch]:
        """Rows from a place on; see :class:`features.sources.source.Source`."""
        start, offset, n_rows = place.get("row", 0), place.get("offset", 0), 0
        blocks = self._file.blocks(self._columns, start, offset, block_bytes, self._texts)
        for block in ahead(blocks):
            yield self._batch(block)
            n_rows = block.first_row + len(block.frame)
        if n_rows == 0 and not start:
            raise ClimstackError(f"{self.path} has a header but no rows: nothing to convert")

    def ids_at(self, rows: Sequence[int]) -> list[str]:
        """The ids of some rows, ascending."""
        column, found, wanted = self._about["id"], [], np.asarray(rows)
        for block in self._file.blocks([column], 0, 0, None, {column}):
            here = wanted - block.first_row
            here = here[(here >= 0) & (here < len(block.frame))]
            found += as_text(block.frame[column]).gather(here).to_list()
        return found

    def _check_types(self) -> None:
        """See that columns of known types hold what the schema says."""
        types = self._file.types()
        for variable in self._variables:
            allowed = WORDS if variable.kind == "category" else READS[variable.kind][1]
            for column in variable.columns:
                found = types.get(column)
                if found is None or found.is_numeric() or found in allowed or found == pl.Null:
                    continue
                hint = "write it as numbers"
                if isinstance(found, pl.Date | pl.Datetime) and variable.role == "input":
                    hint = 'say kind = "date" in the schema'
                raise ClimstackError(
                    f"{self.path}: column '{column}' has type {found}, expected a"
                    f" {variable.kind}: {hint}"
                )
        for column in self._about.values():
            if (found := types.get(column)) is not None and found.is_nested():
                raise ClimstackError(
                    f"{self.path}: column '{column}' has type {found}: write one value a row"
                )

    def _first_clock(self) -> str:
        column = self._about.get("time")
        if column is None:
            return "none"
        found = self._file.types().get(column, pl.String())
        if found.is_numeric():
            return "numbers"
        if isinstance(found, pl.Date | pl.Datetime):
            return "dates"
        first = next(self._file.blocks([column], 0, 0, PEEK_BYTES, {column}), None)
        if first is None or is_date(first.frame[column]):
            return "dates"
        return (
            "numbers" if as_numbers(first.frame[column].head(1))[0].null_count() == 0 else "dates"
        )

    def _batch(self, block: Block) -> Batch:
        frame, first, schema = block.frame, block.first_row, self._schema
        known: dict[str, pl.Series] = {}
        n_inputs = len(schema.inputs)
        inputs = self._matrix(frame, first, self._variables[:n_inputs], known)
        targets = self._matrix(frame, first, self._variables[n_inputs:], known)
        ids = as_text(frame[self._about["id"]]) if "id" in self._about else None
        return Batch(
            ids=ids,
            inputs=inputs,
            targets=targets if self.has_targets else None,
            time=self._times(frame, first),
            column=np.full(len(frame), -1),
            first_row=first,
            bytes_read=block.bytes_read,
            path=self.path,
            place_after=lambda n: {"row": first + n, "offset": block.offset_after(n)},
            row_of=lambda r: first + r,
            is_empty=lambda r, column: frame[column].dtype == pl.String or frame[column][r] is None,
            labels={what: as_text(frame[self._about[what]]) for what in self.labels},
            unknown=partial(_unknown, known),
        )

    def _matrix(
        self,
        frame: pl.DataFrame,
        first_row: int,
        variables: Sequence[Variable],
        unknown: dict[str, pl.Series],
    ) -> Array:
        """Columns of some variables, (n, n_columns), NaN where nothing stands."""
        made, at = [], 0
        for variable in variables:
            for column in variable.columns:
                if variable.kind == "category":
                    found, new = self._placed(frame[column], self._positions[at])
                    if new.null_count() < len(new):
                        unknown[column] = new
                else:
                    found = self._read(frame[column], variable.kind, first_row)
                made.append(found.alias(str(at)))
                at += 1
        return pl.DataFrame(made).to_numpy(order="c") if made else np.empty((len(frame), 0))

    def _placed(
        self, values: pl.Series, positions: dict[str, float]
    ) -> tuple[pl.Series, pl.Series]:
        """Positions of words, null where missing or unknown; and the unknown words, else null."""
        text = as_text(values)
        found = text.replace_strict(positions, default=None, return_dtype=pl.Float64)
        if found.null_count():
            whole = text.str.replace(WHOLE, "$1")  # 3.0 in a file whose words are integers
            more = whole.replace_strict(positions, default=None, return_dtype=pl.Float64)
            found = found.fill_null(more)
        return found, text.set(found.is_not_null() | is_word_of_none(text), None)

    def _read(self, values: pl.Series, kind: Kind, first_row: int) -> pl.Series:
        found, bad = READS[kind][0](values)
        if bad.any():
            raise self._unreadable(values, bad, first_row, EXPECTED[kind])
        return found

    def _times(self, frame: pl.DataFrame, first_row: int) -> NDArray[np.int64]:
        """Timestep of each row, (n,); -1 where the table has no time."""
        column, step = self._about.get("time"), self._schema.time_step
        if column is None or step is None:
            return np.full(len(frame), -1)
        values = frame[column]
        found, bad = (as_seconds if self.clock == "dates" else as_numbers)(values)
        if bad.any():
            like = EXPECTED["date" if self.clock == "dates" else "number"]
            raise self._unreadable(values, bad, first_row, like)
        seconds = found.to_numpy()
        wrong = ~np.isfinite(seconds) | (seconds < 0)
        if wrong.any():
            row = int(wrong.argmax())
            is_missing = np.isnan(seconds[row])
            since = "1970-01-01" if self.clock == "dates" else "0"
            what = "no value" if is_missing else shown(str(values[row]))
            hint = (
                "every row needs its time, so fill it or drop the row"
                if is_missing
                else f"times count from {since} on, so write them as numbers that begin at 0"
            )
            raise ClimstackError(
                f"{self.path}: time column '{column}' has {what} in row {first_row + row}: {hint}"
            )
        return timesteps(seconds, step)

    def _unreadable(
        self, values: pl.Series, bad: pl.Series, first_row: int, expected: str
    ) -> ClimstackError:
        row = int(bad.arg_true()[0])
        return ClimstackError(
            f"{self.path}: column '{values.name}' has {shown(str(values[row]))} in row"
            f" {first_row + row}: expected {expected}"
        )


def n_rows_of(file: TableFile, column: str) -> tuple[int, float]:
    """Rows of the first block of a text file, and the share of the file that they take."""
    block = next(file.blocks([column], 0, 0, CSV_BLOCK_BYTES, {column}), None)
    if block is None or not len(block.frame):
        raise ClimstackError(f"{file.path} has no rows")
    return len(block.frame), block.bytes_read / max(file.n_bytes, 1)


def _unknown(words: dict[str, pl.Series], start: int, stop: int) -> dict[str, dict[str, int]]:
    """Words that the schema does not know in rows of a batch, with their counts, by column."""
    found = {}
    for column, text in words.items():
        here = text[start:stop].drop_nulls()
        if len(here):
            counts = here.value_counts()
            found[column] = dict(zip(counts.to_series(0), counts.to_series(1), strict=True))
    return found
