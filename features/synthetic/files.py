"""Simulated columns as the competition's files: train, test, sample submission and solution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from features.climate.physics import SECONDS_PER_DAY, TIMESTEP
from features.core.errors import ClimstackError
from features.core.files import atomic_path, write_json
from features.core.types import Array
from features.schemas.known import load_schema
from features.synthetic.columns import STRIDE, simulate, synthetic_grid

ROW_GROUP = 4096
GAP_DAYS = 5.0  # between training and test: the weather has changed by then


def write_dataset(
    folder: str | Path,
    n_timesteps: int,
    n_columns: int,
    seed: int,
    test_timesteps: int | None = None,
) -> dict[str, Path]:
    """Write a generated data set; each file is whole or not there.

    Args:
        folder: where to; made when missing.
        n_timesteps: stored timesteps of training data.
        n_columns: grid columns.
        seed: everything follows from it.
        test_timesteps: stored timesteps of test data, five days after the training data; None
            takes a fifth.

    Returns:
        The paths of ``train``, ``test``, ``sample_submission``, ``solution`` and ``grid``. The test
        rows are shuffled and numbered in the shuffled order, as the solution; the sample submission
        holds the score weights in yet another order; the grid is that of :func:`synthetic_grid`.

    Raises:
        ClimstackError: an argument is too small.
    """
    if test_timesteps is not None and test_timesteps < 1:
        raise ClimstackError(
            f"synthetic data need test_timesteps of at least 1, but got {test_timesteps}"
        )
    n_test = test_timesteps or max(1, n_timesteps // 5)
    schema, folder = load_schema("leap"), Path(folder)
    names = ("train", "test", "sample_submission", "solution")
    paths = {name: folder / f"{name}.parquet" for name in names}
    columns = [*schema.input_columns, *schema.target_columns]

    train = _rows(0, n_timesteps, n_columns, seed, columns)
    _write(paths["train"], _with_ids(train, "train", schema.id_name))
    gap = int(np.ceil(GAP_DAYS * SECONDS_PER_DAY / (STRIDE * TIMESTEP)))
    test = _rows(n_timesteps + gap, n_test, n_columns, seed, columns)
    chance = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 2])))
    test = _with_ids(test[chance.permutation(len(test))], "test", schema.id_name)
    _write(paths["test"], test.select(schema.id_name, *schema.input_columns))
    _write(paths["solution"], test.select(schema.id_name, *schema.target_columns))
    weights = dict(zip(schema.target_columns, schema.weights.tolist(), strict=True))
    sample = test.select(
        schema.id_name, *(pl.lit(w, pl.Float64).alias(name) for name, w in weights.items())
    )
    # Backwards as strings: a reader that trusts the order of the rows is found out.
    _write(paths["sample_submission"], sample.sort(schema.id_name, descending=True))
    paths["grid"] = folder / "grid.json"
    write_json(paths["grid"], synthetic_grid(n_columns).to_table())
    return paths


def _rows(
    first: int, n_timesteps: int, n_columns: int, seed: int, columns: list[str]
) -> pl.DataFrame:
    """Simulate in blocks of some thousand rows, which bounds the memory of the simulation."""
    block = max(1, ROW_GROUP // max(n_columns, 1))
    frames = []
    for start in range(first, first + max(n_timesteps, 1), block):
        size = min(block, first + n_timesteps - start)
        made = simulate(size, n_columns, seed, first_timestep=start)
        values: Array = np.concatenate([made.inputs, made.targets], axis=1)
        frames.append(pl.from_numpy(values, schema=columns, orient="row"))
    return pl.concat(frames)


def _with_ids(frame: pl.DataFrame, prefix: str, name: str) -> pl.DataFrame:
    ids = pl.Series(name, [f"{prefix}_{row}" for row in range(len(frame))], dtype=pl.String)
    return frame.insert_column(0, ids)


def _write(path: Path, frame: pl.DataFrame) -> None:
    with atomic_path(path) as made:
        frame.write_parquet(made, compression="zstd", row_group_size=ROW_GROUP)
