"""Read CSV (plain, gzip, zip) and Parquet files in bounded memory, and say exactly what is wrong.

Rows are counted from 0 without the header. Columns are found by name, so their order in the file
does not matter; everything else that is wrong raises with file, column and row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from csv import reader
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.core.errors import ClimstackError, closest
from features.schemas.schema import Schema
from features.sources.ids import shown
from features.sources.tables.text import (
    Lines,
    Unreadable,
    explain_csv,
    first_line_of,
    is_number,
    read_line,
    unpacked,
)

CSV_BLOCK_BYTES = 1 << 24
PARQUET_BLOCK_ROWS = 8192
SHOWN_COLUMNS = 5
SUFFIXES = (".csv", ".gz", ".zip", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some rows of a file.

    Attributes:
        frame: the rows.
        first_row: number of the first.
        bytes_read: how much of the file was read up to here, of its size.
        offset: where the first row begins, in bytes of text; 0 in a Parquet file.
        ends: where each row of a CSV file ends, in bytes of text from ``offset`` on.
    """

    frame: pl.DataFrame
    first_row: int
    bytes_read: int
    offset: int = 0
    ends: tuple[int, ...] = ()

    def offset_after(self, n_rows: int) -> int:
        """Where the row after the first ``n_rows`` of this block begins, in bytes of text."""
        return self.offset + (self.ends[n_rows - 1] if n_rows and self.ends else 0)


@dataclass(frozen=True)
class TableFile:
    """A CSV or Parquet file with a header; a CSV file may be compressed by gzip or zip.

    Attributes:
        path: where it is.
        columns: its column names in file order.
    """

    path: Path
    columns: list[str]

    @classmethod
    def open(cls, path: str | Path) -> TableFile:
        """Read the header.

        Raises:
            ClimstackError: no such file, unknown suffix, empty, unreadable, a column stands twice.
        """
        path = Path(path)
        if not path.is_file():
            what = f"{path} is a folder" if path.is_dir() else f"no file {path}"
            raise ClimstackError(f"{what}: give a .csv or .parquet file")
        if path.suffix not in SUFFIXES:
            raise ClimstackError(
                f"{path} ends in '{path.suffix}', which is unknown: give a .csv or .parquet file,"
                " or a CSV file packed as .gz or .zip"
            )
        columns = _parquet_header(path) if path.suffix == ".parquet" else _csv_header(path)
        twice = [name for name, n in Counter(columns).items() if n > 1]
        if twice:
            raise ClimstackError(f"{path} has the column '{twice[0]}' twice: remove one")
        return cls(path, columns)

    @property
    def is_csv(self) -> bool:
        """Whether it is text, packed or not."""
        return self.path.suffix != ".parquet"

    def frames(self, columns: list[str]) -> Iterator[tuple[int, pl.DataFrame]]:
        """Blocks of rows with their first row's number: see :meth:`blocks`."""
        for block in self.blocks(columns):
            yield block.first_row, block.frame

    def blocks(
        self,
        columns: list[str],
        first_row: int = 0,
        offset: int = 0,
        block_bytes: int | None = None,
        texts: Collection[str] | None = None,
    ) -> Iterator[Block]:
        """The rows, block by block.

        Args:
            columns: the id column first (text), then numeric columns, read as float64.
            first_row: row to begin with.
            offset: where that row begins, by :meth:`Block.offset_after`; what stands before it in
                a CSV file is not read, or in a packed one only unpacked.
            block_bytes: bytes of text in a block; None takes ``CSV_BLOCK_BYTES``.
            texts: columns of a CSV file that are read as text; others are numbers, or text, too,
                where some can't be read as such. Those of a Parquet file have the file's types.
                None takes the first as text and all others as numbers.

        Raises:
            ClimstackError: a value is not a number, or a row has too many fields.
        """
        size = min(block_bytes or CSV_BLOCK_BYTES, CSV_BLOCK_BYTES)
        if self.is_csv:
            yield from self._csv_blocks(columns, first_row, offset, size, texts)
        else:
            n_rows = max(1, PARQUET_BLOCK_ROWS * size // CSV_BLOCK_BYTES)
            yield from self._typed_blocks(columns, first_row, n_rows, texts is not None)

    def types(self) -> dict[str, pl.DataType]:
        """Type of each column of a Parquet file; of a CSV file none is known."""
        return {} if self.is_csv else dict(pl.read_parquet_schema(self.path))

    @property
    def n_bytes(self) -> int:
        """Its size on disk."""
        return self.path.stat().st_size

    @property
    def facts(self) -> dict[str, Any]:
        """What changes when the file changes."""
        found = self.path.stat()
        return {
            "file": str(self.path.resolve()),
            "bytes": found.st_size,
            "modified_ns": found.st_mtime_ns,
        }

    def scan(self) -> pl.LazyFrame:
        """The rows of a Parquet file, not read yet."""
        return pl.scan_parquet(self.path)

    def check_types(self, columns: list[str]) -> None:
        """See that columns of a Parquet file are numbers; those of a CSV file are seen when read.

        Raises:
            ClimstackError: one is not.
        """
        found = self.types()
        for column in columns:
            if column in found and not found[column].is_numeric():
                raise ClimstackError(
                    f"{self.path}: column '{column}' has type {found[column]}, expected Float64:"
                    " write it as numbers"
                )

    def narrow_types(self, columns: list[str]) -> dict[str, list[str]]:
        """Which columns of a Parquet file are numbers of another type than Float64, by type."""
        found = self.types()
        narrow: dict[str, list[str]] = {}
        for column in columns:
            if found.get(column, pl.Float64()) != pl.Float64():
                narrow.setdefault(str(found[column]), []).append(column)
        return narrow

    def _csv_blocks(
        self,
        columns: list[str],
        first_row: int,
        offset: int,
        size: int,
        texts: Collection[str] | None,
    ) -> Iterator[Block]:
        wanted = set(columns[1:]) if texts is None else set(columns) - set(texts)
        types = {c: pl.Float64() if c in wanted else pl.String() for c in self.columns}
        try:
            with unpacked(self.path) as (file, raw):
                if offset:
                    file.seek(offset)
                else:
                    offset = len(read_line(file, self.path, "the header"))
                is_plain = file is raw
                lines = Lines(file=file, path=self.path, seekable=is_plain, rows=first_row)
                for text in lines.blocks(offset, size):
                    start, is_blank = offset, not text.strip()
                    offset += len(text)
                    if not is_blank or b"\n" in text:
                        parse = self._parse if texts is None else self._parse_any
                        frame = parse(text, types, first_row).select(columns)
                        ends = _ends(text)
                        del text  # freed before the next is read, it leaves no gap in memory
                        where = {"first_row": first_row, "bytes_read": raw.tell(), "offset": start}
                        yield Block(frame=frame, ends=ends, **where)
                        first_row += len(frame)
                        lines.rows = first_row
        except Unreadable as error:
            raise ClimstackError(
                f"{self.path} is damaged or cut off after row {first_row} ({error}): copy it again,"
                " or unpack it"
            ) from None

    def _parse(self, block: bytes, types: dict[str, Any], first_row: int) -> pl.DataFrame:
        # Polars fills rows that are cut short: of a block of line breaks it makes gigabytes.
        n_lines = block.count(b"\n") + (not block.endswith(b"\n"))
        n_commas = int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord(",")))
        if n_commas + n_lines != n_lines * len(types):
            self._explain(block, types, first_row)
        try:
            # In one chunk: turning hundreds of columns in many takes several times as long.
            frame = pl.read_csv(block, has_header=False, schema=types).rechunk()
        except (Exception, pl.exceptions.PanicException) as error:
            self._explain(block, types, first_row)
            why = first_line_of(error)
            raise ClimstackError(
                f"{self.path} is not readable from row {first_row} on: {why}"
            ) from None
        if len(frame) != n_lines:  # a line break in quotes is part of a field
            self._explain(block, types, first_row)
        return frame

    def _parse_any(self, block: bytes, types: dict[str, Any], first_row: int) -> pl.DataFrame:
        """Columns that can't be read as numbers come as text."""
        if _n_fields(block) == (block.count(b"\n") + (not block.endswith(b"\n"))) * len(types):
            options: dict[str, Any] = {"has_header": False, "schema": types}
            try:
                frame = pl.read_csv(block, **options).rechunk()
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
                frame = None
            if frame is not None and len(frame) == block.count(b"\n") + (not block.endswith(b"\n")):
                return frame
        as_text = dict.fromkeys(types, pl.String())
        self._explain(block, as_text, first_row)
        try:
            return pl.read_csv(block, has_header=False, schema=as_text).rechunk()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise ClimstackError(
                f"{self.path} is not readable from row {first_row} on: {first_line_of(error)}"
            ) from None

    def _explain(self, block: bytes, types: dict[str, Any], first_row: int) -> None:
        if (sentence := explain_csv(self.path, block, types, first_row)) is not None:
            raise ClimstackError(sentence) from None

    def _typed_blocks(
        self, columns: list[str], first_row: int, size: int, as_they_are: bool
    ) -> Iterator[Block]:
        if as_they_are:
            lazy = self.scan().select(columns)
        else:
            self.check_types(columns[1:])
            lazy = self.scan().select(
                pl.col(columns[0]).cast(pl.String), pl.col(columns[1:]).cast(pl.Float64)
            )
        n_bytes = self.n_bytes
        try:
            n_rows = lazy.select(pl.len()).collect().item()
            for start in range(first_row, n_rows, size):
                frame = lazy.slice(start, size).collect().rechunk()
                done = n_bytes * (start + len(frame)) // n_rows
                yield Block(frame=frame, first_row=start, bytes_read=done)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise ClimstackError(f"{self.path} is not readable: {first_line_of(error)}") from None


def _n_fields(block: bytes) -> int:
    """Fields of whole lines, so far as commas tell; those in quotes are none."""
    marks = np.frombuffer(block, np.uint8)
    commas = marks == ord(",")
    if b'"' in block:
        commas &= np.bitwise_xor.accumulate(marks == ord('"')) == 0
    return int(np.count_nonzero(commas)) + block.count(b"\n") + (not block.endswith(b"\n"))


def _ends(text: bytes) -> tuple[int, ...]:
    """Where each line ends, the last one perhaps without a line break."""
    ends, end = [], text.find(b"\n") + 1
    while end:
        ends.append(end)
        end = text.find(b"\n", end) + 1
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    return tuple(ends)


def _parquet_header(path: Path) -> list[str]:
    try:
        return list(pl.read_parquet_schema(path))
    except (Exception, pl.exceptions.PanicException) as error:
        why = first_line_of(error)
        raise ClimstackError(f"{path} is not a readable Parquet file: {why}") from None


def _csv_header(path: Path) -> list[str]:
    try:
        with unpacked(path) as (file, _):
            line = read_line(file, path, "the header")
    except Unreadable as error:
        raise ClimstackError(
            f"{path} is not readable as {path.suffix} ({error}): copy it again, or unpack it"
        ) from None
    try:
        header = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        header = "\0"
    if "\0" in header:
        raise ClimstackError(
            f"{path} is not UTF-8 text: is it compressed, or written in another encoding?"
        )
    if not header:
        what = "starts with an empty line" if line else "is empty"
        raise ClimstackError(f"{path} {what}: expected a header line with column names")
    if "\r" in header or line.endswith(b"\r\r\n"):
        raise ClimstackError(
            f"{path} ends its lines with carriage returns: write it with line feeds (\\n or \\r\\n)"
        )
    if '"' in header:
        columns = [name.strip() for name in next(reader([header], skipinitialspace=True))]
    else:
        columns = [name.strip() for name in header.split(",")]
    if sum(map(is_number, columns)) > len(columns) / 2:
        raise ClimstackError(
            f"{path} begins with numbers: expected a header line with column names"
        )
    if len(columns) == 1 and any(mark in header for mark in ";\t|"):
        raise ClimstackError(
            f"{path} is not separated by commas: its header is one field, {shown(header)}; write it"
            " with commas"
        )
    return columns


def find_columns(file: TableFile, schema: Schema, ignore: Sequence[str] = ()) -> bool:
    """Check a file's header against a schema.

    Args:
        file: the file.
        schema: what it should hold.
        ignore: names of columns that the schema does not know and that may be there; ``*``, ``?``
            and ``[...]`` stand for other characters.

    Returns:
        Whether the file has the targets: if it has any, it must have all.

    Raises:
        ClimstackError: a column is missing, or unknown to the schema and not ignored.
    """
    has_targets = bool(set(file.columns) & set(schema.target_columns))
    for sentence in header_faults(file, schema, has_targets, ignore):
        raise ClimstackError(sentence)
    return has_targets


def has_inputs(file: TableFile, schema: Schema) -> bool:
    """Whether a header has any input of the schema; a submission or a solution has none."""
    return bool(set(file.columns) & set(schema.input_columns))


def header_faults(
    file: TableFile, schema: Schema, has_targets: bool, ignore: Sequence[str] = ()
) -> list[str]:
    """Sentences on the missing and on the unknown columns of a header; empty when it is right."""
    if has_targets and not has_inputs(file, schema):
        return [
            f"{file.path} has targets and no inputs, so it is a submission or a solution, not data:"
            " give it to 'climstack score' or to 'climstack submit --sample-submission'"
        ]
    expected = [schema.id_name] if schema.id_column is not None else []
    expected += schema.input_columns
    about = schema.row_columns.values()  # test rows need not tell their time, place, group, fold
    expected += [*about, *schema.target_columns] if has_targets else []
    expected = list(dict.fromkeys(expected))
    there, known = set(file.columns), {*expected, *about}
    ignored = [*ignore, *schema.ignore]
    missing = [column for column in expected if column not in there]
    extra = [
        column
        for column in file.columns
        if column not in known and not any(fnmatchcase(column, name) for name in ignored)
    ]
    sentences = []
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        near = get_close_matches(missing[0], extra, n=1)
        hint = f", is it {shown(near[0])}?" if near else ""
        sentences.append(
            f"{file.path} has no column '{missing[0]}'{more}: schema {schema.name} needs it{hint}"
        )
    if extra:
        sentences.append(_unknown_columns(file, schema, extra, missing, expected))
    return sentences


def _unknown_columns(
    file: TableFile, schema: Schema, extra: list[str], missing: list[str], expected: list[str]
) -> str:
    names = ", ".join(map(shown, extra[:SHOWN_COLUMNS]))
    more = f" and {len(extra) - SHOWN_COLUMNS} more" if len(extra) > SHOWN_COLUMNS else ""
    what = f"a column {names}" if len(extra) == 1 else f"the columns {names}{more}"
    hint = closest(extra[0], missing or expected) if len(extra) == 1 else ""
    near = f" ({hint})" if hint and (missing or "did you mean" in hint) else ""
    them = "it" if len(extra) == 1 else "them"
    return (
        f"{file.path} has {what} that schema {schema.name} does not know: remove {them}{near},"
        f" or ignore {them} by --ignore {shown(extra[0])}, in an experiment [data] ignore ="
        f" [{shown(extra[0])}]"
    )


def first_bad_value(frame: pl.DataFrame, path: Path, first_row: int) -> str | None:
    """A sentence on the first empty, NaN or infinite value in row order, or None."""
    values = frame.drop(frame.columns[0]).to_numpy()
    bad = ~np.isfinite(values)
    if not bad.any():
        return None
    row = int(bad.any(axis=1).argmax())
    position = int(bad[row].argmax())
    column = frame.columns[1 + position]
    is_empty = frame[column][row] is None
    found = "no value" if is_empty else str(values[row, position])
    hint = "fill it or drop the row"
    if is_empty and path.suffix != ".parquet":
        hint = "fill it, or is the row empty or cut short?"
    return f"{path}: column '{column}' has {found} in row {first_row + row}: {hint}"
