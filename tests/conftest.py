"""Shared fixtures: a small generated data set, its store and folds, and the real rows if named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from features import FoldedStore, FoldPlan, Schema, Store, convert, load_schema, time_blocks
from features.synthetic import write_dataset

if TYPE_CHECKING:
    from tests.browser import OpenPage

N_TIMESTEPS, N_COLUMNS = 24, 16


@pytest.fixture(scope="session")
def schema() -> Schema:
    return load_schema("leap")


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Generated files: train, test, sample_submission, solution."""
    folder = tmp_path_factory.mktemp("generated")
    return write_dataset(folder, N_TIMESTEPS, N_COLUMNS, seed=3)


@pytest.fixture(scope="session")
def store(
    generated: dict[str, Path], schema: Schema, tmp_path_factory: pytest.TempPathFactory
) -> Store:
    out = tmp_path_factory.mktemp("stores") / "train"
    return convert(generated["train"], out, schema, N_COLUMNS)


@pytest.fixture(scope="session")
def plan(store: Store) -> FoldPlan:
    return time_blocks(store.time, n_folds=3, embargo=1)


@pytest.fixture(scope="session")
def folded(store: Store, plan: FoldPlan) -> FoldedStore:
    return FoldedStore(store, plan)


@pytest.fixture(scope="session")
def few_targets(schema: Schema) -> np.ndarray:
    """Five modelled targets of different kinds."""
    names = ["ptend_t_45", "ptend_q0001_50", "ptend_u_55", "cam_out_FLWDS", "cam_out_SOLS"]
    return np.array([schema.target_columns.index(name) for name in names])


@pytest.fixture(scope="session")
def noise(schema: Schema, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """600 rows whose inputs are a key of the row and whose targets are noise, within the limits."""
    rng = np.random.default_rng(5)
    low, high = np.array([v.limits for v in schema.variables for _ in range(v.n_levels)]).T
    values = rng.uniform(low, high, (600, len(low)))
    for column in schema.static_inputs:
        values[:, column] = np.tile(values[:10, column], 60)
    frame = pl.from_numpy(values, [*schema.input_columns, *schema.target_columns])
    ids = pl.Series("sample_id", [f"train_{i}" for i in range(600)])
    folder = tmp_path_factory.mktemp("noise")
    frame.insert_column(0, ids).write_parquet(folder / "noise.parquet")
    return convert(folder / "noise.parquet", folder / "store", schema, 10)


@pytest.fixture(scope="session")
def real_folder() -> Path:
    """Folder of the real rows; tests that use it carry the marker ``real``."""
    if "CLIMSTACK_REAL_DATA" not in os.environ:
        pytest.skip("CLIMSTACK_REAL_DATA is not set")
    return Path(os.environ["CLIMSTACK_REAL_DATA"])


@pytest.fixture(scope="session")
def open_page() -> Iterator[OpenPage]:
    """Opens a page in headless Chromium; tests that use it carry the marker ``browser``."""
    from tests.browser import chromium

    with chromium() as opened:
        yield opened
