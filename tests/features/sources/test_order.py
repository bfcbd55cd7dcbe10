"""Rows that are not where they seem to be are found by their ids, or by what never changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features import ClimstackError, Store, check_data, convert
from features.sources.order import Order

N_GRID = 16  # columns of the generated table, which has 24 timesteps
LAND = "cam_in_LANDFRAC"


@pytest.fixture(scope="module")
def table(generated) -> pl.DataFrame:
    return pl.read_parquet(generated["train"])


def renumbered(table: pl.DataFrame) -> pl.DataFrame:
    ids = pl.Series("sample_id", [f"train_{row}" for row in range(len(table))])
    return table.with_columns(ids)


def rows_left_out(table: pl.DataFrame) -> pl.DataFrame:
    """As many as a timestep has, so that their number still divides."""
    dropped = np.random.default_rng(0).choice(len(table), N_GRID, replace=False)
    return table[np.setdiff1d(np.arange(len(table)), dropped)]


def shuffled(table: pl.DataFrame) -> pl.DataFrame:
    return table[np.random.default_rng(0).permutation(len(table))]


def two_swapped(table: pl.DataFrame) -> pl.DataFrame:
    """A column of land and one of sea."""
    order, land = np.arange(len(table)), table[LAND].to_numpy()[:N_GRID]
    there = 6 * N_GRID + np.array([land.argmin(), land.argmax()])
    order[there] = order[there[::-1]]
    return table[order]


def by_place(table: pl.DataFrame) -> pl.DataFrame:
    """All times of a place, then the next place."""
    return table[np.arange(len(table)).reshape(-1, N_GRID).T.ravel()]


def by_land(table: pl.DataFrame) -> pl.DataFrame:
    return table.sort(LAND, maintain_order=True)


def begun_late(table: pl.DataFrame) -> pl.DataFrame:
    return table[5 : len(table) - N_GRID + 5]


def backwards(table: pl.DataFrame) -> pl.DataFrame:
    return table.reverse()


WRONG = (rows_left_out, shuffled, two_swapped, by_place, by_land, begun_late, backwards)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_order_is_refused_by_its_ids(how, suffix, table, schema, tmp_path):
    path = write(how(table), tmp_path / f"bad.{suffix}")
    with pytest.raises(ClimstackError, match=r"bad\.\w+: row \d+ has sample_id 'train_\d+'"):
        convert(path, tmp_path / "store", schema, N_GRID)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert any("has sample_id" in said for said in errors(path, schema))


@pytest.mark.parametrize("how", [rows_left_out, shuffled, two_swapped, by_place, by_land])
def test_new_ids_do_not_hide_a_wrong_order(how, table, schema, tmp_path):
    path = write(renumbered(how(table)), tmp_path / "bad.parquet")
    with pytest.raises(ClimstackError, match=rf"bad\.parquet: row \d+: '{LAND}' .*out of order"):
        convert(path, tmp_path / "store", schema, N_GRID)
    assert len(errors(path, schema)) == 1


def test_the_first_row_that_is_wrong_is_named(table, schema, tmp_path):
    path = write(table[[*range(40), *range(41, len(table)), 40]], tmp_path / "bad.parquet")
    assert errors(path, schema)[0] == (
        f"{path}: row 40 has sample_id 'train_41', expected 'train_40': time and place are told by"
        " the order of ids, so sort the rows by them, and drop only whole timesteps (16 rows each)"
    )


@pytest.mark.parametrize("size", [8, 32, 48, 96])
def test_a_wrong_size_of_the_grid_is_named_with_the_right_one(size, table, schema, tmp_path):
    path = write(table, tmp_path / "bad.parquet")
    with pytest.raises(ClimstackError, match=f"has 16 columns and not {size}: give the grid's"):
        convert(path, tmp_path / "store", schema, size)


def test_whole_timesteps_may_be_missing_and_keep_their_time(table, store, schema, tmp_path):
    kept = np.array([0, 1, 2, 5, 6, 23])
    rows = (kept[:, None] * N_GRID + np.arange(N_GRID)).ravel()
    made = convert(write(table[rows], tmp_path / "some.csv"), tmp_path / "s", schema, N_GRID)
    assert made.time.tolist() == np.repeat(kept, N_GRID).tolist()
    np.testing.assert_array_equal(made.column, store.column[rows])
    np.testing.assert_array_equal(made.inputs[:], store.inputs[rows])


def test_parts_of_a_table_have_its_clock_in_any_order(table, store, schema, tmp_path):
    cut = 9 * N_GRID
    paths = [write(table[cut:], tmp_path / "b.csv"), write(table[:cut], tmp_path / "a.csv")]
    made = convert(paths, tmp_path / "s", schema, N_GRID)
    whole = dict(zip(store.sample_ids, store.time, strict=True))
    assert [whole[name] for name in made.sample_ids] == made.time.tolist()


def test_other_ids_count_on(table, schema, tmp_path):
    other = table.with_columns(sample_id=pl.col("sample_id").str.replace("train", "more"))
    more = other.with_columns(pl.col("state_t_3") + 1.0)
    paths = [write(table, tmp_path / "a.parquet"), write(more[N_GRID:], tmp_path / "b.parquet")]
    made = convert(paths, tmp_path / "s", schema, N_GRID)
    assert made.time[made.source == 1].min() == 24


def test_test_rows_may_come_in_any_order(generated, schema, tmp_path):
    rows = pl.read_parquet(generated["test"])
    path = write(rows[::-1], tmp_path / "test.parquet")
    assert isinstance(convert(path, tmp_path / "s", schema, N_GRID), Store)


def test_order_goes_on_over_blocks():
    order = Order(Path("t.csv"), 4)
    for start in (0, 3, 6):
        time, column = order.places(np.arange(start, start + 3), "train_{}".format, start)
        assert time.tolist() == [row // 4 for row in range(start, start + 3)]
        assert column.tolist() == [row % 4 for row in range(start, start + 3)]
    with pytest.raises(ClimstackError, match="row 9 has sample_id 'train_10', expected 'train_9'"):
        order.places(np.arange(10, 12), "train_{}".format, 9)


def write(table: pl.DataFrame, path: Path) -> Path:
    (table.write_csv if path.suffix == ".csv" else table.write_parquet)(path)
    return path


def errors(path: Path, schema) -> list[str]:
    return [f.sentence for f in check_data(path, schema, N_GRID) if f.level == "error"]
