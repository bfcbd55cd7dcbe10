"""Members' predictions as files that others can blend, and that family external reads back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ensemble.inference.submission import write_table
from features.core.errors import ClimstackError
from features.core.files import atomic_path, release, scratch_array
from features.core.folders import temporary_folder
from features.core.types import Array
from features.folds.folded import FoldedStore
from features.store.matrix import BLOCK_ROWS
from features.store.store import Store
from models.member import Member


def check_suffix(path: str | Path) -> Path:
    """A path that a table can be written to.

    Raises:
        ClimstackError: it ends neither in ``.csv`` nor in ``.parquet``.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ClimstackError(f"{path} ends in '{path.suffix}': give a .csv or .parquet file")
    return path


def column_names(members: Sequence[Member], columns: Sequence[str]) -> list[str]:
    """Names of the columns: targets of one member; of several ``MEMBER/TARGET``.

    Args:
        members: whose predictions are written.
        columns: names of all targets.
    """
    one = len(members) == 1
    return [
        columns[target] if one else f"{member.spec.name}/{columns[target]}"
        for member in members
        for target in member.targets
    ]


def write_oof(path: str | Path, data: FoldedStore, members: Sequence[Member]) -> None:
    """Write out-of-fold predictions: the id, ``fold``, and the columns of each member.

    Rows come in the store's order; those that no fold holds out are left out.

    Args:
        path: ends in ``.csv`` or ``.parquet``.
        data: the rows and their folds.
        members: with cells on every fold.

    Raises:
        ClimstackError: another suffix.
    """
    path, plan = check_suffix(path), data.plan
    rows = np.flatnonzero(plan.fold >= 0)
    names = column_names(members, data.store.schema.target_columns)
    ids = data.store.sample_ids.gather(rows)
    with temporary_folder(path.parent, "members") as scratch:
        values = scratch_array(scratch / "oof.npy", "<f8", (len(rows), len(names)))
        for fold in range(plan.n_folds):
            valid = plan.valid_rows(fold)
            for start in range(0, len(valid), BLOCK_ROWS):
                here = slice(start, start + BLOCK_ROWS)
                own = [member.oof(fold, here) for member in members]
                values[np.searchsorted(rows, valid[here])] = np.concatenate(own, axis=1)
                release(values)
        frame = pl.DataFrame({data.store.schema.id_name: ids, "fold": plan.fold[rows]})
        with atomic_path(path) as made:
            write_table(made, frame, names, values, np.arange(len(rows)))


def write_predictions(
    path: str | Path, store: Store, members: Sequence[Member], predicted: Mapping[str, Array]
) -> None:
    """Write predictions of new rows: the id, and the columns of each member.

    Args:
        path: ends in ``.csv`` or ``.parquet``.
        store: the rows.
        members: whose predictions are written.
        predicted: by name, (n_targets of the member, n_samples).

    Raises:
        ClimstackError: another suffix.
    """
    path, names = check_suffix(path), column_names(members, store.schema.target_columns)
    with temporary_folder(path.parent, "members") as scratch:
        values = scratch_array(scratch / "test.npy", "<f8", (len(store), len(names)))
        first = 0
        for given in (predicted[member.spec.name] for member in members):
            for start in range(0, len(store), BLOCK_ROWS):
                here = slice(start, start + BLOCK_ROWS)
                values[here, first : first + len(given)] = given[:, here].T
                release(values)
                release(given)
            first += len(given)
        frame = pl.DataFrame({store.schema.id_name: store.sample_ids})
        with atomic_path(path) as made:
            write_table(made, frame, names, values, np.arange(len(store)))
