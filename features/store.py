"""The data on disk: memory-mapped, row-major float64 matrices with a manifest.

A store is a folder of parts. Each part holds ``inputs.f64`` and, for training data, ``targets.f64``
(raw little-endian float64, row-major) and ``index.parquet`` (sample_id, time, column). The manifest
names the parts with their SHA-256 and carries a checksum of itself. float64 keeps every value,
also the 2.9e-58 that float32 would lose. Opening maps files and reads none of them.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ClimstackError
from features.files import content_hash, file_hash, read_json, write_json
from features.schema import Schema, load_schema

FORMAT = 1
BLOCK_ROWS = 4096
PART_ROWS = 65_536
Rows = NDArray[np.intp]


class Matrix:
    """Parts of one (n_rows, n_columns) float64 matrix, read as if they were one array."""

    def __init__(self, parts: Sequence[NDArray[np.float64]], n_columns: int) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0] + [part.shape[0] for part in self._parts])
        self.shape = (int(self._starts[-1]), n_columns)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Rows) -> NDArray[np.float64]:
        """Copy rows, in the order asked for: shape (n_asked, n_columns)."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows, dtype=np.intp)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows 0 to {len(self) - 1} exist, but got {rows.min()}..{rows.max()}")
        out = np.empty((len(rows), self.shape[1]))
        part_of_row = np.searchsorted(self._starts, rows, side="right") - 1
        for part in np.unique(part_of_row):
            here = part_of_row == part
            held = self._parts[part]
            out[here] = held[rows[here] - self._starts[part]]
            if isinstance(held.base, mmap.mmap):
                # What was copied stays in the page cache, but no longer counts as this process's.
                held.base.madvise(mmap.MADV_DONTNEED)
        return out

    def blocks(
        self, rows: Rows | None = None, size: int = BLOCK_ROWS
    ) -> Iterator[NDArray[np.float64]]:
        """Copies of ``size`` rows at a time, over ``rows`` or over everything."""
        n_rows = len(self) if rows is None else len(rows)
        for start in range(0, n_rows, size):
            stop = min(start + size, n_rows)
            yield self[slice(start, stop)] if rows is None else self[rows[start:stop]]


class Store:
    """An opened store.

    Attributes:
        path: its folder.
        schema: what its columns mean.
        inputs: :class:`Matrix` (n_samples, n_inputs).
        targets: :class:`Matrix` (n_samples, n_targets), or None for test data.
        data_hash: identity of ids, inputs and targets; the same data gives the same hash.
        n_grid_columns: rows per timestep.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a store.

        Raises:
            ClimstackError: not a store, made by hand, or a part is missing or of the wrong size.
        """
        self.path = Path(path)
        if not (self.path / "manifest.json").is_file():
            raise ClimstackError(
                f"{self.path} is not a store (no manifest.json): make one with"
                f" 'climstack data convert SRC --out {self.path}'"
            )
        self.manifest = read_json(self.path / "manifest.json")
        if not _is_sealed(self.manifest):
            raise ClimstackError(
                f"{self.path / 'manifest.json'} was changed by hand (its checksum does not match):"
                " convert the data again"
            )
        if self.manifest["format"] != FORMAT:
            raise ClimstackError(
                f"{self.path} has store format {self.manifest['format']}, this version reads"
                f" {FORMAT}: convert the data again"
            )
        self.schema: Schema = load_schema(self.manifest["schema"])
        self.data_hash: str = self.manifest["data_hash"]
        self.n_grid_columns: int = self.manifest["n_grid_columns"]
        self.inputs = self._matrix("inputs", len(self.schema.input_columns))
        self.targets = (
            self._matrix("targets", len(self.schema.target_columns))
            if self.manifest["has_targets"]
            else None
        )

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def index(self) -> pl.DataFrame:
        """One row per sample: sample_id, time (timestep number, -1 unknown), column.

        Raises:
            ClimstackError: an index file is missing or damaged.
        """
        frames = []
        for part in self.manifest["parts"]:
            file = self.path / part["name"] / "index.parquet"
            try:
                frames.append(pl.read_parquet(file))
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
                raise ClimstackError(
                    f"{file} is missing or damaged: convert the data again"
                ) from None
        return pl.concat(frames)

    @property
    def sample_ids(self) -> pl.Series:
        """The row ids, length n_samples."""
        return self.index["sample_id"]

    @property
    def time(self) -> NDArray[np.int64]:
        """Timestep number of each row, shape (n_samples,)."""
        return self.index["time"].to_numpy()

    @property
    def column(self) -> NDArray[np.int64]:
        """Grid column of each row, shape (n_samples,)."""
        return self.index["column"].to_numpy()

    def require_targets(self) -> Matrix:
        """The target matrix.

        Raises:
            ClimstackError: this store holds inputs only.
        """
        if self.targets is None:
            raise ClimstackError(f"{self.path} holds no targets: training needs a train file")
        return self.targets

    def verify(self) -> None:
        """Read every part and compare it with its SHA-256.

        Raises:
            ClimstackError: a part's file is missing, or its bytes have changed.
        """
        for part in self.manifest["parts"]:
            for name, expected in part["sha256"].items():
                file = self.path / part["name"] / name
                if not file.is_file():
                    raise ClimstackError(f"{file} is missing: convert the data again")
                if file_hash(file) != expected:
                    raise ClimstackError(
                        f"{file} is damaged (its SHA-256 differs from the manifest):"
                        " convert the data again"
                    )

    def _matrix(self, name: str, n_columns: int) -> Matrix:
        arrays = []
        for part in self.manifest["parts"]:
            file = self.path / part["name"] / f"{name}.f64"
            expected = part["rows"] * n_columns * 8
            found = f"has {file.stat().st_size} bytes" if file.is_file() else "is missing"
            if found != f"has {expected} bytes":
                raise ClimstackError(
                    f"{file} {found}, expected {expected} bytes: convert the data again"
                )
            arrays.append(np.memmap(file, dtype="<f8", mode="r", shape=(part["rows"], n_columns)))
        return Matrix(arrays, n_columns)


class StoreWriter:
    """Fill a new store's folder block by block; ``close`` seals it with the manifest.

    The folder should be a temporary one (see :func:`features.files.atomic_path`): it counts as a
    store only once it is sealed.
    """

    def __init__(self, path: Path, schema: Schema, has_targets: bool, n_grid_columns: int) -> None:
        path.mkdir(parents=True)
        self._path, self._schema, self._has_targets = path, schema, has_targets
        self._n_grid_columns = n_grid_columns
        self._parts: list[dict[str, Any]] = []
        self._ids: list[str] = []
        self._files: dict[str, Any] = {}
        self._hashes: dict[str, Any] = {}
        self._data_hash = hashlib.sha256()
        self._first_row = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():  # open only when something failed before ``close``
            file.close()

    def append(
        self,
        sample_ids: Sequence[str],
        inputs: NDArray[np.float64],
        targets: NDArray[np.float64] | None,
    ) -> None:
        """Add rows: inputs (n, n_inputs) and, for training data, targets (n, n_targets)."""
        start = 0
        while start < len(sample_ids):
            if not self._files:
                self._open_part()
            stop = min(len(sample_ids), start + PART_ROWS - len(self._ids))
            rows = slice(start, stop)
            self._ids.extend(sample_ids[rows])
            self._put("inputs.f64", inputs[rows])
            if targets is not None:
                self._put("targets.f64", targets[rows])
            if len(self._ids) == PART_ROWS:
                self._close_part()
            start = stop

    def close(self, sources: list[dict[str, Any]]) -> Self:
        """Seal the store; ``sources`` says where the rows came from."""
        if self._files:
            self._close_part()
        manifest = {
            "format": FORMAT,
            "schema": self._schema.name,
            "n_rows": self._first_row,
            "n_grid_columns": self._n_grid_columns,
            "has_targets": self._has_targets,
            "parts": self._parts,
            "sources": sources,
            "data_hash": self._data_hash.hexdigest(),
        }
        write_json(self._path / "manifest.json", manifest | {"checksum": _checksum(manifest)})
        return self

    def _open_part(self) -> None:
        folder = self._path / f"part-{len(self._parts):05d}"
        folder.mkdir()
        names = ["inputs.f64", *(["targets.f64"] if self._has_targets else [])]
        self._files = {name: (folder / name).open("wb") for name in names}
        self._hashes = {name: hashlib.sha256() for name in names}

    def _put(self, name: str, values: NDArray[np.float64]) -> None:
        data = np.ascontiguousarray(values, dtype="<f8").data
        self._files[name].write(data)
        self._hashes[name].update(data)

    def _close_part(self) -> None:
        for file in self._files.values():
            file.close()
        folder = self._path / f"part-{len(self._parts):05d}"
        n_rows = len(self._ids)
        row = np.arange(self._first_row, self._first_row + n_rows)
        # Only training files are known to be time-major; test rows come shuffled.
        known = self._has_targets
        time = row // self._n_grid_columns if known else np.full(n_rows, -1)
        column = row % self._n_grid_columns if known else np.full(n_rows, -1)
        index = {"sample_id": self._ids, "time": time, "column": column}
        pl.DataFrame(index).write_parquet(folder / "index.parquet")
        hashes = {name: digest.hexdigest() for name, digest in sorted(self._hashes.items())}
        self._data_hash.update(f"{self._n_grid_columns} {sorted(hashes.items())}".encode())
        self._data_hash.update("\n".join(self._ids).encode())
        hashes["index.parquet"] = file_hash(folder / "index.parquet")
        self._parts.append({"name": folder.name, "rows": n_rows, "sha256": hashes})
        self._first_row += n_rows
        self._ids, self._files = [], {}


def _is_sealed(manifest: Any) -> bool:
    try:
        return isinstance(manifest, dict) and manifest.get("checksum") == _checksum(manifest)
    except ValueError:  # NaN, which StoreWriter never writes
        return False


def _checksum(manifest: dict[str, Any]) -> str:
    return content_hash({key: value for key, value in manifest.items() if key != "checksum"})
