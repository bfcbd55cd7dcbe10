"""From the name of a scheme to the plan of a store's rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError, closest
from features.core.settings import check
from features.core.types import Array, Rows
from features.folds.labelled import groups, kfold, own_folds, random_rows, stratified
from features.folds.plan import FoldPlan
from features.folds.schemes import column_blocks, forward_chaining, regions, time_blocks
from features.sources.grid import Grid
from features.store.store import Label, Store

NEED_TIME = ("time_blocks", "forward_chaining", "random_rows")
NEED_COLUMN = ("column_blocks", "regions")
SCHEMES = (*NEED_TIME, *NEED_COLUMN, "groups", "kfold", "stratified", "column", "file")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How rows should be split: ``[folds]`` of an experiment, with its seed.

    Attributes:
        scheme: one of ``SCHEMES``; None takes the one that :func:`default_scheme` gives.
        n_folds: number of folds; ``column`` and ``file`` count their own.
        embargo: units kept free around a validation block, where there are any.
        by: column of an input or a target, for ``stratified``.
        file: table of ids and folds, for ``file``.
        seed: of whatever is drawn.
    """

    scheme: str | None = None
    n_folds: int = 5
    embargo: int = 1
    by: str | None = None
    file: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check(
            self.scheme is None or self.scheme in SCHEMES,
            f"scheme '{self.scheme}' is unknown: {closest(str(self.scheme), SCHEMES)}",
        )
        for name, scheme in (("by", "stratified"), ("file", "file")):
            given = getattr(self, name) is not None
            check(
                given == (self.scheme == scheme),
                f'{name} and scheme = "{scheme}" go together, but got'
                f" {f'{name} = {getattr(self, name)!r}' if given else f'no {name}'} with"
                f" scheme {self.scheme!r}",
            )


def default_scheme(store: Store) -> str:
    """The scheme of a store where none is named.

    ``time_blocks`` where the rows' time is known; else ``groups`` where they have a group or, if
    they are not independent, a place; else ``kfold``, which warns unless they are.
    """
    if not len(store) or store.time.min() >= 0:
        return "time_blocks"
    placed = store.labels("place") is not None and not store.schema.independent
    return "groups" if placed or store.labels("group") is not None else "kfold"


def make_plan(store: Store, wanted: Wanted, rows: Rows | None = None) -> FoldPlan:
    """The fold plan of some of a store's rows; None takes all.

    Raises:
        ClimstackError: the store lacks what the scheme needs, or rows can't be cut as wanted.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "store"
        >>> store = Store.from_arrays(path, np.eye(6), np.arange(6), groups=list("aabbcc"))
        >>> make_plan(store, Wanted(n_folds=3)).scheme
        'groups'
    """
    rows = np.arange(len(store)) if rows is None else rows
    scheme, n_folds, seed = wanted.scheme or default_scheme(store), wanted.n_folds, wanted.seed
    independent = store.schema.independent
    _see_that_it_can(store, scheme, rows)
    if scheme in (*NEED_TIME, *NEED_COLUMN):
        time, column = store.time[rows], store.column[rows]
        return blocks_plan(replace(wanted, scheme=scheme), time, column, store.grid)
    if scheme == "groups":
        return groups(_labels(store, "group", "place")[rows], n_folds, seed)
    if scheme == "kfold":
        return kfold(len(rows), n_folds, seed, independent=independent)
    if scheme == "stratified":
        values = _values(store, str(wanted.by))[rows]
        return stratified(values, n_folds, seed, independent=independent)
    if scheme == "column":
        held = _labels(store, "fold")[rows]
    else:
        held = read_folds(Path(str(wanted.file)), store)[rows]
    return own_folds(held.tolist(), _units(store, rows), scheme=scheme, seed=seed)


def blocks_plan(
    wanted: Wanted, time: NDArray[np.int64], column: NDArray[np.int64], grid: Grid | None = None
) -> FoldPlan:
    """The plan of a scheme that goes by timestep or grid column of each row, both (n_samples,).

    Raises:
        ClimstackError: too few of them; or ``regions`` without a grid.
    """
    n_folds, embargo = wanted.n_folds, wanted.embargo
    if wanted.scheme == "random_rows":
        return random_rows(len(time), n_folds, wanted.seed)
    if wanted.scheme == "column_blocks":
        return column_blocks(column, n_folds, embargo)
    if wanted.scheme == "regions":
        if grid is None:
            raise ClimstackError(
                "the scheme 'regions' needs to know where the grid columns lie, but the store has"
                " no grid: convert with --grid, or name the grid file in [data] grid"
            )
        return regions(column, grid.lat, grid.lon, n_folds, embargo)
    along_time = forward_chaining if wanted.scheme == "forward_chaining" else time_blocks
    return along_time(time, n_folds, embargo)


def read_folds(file: Path, store: Store) -> NDArray[np.object_]:
    """The fold of each row of a store, by its id, (n_samples,); None where the table leaves it out.

    Args:
        file: CSV or Parquet with the schema's ``id_name`` and ``fold``; rows in any order.
        store: whose ids it names.

    Raises:
        ClimstackError: no such file, a column is missing, or an id is unknown, missing or there
            twice: names it.
    """
    check(file.is_file(), f"no file of folds {file}: give a CSV or Parquet file")
    try:
        if file.suffix == ".parquet":
            table = pl.read_parquet(file)
        else:
            table = pl.read_csv(file, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ClimstackError(f"{file} can't be read as a table: {error}") from None
    id_name, ids = store.schema.id_name, store.sample_ids
    for name in (id_name, "fold"):
        if name not in table.columns:
            raise ClimstackError(f"{file} has no column '{name}': {closest(name, table.columns)}")
    given, fold = (table[name].cast(pl.String) for name in (id_name, "fold"))
    _none(given, given.is_duplicated(), f"{file} holds", "twice: keep one row for each id")
    _none(given, ~given.is_in(ids.implode()), f"{file} holds", f"which {store.called} lacks")
    then = f"a row of {store.called}: add it, with an empty fold if none should hold it out"
    _none(ids, ~ids.is_in(given.implode()), f"{file} lacks", then)
    known = dict(zip(given, fold, strict=True))
    return np.array([known[each] for each in ids], dtype=object)


def _none(ids: pl.Series, wrong: pl.Series, what: str, then: str) -> None:
    found = wrong.fill_null(True).arg_true()
    if len(found):
        raise ClimstackError(f"{what} the id '{ids[int(found[0])]}', {then}")


def _see_that_it_can(store: Store, scheme: str, rows: Rows) -> None:
    """Refuse a scheme that needs what the rows don't have; names one that works."""
    if not len(rows):
        return
    lacks = {"known time": NEED_TIME, "known grid column": NEED_COLUMN}
    for (what, schemes), values in zip(lacks.items(), (store.time, store.column), strict=True):
        if scheme in schemes and values[rows].min() < 0:
            if store.targets is None:
                raise ClimstackError(
                    "these rows have no known time (a test file?): folds need train data"
                )
            raise ClimstackError(
                f"the scheme '{scheme}' needs a {what} of each row, which {store.called} lacks: use"
                f" {' or '.join(_that_work(store))}"
            )


def _that_work(store: Store) -> list[str]:
    timed, placed = store.time.min() >= 0, store.column.min() >= 0
    grouped = store.labels("group") is not None or store.labels("place") is not None
    own = store.labels("fold") is not None
    found = {"time_blocks": timed, "column_blocks": placed, "groups": grouped, "column": own}
    return [*(name for name, works in found.items() if works), "kfold"]


def _labels(store: Store, *kinds: Label) -> NDArray[np.object_]:
    """Of the first kind that the store has, (n_samples,).

    Raises:
        ClimstackError: it has none.
    """
    for kind in kinds:
        if (found := store.labels(kind)) is not None:
            return np.array(found.to_list(), dtype=object)
    columns = " or ".join(f"{kind}_column" for kind in kinds)
    raise ClimstackError(
        f"{store.called} has no {' or '.join(kinds)} of its rows: name the {columns} in the schema"
        f" and make the store again, or use {' or '.join(_that_work(store))}"
    )


def _values(store: Store, name: str) -> Array:
    """An input or a target of every row, (n_samples,)."""
    for matrix, columns in (
        (store.inputs, store.schema.input_columns),
        (store.targets, store.schema.target_columns),
    ):
        if name in columns and matrix is not None:
            at = columns.index(name)
            return np.concatenate([block[:, at] for block in matrix.blocks()])
    known = [*store.schema.input_columns, *store.schema.target_columns]
    raise ClimstackError(
        f"{store.called} has no column '{name}' to stratify by: {closest(name, known)}"
    )


def _units(store: Store, rows: Rows) -> NDArray[np.generic] | None:
    """What belongs together inside own folds: groups, else places, else timesteps, else nothing."""
    kinds: tuple[Label, ...] = ("group", "place")
    for kind in kinds:
        if (found := store.labels(kind)) is not None:
            return np.array(found.to_list(), dtype=object)[rows]
    return store.time[rows] if store.time.min() >= 0 else None
