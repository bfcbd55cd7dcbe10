"""Turn sources into a store: streaming, in bounded memory, and going on after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.core.errors import ClimstackError
from features.core.files import content_hash, exclusive_lock, read_json, write_json
from features.core.folders import SUFFIX, refuse_links, remove_leftovers
from features.core.sealed import is_sealed, seal
from features.core.types import Progress
from features.schemas.schema import Schema
from features.sources.grid import Grid
from features.sources.ids import IdCheck, check_unique
from features.sources.readers import CSV_BLOCK_BYTES
from features.sources.source import Batch, Broken, Source, ahead, open_source
from features.store.store import Store
from features.store.writer import RECORD, StoreWriter, finished_parts
from features.views.missing import Repair

PLAN, LOCK = "plan.json", "lock"
MEMORY_LIMIT_MB = 2048
BASE_MB = 300  # the interpreter, Polars and what a part's index takes
MEMORY_PER_BLOCK = 16  # bytes of memory for each byte of text in a block, measured


def convert(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    schema: Schema,
    n_grid_columns: int | None = None,
    *,
    memory_limit_mb: int = MEMORY_LIMIT_MB,
    broken: Broken = "refuse",
    grid: str | Path | None = None,
    progress: Progress | None = None,
) -> Store:
    """Turn CSV files (also .gz, .zip), Parquet files and folders of NetCDF pairs into a store.

    Sources are appended in the order given. Parts that are finished are kept in ``OUT.partial``
    until all are: the same call goes on from there after a kill, if the sources are unchanged, and
    makes the same bytes.

    Args:
        sources: one or several, all with targets (training) or all without (test).
        out: the store's folder; must not exist. Nothing is left there when converting fails.
        schema: what the columns mean.
        n_grid_columns: rows per timestep; None takes the schema's.
        memory_limit_mb: what the process may take at most, MB (2^20 bytes).
        broken: whether NetCDF pairs that can't be read are refused or left out.
        grid: grid file to keep with the store: see :meth:`features.sources.grid.Grid.read`.
        progress: called with ("convert", bytes read, bytes in all).

    Raises:
        ClimstackError: the first thing that is wrong, with file, column and row.
    """
    out = Path(out)
    _refuse_finished(out)
    paths = [Path(sources)] if isinstance(sources, str | Path) else [Path(path) for path in sources]
    width = schema.n_grid_columns if n_grid_columns is None else n_grid_columns
    block_bytes = _block_bytes(memory_limit_mb)
    if not paths:
        raise ClimstackError("nothing to convert: name a file or a folder")
    if width < 1:
        raise ClimstackError(f"grid columns must be at least 1, but got {width}")
    opened = [open_source(path, schema, n_grid_columns, broken) for path in paths]
    for source in opened[1:]:
        if source.has_targets != opened[0].has_targets:
            which = ("has", "has no") if source.has_targets else ("has no", "has")
            raise ClimstackError(
                f"{source.path} {which[0]} targets, {opened[0].path} {which[1]}: convert them into"
                " two stores"
            )
    known_grid = None if grid is None else _read_grid(grid, width, schema)
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
    return Store(out)


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
            "times": [None] * n, "inputs": {}, "targets": {},
        }  # fmt: skip
        self.ids = [IdCheck(source.path) for source in self.sources]

    def run(self, grid: Grid | None) -> None:
        """Fill the folder and seal it."""
        has_targets = self.sources[0].has_targets
        plan = {
            "schema": self.schema.name, "has_targets": has_targets, "grid_columns": self.width,
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
                self._see_again(index)
                writer.take_over(record, index)
                self.state = record["note"]
            inputs = Repair(self.schema.inputs, self.state["inputs"])
            targets = Repair(self.schema.targets, self.state["targets"])
            self._report(0)
            for number in range(self.state["source"], len(self.sources)):
                place = self.state["place"] if number == self.state["source"] else {}
                self.state |= {"source": number, "place": place}
                source = self.sources[number]
                batches = source.batches(place, self._first_timestep(number), self.block_bytes)
                for batch in ahead(batches):
                    self._take(batch, number, writer, (inputs, targets))
                    self._report(batch.bytes_read)
            self._check_times()
            check_unique(self.ids)
            repaired = {
                what: inputs.counts.get(what, {}) | targets.counts.get(what, {})
                for what in ("clipped", "imputed")
            }
            writer.close(self._origins(), repaired, grid)

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
        known = [p for p in parts if p["note"] and p["note"]["source"] < same]
        for record in parts[len(known) :]:
            shutil.rmtree(self.folder / record["name"])
        return known

    def _see_again(self, index: pl.DataFrame) -> None:
        """The ids of a finished part are as good as new ones."""
        for (number,), rows in index.group_by("source", maintain_order=True):
            seen = self.state["rows"][number]
            self.ids[number].add(rows["sample_id"], seen)
            self.state["rows"][number] = seen + len(rows)

    def _take(
        self, batch: Batch, number: int, writer: StoreWriter, repairs: tuple[Repair, Repair]
    ) -> None:
        self.state["skipped"][number] = [*self.state["skipped"][number], *batch.skipped]
        start = 0
        while start < len(batch):
            stop = min(len(batch), start + writer.room)
            rows = slice(start, stop)
            inputs = batch.inputs[rows]
            targets = None if batch.targets is None else batch.targets[rows]
            self._repair(batch, start, inputs, repairs[0], self.schema.input_columns)
            if targets is not None:
                self._repair(batch, start, targets, repairs[1], self.schema.target_columns)
            ids = batch.ids[rows]
            self.ids[number].add(ids, batch.first_row + start)
            time, column = batch.time[rows], batch.column[rows]
            places = {"time": time, "column": column, "source": np.full(len(ids), number)}
            writer.append(pl.DataFrame({"sample_id": ids} | places), inputs, targets)
            known = self.state["times"][number] or [int(time[0]), int(time[0])]
            self.state["times"][number] = [
                min(known[0], int(time.min())), max(known[1], int(time.max())),
            ]  # fmt: skip
            self.state["rows"][number] += stop - start
            if not writer.room:
                self.state["place"] = batch.place_after(stop)
                self.state |= {"inputs": repairs[0].counts, "targets": repairs[1].counts}
                writer.close_part(deepcopy(self.state))
            start = stop

    def _repair(
        self, batch: Batch, start: int, values: Any, repair: Repair, columns: list[str]
    ) -> None:
        refused = repair.apply(values)
        if refused is None:
            return
        row, position = start + refused[0], refused[1]
        value, column = float(values[refused]), columns[position]
        is_empty = batch.is_empty(row, column)
        found, hint = "no value" if is_empty else str(value), "fill it or drop the row"
        if is_empty and batch.path.suffix != ".parquet":
            hint = "fill it, or is the row empty or cut short?"
        if (why := repair.why(value, position)) is not None:
            found, hint = f"{value:g}, {why},", "put it right or drop the row"
        raise ClimstackError(
            f"{batch.path}: column '{column}' has {found} in row {batch.row_of(row)}: {hint}"
        )

    def _first_timestep(self, number: int) -> int:
        """Rows of tables are numbered on where the sources before them stopped."""
        return max((times[1] + 1 for times in self.state["times"][:number] if times), default=0)

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


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _is_empty(folder: Path) -> bool:
    return all(path.name == LOCK or path.name.endswith(SUFFIX) for path in folder.iterdir())
