"""The stores of a run: one that the experiment names, or one made of tables in the run's folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ensemble.experiment.experiment import DataSettings
from features.core.errors import ClimstackError
from features.core.files import file_hash, read_json, write_json
from features.schemas.schema import Schema, load_schema
from features.sources.source import open_source
from features.store.conversion import convert
from features.store.store import Store
from models.process import run_apart


@dataclass(frozen=True)
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
    def training(cls, data: DataSettings, run: Path) -> Self:
        """What a run trains on."""
        paths = (data.train, *(each.source for each in data.auxiliary))
        named = is_store(Path(data.train))  # then its auxiliary sources are names in it
        wanted = paths[:1] if named else paths
        return cls(tuple(map(Path, wanted)), run / "store" / "train", data, is_training=True)

    def find(self) -> Store | None:
        """The store, if it is there and its sources are what they were when it was made.

        Raises:
            ClimstackError: a source is not there, or can't be what it should be.
        """
        if is_store(self.paths[0]):
            return Store(self.paths[0])
        if self.place.is_dir() and self._note.is_file() and read_json(self._note) == self._facts():
            return Store(self.place)
        return None

    def make(self) -> Store:
        """Convert the sources.

        Raises:
            ClimstackError: see :func:`features.store.conversion.convert`; or a training store that
                is there already holds other rows.
        """
        facts, fresh = self._facts(), self.place.with_name(f"{self.place.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        schema = load_schema(self.data.schema)
        # A process of its own: what reading a table leaves in memory would stay for all fits.
        run_apart(_convert, self.paths, fresh, schema, self.data.grid_columns, self._grid)
        store = Store(fresh)
        if (
            self.is_training
            and self.place.is_dir()
            and Store(self.place).data_hash != store.data_hash
        ):
            shutil.rmtree(fresh)
            raise ClimstackError(
                f"{self.paths[0]} holds other rows than {self.place} was made from: give the"
                " experiment another name, or delete the run"
            )
        shutil.rmtree(self.place, ignore_errors=True)
        fresh.rename(self.place)
        write_json(self._note, facts)
        return Store(self.place)

    def _facts(self) -> dict[str, Any]:
        """What changes when the sources change."""
        for path in self.paths:
            if not path.exists():
                raise ClimstackError(
                    f"no data at {path}: give a CSV or Parquet file, a folder of NetCDF pairs, or"
                    " a store"
                )
        schema = load_schema(self.data.schema)
        opened = [open_source(path, schema, self.data.grid_columns) for path in self.paths]
        facts: dict[str, Any] = {"sources": [source.facts for source in opened]}
        if self._grid is not None:
            facts["grid"] = file_hash(self._grid) if self._grid.is_file() else None
        return facts

    @property
    def _note(self) -> Path:
        return self.place.with_name(f"{self.place.name}.json")

    @property
    def _grid(self) -> Path | None:
        """Only of training rows is it known where they lie."""
        wanted = self.is_training and self.data.grid is not None
        return Path(str(self.data.grid)) if wanted else None


def is_store(path: Path) -> bool:
    """Whether a store lies there."""
    return (path / "manifest.json").is_file()


def _convert(
    paths: tuple[Path, ...], out: Path, schema: Schema, grid_columns: int | None, grid: Path | None
) -> None:
    convert(paths, out, schema, grid_columns, grid=grid)
