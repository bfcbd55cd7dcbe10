"""What can be converted: tables and folders of NetCDF pairs, read as batches of rows.

A source is opened (header, types, names of files) before anything is read, so that what is wrong
with the last of several is said at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
import polars as pl

from features.core.errors import ClimstackError
from features.core.files import content_hash
from features.schemas.schema import Schema
from features.sources.grid import Grid
from features.sources.netcdf import Places, Step, find_pairs, read_pair
from features.sources.readers import Block, TableFile, find_columns
from features.sources.tables.batch import Batch, Place, ahead
from features.sources.tables.plain import PlainSource

Broken = Literal["refuse", "skip"]


class Source(Protocol):
    """Something that :func:`features.store.conversion.convert` reads.

    Attributes:
        path: its file or folder.
        has_targets: whether it is training data.
        n_grid_columns: rows of a timestep.
        n_bytes: its size on disk.
        clock: what its timesteps count: ``"model"`` time, the ``"rows"`` of tables, by the
            numbers in their ids, ``"dates"`` or ``"numbers"`` of a time column, ``"none"``, or
            whatever a ``"store"`` says.
        facts: what changes when the source changes: names, sizes, times of modification.
    """

    path: Path
    has_targets: bool
    n_grid_columns: int
    n_bytes: int
    clock: str
    facts: dict[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """Which of place, group and fold its rows tell."""

    def batches(self, place: Place, block_bytes: int) -> Iterator[Batch]:
        """Rows from a place on ({} is the start).

        Args:
            place: what :attr:`Batch.place_after` gave.
            block_bytes: how much of a text file to read at once.
        """


def parse_broken(text: str) -> Broken:
    """What to do with broken pairs, as people write it.

    Raises:
        ClimstackError: neither ``refuse`` nor ``skip``.
    """
    for known in get_args(Broken):
        if text == known:
            return cast(Broken, known)
    raise ClimstackError(
        f"broken files can be refused or skipped: give refuse or skip, not '{text}'"
    )


def open_source(
    path: str | Path | TableFile,
    schema: Schema,
    n_grid_columns: int | None = None,
    broken: Broken = "refuse",
    *,
    grid: Grid | None = None,
    ignore: Sequence[str] = (),
) -> Source:
    """A CSV or Parquet file, a frame, or a folder of NetCDF pairs.

    Args:
        path: the file or folder, or a table that was opened.
        schema: what it should hold.
        n_grid_columns: rows per timestep; None takes the schema's.
        broken: whether pairs that can't be read are refused or left out.
        grid: where the columns of pairs must lie.
        ignore: columns of a table that may be there: see
            :func:`features.sources.readers.find_columns`.

    Raises:
        ClimstackError: what can be known to be wrong before reading.
    """
    if not isinstance(path, TableFile) and Path(path).is_dir():
        if schema.n_grid_columns is None:
            raise ClimstackError(
                f"{path} is a folder, and schema {schema.name} has no grid, which NetCDF pairs"
                " have: give a .csv or .parquet file, or another schema"
            )
        return PairSource(Path(path), schema, n_grid_columns, broken, grid)
    file = path if isinstance(path, TableFile) else TableFile.open(path)
    if schema.n_grid_columns is not None:
        return TableSource(file, schema, n_grid_columns, ignore)
    if n_grid_columns not in (None, 1):
        raise ClimstackError(
            f"schema {schema.name} has no grid, but {n_grid_columns} grid columns were given: leave"
            " the grid's size out, or name n_grid_columns in the schema"
        )
    return PlainSource(file, schema, ignore)


class TableSource:
    """A CSV or Parquet file; with targets it is time-major, test rows come shuffled."""

    clock = "rows"
    labels: tuple[str, ...] = ()

    def __init__(
        self, file: TableFile, schema: Schema, n_grid_columns: int | None, ignore: Sequence[str]
    ) -> None:
        """See that the header fits the schema."""
        self.path, self._schema, self._file = file.path, schema, file
        self.n_grid_columns = n_grid_columns or schema.n_grid_columns or 1
        self.has_targets = find_columns(self._file, schema, ignore)
        targets = schema.target_columns if self.has_targets else []
        self._file.check_types(schema.input_columns + targets)
        self._types = self._file.narrow_types(schema.input_columns + targets)
        self.facts, self.n_bytes = file.facts, file.n_bytes

    def batches(self, place: Place, block_bytes: int) -> Iterator[Batch]:
        """Rows from a place on; see :class:`Source`."""
        schema, n_rows = self._schema, 0
        targets = schema.target_columns if self.has_targets else []
        columns = [schema.id_name, *schema.input_columns, *targets]
        start, offset = place.get("row", 0), place.get("offset", 0)
        for block in ahead(self._file.blocks(columns, start, offset, block_bytes)):
            yield self._batch(block)
            n_rows = block.first_row + len(block.frame)
        if n_rows == 0 and not start:
            raise ClimstackError(f"{self.path} has a header but no rows: nothing to convert")
        n_rows = max(n_rows, start)
        if self.has_targets and n_rows % self.n_grid_columns:
            raise ClimstackError(
                f"{self.path} has {n_rows} rows, not a multiple of {self.n_grid_columns} grid"
                " columns: the last timestep is cut, or give the grid's size"
            )

    def _batch(self, block: Block) -> Batch:
        frame, first, schema = block.frame, block.first_row, self._schema
        targets = frame.select(schema.target_columns) if self.has_targets else None
        return Batch(
            ids=frame[schema.id_name],
            inputs=frame.select(schema.input_columns).to_numpy(order="c"),
            targets=None if targets is None else targets.to_numpy(order="c"),
            time=None,
            column=None,
            first_row=first,
            bytes_read=block.bytes_read,
            path=self.path,
            place_after=lambda n: {"row": first + n, "offset": block.offset_after(n)},
            row_of=lambda r: first + r,
            is_empty=lambda r, column: frame[column][r] is None,
            rounded={
                kind: dict.fromkeys(columns, len(frame)) for kind, columns in self._types.items()
            },
        )


class PairSource:
    """A folder of NetCDF pairs, in the order of their time."""

    clock, has_targets = "model", True
    labels: tuple[str, ...] = ()

    def __init__(
        self,
        path: Path,
        schema: Schema,
        n_grid_columns: int | None,
        broken: Broken,
        grid: Grid | None = None,
    ) -> None:
        """Find the pairs; the first broken name or missing partner stops, unless skipped."""
        self.path, self._schema, self._broken, self._pairs = path, schema, broken, find_pairs(path)
        self.n_grid_columns, self._grid = n_grid_columns or schema.n_grid_columns or 1, grid
        faults = [pair.fault for pair in self._pairs if pair.fault]
        if faults and broken == "refuse":
            more = f" ({len(faults)} such)" if len(faults) > 1 else ""
            raise ClimstackError(f"{faults[0]}{more}, or skip what is broken")
        files = [file for pair in self._pairs for file in (pair.before, pair.after)]
        sizes = [_facts(file) for file in files if file.is_file()]
        self.n_bytes = sum(size["bytes"] for size in sizes)
        self.facts = {
            "folder": str(path.resolve()), "files": len(sizes), "hash": content_hash(sizes),
        }  # fmt: skip

    def batches(self, place: Place, block_bytes: int) -> Iterator[Batch]:
        """Rows from a place on, one step a batch; see :class:`Source`."""
        first_row, start, taken = (place.get(name, 0) for name in ("row", "pair", "taken"))
        skipped: list[str] = []
        places = Places()
        if self._grid is not None:
            places = Places(
                {"lat": ("the grid", self._grid.lat), "lon": ("the grid", self._grid.lon)}
            )
        for position in range(start, len(self._pairs)):
            try:
                step = read_pair(self._pairs[position], self._schema, self.n_grid_columns, places)
            except ClimstackError as error:
                if self._broken == "refuse":
                    raise
                skipped.append(str(error))
                continue
            yield self._batch(position, step, first_row, taken, skipped)
            first_row, taken, skipped = first_row + len(step.inputs), 0, []
        if first_row == 0:
            raise ClimstackError(f"{self.path} holds no pair that can be read: {skipped[0]}")
        if skipped:
            width = len(self._schema.input_columns), len(self._schema.target_columns)
            inputs, targets = (np.empty((0, n)) for n in width)
            empty = Step(inputs=inputs, targets=targets, rounded={}, notes={})
            yield self._batch(len(self._pairs) - 1, empty, first_row, 0, skipped)

    def _batch(self, at: int, step: Step, first_row: int, taken: int, skipped: list[str]) -> Batch:
        """One step, without the rows that are taken already."""
        moment, n = self._pairs[at].moment, len(step.inputs)

        def place_after(n_rows: int) -> Place:
            if taken + n_rows == n:
                return {"pair": at + 1, "row": first_row + n}
            return {"pair": at, "row": first_row, "taken": taken + n_rows}

        return Batch(
            ids=pl.Series(moment.ids(n)[taken:], dtype=pl.String),
            inputs=step.inputs[taken:],
            targets=step.targets[taken:],
            time=np.full(n - taken, moment.step),
            column=np.arange(taken, n),
            first_row=first_row + taken,
            bytes_read=self.n_bytes * (at + 1) // len(self._pairs),
            path=self._pairs[at].before,
            targets_path=self._pairs[at].after,
            place_after=place_after,
            row_of=lambda row: taken + row,
            is_empty=lambda _row, _column: False,
            skipped=tuple(skipped),
            notes={note: str(path) for note, path in step.notes.items()},
            rounded={
                how: {name: count // n * (n - taken) for name, count in counts.items()}
                for how, counts in step.rounded.items()
            },
        )


def _facts(path: Path) -> dict[str, Any]:
    found = path.stat()
    return {"file": str(path.resolve()), "bytes": found.st_size, "modified_ns": found.st_mtime_ns}
