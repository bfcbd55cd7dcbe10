"""What can be converted: tables and folders of NetCDF pairs, read as batches of rows.

A source is opened (header, types, names of files) before anything is read, so that what is wrong
with the last of several is said at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.files import content_hash
from features.core.types import Array
from features.schemas.schema import Schema
from features.sources.grid import Grid
from features.sources.netcdf import Places, Step, find_pairs, read_pair
from features.sources.readers import Block, TableFile, find_columns

Item = TypeVar("Item")
Place = dict[str, int]
Broken = Literal["refuse", "skip"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some rows of a source.

    Attributes:
        ids: sample_id of each row, (n,).
        inputs: (n, n_inputs), NaN where nothing stands.
        targets: (n, n_targets), or None.
        time: timestep of each row, (n,); None where only the ids may tell it.
        column: grid column of each row, (n,); None likewise.
        first_row: number of the first row in its source.
        bytes_read: how much of the source was read up to here.
        path: the file that holds the rows.
        place_after: from a number of rows of this batch, where to go on after them.
        row_of: from a row of this batch, its number as a person counts it in ``path``.
        is_empty: from a row and a column's name, whether nothing at all stands there.
        skipped: sentences on what was left out before this batch.
        notes: what was done to values on their way in (another unit, levels turned over), and the
            file where.
        targets_path: the file that holds the targets, where it is another.
        rounded: of values that stand in the source in fewer digits than a float64 has, how many:
            by how they are stored ("float32", "int16 in steps of 0.01"), then by the name of the
            variable or column.
    """

    ids: pl.Series
    inputs: Array
    targets: Array | None
    time: NDArray[np.int64] | None
    column: NDArray[np.int64] | None
    first_row: int
    bytes_read: int
    path: Path
    place_after: Callable[[int], Place]
    row_of: Callable[[int], int]
    is_empty: Callable[[int, str], bool]
    skipped: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    rounded: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    targets_path: Path | None = None

    def __len__(self) -> int:
        return len(self.inputs)


class Source(Protocol):
    """Something that :func:`features.store.conversion.convert` reads.

    Attributes:
        path: its file or folder.
        has_targets: whether it is training data.
        n_grid_columns: rows of a timestep.
        n_bytes: its size on disk.
        clock: what its timesteps count: ``"model"`` time, the ``"rows"`` of tables, by the
            numbers in their ids, or whatever a ``"store"`` says.
        facts: what changes when the source changes: names, sizes, times of modification.
    """

    path: Path
    has_targets: bool
    n_grid_columns: int
    n_bytes: int
    clock: str
    facts: dict[str, Any]

    def batches(self, place: Place, block_bytes: int) -> Iterator[Batch]:
        """Rows from a place on ({} is the start).

        Args:
            place: what :attr:`Batch.place_after` gave.
            block_bytes: how much of a text file to read at once.
        """


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; the next is made in a thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


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
    path: str | Path,
    schema: Schema,
    n_grid_columns: int | None = None,
    broken: Broken = "refuse",
    *,
    grid: Grid | None = None,
    ignore: Sequence[str] = (),
) -> Source:
    """A CSV or Parquet file, or a folder of NetCDF pairs.

    Args:
        path: the file or folder.
        schema: what it should hold.
        n_grid_columns: rows per timestep; None takes the schema's.
        broken: whether pairs that can't be read are refused or left out.
        grid: where the columns of pairs must lie.
        ignore: columns of a table that may be there: see
            :func:`features.sources.readers.find_columns`.

    Raises:
        ClimstackError: what can be known to be wrong before reading.
    """
    path = Path(path)
    if path.is_dir():
        return PairSource(path, schema, n_grid_columns, broken, grid)
    return TableSource(path, schema, n_grid_columns, ignore)


class TableSource:
    """A CSV or Parquet file; with targets it is time-major, test rows come shuffled."""

    clock = "rows"

    def __init__(
        self, path: Path, schema: Schema, n_grid_columns: int | None, ignore: Sequence[str]
    ) -> None:
        """Read the header and see that it fits the schema."""
        self.path, self._schema, self._file = path, schema, TableFile.open(path)
        self.n_grid_columns = n_grid_columns or schema.n_grid_columns or 1
        self.has_targets = find_columns(self._file, schema, ignore)
        targets = schema.target_columns if self.has_targets else []
        self._file.check_types(schema.input_columns + targets)
        self._types = self._file.narrow_types(schema.input_columns + targets)
        self.facts, self.n_bytes = _facts(path), path.stat().st_size

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
