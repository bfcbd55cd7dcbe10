"""What is wrong with a data file, every finding named: ``climstack data check``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array
from features.schemas.schema import Schema
from features.sources.ids import IdCheck
from features.sources.readers import TableFile, first_bad_value, has_inputs, header_faults

UNIQUE_ROWS = 65_536  # distinct values are counted in so many first rows, to bound memory
SMALLEST_FLOAT32 = float(np.finfo(np.float32).tiny)


Level = Literal["error", "warning", "note"]
Say = Callable[[Level, str], None]


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing about a data file.

    Attributes:
        level: ``"error"`` (can't be used), ``"warning"`` or ``"note"``.
        sentence: what, where, the value found, what to do.
    """

    level: Level
    sentence: str


@dataclass
class _Columns:
    """Running facts on each numeric column."""

    names: list[str]
    low: Array = field(init=False)
    high: Array = field(init=False)
    lost: NDArray[np.int64] = field(init=False)
    bad: NDArray[np.int64] = field(init=False)
    smallest: Array = field(init=False)

    def __post_init__(self) -> None:
        self.low = np.full(len(self.names), np.inf)
        self.high = -self.low
        self.smallest = self.low.copy()
        self.lost = np.zeros(len(self.names), dtype=np.int64)
        self.bad = self.lost.copy()

    def add(self, values: Array) -> None:
        bad = ~np.isfinite(values)
        self.bad += bad.sum(0)
        self.low = np.minimum(self.low, np.where(bad, np.inf, values).min(0))
        self.high = np.maximum(self.high, np.where(bad, -np.inf, values).max(0))
        values = np.where(bad, 0.0, values)
        size = np.abs(values)
        lost = (size > 0) & (size < SMALLEST_FLOAT32)
        self.lost += lost.sum(0)
        self.smallest = np.minimum(self.smallest, np.where(lost, size, np.inf).min(0))


def check_file(
    path: str | Path,
    schema: Schema,
    n_grid_columns: int | None = None,
    ignore: Sequence[str] = (),
) -> list[Finding]:
    """Everything that is wrong or odd in a CSV or Parquet file, in one streaming pass.

    Args:
        path: the file.
        schema: what it should hold.
        n_grid_columns: rows per timestep; None takes the schema's.
        ignore: columns that may be there: see :func:`features.sources.readers.find_columns`.

    Returns:
        Findings, errors first; empty when there is nothing to say.

    Raises:
        ClimstackError: fewer than one row per timestep.
    """
    findings: list[Finding] = []

    def say(level: Level, sentence: str) -> None:
        findings.append(Finding(level, sentence))

    n_grid_columns = schema.n_grid_columns if n_grid_columns is None else n_grid_columns
    if n_grid_columns < 1:
        raise ClimstackError(f"grid columns must be at least 1, but got {n_grid_columns}")
    try:
        file = TableFile.open(path)
    except ClimstackError as error:
        return [Finding("error", str(error))]
    has_targets = bool(set(file.columns) & set(schema.target_columns))
    for fault in header_faults(file, schema, has_targets, ignore):
        say("error", fault)
    wanted = [*schema.input_columns, *(schema.target_columns if has_targets else [])]
    present = [column for column in wanted if column in set(file.columns)]
    in_file = [column for column in file.columns if column in set(present)]
    if in_file != present:
        odd = next(c for c, expected in zip(in_file, present, strict=True) if c != expected)
        say(
            "warning",
            f"{file.path}: column '{odd}' is out of the schema's order: columns are taken by name,"
            " so this does no harm here",
        )
    if not file.is_csv:
        types = pl.read_parquet_schema(file.path)
        narrow = [c for c in present if types[c].is_numeric() and types[c] != pl.Float64()]
        if narrow:
            found = ", ".join(sorted({str(types[c]) for c in narrow}))
            say(
                "warning",
                f"{file.path}: {len(narrow)} columns have type {found}, not Float64, so small"
                f" values may be lost already: {compress(narrow)}",
            )
    if schema.id_column in file.columns and has_inputs(file, schema):
        _check_values(say, file, schema, present, n_grid_columns if has_targets else 1)
    return worst_first(findings)


def worst_first(findings: list[Finding]) -> list[Finding]:
    """Errors, then warnings, then notes."""
    return sorted(findings, key=lambda finding: get_args(Level).index(finding.level))


def _check_values(
    say: Say, file: TableFile, schema: Schema, columns: list[str], n_grid_columns: int
) -> None:
    facts = _Columns(columns)
    ids: IdCheck | None = IdCheck(file.path)
    sample: list[pl.DataFrame] = []
    n_rows, found_bad = 0, False
    try:
        for first_row, frame in file.frames([schema.id_column, *columns]):
            if ids is not None:
                try:
                    ids.add(frame[schema.id_column], first_row)
                except ClimstackError as error:
                    say("error", str(error))
                    ids = None
            sentence = first_bad_value(frame, file.path, first_row)
            if sentence is not None and not found_bad:
                say("error", sentence)
                found_bad = True
            facts.add(frame.drop(schema.id_column).to_numpy())
            if n_rows < UNIQUE_ROWS:
                sample.append(frame.drop(schema.id_column))
            n_rows = first_row + len(frame)
        if ids is not None:
            ids.close()
    except ClimstackError as error:
        # What was read so far says too little about the rest: the last finding is where it broke.
        say("error", str(error))
        return
    if n_rows == 0:
        say("error", f"{file.path} has a header but no rows")
        return
    if n_rows % n_grid_columns:
        say(
            "error",
            f"{file.path} has {n_rows} rows, not a multiple of {n_grid_columns} grid columns:"
            " the last timestep is cut, or give the grid's size",
        )
    _odd_columns(
        lambda level, what: say(level, f"{file.path}: {what}"), schema, facts, pl.concat(sample)
    )


def _odd_columns(say: Say, schema: Schema, facts: _Columns, sample: pl.DataFrame) -> None:
    inputs = set(schema.input_columns)
    names, n_sample = np.array(facts.names), len(sample)
    is_input = np.array([name in inputs for name in facts.names])
    if facts.bad.sum() > 1:
        say(
            "error",
            f"{facts.bad.sum()} values in all are empty, NaN or infinite, in"
            f" {compress(names[facts.bad > 0])}: fill them or drop their rows",
        )
    constant = names[(facts.low == facts.high) & is_input]
    if len(constant) and n_sample > 1:
        say(
            "warning",
            f"{len(constant)} inputs are constant and teach nothing: {compress(constant)}",
        )
    lost = facts.lost > 0
    if lost.any():
        say(
            "warning",
            f"float32 would lose {facts.lost.sum()} values (smallest {facts.smallest.min():.2g}) in"
            f" {compress(names[lost])}: keep float64",
        )
    distinct = sample.select(pl.col(names[is_input].tolist()).n_unique()).row(0) if n_sample else ()
    unique = names[is_input][np.array(distinct, dtype=np.int64) == n_sample]
    if len(unique) and n_sample > 1:
        say(
            "note",
            f"{len(unique)} inputs differ in every one of the first {n_sample} rows, so each is a"
            " unique key of time and column: a model may read them, a split must not group by"
            f" them: {compress(unique)}",
        )


def compress(names: Iterable[str]) -> str:
    """Shorten column names to ranges of levels.

    >>> compress(["a_0", "a_1", "a_2", "b", "a_7"])
    'a_0..2, a_7, b'
    """
    levels: dict[str, list[int]] = {}
    for name in names:
        stem, _, level = name.rpartition("_")
        if level.isdigit() and stem:
            levels.setdefault(stem, []).append(int(level))
        else:
            levels.setdefault(name, [])
    parts = []
    for stem, found in levels.items():
        if not found:
            parts.append(stem)
        runs: list[tuple[int, int]] = []
        for number in sorted(found):
            if runs and number == runs[-1][1] + 1:
                runs[-1] = (runs[-1][0], number)
            else:
                runs.append((number, number))
        parts += [f"{stem}_{a}" if a == b else f"{stem}_{a}..{b}" for a, b in runs]
    return ", ".join(parts)
