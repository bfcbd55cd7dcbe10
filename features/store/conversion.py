"""Turn sources into a store: streaming, in bounded memory, and going on after a kill."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError, DataWarning
from features.core.files import content_hash, exclusive_lock, file_hash, read_json, write_json
from features.core.folders import SUFFIX, refuse_links, remove_leftovers, temporary_folder
from features.core.sealed import is_sealed, seal
from features.core.types import Progress
from features.schemas.schema import Schema
from features.sources.frames import as_files
from features.sources.grid import Grid
from features.sources.readers import CSV_BLOCK_BYTES
from features.sources.source import Broken, Source
from features.sources.tables.batch import Batch, ahead
from features.sources.tables.row_ids import check_unique
from features.store.intake import Intake
from features.store.matrix import Matrix
from features.store.odd.oddities import oddities
from features.store.store import LABELS, Store
from features.store.stored import is_store, open_sources
from features.store.writer import RECORD, StoreWriter, finished_parts
from features.views.missing import Repair, never_there

PLAN, LOCK = "plan.json", "lock"
MEMORY_LIMIT_MB = 2048
BASE_MB = 300  # the interpreter, Polars and what a part's index takes
MEMORY_PER_BLOCK = 16  # bytes of memory for each byte of text in a block, measured


def convert(
    sources: Any,
    out: str | Path,
    schema: Schema,
    n_grid_columns: int | None = None,
    *,
    memory_limit_mb: int = MEMORY_LIMIT_MB,
    broken: Broken = "refuse",
    grid: str | Path | None = None,
    ignore: Sequence[str] = (),
    progress: Progress | None = None,
) -> Store:
    """Turn CSV files (also .gz, .zip), Parquet files, frames and folders of pairs into a store.

    Sources are appended in the order given. Parts that are finished are kept in ``OUT.partial``
    until all are: the same call goes on from there after a kill, if the sources are unchanged, and
    makes the same bytes.

    Args:
        sources: one or a list of several, all with targets (training) or all without (test):
            paths, or what :func:`features.sources.frames.as_frame` takes.
        out: the store's folder; must not exist. Nothing is left there when converting fails.
        schema: what the columns mean.
        n_grid_columns: rows per timestep; None takes the schema's.
        memory_limit_mb: what the process may take at most, MB (2^20 bytes).
        broken: whether NetCDF pairs that can't be read are refused or left out.
        grid: grid file to keep with the store: see :meth:`features.sources.grid.Grid.read`.
        ignore: columns of tables that may be there and are not read: see
            :func:`features.sources.readers.find_columns`.
        progress: called with ("convert", bytes read, bytes in all).

    Raises:
        ClimstackError: the first thing that is wrong, with file, column and row.

    Warns:
        DataWarning: what is odd, but no error: see :func:`features.store.odd.oddities.oddities`.

    Example:
        >>> from tempfile import mkdtemp
        >>> from features import Schema, Variable
        >>> wind, power = Variable(name="wind", role="input"), Variable(name="power", role="target")
        >>> table = pl.DataFrame({"wind": [3.0, 5.0], "power": [20.0, 90.0]})
        >>> schema = Schema(name="farm", variables=(wind, power))
        >>> convert(table, Path(mkdtemp()) / "store", schema).sample_ids.to_list()
        ['row_0', 'row_1']
    """
    out = Path(out)
    _refuse_finished(out)
    paths = as_files(sources, schema)
    block_bytes = _block_bytes(memory_limit_mb)
    for path in paths:
        if isinstance(path, Path) and is_store(path):
            raise ClimstackError(f"{path} is a store already: it needs no converting")
    width = n_grid_columns or schema.n_grid_columns or 1
    known_grid = None if grid is None else _read_grid(grid, width, schema)
    opened = open_sources(paths, schema, n_grid_columns, broken, grid=known_grid, ignore=ignore)
    partial = out.with_name(f"{out.name}.partial")
    with _alone_in(partial, out):
        work = _Conversion(
            sources=opened,
            folder=partial,
            schema=schema,
            width=width,
            broken=broken,
            block_bytes=block_bytes,
            progress=progress,
        )
        try:
            work.run(known_grid)
        except ClimstackError:
            work.keep_whole_sources()
            raise
        # From here on the folder is a whole store under another name; the plan stays to the end.
        for leftover in partial.glob(f"*/{RECORD}"):
            leftover.unlink()
        partial.rename(out)
        _unlink_both(out)  # only now: until here nobody else may fill the folder
    store = Store(out)
    for sentence in oddities(store):
        warnings.warn(sentence, DataWarning, stacklevel=2)
    return store


def convert_source(source: Source, out: Path, schema: Schema) -> Store:
    """Turn one source that is open, of a schema without a grid, into a store; see :func:`convert`.

    Raises:
        ClimstackError: what is wrong in it.
    """
    work = _Conversion(
        sources=[source],
        folder=out,
        schema=schema,
        width=1,
        broken="refuse",
        block_bytes=CSV_BLOCK_BYTES,
        progress=None,
    )
    work.run(None)
    for leftover in [*out.glob(f"*/{RECORD}"), out / PLAN]:
        leftover.unlink()
    return Store(out)


@contextmanager
def as_store(
    path: Path, schema: Schema, n_grid_columns: int | None, scratch: Path
) -> Iterator[Store]:
    """A store; or a table or folder of pairs, converted for as long as the block lasts.

    Args:
        path: what to open.
        schema: what a source that is no store should hold.
        n_grid_columns: rows per timestep; None takes the schema's.
        scratch: folder with room for the converted rows.

    Raises:
        ClimstackError: see :func:`convert`.
    """
    if is_store(path):
        yield Store(path)
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with temporary_folder(scratch, path.name) as folder:
        with warnings.catch_warnings(action="ignore", category=DataWarning):
            made = convert(path, folder / path.name, schema, n_grid_columns)
        yield Store(made.path, called=path)


@contextmanager
def _alone_in(partial: Path, out: Path) -> Iterator[None]:
    """Hold the folder that a store is made in; leftovers of the dead are swept."""
    refuse_links(partial)
    if partial.exists() and not (partial / PLAN).is_file() and not _is_empty(partial):
        raise ClimstackError(f"{partial} exists and is no unfinished store: delete it first")
    busy = f"{partial} is being filled by another process: wait for it, or choose another place"
    with exclusive_lock(partial / LOCK, busy):
        if out.exists():  # another process has finished it meanwhile
            shutil.rmtree(partial, ignore_errors=True)
        _refuse_finished(out)
        remove_leftovers(partial)
        yield


def _refuse_finished(out: Path) -> None:
    if not out.exists():
        return
    if (out / "manifest.json").is_file():  # one killed at its very end may have left these
        _unlink_both(out)
    raise ClimstackError(f"{out} exists: choose another place or delete it first")


def _unlink_both(store: Path) -> None:
    for leftover in (store / PLAN, store / LOCK):
        leftover.unlink(missing_ok=True)


def _read_grid(path: str | Path, n_columns: int, schema: Schema) -> Grid:
    grid = Grid.read(path)
    if len(grid) != n_columns:
        raise ClimstackError(
            f"{path} has {len(grid)} columns, expected {n_columns}: give the grid's size"
        )
    try:
        grid.levels_for(schema)
    except ClimstackError as error:
        raise ClimstackError(f"{path}: {error}") from None
    return grid


def _block_bytes(memory_limit_mb: int) -> int:
    per_block = (memory_limit_mb - BASE_MB) * 2**20 // MEMORY_PER_BLOCK
    if per_block < 2**20:
        least = BASE_MB + MEMORY_PER_BLOCK
        raise ClimstackError(f"converting needs at least {least} MB, but got {memory_limit_mb} MB")
    return min(per_block, CSV_BLOCK_BYTES)


@dataclass(kw_only=True)
class _Conversion:
    """One store in the making.

    Its state is what a finished part notes: the current source and the place in it, the rows of
    each source so far, what was skipped, first and last timestep of each, and repairs.
    """

    sources: list[Source]
    folder: Path
    schema: Schema
    width: int
    broken: Broken
    block_bytes: int
    progress: Progress | None

    def __post_init__(self) -> None:
        n = len(self.sources)
        self.state: dict[str, Any] = {
            "source": 0, "place": {}, "rows": [0] * n, "skipped": [[] for _ in range(n)],
            "times": [None] * n, "clocks": {}, "inputs": {}, "targets": {}, "rounded": {},
            "notes": {}, "unknown": {},
        }  # fmt: skip
        repairs = Repair(self.schema.inputs), Repair(self.schema.targets)
        self.intakes = [
            Intake(source=source, schema=self.schema, repairs=repairs) for source in self.sources
        ]
        self.repairs = repairs
        self.labels = [what for what in LABELS if any(what in s.labels for s in self.sources)]

    def run(self, grid: Grid | None) -> None:
        """Fill the folder and seal it."""
        has_targets = self.sources[0].has_targets
        plan = {
            "schema": self.schema.hash, "has_targets": has_targets, "grid_columns": self.width,
            "broken": self.broken, "grid": None if grid is None else content_hash(grid.to_table()),
            "sources": [source.facts for source in self.sources],
        }  # fmt: skip
        same = self._same_sources(plan)
        if same == len(self.sources) and is_sealed(_read(self.folder / "manifest.json")):
            return  # it was killed between sealing and renaming
        parts = self._parts_to_keep(same)
        write_json(self.folder / PLAN, seal(plan))  # only now: no part of another plan is left
        with StoreWriter(self.folder, self.schema, has_targets, self.width) as writer:
            for record in parts:
                index = pl.read_parquet(self.folder / record["name"] / "index.parquet")
                self._see_again(record, index)
                writer.take_over(record, index)
                self.state = record["note"]
            for name, repair in zip(("inputs", "targets"), self.repairs, strict=True):
                repair.counts = self.state[name]
            for intake in self.intakes:
                intake.unknown = self.state["unknown"]
            self._report(0)
            for number in range(self.state["source"], len(self.sources)):
                place = self.state["place"] if number == self.state["source"] else {}
                self.state |= {"source": number, "place": place}
                source = self.sources[number]
                self.intakes[number].rows_before = sum(self.state["rows"][:number])
                for batch in ahead(source.batches(place, self.block_bytes)):
                    self._take(batch, number, writer)
                    self._report(batch.bytes_read)
            self._check_times()
            for sentence in never_there(self.repairs[1], sum(self.state["rows"])):
                raise ClimstackError(f"{self.sources[0].path}: {sentence}")
            check_unique([intake.ids for intake in self.intakes])
            inputs, targets = (repair.counts for repair in self.repairs)
            kinds = "clipped", "imputed", "skipped"
            repaired = {kind: inputs.get(kind, {}) | targets.get(kind, {}) for kind in kinds}
            counts = {"repaired": repaired} | {w: self.state[w] for w in ("rounded", "unknown")}
            notes = [f"{path}: {note}" for note, path in self.state["notes"].items()]
            writer.close(self._origins(), counts, notes, grid)

    def keep_whole_sources(self) -> None:
        """After bad input: keep the parts that hold nothing of the source that is bad."""
        n_whole = 0
        for record in finished_parts(self.folder):
            if record["note"] and record["note"]["source"] < self.state["source"]:
                n_whole += 1
            else:
                shutil.rmtree(self.folder / record["name"])
        if not n_whole:
            shutil.rmtree(self.folder)

    def _same_sources(self, plan: dict[str, Any]) -> int:
        """So many leading sources are what they were when the folder was begun."""
        before, same = _read(self.folder / PLAN), 0
        if is_sealed(before) and all(before.get(k) == v for k, v in plan.items() if k != "sources"):
            old, new = before["sources"], plan["sources"]
            if len(old) == len(new):
                same = next((i for i in range(len(new)) if old[i] != new[i]), len(new))
        return same

    def _parts_to_keep(self, same: int) -> list[dict[str, Any]]:
        """Finished parts of the leading sources that are the same; the rest is cleared away."""
        (self.folder / "manifest.json").unlink(missing_ok=True)
        parts = finished_parts(self.folder)
        known = list(takewhile(lambda p: self._is_kept(p, same), parts))
        for record in parts[len(known) :]:
            shutil.rmtree(self.folder / record["name"])
        return known

    def _is_kept(self, record: dict[str, Any], same: int) -> bool:
        """Whether a finished part is what its writer left, and of sources that are the same."""
        if not record["note"] or record["note"]["source"] >= same:
            return False
        folder, hashes = self.folder / record["name"], record["sha256"]
        return all((folder / name).is_file() for name in hashes) and all(
            file_hash(folder / name) == expected for name, expected in hashes.items()
        )

    def _see_again(self, record: dict[str, Any], index: pl.DataFrame) -> None:
        """The rows of a finished part are as good as new ones."""
        file = self.folder / record["name"] / "inputs.f64"
        held, start = Matrix([file], [len(index)], len(self.schema.input_columns)), 0
        for (number,), rows in index.group_by("source", maintain_order=True):
            seen, stop = self.state["rows"][number], start + len(rows)
            head = min(len(rows), max(0, self.width - seen))  # of the source's first timestep
            self.intakes[number].see_again(rows["sample_id"], held[start : start + head], seen)
            self.state["rows"][number], start = seen + len(rows), stop

    def _take(self, batch: Batch, number: int, writer: StoreWriter) -> None:
        self.state["skipped"][number] = [*self.state["skipped"][number], *batch.skipped]
        self.state["notes"] = dict(batch.notes) | self.state["notes"]  # the first file that has it
        intake, start = self.intakes[number], 0
        while start < len(batch):
            stop = min(len(batch), start + writer.room)
            rows = intake.take(batch, start, stop)
            time = rows.time + self._offset(number, rows.time)
            places = {"time": time, "column": rows.column, "source": np.full(stop - start, number)}
            labels = {what: rows.labels.get(what, nothing(len(rows.ids))) for what in self.labels}
            index = pl.DataFrame({"sample_id": rows.ids} | places | labels)
            writer.append(index, rows.inputs, rows.targets)
            known = self.state["times"][number] or [int(time[0]), int(time[0])]
            self.state["times"][number] = [
                min(known[0], int(time.min())), max(known[1], int(time.max())),
            ]  # fmt: skip
            self.state["rows"][number] += stop - start
            self._count_rounded(batch, start, stop)
            if not writer.room:
                self.state["place"] = batch.place_after(stop)
                counts = {"inputs": self.repairs[0].counts, "targets": self.repairs[1].counts}
                writer.close_part(deepcopy(self.state | counts))
            start = stop

    def _offset(self, number: int, time: NDArray[np.int64]) -> int:
        """What is added to a table's timesteps: each kind of ids counts on from those before."""
        intake, clocks = self.intakes[number], self.state["clocks"]
        if intake.source.clock != "rows" or time[0] < 0:
            return 0
        if intake.ids.prefix not in clocks:
            ends = [times[1] + 1 for times in self.state["times"] if times]
            clocks[intake.ids.prefix] = max(ends, default=0) - int(time[0]) if ends else 0
        return int(clocks[intake.ids.prefix])

    def _count_rounded(self, batch: Batch, start: int, stop: int) -> None:
        for kind, counts in batch.rounded.items():
            of_kind = self.state["rounded"].setdefault(kind, {})
            for name, n in counts.items():
                here = n * stop // len(batch) - n * start // len(batch)
                of_kind[name] = of_kind.get(name, 0) + here

    def _check_times(self) -> None:
        """Two sources must not number different timesteps alike."""
        seen = list(zip(self.sources, self.state["times"], strict=True))
        for number, (source, here) in enumerate(seen):
            for before, other in seen[:number]:
                mixed = source.path.is_dir() != before.path.is_dir()
                if mixed and here[0] <= other[1] and other[0] <= here[1]:
                    raise ClimstackError(
                        f"timesteps {here[0]} to {here[1]} of {source.path} meet those of"
                        f" {before.path}, {other[0]} to {other[1]}, which are numbered by another"
                        " clock: convert them into two stores"
                    )

    def _origins(self) -> list[dict[str, Any]]:
        found = []
        for source, rows, skipped in zip(
            self.sources, self.state["rows"], self.state["skipped"], strict=True
        ):
            origin: dict[str, Any] = {"file": source.path.name, "rows": rows, "clock": source.clock}
            found.append(origin | ({"skipped": skipped} if skipped else {}))
        return found

    def _report(self, n_bytes: int) -> None:
        if self.progress is not None:
            before = sum(source.n_bytes for source in self.sources[: self.state["source"]])
            total = sum(source.n_bytes for source in self.sources)
            self.progress("convert", before + n_bytes, total)


def nothing(n_rows: int) -> pl.Series:
    """No words, (n_rows,)."""
    return pl.repeat(None, n_rows, dtype=pl.String, eager=True)


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _is_empty(folder: Path) -> bool:
    return all(path.name == LOCK or path.name.endswith(SUFFIX) for path in folder.iterdir())
