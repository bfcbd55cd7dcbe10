"""A store from arrays: what is in memory already, without a file between."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from features.core.errors import ClimstackError
from features.core.folders import temporary_folder
from features.core.settings import check
from features.core.types import Array
from features.schemas.known import load_schema
from features.schemas.schema import Schema
from features.schemas.variable import Policy, Variable
from features.sources.tables.values import common_step, timesteps
from features.store.store import Store
from features.store.writer import StoreWriter
from features.views.missing import Repair


def store_from_arrays(
    path: str | Path,
    inputs: ArrayLike,
    targets: ArrayLike | None = None,
    schema: str | Schema | None = None,
    *,
    ids: ArrayLike | None = None,
    times: ArrayLike | None = None,
    places: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    folds: ArrayLike | None = None,
) -> Store:
    """Write rows into a new store; see :meth:`features.store.store.Store.from_arrays`."""
    path = Path(path)
    check(not path.exists(), f"{path} exists: choose another place or delete it first")
    x = _matrix(inputs, "inputs")
    y = None if targets is None else _matrix(targets, "targets")
    if schema is None:
        if y is None:
            raise ClimstackError("arrays without targets need the schema of the training rows")
        schema = schema_of(
            x,
            y,
            times,
            names=(_names(inputs), _names(targets)),
            independent=times is None and groups is None and places is None,
        )
    known = load_schema(schema)
    rows = _Rows(n=len(x), is_training=y is not None, schema=known)
    index = rows.index(ids, times, {"place": places, "group": groups, "fold": folds})
    x = _checked(x, known.inputs, known.input_columns, "inputs", len(x))
    if y is not None:
        y = _checked(y, known.targets, known.target_columns, "targets", len(x))
    with temporary_folder(path.parent, path.name) as scratch:
        made = scratch / path.name
        with StoreWriter(made, known, y is not None, known.n_grid_columns or 1) as writer:
            start = 0
            while start < len(x):
                part = slice(start, start + writer.room)
                writer.append(index[part], x[part], None if y is None else y[part])
                writer.close_part({})
                start = part.stop
            writer.close([{"file": "arrays", "rows": len(x), "clock": _clock(known, times)}])
        made.rename(path)
    return Store(path)


def schema_of(
    inputs: Array,
    targets: Array,
    times: ArrayLike | None = None,
    *,
    names: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None),
    independent: bool = False,
) -> Schema:
    """A schema of scalars for arrays.

    Inputs with gaps may be imputed, targets with gaps are skipped there; others refuse gaps.

    Args:
        inputs: (n, n_inputs).
        targets: (n, n_targets).
        times: of the rows, if known; their most common step is the timestep.
        names: of inputs and targets; None calls them ``x0``, ``x1`` and ``y0``, ``y1``.
        independent: whether rows say nothing about each other.
    """
    variables = []
    for role, values, given, gap in (
        ("input", inputs, names[0], "impute"),
        ("target", targets, names[1], "skip"),
    ):
        letter = "x" if role == "input" else "y"
        called = given or [f"{letter}{at}" for at in range(values.shape[1])]
        missing = [bool(np.isnan(column).any()) for column in values.T]
        for name, misses in zip(called, missing, strict=True):
            policy: Policy = gap if misses else "refuse"  # type: ignore[assignment]
            variables.append(Variable(name=name, role=role, policy=policy))  # type: ignore[arg-type]
    step = None if times is None else common_step(seconds_of(times))
    return Schema(
        name="arrays",
        variables=tuple(variables),
        time_column=None if times is None else "time",
        time_step=step,
        independent=independent,
    )


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Makes the index of some rows.

    Attributes:
        n: how many.
        is_training: whether they have targets: only then must their time be known.
        schema: what their columns mean.
    """

    n: int
    is_training: bool
    schema: Schema

    def index(
        self,
        ids: ArrayLike | None,
        times: ArrayLike | None,
        labels: dict[str, ArrayLike | None],
    ) -> pl.DataFrame:
        """sample_id, time, column, source; and the labels that are given."""
        check(self.n > 0, "the arrays have no rows: give at least one")
        time, column = self._places(times)
        columns: dict[str, Any] = {"sample_id": self._ids(ids), "time": time, "column": column}
        columns["source"] = np.zeros(self.n, np.int64)
        for what, values in labels.items():
            if values is not None:
                columns[what] = self._words(values, f"{what}s")
        return pl.DataFrame(columns)

    def _ids(self, ids: ArrayLike | None) -> pl.Series:
        if ids is None:
            return pl.Series([f"row_{row}" for row in range(self.n)])
        words = self._words(ids, "ids")
        missing = words.is_null().arg_true()
        check(not len(missing), f"ids lack one in row {missing[0] if len(missing) else ''}: give"
              " each row its own")  # fmt: skip
        twice = words.is_duplicated().arg_true()
        word = words[int(twice[0])] if len(twice) else ""
        check(not len(twice), f"ids hold '{word}' twice: give each row its own")
        return words

    def _places(self, times: ArrayLike | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Timestep and grid column of each row."""
        unknown, schema = np.full(self.n, -1, np.int64), self.schema
        if schema.n_grid_columns is not None:
            check(times is None, f"schema {schema.name} has a grid, whose rows tell their time by"
                  " their order: leave times out")  # fmt: skip
            if not self.is_training:
                return unknown, unknown
            check(self.n % schema.n_grid_columns == 0, f"{self.n} rows are no whole timesteps of"
                  f" {schema.n_grid_columns} grid columns: give whole ones")  # fmt: skip
            time, column = np.divmod(np.arange(self.n), schema.n_grid_columns)
            return time, column
        if schema.time_step is None:
            check(times is None, f"schema {schema.name} names no time_column, but times are given:"
                  " name one, or leave times out")  # fmt: skip
            return unknown, unknown
        if times is None:
            check(not self.is_training, f"schema {schema.name} has the time_column"
                  f" '{schema.time_column}', but no times are given: give them")  # fmt: skip
            return unknown, unknown
        seconds = seconds_of(times)
        self._see_length(len(seconds), "times")
        early = np.flatnonzero(seconds < 0)
        row = int(early[0]) if len(early) else None
        check(row is None, f"times hold {np.asarray(times)[row or 0]} in row {row}: they count from"
              " 0, dates from 1970-01-01, so give numbers that begin there")  # fmt: skip
        return timesteps(seconds, schema.time_step), unknown

    def _words(self, values: ArrayLike, what: str) -> pl.Series:
        """Labels as text, null where one is missing; a whole number is written without a point."""
        array = np.asarray(values)
        check(array.ndim == 1, f"{what} must have one entry a row, but got shape {array.shape}")
        self._see_length(len(array), what)
        return pl.Series([_word(value) for value in array.tolist()], dtype=pl.String)

    def _see_length(self, n: int, what: str) -> None:
        check(n == self.n, f"{what} have {n} entries, but inputs have {self.n} rows: give one each")


def _clock(schema: Schema, times: ArrayLike | None) -> str:
    """What the timesteps count."""
    if schema.n_grid_columns is not None:
        return "rows"
    if times is None:
        return "none"
    array = np.asarray(times)
    is_number = array.dtype.kind in "biuf" or isinstance(array.ravel()[0], int | float)
    return "numbers" if is_number else "dates"


def _word(value: Any) -> str | None:
    if value is None or value != value:  # NaN and NaT differ from themselves
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def seconds_of(times: ArrayLike) -> Array:
    """Numbers as they are; dates in seconds since 1970, (n,).

    Raises:
        ClimstackError: neither numbers nor dates, or one is missing.
    """
    array = np.asarray(times)
    if array.dtype == object and len(array) and not isinstance(array[0], int | float):
        with suppress(TypeError, ValueError):
            array = array.astype("datetime64[us]")
    check(array.ndim == 1, f"times must have one entry a row, but got shape {array.shape}")
    if array.dtype.kind == "M":
        missing = np.isnat(array)
        values = array.astype("datetime64[us]").astype(np.int64) / 1e6
    else:
        try:
            values = array.astype(np.float64)
        except (TypeError, ValueError):
            raise ClimstackError(
                f"times must be numbers or dates, but hold {array[0]!r}: convert them with"
                " np.asarray(times, 'datetime64[s]')"
            ) from None
        missing = ~np.isfinite(values)
    row = int(missing.argmax()) if missing.any() else None
    check(row is None, f"times hold {array[row or 0]} in row {row}: give each row its time")
    return values


def _names(values: Any) -> list[str] | None:
    """Names of a data frame's columns; None for an array."""
    columns = getattr(values, "columns", None)
    return None if columns is None else [str(column) for column in columns]


def _matrix(values: Any, what: str) -> Array:
    """Float64 (n, n_columns).

    Raises:
        ClimstackError: no numbers, or no table.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ClimstackError(f"{what} must be numbers ({error}): convert them first") from None
    if array.ndim == 1 and what == "targets":
        array = array[:, None]
    check(array.ndim == 2, f"{what} must have shape (n, n_columns), but got {array.shape}")
    return array


def _checked(
    values: Array, variables: Sequence[Variable], columns: Sequence[str], what: str, n: int
) -> Array:
    """Values as the schema's policies leave them.

    Raises:
        ClimstackError: wrong shape, or a value that is refused; names row and column.
    """
    check(
        values.shape == (n, len(columns)),
        f"{what} have shape {values.shape}, but the schema and the other arrays ask for"
        f" {(n, len(columns))}",
    )
    infinite = np.isinf(values)
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise ClimstackError(
            f"{what} hold {values[row, column]} in row {row}, column '{columns[column]}': fill it"
            " or drop the row"
        )
    repaired, start = values.copy(), 0
    for variable in variables:
        own = slice(start, start + variable.n_levels)
        start = own.stop
        if variable.categories:
            _check_category(values[:, own], variable)
            continue
        part = repaired[:, own]
        repair = Repair([variable])
        if (refused := repair.apply(part)) is not None:
            row, level = refused
            why = repair.why(float(part[row, level]), level)
            raise ClimstackError(
                f"{what} hold {part[row, level]} in row {row}, column '{variable.columns[level]}'"
                f"{f', {why}' if why else ''}: fill it or drop the row"
            )
    return repaired


def _check_category(values: Array, variable: Variable) -> None:
    known = np.isnan(values) | np.isin(values, np.arange(len(variable.categories)))
    row = int((~known).argmax())
    check(
        bool(known.all()),
        f"inputs hold {values[row, 0]} in row {row} of category '{variable.name}': give its"
        f" position among its {len(variable.categories)} words, or NaN",
    )
