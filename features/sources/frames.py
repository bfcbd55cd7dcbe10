"""Tables in memory: Polars, pandas and others, NumPy; read like a file."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from features.core.errors import ClimstackError
from features.schemas.schema import Schema
from features.sources.readers import TableFile

NAME = "DataFrame"  # what sentences call a table that has no file


@dataclass(frozen=True)
class FrameFile(TableFile):
    """A frame under the guise of a Parquet file.

    Attributes:
        frame: the rows.
    """

    frame: pl.DataFrame = field(default_factory=pl.DataFrame, repr=False)

    @property
    def is_csv(self) -> bool:
        """It is no text."""
        return False

    @property
    def n_bytes(self) -> int:
        """Its size in memory."""
        return int(self.frame.estimated_size())

    @property
    def facts(self) -> dict[str, Any]:
        """No other frame is this one, so that nothing goes on where another was converted."""
        return {"frame": uuid.uuid4().hex}

    def types(self) -> dict[str, pl.DataType]:
        """Type of each column."""
        return dict(self.frame.schema)

    def scan(self) -> pl.LazyFrame:
        """The rows."""
        return self.frame.lazy()


def as_frame(table: Any, schema: Schema | None = None) -> pl.DataFrame:
    """A Polars frame of a Polars, pandas, PyArrow or other frame, or of a NumPy matrix.

    Args:
        table: the rows; an index of pandas that has a name becomes a column.
        schema: names the columns of a matrix: inputs, or inputs and targets, in its order.

    Raises:
        ClimstackError: it is no table, or a matrix of another width.

    Example:
        >>> as_frame(pl.DataFrame({"a": [1]}).lazy()).columns
        ['a']
    """
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, np.ndarray):
        return _of_matrix(table, schema)
    try:
        if nw.dependencies.is_pandas_dataframe(table):
            return _of_pandas(table)
        frame = nw.from_native(table)
    except TypeError:
        raise ClimstackError(
            f"{type(table).__name__} is no table: give a path, a Polars or pandas frame, or a"
            " NumPy matrix"
        ) from None
    whole = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    return whole.to_polars()


def as_files(sources: Any, schema: Schema) -> list[Path | TableFile]:
    """Paths and frames, one or several, as what can be opened.

    Raises:
        ClimstackError: see :func:`as_frame`.
    """
    many = sources if isinstance(sources, list | tuple) else [sources]
    return [_as_file(each, schema) for each in many]


def _as_file(source: Any, schema: Schema) -> Path | TableFile:
    if isinstance(source, str | Path):
        return Path(source)
    if isinstance(source, TableFile):
        return source
    frame = as_frame(source, schema)
    return FrameFile(Path(NAME), frame.columns, frame)


def _of_matrix(values: np.ndarray[Any, Any], schema: Schema | None) -> pl.DataFrame:
    if schema is None or values.ndim != 2:
        raise ClimstackError(
            f"an array of shape {values.shape} has no names of columns: give a matrix, (n_rows,"
            " n_columns), and a schema"
        )
    names = [*schema.input_columns, *schema.target_columns]
    n_inputs = len(schema.input_columns)
    if values.shape[1] not in (n_inputs, len(names)):
        raise ClimstackError(
            f"an array has {values.shape[1]} columns, schema {schema.name} {n_inputs} inputs and"
            f" {len(names) - n_inputs} targets: give a matrix of inputs, or of both, in that order"
        )
    columns = zip(names, values.T, strict=False)
    return pl.DataFrame({name: _of_values(column) for name, column in columns})


def _of_pandas(table: Any) -> pl.DataFrame:
    """Column by column, for which PyArrow is not needed."""
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    table = table.rename(columns=str)
    names: Sequence[str] = list(table.columns)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ClimstackError(f"{NAME} has the column '{twice}' twice: remove one")
    frame = nw.from_native(table, eager_only=True)
    return pl.DataFrame([_of_column(frame[name]).alias(name) for name in names])


def _of_column(column: nw.Series[Any]) -> pl.Series:
    if column.dtype == nw.Datetime and getattr(column.dtype, "time_zone", None) is not None:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if column.dtype.is_numeric() or column.dtype == nw.Boolean:
        if column.null_count() == 0 and column.dtype.is_float():
            return pl.Series(column.to_numpy().astype(np.float64))
        return _of_values(column.to_list())
    if column.dtype == nw.Datetime:
        return pl.Series(column.to_numpy().astype("datetime64[us]"))
    return _of_values(column.to_list())


def _of_values(values: Any) -> pl.Series:
    """A column of values of whatever type, as text where they are of several."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return pl.Series(values)
    held = [None if _is_nothing(value) else value for value in values]
    try:
        return pl.Series(held)
    except (TypeError, pl.exceptions.PolarsError):
        return pl.Series([None if value is None else str(value) for value in held])


def _is_nothing(value: Any) -> bool:
    """Whether it is None, NaN, or what pandas writes for them."""
    if isinstance(value, float):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")
