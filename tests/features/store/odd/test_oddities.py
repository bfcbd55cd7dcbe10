"""What is odd in a store is said, and nothing of a good one."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from features import DataWarning, convert
from features.store.odd.oddities import oddities
from features.synthetic import write_dataset

N_GRID = 8


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> pl.DataFrame:
    return pl.read_parquet(write_dataset(tmp_path_factory.mktemp("t"), 30, N_GRID, 5)["train"])


def test_shuffled_timesteps_under_new_ids_are_seen(table, schema, tmp_path):
    steps = np.random.default_rng(1).permutation(30)
    rows = (steps[:, None] * N_GRID + np.arange(N_GRID)).ravel()
    table[rows].with_columns(table["sample_id"]).write_parquet(tmp_path / "mixed.parquet")
    with pytest.warns(DataWarning, match=r"'pbuf_ozone', which changes slowly, jumps .* 0 to 29"):
        convert(tmp_path / "mixed.parquet", tmp_path / "s", schema, N_GRID)


def test_single_precision_is_said_and_kept(table, schema, tmp_path):
    narrow = table.with_columns(pl.col("state_t_3", "ptend_u_9").cast(pl.Float32))
    narrow.write_parquet(tmp_path / "narrow.parquet")
    said = "480 values came as Float32 and not as float64, .*, in ptend_u_9, state_t_3"
    with pytest.warns(DataWarning, match=said):
        store = convert(tmp_path / "narrow.parquet", tmp_path / "s", schema, N_GRID)
    assert store.rounded == {"Float32": {"state_t_3": 240, "ptend_u_9": 240}}


def test_nothing_is_said_of_good_data(table, schema, tmp_path):
    table.write_parquet(tmp_path / "good.parquet")
    assert oddities(convert(tmp_path / "good.parquet", tmp_path / "s", schema, N_GRID)) == []


@pytest.mark.real
def test_nothing_is_said_of_the_real_rows(real_folder, schema, tmp_path):
    store = convert(real_folder / "train.parquet", tmp_path / "s", schema)
    assert oddities(store) == []
