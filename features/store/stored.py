"""A store as a source, so that whoever takes tables and folders of pairs takes stores, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.core.errors import ClimstackError
from features.schemas.schema import Schema
from features.sources.grid import Grid
from features.sources.readers import TableFile
from features.sources.source import Broken, Source, open_source
from features.sources.tables.batch import Batch, Place
from features.sources.tables.row_ids import NamesIds
from features.store.matrix import BLOCK_ROWS
from features.store.store import LABELS, Store


def open_sources(
    paths: Sequence[Path | TableFile],
    schema: Schema,
    n_grid_columns: int | None = None,
    broken: Broken = "refuse",
    *,
    grid: Grid | None = None,
    ignore: Sequence[str] = (),
) -> list[Source]:
    """Tables, folders of NetCDF pairs and stores, all with targets or all without.

    Args and errors of each are those of :func:`features.sources.source.open_source`.

    Raises:
        ClimstackError: what can be known to be wrong before reading.
    """
    if not paths:
        raise ClimstackError("no source: name a file, a folder of NetCDF pairs or a store")
    if n_grid_columns is not None and n_grid_columns < 1:
        raise ClimstackError(f"grid columns must be at least 1, but got {n_grid_columns}")
    opened: list[Source] = [
        StoreSource(path, schema, n_grid_columns)
        if isinstance(path, Path) and is_store(path)
        else open_source(path, schema, n_grid_columns, broken, grid=grid, ignore=ignore)
        for path in paths
    ]
    for source in opened[1:]:
        if source.has_targets != opened[0].has_targets:
            which = ("has", "has no") if source.has_targets else ("has no", "has")
            raise ClimstackError(
                f"{source.path} {which[0]} targets, {opened[0].path} {which[1]}: convert them into"
                " two stores"
            )
        clocks = {opened[0].clock, source.clock} - {"store"}
        if clocks & {"dates", "numbers"} and len(clocks) > 1:
            raise ClimstackError(
                f"the times of {source.path} are {source.clock}, those of {opened[0].path}"
                f" {opened[0].clock}: write them alike, or convert them into two stores"
            )
    return opened


def is_store(path: Path) -> bool:
    """Whether a store lies there."""
    return (path / "manifest.json").is_file()


class StoreSource:
    """The rows of a store, with the times and places that it gives them."""

    clock = "store"

    def __init__(self, path: Path, schema: Schema, n_grid_columns: int | None = None) -> None:
        """Open the store and see that it is of the schema and the grid."""
        self.path, self.store = path, Store(path)
        if (why := schema.differs(self.store.schema)) is not None:
            raise ClimstackError(
                f"{path} has another schema than {schema.name}, {why}: name the store's schema"
            )
        if n_grid_columns not in (None, self.store.n_grid_columns):
            raise ClimstackError(
                f"{path} has {self.store.n_grid_columns} grid columns, but {n_grid_columns} were"
                " given: leave the grid's size out"
            )
        self.has_targets = self.store.targets is not None
        self.n_grid_columns = self.store.n_grid_columns
        told = {what: self.store.labels(what) for what in LABELS}
        self._words = {what: words for what, words in told.items() if words is not None}
        self.labels = tuple(self._words)
        self.facts: dict[str, Any] = {"store": str(path.resolve()), "data": self.store.data_hash}
        self.n_bytes = sum(file.stat().st_size for file in path.glob("*/*.f64"))

    def ids_at(self, rows: Sequence[int]) -> list[str]:
        """The ids of some rows."""
        return self.store.sample_ids.gather(list(rows)).to_list()

    def batches(self, place: Place, block_bytes: int) -> Iterator[Batch]:
        """Rows from a place on; see :class:`features.sources.source.Source`."""
        store = self.store
        n_rows = min(BLOCK_ROWS, max(1, block_bytes // (8 * store.inputs.shape[1])))
        for start in range(place.get("row", 0), len(store), n_rows):
            rows = slice(start, min(start + n_rows, len(store)))
            yield self._batch(rows.start, rows.stop)

    def _batch(self, start: int, stop: int) -> Batch:
        store, rows = self.store, slice(start, stop)
        return Batch(
            ids=store.sample_ids[rows],
            inputs=store.inputs[rows],
            targets=None if store.targets is None else store.targets[rows],
            time=store.time[rows],
            column=store.column[rows],
            first_row=start,
            bytes_read=self.n_bytes * stop // max(len(store), 1),
            path=self.path,
            place_after=lambda n: {"row": start + n},
            row_of=lambda row: start + row,
            is_empty=lambda _row, _column: False,
            labels={what: words[rows] for what, words in self._words.items()},
        )


class Head:
    """The first rows of a source, under its facts."""

    def __init__(self, source: Source, n_rows: int) -> None:
        """Nothing is read yet."""
        self._source, self._n_rows = source, n_rows
        self.path, self.has_targets, self.labels = source.path, source.has_targets, source.labels
        self.n_grid_columns, self.clock = source.n_grid_columns, source.clock
        self.n_bytes, self.facts = source.n_bytes, {**source.facts, "head": n_rows}

    def ids_at(self, rows: Sequence[int]) -> list[str]:
        """The ids of some rows, ascending."""
        assert isinstance(self._source, NamesIds)
        return self._source.ids_at(rows)

    def batches(self, place: Place, block_bytes: int) -> Iterator[Batch]:
        """Rows from a place on; see :class:`features.sources.source.Source`."""
        for batch in self._source.batches(place, block_bytes):
            room = self._n_rows - batch.first_row
            if room < len(batch):
                batch = replace(
                    batch,
                    ids=None if batch.ids is None else batch.ids[:room],
                    inputs=batch.inputs[:room],
                    targets=None if batch.targets is None else batch.targets[:room],
                    time=None if batch.time is None else batch.time[:room],
                    column=None if batch.column is None else batch.column[:room],
                )
            yield batch
            if room <= len(batch):
                return
