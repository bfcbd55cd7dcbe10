"""What is wrong with a data file, every finding named: ``climstack data check``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array
from features.schemas.schema import Schema
from features.sources.ids import IdCheck
from features.sources.readers import TableFile, first_bad_value, header_faults

UNIQUE_ROWS = 65_536  # distinct values are counted in so many first rows, to bound memory
SMALLEST_FLOAT32 = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing about a data file.

    Attributes:
        level: ``"error"`` (can't be used), ``"warning"`` or ``"note"``.
        sentence: what, where, the value found, what to do.
    """

    level: Literal["error", "warning", "note"]
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
    path: str | Path, schema: Schema, n_grid_columns: int | None = None
) -> list[Finding]:
    """Everything that is wrong or odd in a CSV or Parquet file, in one streaming pass.

    Args:
        path: the file.
        schema: what it should hold.
        n_grid_columns: rows per timestep; None takes the schema's.

    Returns:
        Findings, errors first; empty when there is nothing to say.

    Raises:
        ClimstackError: fewer than one row per timestep.
    """
    findings: list[Finding] = []
    n_grid_columns = schema.n_grid_columns if n_grid_columns is None else n_grid_columns
    if n_grid_columns < 1:
        raise ClimstackError(f"grid columns must be at least 1, but got {n_grid_columns}")
    try:
        file = TableFile.open(path)
    except ClimstackError as error:
        return [Finding("error", str(error))]
    has_targets = bool(set(file.columns) & set(schema.target_columns))
    findings += [Finding("error", fault) for fault in header_faults(file, schema, has_targets)]
    wanted = [*schema.input_columns, *(schema.target_columns if has_targets else [])]
    present = [column for column in wanted if column in set(file.columns)]
    if [c for c in file.columns if c in set(present)] != present:
        odd = next(
            c
            for c, e in zip((c for c in file.columns if c in set(present)), present, strict=True)
            if c != e
        )
        findings.append(
            Finding(
                "warning",
                f"{file.path}: column '{odd}' is out of the schema's"
                " order: columns are taken by name, so this does no harm here",
            )
        )
    if file.path.suffix == ".parquet":
        types = pl.read_parquet_schema(file.path)
        narrow = [c for c in present if types[c].is_numeric() and types[c] != pl.Float64()]
        if narrow:
            found = ", ".join(sorted({str(types[c]) for c in narrow}))
            findings.append(
                Finding(
                    "warning",
                    f"{file.path}: {len(narrow)} columns have type {found}, not Float64, so small"
                    f" values may be lost already: {compress(narrow)}",
                )
            )
    if schema.id_column in file.columns and present:
        findings += _check_values(file, schema, present, n_grid_columns if has_targets else 1)
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(findings, key=lambda finding: order[finding.level])


def _check_values(
    file: TableFile, schema: Schema, columns: list[str], n_grid_columns: int
) -> list[Finding]:
    findings: list[Finding] = []
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
                    findings.append(Finding("error", str(error)))
                    ids = None
            sentence = first_bad_value(frame, file.path, first_row)
            if sentence is not None and not found_bad:
                findings.append(Finding("error", sentence))
                found_bad = True
            facts.add(frame.drop(schema.id_column).to_numpy())
            if n_rows < UNIQUE_ROWS:
                sample.append(frame.drop(schema.id_column))
            n_rows = first_row + len(frame)
        if ids is not None:
            ids.close()
    except ClimstackError as error:
        # What was read so far says too little about the rest: the last finding is where it broke.
        return [*findings, Finding("error", str(error))]
    if n_rows == 0:
        return [*findings, Finding("error", f"{file.path} has a header but no rows")]
    if n_rows % n_grid_columns:
        findings.append(
            Finding(
                "error",
                f"{file.path} has {n_rows} rows, not a multiple of {n_grid_columns} grid columns:"
                " the last timestep is cut, or give the grid's size",
            )
        )
    return findings + _odd_columns(file.path, schema, facts, pl.concat(sample), n_rows)


def _odd_columns(
    path: Path, schema: Schema, facts: _Columns, sample: pl.DataFrame, n_rows: int
) -> list[Finding]:
    findings = []
    inputs = set(schema.input_columns)
    names = np.array(facts.names)
    is_input = np.array([name in inputs for name in facts.names])
    if facts.bad.sum() > 1:
        findings.append(
            Finding(
                "error",
                f"{path}: {facts.bad.sum()} values in all are empty, NaN or infinite, in"
                f" {compress(names[facts.bad > 0])}: fill them or drop their rows",
            )
        )
    constant = names[(facts.low == facts.high) & is_input]
    if len(constant) and n_rows > 1:
        findings.append(
            Finding(
                "warning",
                f"{path}: {len(constant)} inputs are constant and teach nothing:"
                f" {compress(constant)}",
            )
        )
    lost = facts.lost > 0
    if lost.any():
        findings.append(
            Finding(
                "warning",
                f"{path}: float32 would lose {facts.lost.sum()} values (smallest"
                f" {facts.smallest.min():.2g}) in {compress(names[lost])}: keep float64",
            )
        )
    n_sample = len(sample)
    distinct = sample.select(pl.col(names[is_input].tolist()).n_unique()).row(0) if n_sample else ()
    unique = names[is_input][np.array(distinct, dtype=np.int64) == n_sample]
    if len(unique) and n_sample > 1:
        findings.append(
            Finding(
                "note",
                f"{path}: {len(unique)} inputs differ in every one of the first"
                f" {n_sample} rows, so each is a unique key of time and column: a model may"
                f" read them, a split must not group by them: {compress(unique)}",
            )
        )
    return findings


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
