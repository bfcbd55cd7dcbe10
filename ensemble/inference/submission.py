"""Submissions: written with every value kept, scored by the exact competition metric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from features.core.errors import ClimstackError
from features.core.files import atomic_path, release, scratch_array
from features.core.metrics import r2_score
from features.core.types import Array
from features.schemas.schema import Schema
from features.sources.ids import IdCheck
from features.sources.readers import TableFile, first_bad_value
from features.store.matrix import BLOCK_ROWS

COLUMNS_AT_ONCE = 46  # 368 / 8: how many columns are scored at a time


def write_submission(
    path: str | Path,
    schema: Schema,
    sample_ids: pl.Series,
    blocks: Iterable[Array],
    sample_submission: str | Path | None = None,
) -> None:
    """Write a submission as CSV or Parquet, float64, atomically.

    Args:
        path: ends in ``.csv`` or ``.parquet``.
        schema: names the columns.
        sample_ids: ids of the predicted rows, (n_samples,).
        blocks: predictions in that order, each (n, n_targets), together n_samples rows.
        sample_submission: file whose ids and row order the submission takes; None keeps the order.

    Raises:
        ClimstackError: unknown suffix; missing, extra or repeated ids; a value is not finite.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ClimstackError(f"{path} ends in '{path.suffix}': give a .csv or .parquet file")
    order = row_order(schema, sample_ids, sample_submission)
    names = schema.target_columns
    with atomic_path(path) as made:
        made.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(sample_ids), len(names))
        values = scratch_array(made.parent / "values.npy", "<f8", shape)
        start = 0
        for block in blocks:
            if not np.isfinite(block).all():
                row, column = np.argwhere(~np.isfinite(block))[0]
                raise ClimstackError(
                    f"the prediction of {names[column]} for '{sample_ids[start + int(row)]}' is"
                    f" {block[row, column]}: nothing was written"
                )
            room = values[start : start + len(block)]
            room[:] = block[: len(room)]
            release(values)
            start += len(block)
        if start != len(sample_ids):
            raise ClimstackError(f"{start} rows were predicted for {len(sample_ids)} ids")

        write_table(made, pl.DataFrame({schema.id_column: sample_ids}), names, values, order)


def write_table(
    path: Path, ids: pl.DataFrame, names: Sequence[str], values: Array, order: NDArray[np.intp]
) -> None:
    """Write ids and columns of values as CSV or Parquet, block by block.

    Args:
        path: ends in ``.csv`` or ``.parquet``.
        ids: one column, (n_samples,).
        names: of the columns of values.
        values: (n_samples, n_columns); a memory-mapped array will do.
        order: which rows are written, in which order.
    """

    def frames() -> Iterator[pl.DataFrame]:
        for first in range(0, len(order), BLOCK_ROWS):
            rows = order[first : first + BLOCK_ROWS]
            here = values[rows].T
            release(values)
            yield ids[rows].with_columns(
                pl.Series(name, column) for name, column in zip(names, here, strict=True)
            )

    if path.suffix == ".csv":
        with path.open("wb") as file:
            for position, frame in enumerate(frames()):
                frame.write_csv(file, include_header=position == 0)
    else:
        columns = {ids.columns[0]: pl.String()} | dict.fromkeys(names, pl.Float64())
        lazy = register_io_source(lambda *_: frames(), schema=columns)
        lazy.sink_parquet(path, row_group_size=BLOCK_ROWS)


def row_order(
    schema: Schema, sample_ids: pl.Series, sample_submission: str | Path | None
) -> NDArray[np.intp]:
    """Which predicted row stands where in the submission, (n_samples,).

    Raises:
        ClimstackError: missing, extra or repeated ids in the sample submission.
    """
    if sample_submission is None:
        return np.arange(len(sample_ids))
    wanted = read_ids(sample_submission, schema.id_column)
    return _positions(wanted, sample_ids, str(sample_submission), "the test set")


def check_ids(sample_submission: str | Path, schema: Schema, sample_ids: pl.Series) -> None:
    """See that a sample submission names exactly the given ids, in whatever order.

    Raises:
        ClimstackError: missing, extra, malformed or repeated ids.
    """
    row_order(schema, sample_ids, sample_submission)


def read_ids(path: str | Path, id_column: str) -> pl.Series:
    """The ids of a CSV or Parquet file, in its order.

    Raises:
        ClimstackError: no such file or column; an id is malformed or stands twice.
    """
    file = TableFile.open(path)
    if id_column not in file.columns:
        raise ClimstackError(f"{file.path} has no column '{id_column}': is it a submission?")
    check, found = IdCheck(file.path), []
    for first_row, frame in file.frames([id_column]):
        check.add(frame[id_column], first_row)
        found.append(frame[id_column])
    check.close()
    if not found:
        raise ClimstackError(f"{file.path} has no rows")
    return pl.concat(found)


def read_weights(path: str | Path, schema: Schema) -> Array:
    """Submission weights, (n_targets,): the first row of a sample submission.

    Raises:
        ClimstackError: a target's column is missing, or a weight is negative or not finite.
    """
    file = TableFile.open(path)
    _need_columns(file, schema)
    _, frame = next(iter(file.frames([schema.id_column, *schema.target_columns])), (0, None))
    if frame is None or not len(frame):
        raise ClimstackError(f"{path} has no rows: the weights are its first row")
    weights: Array = frame.head(1).drop(schema.id_column).to_numpy()[0].astype(np.float64)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        at = int(bad.argmax())
        raise ClimstackError(
            f"{path}: the weight of {schema.target_columns[at]} in row 0 is {weights[at]}:"
            " weights are finite and not negative"
        )
    return weights


def score_files(
    submission: str | Path, solution: str | Path, schema: Schema, weights: str | Path | None = None
) -> dict[str, float]:
    """The competition's score of a submission, and the R2 behind it.

    Args:
        submission: CSV or Parquet of ids and targets.
        solution: the same with the truth; other columns are ignored, so a train file will do.
        schema: names the columns.
        weights: a sample submission with the weights; None takes the schema's 0/1 weights.

    Returns:
        R2 of each target column, in the schema's order; their plain mean is the score.

    Raises:
        ClimstackError: missing columns; missing, extra, malformed or repeated ids; a bad value.
    """
    files = [TableFile.open(path) for path in (submission, solution)]
    for file in files:
        _need_columns(file, schema)
    ids = [read_ids(file.path, schema.id_column) for file in files]
    order = _positions(ids[1], ids[0], str(solution), str(submission))
    used = schema.weights if weights is None else read_weights(weights, schema)
    r2: dict[str, float] = {}
    names = schema.target_columns
    # CSV is read whole each time, Parquet by column: take all columns of a CSV in one go.
    step = COLUMNS_AT_ONCE if all(f.path.suffix == ".parquet" for f in files) else len(names)
    for start in range(0, len(names), step):
        chunk = names[start : start + step]
        y_pred, y = (_read_columns(file, schema.id_column, chunk) for file in files)
        here = used[start : start + step]
        r2 |= dict(zip(chunk, r2_score(y, y_pred[order], here).tolist(), strict=True))
    return r2


def _read_columns(file: TableFile, id_column: str, names: list[str]) -> Array:
    blocks = []
    for first_row, frame in file.frames([id_column, *names]):
        if (sentence := first_bad_value(frame, file.path, first_row)) is not None:
            raise ClimstackError(sentence)
        blocks.append(frame.drop(id_column).to_numpy())
    values: Array = np.concatenate(blocks)
    return values


def _need_columns(file: TableFile, schema: Schema) -> None:
    present = set(file.columns)
    missing = [c for c in [schema.id_column, *schema.target_columns] if c not in present]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ClimstackError(f"{file.path} has no column '{missing[0]}'{more}: add it")


def _positions(
    wanted: pl.Series, given: pl.Series, wanted_name: str, given_name: str
) -> NDArray[np.intp]:
    """Where each wanted id stands among the given ones, (n_wanted,)."""
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
