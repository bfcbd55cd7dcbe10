"""What is wrong with data, every finding named: ``climstack data check``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array, Mask, Progress
from features.schemas.schema import Schema
from features.sources.findings import SMALLEST_FLOAT32, Finding, Level, compress, worst_first
from features.sources.frames import as_files
from features.sources.readers import CSV_BLOCK_BYTES, TableFile, header_faults
from features.sources.source import Broken, Source
from features.sources.tables.batch import Batch, ahead
from features.sources.tables.row_ids import check_unique
from features.store.copies import digest_of_row
from features.store.intake import Intake, Rows
from features.store.odd.doubts import Sample
from features.store.odd.oddities import said_rounded, said_twice, said_unknown
from features.store.stored import StoreSource, open_sources
from features.views.missing import Repair, never_there

UNIQUE_ROWS = 16_384  # distinct values are counted in so many first rows, to bound memory


def check_data(
    sources: Any,
    schema: Schema,
    n_grid_columns: int | None = None,
    *,
    broken: Broken = "refuse",
    ignore: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[Finding]:
    """Everything that is wrong or odd in data, in one streaming pass.

    Args:
        sources: what :func:`features.store.conversion.convert` takes, and stores.
        schema: what they should hold.
        n_grid_columns: rows per timestep; None takes the schema's, or a store's own.
        broken: whether NetCDF pairs that can't be read are refused or left out.
        ignore: columns of tables that may be there: see
            :func:`features.sources.readers.find_columns`.
        progress: called with ("check", bytes read, bytes in all).

    Returns:
        Findings, errors first; empty when there is nothing to say.

    Raises:
        ClimstackError: fewer than one row per timestep.

    Example:
        >>> from features import load_schema
        >>> [finding.level for finding in check_data("train.parquet", load_schema("toy.toml"))]
        ['note']
    """
    paths = as_files(sources, schema)
    if n_grid_columns is not None and n_grid_columns < 1:
        raise ClimstackError(f"grid columns must be at least 1, but got {n_grid_columns}")
    look = _Check(schema=schema, progress=progress)
    for path in paths:
        look.headers(path, ignore)
    if not look.findings or all(found.level != "error" for found in look.findings):
        try:
            look.read(open_sources(paths, schema, n_grid_columns, broken, ignore=ignore))
        except ClimstackError as error:
            # What was read so far says too little about the rest: the last finding is where it
            # broke.
            look.say("error", str(error))
    return worst_first(look.findings)


@dataclass(kw_only=True)
class _Check:
    """One look at some sources."""

    schema: Schema
    progress: Progress | None
    findings: list[Finding] = field(default_factory=list)

    def say(self, level: Level, sentence: str) -> None:
        self.findings.append(Finding(level, sentence))

    def headers(self, path: Path | TableFile, ignore: Sequence[str]) -> None:
        """All that is wrong with a table's columns, not the first thing alone."""
        if isinstance(path, Path) and path.is_dir():
            return
        try:
            file = path if isinstance(path, TableFile) else TableFile.open(path)
        except ClimstackError as error:
            self.say("error", str(error))
            return
        wanted = [*self.schema.input_columns, *self.schema.target_columns]
        has_targets = bool(set(file.columns) & set(self.schema.target_columns))
        for fault in header_faults(file, self.schema, has_targets, ignore):
            self.say("error", fault)
        there = set(file.columns)
        present = [column for column in wanted if column in there]
        in_file = [column for column in file.columns if column in set(present)]
        if in_file != present and self.schema.n_grid_columns is not None:
            odd = next(c for c, expected in zip(in_file, present, strict=True) if c != expected)
            self.say(
                "warning",
                f"{file.path}: column '{odd}' is out of the schema's order: columns are taken by"
                " name, so this does no harm here",
            )

    def read(self, sources: list[Source]) -> None:
        """Look at every row."""
        schema, has_targets = self.schema, sources[0].has_targets
        repairs = Repair(schema.inputs), Repair(schema.targets)
        names = schema.input_columns + (schema.target_columns if has_targets else [])
        seen = _Seen(names, repairs)
        intakes: list[Intake] = []
        for source in sources:
            if isinstance(source, StoreSource):
                source.store.verify()
            intakes.append(self._take_in(source, repairs, seen))
            seen.sources.append((source.path, seen.n_rows))
        if not any({"ids", "order"} & intake.found for intake in intakes):
            try:
                check_unique([intake.ids for intake in intakes])
            except ClimstackError as error:
                self.say("error", str(error))
        where = str(sources[0].path) + (f" and {len(sources) - 1} more" if sources[1:] else "")
        keys = () if schema.n_grid_columns is None else seen.keys()  # elsewhere most numbers are
        for sentence in never_there(repairs[1], seen.n_rows):
            self.say("error", f"{where}: {sentence}")
        self._tell(where, seen, keys)

    def _tell(self, where: str, seen: _Seen, keys: Iterable[tuple[Level, str]]) -> None:
        """Say what was seen of all rows."""
        schema = self.schema
        for sentence in said_unknown(seen.unknown):
            self.say("warning", f"{where}: {sentence}")
        for level, sentence in chain(seen.copies(), seen.columns.odd(schema), keys):
            self.say(level, f"{where}: {sentence}")
        for note, file in seen.notes.items():
            self.say("warning", f"{file}: {note}")
        for kind, counts in seen.rounded.items():
            self.say("warning", f"{where}: {said_rounded(kind, counts)}")
        known = {name for counts in seen.rounded.values() for name in counts}
        for path, sample in seen.samples.items():
            for sentence in sample.doubts(schema, known):
                self.say("warning", f"{path}: {sentence}")

    def _take_in(self, source: Source, repairs: tuple[Repair, Repair], seen: _Seen) -> Intake:
        intake = Intake(
            source=source,
            schema=self.schema,
            repairs=repairs,
            fault=lambda error: self.say("error", str(error)),
            rows_before=seen.n_rows,
            unknown=seen.unknown,
        )
        try:
            for batch in ahead(source.batches({}, CSV_BLOCK_BYTES)):
                for sentence in batch.skipped:
                    self.say("warning", f"left out: {sentence}")
                for note, path in batch.notes.items():
                    seen.notes.setdefault(note, path)
                rows = intake.take(batch, 0, len(batch))
                seen.add(batch, rows)
                sample = seen.samples.setdefault(source.path, Sample())
                sample.add(batch.first_row, rows.inputs, rows.targets)
                if self.progress is not None:
                    self.progress(f"check {source.path.name}", batch.bytes_read, source.n_bytes)
        except ClimstackError:
            if "order" not in intake.found:  # else the last timestep is cut because of it
                raise
        return intake


class _Seen:
    """What was seen of all rows so far.

    Attributes:
        columns: facts on each.
        n_rows: how many rows.
        rounded: how many values came in fewer digits, by type and name.
        unknown: words that no category of the schema is, by column.
        notes: what was done to values on their way in, and the first file where.
        sources: path of each, and how many rows came up to its end.
    """

    def __init__(self, names: list[str], repairs: tuple[Repair, Repair]) -> None:
        self.columns, self.n_rows, self._repairs = _Columns(names), 0, repairs
        self.rounded: dict[str, dict[str, int]] = {}
        self.unknown: dict[str, dict[str, int]] = {}
        self.notes: dict[str, str] = {}
        self.sources: list[tuple[Path, int]] = []
        self._digests: list[NDArray[np.uint64]] = []
        self._sample: list[Array] = []
        self.samples: dict[Path, Sample] = {}

    def add(self, batch: Batch, rows: Rows) -> None:
        if not len(batch):
            return
        whole = [rows.inputs] if rows.targets is None else [rows.inputs, rows.targets]
        refused = [
            np.zeros(values.shape, np.bool_) if (found := repair.refused(values)) is None else found
            for repair, values in zip(self._repairs, whole, strict=False)
        ]
        self.columns.add(np.concatenate(whole, axis=1), np.concatenate(refused, axis=1))
        digests = b"".join(digest_of_row(row)[:8] for row in rows.inputs)
        self._digests.append(np.frombuffer(digests, "<u8"))
        if self.n_rows < UNIQUE_ROWS:
            self._sample.append(rows.inputs[: UNIQUE_ROWS - self.n_rows])
        self.n_rows += len(batch)
        for kind, counts in batch.rounded.items():
            of_kind = self.rounded.setdefault(kind, {})
            for name, n in counts.items():
                of_kind[name] = of_kind.get(name, 0) + n

    def copies(self) -> Iterator[tuple[Level, str]]:
        """Rows that are equal to one before, in all inputs."""
        _, first, which = np.unique(
            np.concatenate(self._digests), return_index=True, return_inverse=True
        )
        copies = np.flatnonzero(first[which] != np.arange(self.n_rows))
        if len(copies):
            row, original = self._place(int(copies[0])), self._place(int(first[which[copies[0]]]))
            yield "warning", f"{said_twice(len(copies))}, first {row}, a copy of {original}"

    def keys(self) -> Iterator[tuple[Level, str]]:
        """Inputs that tell every row from every other."""
        sample = np.concatenate(self._sample)
        if len(sample) < 2:
            return
        names = [
            name
            for name, values in zip(self.columns.names, sample.T, strict=False)
            if len(np.unique(values)) == len(sample)
        ]
        if names:
            yield (
                "note",
                f"{len(names)} inputs differ in every one of the first {len(sample)} rows, so each"
                " is a unique key of time and column: a model may read them, a split must not"
                f" group by them: {compress(names)}",
            )

    def _place(self, row: int) -> str:
        number = next(n for n, (_, end) in enumerate(self.sources) if row < end)
        path, start = self.sources[number][0], self.sources[number - 1][1] if number else 0
        return f"row {row - start}" + (f" of {path}" if self.sources[1:] else "")


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

    def add(self, values: Array, refused: Mask) -> None:
        self.bad += refused.sum(0)
        bad = refused | ~np.isfinite(values)
        self.low = np.minimum(self.low, np.where(bad, np.inf, values).min(0))
        self.high = np.maximum(self.high, np.where(bad, -np.inf, values).max(0))
        values = np.where(bad, 0.0, values)
        size = np.abs(values)
        lost = (size > 0) & (size < SMALLEST_FLOAT32)
        self.lost += lost.sum(0)
        self.smallest = np.minimum(self.smallest, np.where(lost, size, np.inf).min(0))

    def odd(self, schema: Schema) -> Iterator[tuple[Level, str]]:
        """What can't be used, teaches nothing, or is too small for float32."""
        names = np.array(self.names)
        if self.bad.sum() > 1:
            yield (
                "error",
                f"{self.bad.sum()} values in all are missing, infinite or beyond their limits, in"
                f" {compress(names[self.bad > 0])}: put them right or drop their rows",
            )
        constant = names[(self.low == self.high) & np.isin(names, schema.input_columns)]
        if len(constant):
            yield (
                "warning",
                f"{len(constant)} inputs are constant and teach nothing: {compress(constant)}",
            )
        if (lost := self.lost > 0).any():
            yield (
                "warning",
                f"float32 would lose {self.lost.sum()} values (smallest {self.smallest.min():.2g})"
                f" in {compress(names[lost])}: keep float64",
            )
