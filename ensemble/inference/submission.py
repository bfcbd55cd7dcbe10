"""Submissions: written with every value kept, scored by the exact competition metric."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from ensemble.inference.sample import (
    column_order,
    need_columns,
    positions,
    read_ids,
    read_weights,
    row_order,
)
from features.core.errors import ClimstackError
from features.core.files import atomic_path, release, scratch_array
from features.core.metrics import is_constant, r2_score
from features.core.types import Array
from features.schemas.schema import Schema
from features.sources.findings import compress
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
        sample_submission: file whose ids and order of rows and columns the submission takes; None
            keeps the order.

    Raises:
        ClimstackError: unknown suffix; missing, extra or repeated ids; a target's column is
            missing; a value is not finite.

    Example:
        >>> from features import load_schema
        >>> outputs = [np.zeros((2, 4))]
        >>> ids = pl.Series(["test_0", "test_1"])
        >>> write_submission("zeros.parquet", load_schema("toy.toml"), ids, outputs)
        >>> pl.read_parquet("zeros.parquet").shape
        (2, 5)
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ClimstackError(f"{path} ends in '{path.suffix}': give a .csv or .parquet file")
    order, columns = (
        row_order(schema, sample_ids, sample_submission),
        column_order(schema, sample_submission),
    )
    names = schema.target_columns
    places = [names.index(column) for column in columns]
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
            room[:] = block[: len(room), places]
            release(values)
            start += len(block)
        if start != len(sample_ids):
            raise ClimstackError(f"{start} rows were predicted for {len(sample_ids)} ids")

        write_table(made, pl.DataFrame({schema.id_name: sample_ids}), columns, values, order)


def write_table(
    path: Path, ids: pl.DataFrame, names: Sequence[str], values: Array, order: NDArray[np.intp]
) -> None:
    """Write ids and columns of values as CSV or Parquet, block by block.

    Args:
        path: ends in ``.csv`` or ``.parquet``.
        ids: what says which row it is, (n_samples,) each.
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
        columns = dict(ids.schema) | dict.fromkeys(names, pl.Float64())
        lazy = register_io_source(lambda *_: frames(), schema=columns)
        lazy.sink_parquet(path, row_group_size=BLOCK_ROWS)


def score_files(
    submission: str | Path, solution: str | Path, schema: Schema, weights: str | Path | None = None
) -> dict[str, float]:
    """The competition's score of a submission, and the R2 behind it.

    Args:
        submission: CSV or Parquet of ids and targets.
        solution: the same with the truth; other columns are ignored, so a train file will do. A
            target whose policy is ``"skip"`` is scored on the rows that have it.
        schema: names the columns.
        weights: a sample submission with the weights; None takes the schema's 0/1 weights.

    Returns:
        R2 of each target column, in the schema's order; their plain mean is the score. Warns of
        columns whose truth is constant.

    Raises:
        ClimstackError: missing columns; missing, extra, malformed or repeated ids; a bad value, or
            one too far off for a finite score.

    Example:
        >>> from features import load_schema
        >>> toy = load_schema("toy.toml")
        >>> found = score_files("runs/first/submission.parquet", "solution.parquet", toy)
        >>> found["warmth_2"] > 0.9
        True
    """
    files = [TableFile.open(path) for path in (submission, solution)]
    for file in files:
        need_columns(file, schema)
    numbered = schema.n_grid_columns is not None
    ids = [read_ids(file.path, schema.id_name, numbered=numbered) for file in files]
    order = positions(ids[1], ids[0], str(solution), str(submission))
    used = schema.weights if weights is None else read_weights(weights, schema)
    names = schema.target_columns
    may_miss = frozenset(names[target] for target in schema.skipped_targets)
    r2: dict[str, float] = {}
    constant: list[str] = []
    # CSV is read whole each time, Parquet by column: take all columns of a CSV in one go.
    step = COLUMNS_AT_ONCE if all(f.path.suffix == ".parquet" for f in files) else len(names)
    for start in range(0, len(names), step):
        chunk = names[start : start + step]
        y_pred = _read_columns(files[0], schema.id_name, chunk)
        y = _read_columns(files[1], schema.id_name, chunk, may_miss)
        here = used[start : start + step]
        found = r2_score(y, y_pred[order], here)
        for column in np.flatnonzero(~np.isfinite(found)).tolist():
            row = int(np.abs(y_pred[:, column]).argmax())
            raise ClimstackError(
                f"{submission}: column '{chunk[column]}' has {y_pred[row, column]:g} in row {row},"
                " too far off for a finite score: correct it"
            )
        r2 |= dict(zip(chunk, found.tolist(), strict=True))
        constant += [chunk[at] for at in np.flatnonzero(is_constant(y) & (here != 0))]
    if constant:
        warnings.warn(
            f"{solution}: the truth of {len(constant)} columns is constant, so they score 1 where"
            f" it is met in every row, else 0: {compress(constant)}",
            stacklevel=2,
        )
    return r2


def _read_columns(
    file: TableFile, id_column: str, names: list[str], may_miss: frozenset[str] = frozenset()
) -> Array:
    """Columns as float64, (n_samples, len(names)); NaN where one that may miss has no value."""
    blocks = []
    for first_row, frame in file.frames([id_column, *names]):
        gaps = [name for name in names if name in may_miss]
        whole = frame.with_columns(pl.col(gaps).fill_nan(None).fill_null(0.0)) if gaps else frame
        if (sentence := first_bad_value(whole, file.path, first_row)) is not None:
            raise ClimstackError(sentence)
        blocks.append(
            frame.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
            if gaps
            else frame.drop(id_column).to_numpy()
        )
    values: Array = np.concatenate(blocks)
    return values
