"""Sample submissions: ids and order of the rows, order of the columns, and perhaps weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array
from features.schemas.schema import Schema
from features.sources.ids import IdCheck, shown
from features.sources.readers import SHOWN_COLUMNS, TableFile
from features.sources.tables.row_ids import AnyIds, check_unique
from features.sources.tables.values import as_text

LARGE = 1e6  # the old weights reach 1e15, no truth of a row comes near it


def read_ids(path: str | Path, id_column: str, *, numbered: bool = True) -> pl.Series:
    """The ids of a CSV or Parquet file, in its order.

    Args:
        path: the file.
        id_column: its column of ids.
        numbered: whether they are letters and a number, as those of a schema with a grid are.

    Raises:
        ClimstackError: no such file or column; an id is missing, malformed or stands twice.
    """
    file = TableFile.open(path)
    if id_column not in file.columns:
        raise ClimstackError(f"{file.path} has no column '{id_column}': is it a submission?")
    found = [pl.Series(id_column, [], pl.String)]
    check: IdCheck | AnyIds = IdCheck(file.path)
    if not numbered:
        check = AnyIds(
            path=file.path, column=id_column, look=lambda rows: pl.concat(found)[rows].to_list()
        )
    for block in file.blocks([id_column], texts=None if numbered else {id_column}):
        ids = block.frame[id_column] if numbered else as_text(block.frame[id_column])
        check.add(ids, block.first_row)
        found.append(ids)
    check_unique([check])
    ids = pl.concat(found)
    if not len(ids):
        raise ClimstackError(f"{file.path} has no rows")
    return ids


def row_order(
    schema: Schema, sample_ids: pl.Series, sample_submission: str | Path | None
) -> NDArray[np.intp]:
    """Which predicted row stands where in the submission, (n_samples,).

    Raises:
        ClimstackError: missing, extra or repeated ids in the sample submission.
    """
    if sample_submission is None:
        return np.arange(len(sample_ids))
    numbered = schema.n_grid_columns is not None
    wanted = read_ids(sample_submission, schema.id_name, numbered=numbered)
    return positions(wanted, sample_ids, str(sample_submission), "the test set")


def column_order(schema: Schema, sample_submission: str | Path | None) -> list[str]:
    """The targets in the sample submission's order; the schema's where it names none.

    Warns of columns that are no targets, and of weights that are not the schema's.

    Raises:
        ClimstackError: it has some targets and lacks others.
    """
    if sample_submission is None:
        return schema.target_columns
    file, known = TableFile.open(sample_submission), set(schema.target_columns)
    named = [column for column in file.columns if column in known]
    extra = [column for column in file.columns if column not in known | {schema.id_name}]
    if extra:
        _warn(
            f"{file.path} has {len(extra)} columns that are no targets of schema {schema.name}, so"
            f" the submission leaves them out: {', '.join(map(shown, extra[:SHOWN_COLUMNS]))}"
        )
    if not named:
        return schema.target_columns
    need_columns(file, schema)
    weights = _first_row(file, schema)
    if (note := _other_weights(weights, schema)) is not None:
        _warn(f"{file.path} {note}: predictions and scores take the schema's weights")
    return named


def check_sample(sample_submission: str | Path, schema: Schema, sample_ids: pl.Series) -> None:
    """See that a sample submission names exactly the given ids and all targets, or only ids.

    Raises:
        ClimstackError: missing, extra, malformed or repeated ids; a target is missing.
    """
    row_order(schema, sample_ids, sample_submission)
    column_order(schema, sample_submission)


def read_weights(path: str | Path, schema: Schema) -> Array:
    """Submission weights, (n_targets,): the first row of a sample submission.

    Warns where they are not the schema's.

    Raises:
        ClimstackError: a target's column is missing, or a weight is negative or not finite.

    Example:
        >>> from features import load_schema
        >>> read_weights("sample_submission.parquet", load_schema("toy.toml")).tolist()
        [0.0, 1.0, 1.0, 1.0]
    """
    file = TableFile.open(path)
    need_columns(file, schema)
    weights = _first_row(file, schema)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        at = int(bad.argmax())
        raise ClimstackError(
            f"{path}: the weight of {schema.target_columns[at]} in row 0 is {weights[at]}:"
            " weights are finite and not negative"
        )
    if (note := _other_weights(weights, schema)) is not None:
        _warn(f"{file.path} {note}: the file's weights are used")
    return weights


def need_columns(file: TableFile, schema: Schema) -> None:
    """See that a submission has ids and all targets.

    Raises:
        ClimstackError: a column is missing.
    """
    present = set(file.columns)
    missing = [c for c in [schema.id_name, *schema.target_columns] if c not in present]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ClimstackError(f"{file.path} has no column '{missing[0]}'{more}: add it")


def positions(
    wanted: pl.Series, given: pl.Series, wanted_name: str, given_name: str
) -> NDArray[np.intp]:
    """Where each wanted id stands among the given ones, (n_wanted,).

    Raises:
        ClimstackError: they are not the same ids.
    """
    left = pl.DataFrame({"id": wanted}).with_row_index("row")
    right = pl.DataFrame({"id": given}).with_row_index("position")
    joined = left.join(right, on="id", how="full", coalesce=False).sort("row", nulls_last=True)
    missing = joined.filter(pl.col("position").is_null())["id"]
    if len(missing):
        raise ClimstackError(
            f"{given_name} lacks {len(missing)} ids of {wanted_name}, first '{missing[0]}':"
            " both need the same ids"
        )
    extra = joined.filter(pl.col("row").is_null())["id_right"]
    if len(extra):
        raise ClimstackError(
            f"{given_name} has {len(extra)} ids that {wanted_name} does not have, first"
            f" '{extra[0]}': both need the same ids"
        )
    return joined["position"].to_numpy().astype(np.intp)


def _first_row(file: TableFile, schema: Schema) -> Array:
    names: Sequence[str] = [schema.id_name, *schema.target_columns]
    _, frame = next(iter(file.frames(list(names))), (0, None))
    if frame is None or not len(frame):
        raise ClimstackError(f"{file.path} has no rows: the weights are its first row")
    weights: Array = frame.head(1).drop(schema.id_name).to_numpy()[0].astype(np.float64)
    return weights


def _other_weights(weights: Array, schema: Schema) -> str | None:
    """How weights differ from the schema's, or None."""
    other = weights != schema.weights
    if not other.any():
        return None
    at = int(np.argmax(np.where(other, np.nan_to_num(weights, nan=np.inf), -np.inf)))
    old = schema.name == "leap" and bool((weights >= 0).all()) and weights[at] > LARGE
    kind = " (1/std, the competition's weights of before 2024-06-19)" if old else ""
    return (
        f"has other weights than schema {schema.name} in {int(other.sum())} columns{kind}, as"
        f" {weights[at]:g} for {schema.target_columns[at]}, not {schema.weights[at]:g}"
    )


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=3)
