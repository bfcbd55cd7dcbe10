"""Files of predictions that were made elsewhere, found by the ids of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError, closest
from features.core.files import file_hash, release
from features.core.settings import check
from features.core.types import Array, Mask, Rows
from features.sources.ids import shown
from features.sources.readers import TableFile


@dataclass(frozen=True, kw_only=True)
class External:
    """Predictions of a model that climstack did not fit, in CSV or Parquet files.

    A file has the ids of its rows, in the column that the schema calls so, and a column for each
    target that it predicts, in the target's unit; other columns are left alone.

    Attributes:
        oof: file of out-of-fold predictions: every row that a fold holds out, once.
        test: file of predictions of test rows; None where test rows are not predicted.
        folds: the column of ``oof`` that says which fold each row was held out with; it must be
            the plan's partition, under any labels. None where the file does not say.
        oof_sha256: what the bytes of ``oof`` must hash to; None takes the file as it is.

    Example:
        >>> External(oof="catboost_oof.parquet", folds="fold").test is None
        True
    """

    oof: str
    test: str | None = None
    folds: str | None = None
    oof_sha256: str | None = None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the out-of-fold file: what is learned from it is known by it.

        Raises:
            ClimstackError: no such file.
        """
        if self.oof_sha256 is not None:
            return self.oof_sha256
        return file_hash(TableFile.open(self.oof).path)

    def serves(self, columns: Sequence[str]) -> Mask:
        """Which of some target columns the out-of-fold file has, (n_targets,).

        Raises:
            ClimstackError: it has none of them, or can't be read.
        """
        file = TableFile.open(self.oof)
        found = np.isin(columns, file.columns)
        if not found.any():
            raise ClimstackError(
                f"{file.path} has no column of a target, as {columns[0]}: its columns are"
                f" {', '.join(map(shown, file.columns[:8]))}"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Rows of a store that a file of predictions must have.

    Attributes:
        ids: of all rows, (n,).
        id_name: the column of ids in the file.
        needed: which rows must be there, (n,) bool.
        what: how to call them in a sentence, as ``validated rows``.
        others: whether the file may have ids that are none of these.
    """

    ids: pl.Series
    id_name: str
    needed: Mask
    what: str
    others: bool = False


def read_predictions(
    path: str | Path, wanted: Wanted, columns: Sequence[str], out: Array | None = None
) -> Rows:
    """Read a file's predictions to where their ids stand, in bounded memory.

    Args:
        path: CSV or Parquet.
        wanted: the rows.
        columns: the targets to read.
        out: filled in, (n, len(columns)); a memory-mapped array, or a transposed one, will do. None
            only looks whether the file is as it should be.

    Returns:
        For each row of the file its place among the wanted rows, -1 for one that is none of them.

    Raises:
        ClimstackError: a column is missing, or is no number; a needed row is missing, or its value
            is not finite; an id is missing, unknown or stands twice.
    """
    file = TableFile.open(path)
    for name in (wanted.id_name, *columns):
        check(
            name in file.columns,
            f"{file.path} has no column '{name}': {closest(name, file.columns)}",
        )
    known = pl.DataFrame({"id": wanted.ids}).with_row_index("row")
    counts = np.zeros(len(wanted.ids), np.uint32)
    found: list[Rows] = []
    for first_row, frame in file.frames([wanted.id_name, *columns]):
        ids = frame[wanted.id_name].alias("id")
        if ids.null_count():
            row = first_row + int(ids.is_null().arg_max() or 0)
            raise ClimstackError(f"{file.path} has no {wanted.id_name} in row {row}: add it")
        joined = ids.to_frame().join(known, on="id", how="left", maintain_order="left")
        place = joined["row"].cast(pl.Int64).fill_null(-1).to_numpy().astype(np.intp)
        if not wanted.others and (place < 0).any():
            _refuse_unknown(file, wanted, columns)
        ours = place >= 0
        np.add.at(counts, place[ours], 1)
        values = frame.select(columns).to_numpy()
        bad = ~np.isfinite(values) & ours[:, None]
        bad[ours] &= wanted.needed[place[ours], None]
        if bad.any():
            row, column = np.argwhere(bad)[0]
            value = frame[columns[column]][int(row)]
            raise ClimstackError(
                f"{file.path}: column '{columns[column]}' has"
                f" {'no value' if value is None else value} for {shown(ids[int(row)])} in row"
                f" {first_row + row}: every prediction must be a finite number"
            )
        if out is not None:
            out[place[ours]] = values[ours]
            release(out.base if isinstance(out.base, np.ndarray) else out)
        found.append(place)
    twice = np.flatnonzero(counts > 1)
    if len(twice):
        example = shown(wanted.ids[int(twice[0])])
        raise ClimstackError(
            f"{file.path} has {len(twice)} ids more than once, as {example}"
            f" {counts[twice[0]]} times: each row must be there once"
        )
    missing = np.flatnonzero(wanted.needed & (counts == 0))
    if len(missing):
        raise ClimstackError(
            f"{file.path} lacks {len(missing)} of {wanted.needed.sum()} {wanted.what}, as"
            f" {shown(wanted.ids[int(missing[0])])}: each must be there once"
        )
    return np.concatenate(found)


def _refuse_unknown(file: TableFile, wanted: Wanted, columns: Sequence[str]) -> None:
    """Say how many ids of a file are none of the wanted rows'."""
    count, example, n_rows = 0, "", 0
    for _, frame in file.frames([wanted.id_name, *columns[:1]]):
        ids = frame[wanted.id_name]
        strange = ids.filter(~ids.is_in(wanted.ids.implode()))
        example = example or next(iter(strange), "")
        count, n_rows = count + len(strange), n_rows + len(ids)
    raise ClimstackError(
        f"{file.path} has {count} ids of {n_rows} that are no {wanted.what}, as {shown(example)}:"
        f" ids are compared as text, as {shown(wanted.ids[0])}"
    )


def check_folds(external: External, place: Rows, fold: NDArray[np.integer], wanted: Wanted) -> None:
    """See that a file's folds are the plan's, whatever they are called.

    Args:
        external: names the file and its column.
        place: of each row of the file among the wanted rows, by :func:`read_predictions`.
        fold: that holds each wanted row out, -1 for none, (n,).
        wanted: the rows.

    Raises:
        ClimstackError: no such column, a label is missing, or rows are in other folds.
    """
    file, column = TableFile.open(external.oof), external.folds or ""
    check(
        column in file.columns,
        f"{file.path} has no column '{column}' of folds: {closest(column, file.columns)}",
    )
    labels = pl.concat([frame[column] for _, frame in file.frames([column])])
    ours = (place >= 0) & (fold[place] >= 0)
    labels, place = labels.filter(pl.Series(ours)), place[ours]
    if labels.null_count():
        at = int(labels.is_null().arg_max() or 0)
        raise ClimstackError(
            f"{file.path}: column '{column}' has no value for {shown(wanted.ids[int(place[at])])}:"
            " every row needs its fold"
        )
    pairs = pl.DataFrame({"label": labels, "fold": fold[place]})
    together = pairs.group_by("label", "fold").len().sort("len", descending=True)
    same = _matched(together)
    if (differ := len(pairs) - same) or pairs["label"].n_unique() != pairs["fold"].n_unique():
        raise ClimstackError(
            f"{file.path}: column '{column}' has other folds than the run for {differ} of"
            f" {len(pairs)} rows ({pairs['label'].n_unique()} labels,"
            f" {pairs['fold'].n_unique()} folds): make the predictions again with the run's"
            " folds.parquet, or take these folds into the run"
        )


def _matched(together: pl.DataFrame) -> int:
    """Rows whose label and fold belong together, when each label is given the fold it has most."""
    labels, folds, rows = set[str](), set[int](), 0
    for label, fold, n in together.iter_rows():
        if label not in labels and fold not in folds:
            labels.add(label)
            folds.add(fold)
            rows += n
    return rows
