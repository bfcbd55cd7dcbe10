"""Read the competition's CSV and Parquet files in bounded memory, and say exactly what is wrong.

Rows are counted from 0 without the header. Columns are found by name, so their order in the file
does not matter; everything else that is wrong raises with file, column and row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ClimstackError, closest
from features.files import atomic_path
from features.schema import Schema
from features.store import Store, StoreWriter

CSV_BLOCK_BYTES = 1 << 25
PARQUET_BLOCK_ROWS = 8192


@dataclass(frozen=True)
class TableFile:
    """A CSV or Parquet file with a header.

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
        if path.suffix == ".parquet":
            try:
                columns = pl.read_parquet_schema(path)
            except (Exception, pl.exceptions.PanicException) as error:
                raise ClimstackError(
                    f"{path} is not a readable Parquet file: {_first(error)}"
                ) from None
            return cls(path, list(columns))
        if path.suffix != ".csv":
            raise ClimstackError(
                f"{path} ends in '{path.suffix}', which is unknown: give a .csv or .parquet file"
            )
        with path.open("rb") as file:
            line = file.readline()
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
        columns_in_file = [name.strip().strip('"') for name in header.split(",")]
        if len(columns_in_file) == 1 and any(mark in header for mark in ";\t|"):
            raise ClimstackError(
                f"{path} is not separated by commas: its header has one field, write it with commas"
            )
        twice = [name for name in columns_in_file if columns_in_file.count(name) > 1]
        if twice:
            raise ClimstackError(f"{path} has the column '{twice[0]}' twice: remove one")
        return cls(path, columns_in_file)

    def frames(self, columns: list[str]) -> Iterator[tuple[int, pl.DataFrame]]:
        """Blocks of rows with their first row's number.

        Args:
            columns: the id column first (text), then numeric columns, read as float64.

        Raises:
            ClimstackError: a value is not a number, or a row has too many fields.
        """
        frames = self._csv_frames if self.path.suffix == ".csv" else self._parquet_frames
        yield from frames(columns)

    def _csv_frames(self, columns: list[str]) -> Iterator[tuple[int, pl.DataFrame]]:
        wanted = set(columns[1:])
        types = {c: pl.Float64() if c in wanted else pl.String() for c in self.columns}
        first_row, rest = 0, b""
        with self.path.open("rb") as file:
            file.readline()
            while block := file.read(CSV_BLOCK_BYTES):
                block = rest + block
                cut = block.rfind(b"\n") + 1
                block, rest = block[:cut], block[cut:]
                if block:
                    frame = self._parse(block, types, first_row).select(columns)
                    yield first_row, frame
                    first_row += len(frame)
        if rest.strip():
            yield first_row, self._parse(rest, types, first_row).select(columns)

    def _parse(self, block: bytes, types: dict[str, Any], first_row: int) -> pl.DataFrame:
        try:
            return pl.read_csv(block, has_header=False, schema=types)
        except (Exception, pl.exceptions.PanicException) as error:
            raise ClimstackError(
                _explain_csv(self.path, block, types, first_row)
                or f"{self.path} is not readable from row {first_row} on: {_first(error)}"
            ) from None

    def _parquet_frames(self, columns: list[str]) -> Iterator[tuple[int, pl.DataFrame]]:
        found = pl.read_parquet_schema(self.path)
        for column in columns[1:]:
            if not found[column].is_numeric():
                raise ClimstackError(
                    f"{self.path}: column '{column}' has type {found[column]}, expected Float64:"
                    " write it as numbers"
                )
        lazy = pl.scan_parquet(self.path).select(
            pl.col(columns[0]).cast(pl.String), pl.col(columns[1:]).cast(pl.Float64)
        )
        try:
            n_rows = lazy.select(pl.len()).collect().item()
            for first_row in range(0, n_rows, PARQUET_BLOCK_ROWS):
                yield first_row, lazy.slice(first_row, PARQUET_BLOCK_ROWS).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise ClimstackError(f"{self.path} is not readable: {_first(error)}") from None


def find_columns(file: TableFile, schema: Schema) -> bool:
    """Check a file's header against a schema.

    Args:
        file: the file.
        schema: what it should hold.

    Returns:
        Whether the file has the targets: if it has any, it must have all.

    Raises:
        ClimstackError: a column is missing, or unknown to the schema.
    """
    has_targets = bool(set(file.columns) & set(schema.target_columns))
    for sentence in header_faults(file, schema, has_targets):
        raise ClimstackError(sentence)
    return has_targets


def header_faults(file: TableFile, schema: Schema, has_targets: bool) -> list[str]:
    """Sentences on the missing and on the unknown columns of a header; empty when it is right."""
    expected = [schema.id_column, *schema.input_columns]
    expected += schema.target_columns if has_targets else []
    missing = [column for column in expected if column not in set(file.columns)]
    extra = [column for column in file.columns if column not in set(expected)]
    sentences = []
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        sentences.append(
            f"{file.path} has no column '{missing[0]}'{more}: schema {schema.name} needs it"
        )
    if extra:
        near = closest(extra[0], missing or expected)
        hint = near if len(extra) == 1 else f"{len(extra)} such columns"
        sentences.append(
            f"{file.path} has a column {_shown(extra[0])} that schema {schema.name} does not know:"
            f" remove it ({hint})"
        )
    return sentences


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
    if is_empty and path.suffix == ".csv":
        hint = "fill it, or is the row empty or cut short?"
    return f"{path}: column '{column}' has {found} in row {first_row + row}: {hint}"


@dataclass
class IdCheck:
    """Sees every sample_id once and finds malformed and repeated ones."""

    path: Path
    _prefix: str | None = None
    _numbers: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, ids: pl.Series, first_row: int) -> None:
        """Look at the next ids.

        Raises:
            ClimstackError: an id is missing, malformed, or of another prefix than the first.
        """
        parts = ids.str.extract_groups(r"^([A-Za-z_]+)_(\d{1,18})$").struct.unnest()
        prefixes, numbers = parts.to_series(0), parts.to_series(1)
        if self._prefix is None and len(ids):
            self._prefix = prefixes[0]
        known = self._prefix is not None
        wrong = (prefixes != self._prefix).fill_null(True) if known else prefixes.is_null()
        if wrong.any():
            row = int(wrong.arg_true()[0])
            found, where = ids[row], f"in row {first_row + row}"
            what = (
                f"{where} is missing" if found is None else f"{_shown(found)} {where} is malformed"
            )
            raise ClimstackError(
                f"{self.path}: sample_id {what}: expected {self._prefix or 'train'}_ and a number"
            )
        self._numbers.append(numbers.cast(pl.Int64).to_numpy())

    def close(self) -> None:
        """Look for repeated ids.

        Raises:
            ClimstackError: an id stands twice.
        """
        if not self._numbers:
            return
        numbers = np.concatenate(self._numbers)
        order = np.argsort(numbers, kind="stable")
        same = np.flatnonzero(np.diff(numbers[order]) == 0)
        if len(same):
            first, again = (int(order[same[0] + i]) for i in (0, 1))
            raise ClimstackError(
                f"{self.path}: sample_id '{self._prefix}_{numbers[first]}' in row {again} stands"
                f" already in row {first}: ids must be unique"
            )


def convert(
    source: str | Path, out: str | Path, schema: Schema, n_grid_columns: int | None = None
) -> Store:
    """Turn a CSV or Parquet file into a store, streaming.

    Args:
        source: file of ids and inputs, with targets (training) or without (test).
        out: the store's folder; must not exist. Nothing is left there when converting fails.
        schema: what the columns mean.
        n_grid_columns: rows per timestep of a time-major training file; None takes the schema's.

    Raises:
        ClimstackError: the first thing that is wrong, with file, column and row.
    """
    out = Path(out)
    if out.exists():
        raise ClimstackError(f"{out} exists: choose another place or delete it first")
    file = TableFile.open(source)
    n_grid_columns = schema.n_grid_columns if n_grid_columns is None else n_grid_columns
    if n_grid_columns < 1:
        raise ClimstackError(f"grid columns must be at least 1, but got {n_grid_columns}")
    has_targets = find_columns(file, schema)
    columns = [schema.id_column, *schema.input_columns]
    columns += schema.target_columns if has_targets else []
    n_inputs, n_rows = len(schema.input_columns), 0
    ids = IdCheck(file.path)
    with (
        atomic_path(out) as folder,
        StoreWriter(folder, schema, has_targets, n_grid_columns) as writer,
    ):
        for first_row, frame in file.frames(columns):
            if (sentence := first_bad_value(frame, file.path, first_row)) is not None:
                raise ClimstackError(sentence)
            ids.add(frame[schema.id_column], first_row)
            values = np.ascontiguousarray(frame.drop(schema.id_column).to_numpy())
            targets = values[:, n_inputs:] if has_targets else None
            writer.append(frame[schema.id_column].to_list(), values[:, :n_inputs], targets)
            n_rows = first_row + len(frame)
        ids.close()
        if n_rows == 0:
            raise ClimstackError(f"{file.path} has a header but no rows: nothing to convert")
        if has_targets and n_rows % n_grid_columns:
            raise ClimstackError(
                f"{file.path} has {n_rows} rows, not a multiple of {n_grid_columns} grid columns:"
                " the last timestep is cut, or give the grid's size"
            )
        writer.close([{"file": file.path.name, "rows": n_rows}])
    return Store(out)


def _explain_csv(path: Path, block: bytes, types: dict[str, Any], first_row: int) -> str | None:
    """A sentence on the first line that polars can't take for a row, or None."""
    for row, line in enumerate(block.rstrip(b"\n").split(b"\n"), first_row):
        try:
            text = line.decode().rstrip("\r")
        except UnicodeDecodeError as error:
            return (
                f"{path}: row {row} is not UTF-8 text (byte 0x{line[error.start]:02x}):"
                " write the file in UTF-8"
            )
        if text.count('"') % 2:
            return f"{path}: row {row} has a quote that is not closed: close or remove it"
        fields = next(csv.reader([text])) if '"' in text else text.split(",")
        if len(fields) > len(types):
            return (
                f"{path}: row {row} has {len(fields)} fields, the header has {len(types)}:"
                " remove the extra ones"
            )
        for value, (column, dtype) in zip(fields, types.items(), strict=False):
            if dtype == pl.Float64 and value.strip() and not _is_number(value):
                return (
                    f"{path}: column '{column}' has {_shown(value)} in row {row}: expected a number"
                )
        if len(fields) < len(types):
            return (
                f"{path}: row {row} has {len(fields)} fields, the header has {len(types)}: was the"
                " row or the file cut off?"
            )
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


def _shown(text: str) -> str:
    """A value for a sentence: quoted, on one line, not longer than a reader wants."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
