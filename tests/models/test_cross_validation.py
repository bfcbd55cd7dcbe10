"""What copies and neighbours would teach is not learned: scores of trees on copied rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features import FoldedStore, Schema, Store, convert, r2_score
from features.folds.enrichment import plan_store
from features.synthetic import write_dataset
from models import CellStore, ModelSpec, cross_validate

N_GRID, N_ONCE = 32, 15 * 32
TREES = ModelSpec(name="trees", family="lightgbm", params={"n_rounds": 60, "learning_rate": 0.15})
NAMES = ["ptend_t_30", "ptend_q0001_40", "ptend_u_50", "cam_out_PRECC"]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> pl.DataFrame:
    folder = tmp_path_factory.mktemp("table")
    return pl.read_parquet(write_dataset(folder, 30, N_GRID, 0)["train"])


def score(table: pl.DataFrame, schema: Schema, folder: Path) -> float:
    """Mean out-of-fold R2 of trees on four targets, three blocks of time."""
    folder.mkdir()
    table.write_parquet(folder / "rows.parquet")
    store: Store = convert(folder / "rows.parquet", folder / "store", schema, N_GRID)
    plan = plan_store(store, "time_blocks", n_folds=3, embargo=1)
    targets = np.array([schema.target_columns.index(name) for name in NAMES])
    data, cells = FoldedStore(store, plan), CellStore(folder / "cells")
    member = cross_validate(data, TREES, cells, targets=targets, n_jobs=1)
    held = [plan.valid_rows(k) for k in range(3)]
    truth = np.concatenate([store.targets[rows][:, targets] for rows in held])
    return float(r2_score(truth, np.concatenate([member.oof(k) for k in range(3)])).mean())


@pytest.mark.filterwarnings("ignore::features.core.errors.DataWarning")
def test_rows_that_stand_twice_score_as_the_same_rows_once(table, schema, tmp_path):
    """They scored .979 where their copies trained."""
    once = table[:N_ONCE]
    twice = pl.concat([once, once]).with_columns(table["sample_id"])
    alone = score(once, schema, tmp_path / "once")
    assert score(twice, schema, tmp_path / "twice") == pytest.approx(alone, abs=0.1)
