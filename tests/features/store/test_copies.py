"""Rows that stand twice: found wherever they stand, said, and never on both sides of a fold."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import (
    Auxiliary,
    ClimstackError,
    DataWarning,
    FoldPlan,
    LeakageWarning,
    Store,
    check_data,
    convert,
    explore_store,
    load_schema,
)
from features.climate.physics import hybrid_levels
from features.folds.enrichment import plan_store
from features.folds.making import NEED_COLUMN, NEED_TIME
from features.sources.grid import Grid
from features.store.odd.oddities import said_shared
from features.store.writer import StoreWriter

N_GRID = 16
SCHEMA = load_schema("v1")


@pytest.fixture(scope="module")
def table(generated) -> pl.DataFrame:
    return pl.read_parquet(generated["train"])


def written(table: pl.DataFrame, path: Path, prefix: str = "train") -> Path:
    ids = pl.Series("sample_id", [f"{prefix}_{row}" for row in range(len(table))])
    table.with_columns(ids).write_parquet(path)
    return path


def said_of(path: Path | list[Path], schema: Any) -> list[str]:
    found = [
        f.sentence for f in check_data(path, schema, N_GRID) if "of a row before" in f.sentence
    ]
    return [sentence.split(", first ")[-1] for sentence in found]


def test_copies_within_a_source_are_said(table, schema, tmp_path):
    half = table[: 12 * N_GRID]
    path = written(pl.concat([half, half]), tmp_path / "twice.parquet")
    assert said_of(path, schema) == ["row 192, a copy of row 0"]
    with pytest.warns(DataWarning, match=r"192 rows are copies .*row 192 \('train_192'\), a copy"):
        store = convert(path, tmp_path / "store", schema, N_GRID)
    assert said_of(store.path, schema) == ["row 192, a copy of row 0"]
    found = [f.sentence for f in explore_store(store).findings if "copies of a row" in f.sentence]
    assert len(found) == 1


def test_copies_in_two_sources_are_said(table, schema, tmp_path):
    one = written(table[: 6 * N_GRID], tmp_path / "a.parquet")
    other = written(table[5 * N_GRID : 9 * N_GRID], tmp_path / "b.parquet", "other")
    assert said_of([one, other], schema) == [f"row 0 of {other}, a copy of row 80 of {one}"]
    with pytest.warns(DataWarning, match=r"16 rows .*row 96 \('other_0'\), a copy of row 80"):
        convert([one, other], tmp_path / "store", schema, N_GRID)


def test_copies_in_training_and_test_data_are_said(table, generated, store, schema, tmp_path):
    test = pl.concat([pl.read_parquet(generated["test"]), table[7:8].select(pl.exclude("^x$"))
                      .select(pl.read_parquet(generated["test"]).columns)])  # fmt: skip
    other = convert(
        written(test, tmp_path / "test.parquet", "test"), tmp_path / "t", schema, N_GRID
    )
    (said,) = said_shared(store, other)
    assert said.startswith(f"1 of {len(test)} rows of {other.path} stand in {store.path}")
    assert f"first row {len(test) - 1}" in said
    assert "as row 7 ('train_7')" in said
    assert said in [f.sentence for f in explore_store(store, other).findings]


def test_data_without_copies_have_nothing_said(store):
    np.testing.assert_array_equal(store.original, np.arange(len(store)))


def test_zeros_of_both_signs_and_gaps_are_equal(tmp_path):
    values = np.ones((4, 124))
    values[0, :3], values[1, :3] = [0.0, np.nan, 2.0], [-0.0, np.nan, 2.0]
    values[2, :2] = [2.0, 1.0]
    values[3, :2] = [1.0, 2.0]  # of the parity of the row before
    store = stored(tmp_path / "s", values, [4])
    assert store.original.tolist() == [0, 0, 2, 3]


def stored(path: Path, inputs: np.ndarray, sources: list[int], width: int = 4) -> Store:
    """Rows of small whole numbers, whose parities often meet, from some sources."""
    with StoreWriter(path, SCHEMA, True, width) as writer:
        at = 0
        for number, n_rows in enumerate(sources):
            rows = np.arange(at, at + n_rows)
            index = {
                "sample_id": [f"s{'abc'[number]}_{row}" for row in rows],
                "time": rows // width,
                "column": rows % width,
                "source": np.full(n_rows, number),
            }
            writer.append(pl.DataFrame(index), inputs[rows], np.ones((n_rows, 128)))
            at += n_rows
        facts = [
            {"file": f"s{n}.csv", "rows": rows, "clock": "rows"} for n, rows in enumerate(sources)
        ]
        grid = Grid(
            lat=np.array([-60.0, -20, 20, 60]),
            lon=np.array([0.0, 90, 180, 270]),
            area=np.ones(4),
            levels=hybrid_levels(),
        )
        writer.close(facts, grid=grid)
    return Store(path)


LAYOUTS: list[tuple[list[int], list[Auxiliary]]] = [
    ([48], []),
    ([24, 24], []),
    ([32, 16], [Auxiliary(source="s1.csv", time="separate")]),
    ([32, 16], [Auxiliary(source="s1.csv", time="stored", embargo=0)]),
    ([24, 12, 12], [Auxiliary(source="s2.csv", time="stored"), Auxiliary(source="s1.csv")]),
]


SCHEMES = (*NEED_TIME, *NEED_COLUMN)  # the others: tests/features/folds/test_making.py


@pytest.mark.filterwarnings("ignore::features.core.errors.LeakageWarning")
def test_no_training_row_equals_a_validation_row(tmp_path_factory):
    """Whatever the scheme, the sources and the copies: in folds, inner blocks and refits."""
    tried: set[str] = set()

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(
        scheme=st.sampled_from(SCHEMES),
        layout=st.sampled_from(LAYOUTS),
        copies=st.lists(st.tuples(st.integers(0, 47), st.integers(0, 47)), max_size=12),
        seed=st.integers(0, 5),
        embargo=st.integers(0, 1),
    )
    def hold(scheme, layout, copies, seed, embargo):
        inputs = np.random.default_rng(seed).integers(0, 3, (48, 124)).astype(float)
        for source, target in copies:
            inputs[target] = inputs[source]
        sources, auxiliaries = layout
        store = stored(tmp_path_factory.mktemp("any") / "s", inputs, sources)
        how = {"n_folds": 3, "embargo": embargo, "auxiliaries": auxiliaries, "seed": seed}
        try:
            plan = plan_store(store, scheme, **how)
        except ClimstackError:  # auxiliary rows where no copies lie, or nothing left to train on
            return
        tried.add(scheme)
        for train, valid in splits(plan):
            assert len(train)
            assert len(valid)
            equal = (inputs[train][:, None] == inputs[valid][None]).all(axis=2)
            assert not equal.any()

    hold()
    assert tried == set(SCHEMES)


def splits(plan: FoldPlan) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of rows to fit on and rows to look at that a plan gives."""
    for each in (plan, plan.refit()):
        for k in range(each.n_folds):
            yield each.train_rows(k), each.valid_rows(k)
    for k in range(plan.n_folds):
        with suppress(ClimstackError):  # too few units
            yield plan.inner_rows(k, 0.3)


def test_a_plan_without_copies_is_the_plan_of_before(store):
    plan = plan_store(store, "time_blocks", n_folds=3, embargo=1)
    assert plan.original is None
    doubled = replace(plan, original=None).without_copies(np.arange(len(plan)))
    assert doubled.hash == plan.hash


def test_a_plan_with_copies_comes_back_from_its_file(tmp_path):
    inputs = np.random.default_rng(1).normal(size=(48, 124))
    inputs[40] = inputs[3]
    store = stored(tmp_path / "s", inputs, [48])
    with warnings.catch_warnings(action="ignore", category=LeakageWarning):
        plan = plan_store(store, "random_rows", n_folds=3, embargo=0)
    plan.save(tmp_path / "folds.parquet")
    again = type(plan).load(tmp_path / "folds.parquet")
    assert again.hash == plan.hash
    np.testing.assert_array_equal(again.original, plan.original)
