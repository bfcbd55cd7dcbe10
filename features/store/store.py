"""The data on disk: row-major float64 matrices in raw files, with a manifest.

A store is a folder of parts of bounded size. Each part holds ``inputs.f64`` and, for training
data, ``targets.f64`` (raw little-endian float64, row-major), the parities of their rows and
columns (``.xor``) and ``index.parquet`` (sample_id, time, column, source). The manifest names the
parts with their SHA-256 and carries a checksum of itself. float64 keeps every value, also the
2.9e-58 that float32 would lose. Opening looks at the sizes of files and reads none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from features.climate.physics import HybridLevels
from features.core.errors import ClimstackError
from features.core.files import content_hash, file_hash, read_json
from features.core.folders import refuse_links
from features.core.sealed import is_sealed
from features.core.types import Array, Rows
from features.schemas.schema import Schema
from features.sources.grid import Grid
from features.store.copies import first_equal
from features.store.frame import as_html, facts, to_polars
from features.store.matrix import Matrix
from features.store.shuffle import shuffled

FORMAT = 3

Label = Literal["place", "group", "fold"]
LABELS: tuple[Label, ...] = get_args(Label)


class Store:
    """An opened store.

    Attributes:
        path: its folder.
        called: the name by which its user knows it: the folder, or the table that it was made of.
        schema: what its columns mean.
        inputs: :class:`Matrix` (n_samples, n_inputs).
        targets: :class:`Matrix` (n_samples, n_targets), or None for test data.
        data_hash: identity of ids, inputs and targets; the same data gives the same hash.
        n_grid_columns: rows per timestep.

    Example:
        >>> store.inputs.shape, store.schema.target_columns
        ((160, 4), ['warmth_0', 'warmth_1', 'warmth_2', 'flux'])
        >>> store.to_polars()["sample_id"][0], store.inputs[10:12].shape
        ('train_0', (2, 4))
    """

    def __init__(self, path: str | Path, called: Path | None = None) -> None:
        """Open a store.

        Raises:
            ClimstackError: not a store, made by hand, a part is missing or of the wrong size, or
                something in it is a link.
        """
        self.path = Path(path)
        self.called = self.path if called is None else called
        if not (self.path / "manifest.json").is_file():
            raise ClimstackError(
                f"{self.path} is not a store (no manifest.json): make one with"
                f" 'climstack data convert SRC --out {self.path}'"
            )
        refuse_links(self.path)
        self.manifest = read_json(self.path / "manifest.json")
        if not is_sealed(self.manifest):
            raise ClimstackError(
                f"{self.path / 'manifest.json'} was changed by hand (its checksum does not match):"
                " convert the data again"
            )
        if self.manifest["format"] != FORMAT:
            raise ClimstackError(
                f"{self.path} has store format {self.manifest['format']}, this version reads"
                f" {FORMAT}: convert the data again"
            )
        self.schema: Schema = Schema.from_table(self.manifest["schema"])
        self.data_hash: str = self.manifest["data_hash"]
        self.n_grid_columns: int = self.manifest["n_grid_columns"]
        self.inputs = self._matrix("inputs", len(self.schema.input_columns))
        self.targets = (
            self._matrix("targets", len(self.schema.target_columns))
            if self.manifest["has_targets"]
            else None
        )

    @classmethod
    def from_arrays(
        cls,
        path: str | Path,
        inputs: ArrayLike,
        targets: ArrayLike | None = None,
        schema: str | Schema | None = None,
        *,
        ids: ArrayLike | None = None,
        times: ArrayLike | None = None,
        places: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        folds: ArrayLike | None = None,
    ) -> Store:
        """Write arrays, or data frames of numbers, into a new store.

        Args:
            path: the store's folder; must not exist.
            inputs: (n, n_inputs); a category's values are positions among its words.
            targets: (n, n_targets) or (n,); None for rows to predict.
            schema: what the columns mean; None makes one of scalars, ``x0 ..`` and ``y0 ..`` or as
                a data frame calls them. In it inputs with NaN may be imputed, targets with NaN are
                skipped there, and rows without times, places and groups are independent.
            ids: of the rows, all different; None numbers them.
            times: numbers or dates; rows to predict may lack them.
            places: labels, None or NaN where unknown; so are the next two.
            groups: which rows belong together.
            folds: which fold holds a row out.

        Raises:
            ClimstackError: the path exists, shapes differ, a value is infinite, or the schema
                refuses it: names row and column.

        Example:
            >>> import tempfile
            >>> folder = Path(tempfile.mkdtemp())
            >>> store = Store.from_arrays(folder / "two", [[1.0], [2.0]], [3, 4], ids=["a", "b"])
            >>> len(store), store.schema.target_columns, store.sample_ids.to_list()
            (2, ['y0'], ['a', 'b'])
        """
        from features.store.arrays import store_from_arrays

        about = {"ids": ids, "times": times, "places": places, "groups": groups, "folds": folds}
        return store_from_arrays(path, inputs, targets, schema, **about)

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        """Its path, size and schema."""
        return f"Store({', '.join(f'{key}={value}' for key, value in facts(self).items())})"

    def _repr_html_(self) -> str:
        return as_html(self)

    def to_polars(self, rows: Rows | None = None) -> pl.DataFrame:
        """Ids, time, place, group, fold, inputs and targets of each row, as people write them.

        The time is that at which a row's timestep begins. Words stand for categories, dates for
        dates, null where nothing is.

        Args:
            rows: their numbers, in the order asked for; None takes all, in memory.
        """
        return to_polars(self, rows)

    @cached_property
    def index(self) -> pl.DataFrame:
        """One row per sample: sample_id, time, column, source; see the properties of these names.

        Raises:
            ClimstackError: an index file is missing or damaged.
        """
        return self._index()

    @cached_property
    def sample_ids(self) -> pl.Series:
        """The row ids, length n_samples."""
        return self._index("sample_id").to_series()

    @cached_property
    def time(self) -> NDArray[np.int64]:
        """Timestep number of each row, -1 unknown, shape (n_samples,).

        Rows of tables are numbered in their order, one number a stored timestep; those of NetCDF
        pairs by the model's clock, one number every 20 minutes.
        """
        return self._index("time").to_series().to_numpy()

    @cached_property
    def column(self) -> NDArray[np.int64]:
        """Grid column of each row, -1 unknown, shape (n_samples,)."""
        return self._index("column").to_series().to_numpy()

    @cached_property
    def source(self) -> NDArray[np.int64]:
        """Which of :attr:`sources` each row came from, shape (n_samples,)."""
        return self._index("source").to_series().to_numpy()

    def labels(self, what: Label) -> pl.Series | None:
        """The word that each row has for its place, group or fold, (n_samples,); None if none has.

        Where the schema names such a column and the data hold it; an unknown one is null.
        """
        first = self.path / self.manifest["parts"][0]["name"] / "index.parquet"
        if not first.is_file() or what in pl.read_parquet_schema(first):
            return self._index(what).to_series()
        return None

    @property
    def sources(self) -> list[dict[str, Any]]:
        """What was converted: name and rows of each source, and what was skipped of it."""
        found: list[dict[str, Any]] = self.manifest["sources"]
        return found

    @property
    def repaired(self) -> dict[str, dict[str, int]]:
        """How many values of which columns were clipped, left out to be imputed, or skipped."""
        found: dict[str, dict[str, int]] = self.manifest.get("repaired", {})
        return found

    @property
    def unknown(self) -> dict[str, dict[str, int]]:
        """Words that no category of the schema is, with their counts, by column: stored as NaN."""
        found: dict[str, dict[str, int]] = self.manifest.get("unknown", {})
        return found

    @property
    def rounded(self) -> dict[str, dict[str, int]]:
        """How many values came in fewer digits than a float64 has: by their type, and by name."""
        found: dict[str, dict[str, int]] = self.manifest.get("rounded", {})
        return found

    @property
    def notes(self) -> list[str]:
        """What was done to values on their way in: units converted, levels turned over."""
        found: list[str] = self.manifest.get("notes", [])
        return found

    @cached_property
    def grid(self) -> Grid | None:
        """Where the columns lie and the pressure of the levels, if a grid file was given."""
        if self.manifest.get("grid") is None:
            return None
        return Grid.from_table(read_json(self.path / "grid.json"))

    @cached_property
    def levels(self) -> HybridLevels | None:
        """Hybrid levels that features are computed with: the grid's; None for ClimSim's own.

        Raises:
            ClimstackError: the grid has another number of levels than the schema's profiles.
        """
        return None if self.grid is None else self.grid.levels_for(self.schema)

    @cached_property
    def levels_hash(self) -> str | None:
        """Hash of :attr:`levels`; None for ClimSim's own."""
        if self.levels is None:
            return None
        return content_hash({name: values.tolist() for name, values in vars(self.levels).items()})

    def batches(
        self, size: int, seed: int, rows: Rows | None = None
    ) -> Iterator[tuple[Rows, Array, Array]]:
        """Training rows in shuffled batches: row numbers, inputs and targets of ``size`` rows.

        Each row comes once; the last batch may be short. Blocks of 256 neighbours are read in one
        piece, in shuffled order, and 8,192 rows are mixed while the next ones are read: 121 MB
        for LEAP. More is taken only while a caller keeps older batches, which stay as they are.

        Args:
            size: rows of a batch.
            seed: the order is a function of it, ``size`` and ``rows``.
            rows: ascending; None takes all.
        """
        matrices = (self.inputs, self.require_targets())
        rows = None if rows is None else np.asarray(rows, dtype=np.intp)
        for taken, (x, y) in shuffled(matrices, size, np.random.default_rng(seed), rows):
            yield taken, x, y

    def require_targets(self) -> Matrix:
        """The target matrix.

        Raises:
            ClimstackError: this store holds inputs only.
        """
        if self.targets is None:
            raise ClimstackError(f"{self.path} holds no targets: training needs a train file")
        return self.targets

    def row_parities(self, name: str) -> NDArray[np.uint64]:
        """Exclusive or of the bits of each row of a matrix, (n_samples,).

        Equal rows have equal ones, and others hardly ever have.

        Args:
            name: ``"inputs"`` or ``"targets"``.
        """
        files = [self.path / part["name"] / f"{name}.xor" for part in self.manifest["parts"]]
        if not all(file.is_file() for file in files):  # a store of an earlier version
            matrix = self.inputs if name == "inputs" else self.require_targets()
            return np.concatenate([parities(block)[0] for block in matrix.blocks()])
        counts = [part["rows"] for part in self.manifest["parts"]]
        held = (np.fromfile(file, "<u8", n) for file, n in zip(files, counts, strict=True))
        return np.concatenate(list(held))

    @cached_property
    def original(self) -> Rows:
        """The first row that is equal to each in all inputs, perhaps itself, (n_samples,)."""
        return first_equal([self.inputs], [self.row_parities("inputs")])

    def hash_of(self, rows: Rows) -> str:
        """SHA-256 of what rows hold, whatever else the store holds; reads parities alone."""
        digest = hashlib.sha256()
        for name in ("inputs", "targets"):
            digest.update(self.row_parities(name)[rows].data)
        return digest.hexdigest()

    def verify(self) -> None:
        """Read every part and compare it with its SHA-256.

        Raises:
            ClimstackError: a part's file is missing, or its bytes have changed: names the first row
                and column of a changed value.
        """
        if self.manifest.get("grid") is not None:
            self._compare(self.path / "grid.json", self.manifest["grid"], None)
        first_row = 0
        for part in self.manifest["parts"]:
            for name, expected in part["sha256"].items():
                self._compare(self.path / part["name"] / name, expected, first_row)
            first_row += part["rows"]

    def _compare(self, file: Path, expected: str, first_row: int | None) -> None:
        if not file.is_file():
            raise ClimstackError(f"{file} is missing: convert the data again")
        if file_hash(file) == expected:
            return
        where = ""
        names = {"inputs": self.schema.input_columns, "targets": self.schema.target_columns}
        parity = file.with_suffix(".xor")
        if first_row is not None and file.suffix == ".f64" and parity.is_file():
            where = _changed_value(file, parity, names[file.stem], first_row)
        raise ClimstackError(
            f"{file} is damaged (its SHA-256 differs from the manifest){where}:"
            " convert the data again"
        )

    def _index(self, *columns: str) -> pl.DataFrame:
        frames = []
        for part in self.manifest["parts"]:
            file = self.path / part["name"] / "index.parquet"
            try:
                frames.append(pl.read_parquet(file, columns=list(columns) or None))
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
                raise ClimstackError(
                    f"{file} is missing or damaged: convert the data again"
                ) from None
        return pl.concat(frames)

    def _matrix(self, name: str, n_columns: int) -> Matrix:
        files, n_rows = [], []
        for part in self.manifest["parts"]:
            file = self.path / part["name"] / f"{name}.f64"
            expected = part["rows"] * n_columns * 8
            found = f"has {file.stat().st_size} bytes" if file.is_file() else "is missing"
            if found != f"has {expected} bytes":
                raise ClimstackError(
                    f"{file} {found}, expected {expected} bytes: convert the data again"
                )
            files.append(file)
            n_rows.append(part["rows"])
        return Matrix(files, n_rows, n_columns)


def parities(values: Array) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Exclusive or of the bits of each row and of each column, (n_rows,) and (n_columns,)."""
    bits = np.ascontiguousarray(values, dtype="<f8").view("<u8")
    return np.bitwise_xor.reduce(bits, axis=1), np.bitwise_xor.reduce(bits, axis=0)


def _changed_value(file: Path, parity: Path, columns: Sequence[str], first_row: int) -> str:
    """Where the first changed value of a matrix stands, by the parities of rows and columns."""
    held = np.fromfile(parity, dtype="<u8")
    n_rows = len(held) - len(columns)
    if n_rows < 1 or file.stat().st_size != n_rows * len(columns) * 8:
        return ""
    values = np.memmap(file, dtype="<f8", mode="r", shape=(n_rows, len(columns)))
    of_rows, of_columns = parities(values)
    rows = np.flatnonzero(of_rows != held[:n_rows])
    changed = np.flatnonzero(of_columns != held[n_rows:])
    if not len(rows) or not len(changed):
        return ""
    return f" in row {first_row + rows[0]}, column '{columns[changed[0]]}'"
