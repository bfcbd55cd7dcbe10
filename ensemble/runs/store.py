"""The stores of a run: one that the experiment names, or one made of tables in the run's folder."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl

from ensemble.experiment.experiment import DataSettings
from ensemble.experiment.folder import RunFolder
from features.core.errors import ClimstackError, DataWarning
from features.core.files import atomic_path, file_hash, read_json, write_json
from features.core.types import Array
from features.schemas.known import load_schema
from features.schemas.schema import Schema
from features.sources.netcdf import find_pairs
from features.sources.readers import CSV_BLOCK_BYTES, TableFile
from features.sources.source import Source, open_source
from features.store.conversion import convert, convert_source
from features.store.store import Store
from features.store.stored import Head, StoreSource, is_store
from models.process import run_apart

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunStore:
    """A store that a run reads.

    Attributes:
        paths: a store; or a table, perhaps with more sources, to convert.
        place: where the converted store lies; what it was made of is noted beside it.
        data: how to convert.
        is_training: whether the rows have a grid, and others are refused, not put in their place.
    """

    paths: tuple[Path, ...]
    place: Path
    data: DataSettings
    is_training: bool = False

    @classmethod
    def training(cls, data: DataSettings, folder: RunFolder) -> Self:
        """What a run trains on."""
        paths = (data.train, *(each.source for each in data.auxiliary))
        named = is_store(Path(data.train))  # then its auxiliary sources are names in it
        wanted = paths[:1] if named else paths
        sources = tuple(map(Path, wanted))
        return cls(paths=sources, place=folder.train_store, data=data, is_training=True)

    def find(self, *, verify: bool = False) -> Store | None:
        """The store, if it is there and its sources are what they were when it was made.

        Args:
            verify: read all of it; one that was made of tables and is damaged is not found.

        Raises:
            ClimstackError: a source is not there, or can't be what it should be.
        """
        if is_store(self.paths[0]):
            store = Store(self.paths[0])
            if verify:
                store.verify()
            return store
        if not self.place.is_dir() or self._noted() != self._facts():
            return None
        try:
            store = Store(self.place)
            if verify:
                store.verify()
        except ClimstackError as error:
            log.warning("%s; climstack does so now", error)
            return None
        return store

    def make(self) -> Store:
        """Convert the sources.

        Raises:
            ClimstackError: see :func:`features.store.conversion.convert`; or a training store that
                is there already holds other rows.
        """
        facts, fresh = self._facts(), self.place.with_name(f"{self.place.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        # A process of its own: what reading a table leaves in memory would stay for all fits.
        run_apart(_convert, self, fresh)
        store = Store(fresh)
        if self.is_training and self._held() not in (None, store.data_hash):
            shutil.rmtree(fresh)
            raise ClimstackError(
                f"{self.paths[0]} holds other rows than {self.place} was made from: give the"
                " experiment another name, or delete the run"
            )
        shutil.rmtree(self.place, ignore_errors=True)
        fresh.rename(self.place)
        write_json(self._note, facts)
        return Store(self.place)

    @property
    def schema(self) -> Schema:
        """What the columns mean."""
        return load_schema(self.data.schema)

    @property
    def n_grid_columns(self) -> int:
        """Rows of a timestep."""
        return self.data.grid_columns or self.schema.n_grid_columns or 1

    def count_rows(self) -> list[int]:
        """Rows of each source that is not converted yet; estimated for text and archives."""
        return [self._count_rows(path) for path in self.paths]

    def head(self, n_rows: int, folder: Path) -> Store:
        """A small store of the first rows, in a new folder."""
        found = self.find()
        if self.schema.n_grid_columns is None:
            source = (
                self._open(self.paths[0]) if found is None else StoreSource(found.path, self.schema)
            )
            folder.mkdir()
            return convert_source(Head(source, n_rows), folder / "store", self.schema)
        values = self._rows_of(found, n_rows) if found is not None else self._first_rows(n_rows)
        table, grid = pl.concat(values), self.n_grid_columns
        grid = grid if found is None else found.n_grid_columns
        ids = [f"train_{row}" for row in range(len(table))]  # sources would name theirs differently
        folder.mkdir()
        with atomic_path(folder / "head.parquet") as made:
            table.select(pl.Series(self.schema.id_name, ids), pl.all()).write_parquet(made)
        return convert(folder / "head.parquet", folder / "store", self.schema, grid)

    def _rows_of(self, store: Store, n_rows: int) -> Iterator[pl.DataFrame]:
        rows = slice(0, min(n_rows, len(store)))
        yield self._frame(store.inputs[rows], store.require_targets()[rows])

    def _first_rows(self, n_rows: int) -> Iterator[pl.DataFrame]:
        source, found = self._open(self.paths[0]), 0
        for batch in source.batches({}, CSV_BLOCK_BYTES):
            if batch.targets is None:
                raise ClimstackError(
                    f"{self.paths[0]} holds no targets: training needs a train file"
                )
            taken = min(len(batch), n_rows - found)
            yield self._frame(batch.inputs[:taken], batch.targets[:taken])
            found += taken
            if found == n_rows:
                return

    def _frame(self, inputs: Array, targets: Array) -> pl.DataFrame:
        columns = [*self.schema.input_columns, *self.schema.target_columns]
        return pl.DataFrame(dict(zip(columns, [*inputs.T, *targets.T], strict=True)))

    def _count_rows(self, path: Path) -> int:
        if path.is_dir():
            return len(find_pairs(path)) * self.n_grid_columns
        file = TableFile.open(path)
        if path.suffix == ".parquet":
            return int(pl.scan_parquet(path).select(pl.len()).collect().item())
        column = self.schema.id_column or self.schema.input_columns[0]
        block = next(iter(file.blocks([column], texts={column})), None)
        if block is None or not len(block.frame):
            raise ClimstackError(f"{path} has no rows")
        size, n_rows = path.stat().st_size, len(block.frame)
        if path.suffix == ".csv":
            return round((size - block.offset) * n_rows / block.ends[-1])
        return round(size * n_rows / block.bytes_read)  # packed: as densely as its beginning

    def _facts(self) -> dict[str, Any]:
        """What changes when the sources change."""
        for path in self.paths:
            if not path.exists():
                raise ClimstackError(
                    f"no data at {path}: give a CSV or Parquet file, a folder of NetCDF pairs, or"
                    " a store"
                )
        facts: dict[str, Any] = {"sources": [self._open(path).facts for path in self.paths]}
        if self.grid is not None:
            facts["grid"] = file_hash(self.grid) if self.grid.is_file() else None
        return facts

    def _open(self, path: Path) -> Source:
        return open_source(path, self.schema, self.data.grid_columns, ignore=self.data.ignore)

    def _held(self) -> str | None:
        """Data hash of the store that is there; None where there is none, or no whole one."""
        try:
            return Store(self.place).data_hash
        except ClimstackError:
            return None

    def _noted(self) -> Any:
        try:
            return read_json(self._note)
        except ClimstackError:  # missing or damaged
            return None

    @property
    def _note(self) -> Path:
        return self.place.with_name(f"{self.place.name}.json")

    @property
    def grid(self) -> Path | None:
        """Only of training rows is it known where they lie."""
        wanted = self.is_training and self.data.grid is not None
        return Path(str(self.data.grid)) if wanted else None


def _convert(source: RunStore, out: Path) -> None:
    warnings.simplefilter("ignore", DataWarning)  # the run says it of every store it opens
    grid_columns, ignore = source.data.grid_columns, source.data.ignore
    convert(source.paths, out, source.schema, grid_columns, grid=source.grid, ignore=ignore)
