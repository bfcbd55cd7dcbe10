"""Fill a store part by part; a part that is finished survives whatever comes next."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.files import file_hash, read_json, write_json
from features.core.sealed import is_sealed, seal
from features.core.types import Array
from features.schemas.schema import Schema
from features.sources.grid import Grid
from features.store.store import FORMAT, parities

PART_ROWS = 65_536  # part of what the data hash means: another number gives other hashes
RECORD = "part.json"
BUILDING = "building"


class StoreWriter:
    """Appends rows to parts of a folder; ``close`` seals it with the manifest, making it a store.

    The caller cuts: it appends at most ``room`` rows and then calls ``close_part`` with a note on
    how far it has come, which :func:`finished_parts` gives back after a kill.
    """

    def __init__(self, path: Path, schema: Schema, has_targets: bool, n_grid_columns: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path, self._schema, self._has_targets = path, schema, has_targets
        self._n_grid_columns = n_grid_columns
        self._parts: list[dict[str, Any]] = []
        self._data_hash = hashlib.sha256()
        self._part: _Part | None = None
        self._syncing: Future[None] | None = None
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._part is not None:  # open only when something failed before ``close``
            self._part.abandon()
        self._pool.shutdown()

    @property
    def room(self) -> int:
        """How many rows the current part still takes."""
        return PART_ROWS - (0 if self._part is None else self._part.n_rows)

    def take_over(self, record: dict[str, Any], index: pl.DataFrame) -> None:
        """Count a part that is finished already."""
        self._count(record, index)

    def append(self, index: pl.DataFrame, inputs: Array, targets: Array | None) -> None:
        """Add at most ``room`` rows.

        Args:
            index: sample_id, time (timestep), column (of the grid) and source (its number); and
                place, group and fold where they are known.
            inputs: (n, n_inputs).
            targets: (n, n_targets), or None for test data.
        """
        if self._part is None:
            matrices = {"inputs": len(self._schema.input_columns)}
            if self._has_targets:
                matrices["targets"] = len(self._schema.target_columns)
            self._part = _Part(self._path / f"{BUILDING}-{len(self._parts):05d}", matrices)
        self._part.put("inputs", inputs)
        if targets is not None:
            self._part.put("targets", targets)
        self._part.index.append(index)

    def close_part(self, note: dict[str, Any]) -> None:
        """Finish the current part: it is synced to disk while the next one fills."""
        if self._part is None:
            return
        part, self._part = self._part, None
        name = f"part-{len(self._parts):05d}"
        record = seal({"name": name, "rows": part.n_rows, "sha256": part.close(), "note": note})
        self._count(record, pl.concat(part.index))
        self._wait()
        self._syncing = self._pool.submit(_publish, part.folder, self._path / name, record)

    def close(
        self,
        sources: list[dict[str, Any]],
        counts: dict[str, dict[str, dict[str, int]]] | None = None,
        notes: Sequence[str] = (),
        grid: Grid | None = None,
    ) -> None:
        """Seal the store.

        Args:
            sources: where the rows came from.
            counts: how many values were ``"repaired"``: ``"clipped"``, ``"imputed"`` or
                ``"skipped"``, by column; how many came ``"rounded"``: by how they were stored, and
                by name; and words that are ``"unknown"``, by column.
            notes: what was done to values on their way in.
            grid: where the columns lie.
        """
        self.close_part({})
        self._wait()
        grid_file = self._path / "grid.json"
        if grid is not None:
            write_json(grid_file, grid.to_table())
        manifest = {
            "format": FORMAT,
            "schema": self._schema.to_table(),
            "n_rows": sum(part["rows"] for part in self._parts),
            "n_grid_columns": self._n_grid_columns,
            "has_targets": self._has_targets,
            "parts": [{k: part[k] for k in ("name", "rows", "sha256")} for part in self._parts],
            "sources": sources,
            **{
                what: {kind: of for kind, of in (counts or {}).get(what, {}).items() if of}
                for what in ("repaired", "rounded", "unknown")
                if what != "unknown" or (counts or {}).get(what)
            },
            "notes": list(notes),
            "grid": None if grid is None else file_hash(grid_file),
            "data_hash": self._data_hash.hexdigest(),
        }
        write_json(self._path / "manifest.json", seal(manifest))

    def _count(self, record: dict[str, Any], index: pl.DataFrame) -> None:
        # The hash knows the rows' values and ids, not where they came from.
        values = {k: v for k, v in record["sha256"].items() if k.endswith(".f64")}
        self._data_hash.update(f"{self._n_grid_columns} {sorted(values.items())}".encode())
        self._data_hash.update("\n".join(index["sample_id"]).encode())
        self._parts.append(record)

    def _wait(self) -> None:
        if self._syncing is not None:
            self._syncing.result()
            self._syncing = None


def finished_parts(path: Path) -> list[dict[str, Any]]:
    """Records of the whole parts at the start of an unfinished store, with the notes on them.

    What else a killed writer left there, an unfinished part for one, is deleted.
    """
    found: list[dict[str, Any]] = []
    folders = sorted(path.glob("part-*"))
    for folder in folders:
        try:
            record = read_json(folder / RECORD)
        except ClimstackError:
            break
        if not is_sealed(record) or record["name"] != f"part-{len(found):05d}":
            break
        found.append(record)
    for folder in [*folders[len(found) :], *path.glob(f"{BUILDING}-*")]:
        shutil.rmtree(folder)
    return found


class _Part:
    """A part being filled."""

    def __init__(self, folder: Path, matrices: dict[str, int]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.folder = folder
        self.index: list[pl.DataFrame] = []
        self._files = {name: (folder / f"{name}.f64").open("wb") for name in matrices}
        self._hashes = {name: hashlib.sha256() for name in matrices}
        self._rows: dict[str, list[NDArray[np.uint64]]] = {name: [] for name in matrices}
        self._columns = {name: np.zeros(width, "<u8") for name, width in matrices.items()}

    @property
    def n_rows(self) -> int:
        return sum(map(len, self.index))

    def put(self, name: str, values: Array) -> None:
        values = np.ascontiguousarray(values, dtype="<f8")
        self._files[name].write(values.data)
        self._hashes[name].update(values.data)
        of_rows, of_columns = parities(values)
        self._rows[name].append(of_rows)
        self._columns[name] ^= of_columns

    def close(self) -> dict[str, str]:
        """Write what is left; SHA-256 of each file by its name."""
        hashes = {f"{name}.f64": digest.hexdigest() for name, digest in self._hashes.items()}
        for name, file in self._files.items():
            file.close()
            parity = self.folder / f"{name}.xor"
            np.concatenate([*self._rows[name], self._columns[name]]).tofile(parity)
            hashes[parity.name] = file_hash(parity)
        index = self.folder / "index.parquet"
        pl.concat(self.index).rechunk().write_parquet(index)  # the same bytes for any blocks
        return hashes | {index.name: file_hash(index)}

    def abandon(self) -> None:
        for file in self._files.values():
            file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _publish(built: Path, place: Path, record: dict[str, Any]) -> None:
    """Give a part its name once all of it is on the disk."""
    for file in sorted(built.iterdir()):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    write_json(built / RECORD, record)
    built.rename(place)
