import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import (
    ClimstackError,
    FoldPlan,
    LeakageWarning,
    column_blocks,
    forward_chaining,
    groups,
    random_rows,
    regions,
    time_blocks,
)
from features.folds.sphere import mean_spacing, unit_vectors, within
from features.synthetic import synthetic_grid

sizes = st.tuples(
    st.integers(12, 60), st.integers(1, 7), st.integers(2, 5), st.integers(0, 2), st.integers(0, 9)
)


def make_time(n_times, n_columns, seed):
    """Rows of a grid in shuffled order, with gaps between some timesteps."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, 3, n_times))
    time = np.repeat(times, n_columns)
    rng.shuffle(time)
    return time


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_time_blocks_validate_every_row_once_and_keep_the_embargo(size):
    n_times, n_columns, n_folds, embargo, seed = size
    time = make_time(n_times, n_columns, seed)
    plan = time_blocks(time, n_folds, embargo)
    seen = np.concatenate([plan.valid_rows(k) for k in range(n_folds)])
    assert sorted(seen) == list(range(len(time)))
    for k in range(n_folds):
        valid, train = plan.valid_rows(k), plan.train_rows(k)
        first, last = time[valid].min(), time[valid].max()
        # a block: no training time lies inside it, nor within the embargo of it
        distance = np.maximum(first - time[train], time[train] - last)
        assert (distance > embargo).all()
        # the embargo only costs training rows, and only those near
        left_out = np.setdiff1d(np.arange(len(time)), np.concatenate([valid, train]))
        away = np.maximum(first - time[left_out], time[left_out] - last)
        assert (away <= embargo).all()


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_forward_chaining_never_trains_on_the_future(size):
    n_times, n_columns, n_folds, embargo, seed = size
    time = make_time(n_times + 12, n_columns, seed)  # the first block must outlast the embargo
    plan = forward_chaining(time, n_folds, embargo)
    for k in range(n_folds):
        assert time[plan.train_rows(k)].max() < time[plan.valid_rows(k)].min() - embargo


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=20, max_size=80), st.integers(2, 4))
def test_no_group_crosses_a_fold(labels, n_folds):
    labels = np.array([*labels, *range(10)])
    plan = groups(labels, n_folds)
    for k in range(n_folds):
        inside, outside = labels[plan.valid_rows(k)], labels[plan.train_rows(k)]
        assert not set(inside) & set(outside)
    assert (plan.fold >= 0).all()


@settings(max_examples=40, deadline=None)
@given(sizes, st.floats(0.05, 0.4))
def test_inner_rows_stay_in_the_training_rows_with_an_embargo(size, fraction):
    n_times, n_columns, n_folds, embargo, seed = size
    plan = time_blocks(make_time(n_times, n_columns, seed), n_folds, embargo)
    for k in range(n_folds):
        try:
            fit, watch = plan.inner_rows(k, fraction)
        except ClimstackError:
            continue
        train = set(plan.train_rows(k))
        assert set(fit) < train
        assert set(watch) < train
        assert not set(fit) & set(watch)
        gap = np.abs(plan.unit[fit][:, None] - plan.unit[watch][None, :]).min()
        assert gap > embargo


def test_column_blocks_hold_out_places(store):
    plan = column_blocks(store.column, n_folds=4, embargo=1)
    for k in range(4):
        valid, train = store.column[plan.valid_rows(k)], store.column[plan.train_rows(k)]
        assert np.abs(valid[:, None] - train[None, :]).min() > 1


def angles(a, b):
    """Great-circle distances, rad."""
    return np.arccos(np.clip(a @ b.T, -1.0, 1.0))


def pieces(places, reach):
    """In how many pieces places lie whose neighbours are within a reach, rad."""
    label, near = np.arange(len(places)), angles(places, places) <= reach
    for _ in places:
        label = np.where(near, label, len(places)).min(axis=1)
    return len(np.unique(label))


@pytest.mark.parametrize("n_folds", [2, 3, 5, 7, 12])
@pytest.mark.parametrize("n_columns", [96, 384])
def test_regions_are_compact_pieces_of_equal_size(n_columns, n_folds):
    grid = synthetic_grid(n_columns)
    column = np.tile(np.arange(n_columns), 3)
    plan = regions(column, grid.lat, grid.lon, n_folds)
    assert plan.hash == regions(column, grid.lat, grid.lon, n_folds).hash
    assert not plan.excluded.any()
    sizes = np.bincount(plan.fold[:n_columns])
    assert sizes.max() - sizes.min() <= 2
    np.testing.assert_array_equal(
        plan.fold.reshape(3, -1), plan.fold[:n_columns][None].repeat(3, 0)
    )
    places = unit_vectors(grid.lat, grid.lon)
    for k in range(n_folds):
        region = places[plan.fold[:n_columns] == k]
        assert pieces(region, 1.6 * mean_spacing(n_columns)) == 1
        # no column of another region lies nearer to its middle than a cap of its size allows
        far = angles(region, region.mean(0)[None] / np.linalg.norm(region.mean(0))).max()
        assert far < 2.2 * np.arccos(1 - 2 * len(region) / n_columns)


def test_regions_do_not_hang_on_rounding():
    """The whole globe spreads alike in all directions: the axis may not come from rounding."""
    lat, lon = (a.ravel() for a in np.meshgrid(np.linspace(-80, 80, 9), np.arange(0, 360, 20.0)))
    column = np.arange(len(lat))
    fold = regions(column, lat, lon, 5).fold
    rng = np.random.default_rng(0)
    for _ in range(5):
        moved = (values + 1e-9 * rng.standard_normal(len(lat)) for values in (lat, lon))
        np.testing.assert_array_equal(regions(column, *moved, 5).fold, fold)


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 120), st.integers(2, 6), st.integers(0, 2), st.integers(0, 9))
def test_the_embargo_of_regions_is_a_great_circle_distance(n_columns, n_folds, embargo, seed):
    rng = np.random.default_rng(seed)
    lat, lon = np.rad2deg(np.arcsin(rng.uniform(-1, 1, n_columns))), rng.uniform(0, 360, n_columns)
    column = np.sort(rng.choice(n_columns, n_columns - 5, replace=False))  # some have no rows
    places = unit_vectors(lat, lon)[column]
    reach = embargo * np.sqrt(4 * np.pi / n_columns)
    try:
        plan = regions(column, lat, lon, n_folds, embargo)
    except ClimstackError:  # nothing would be left to train on
        return
    for k in range(n_folds):
        valid, train = places[plan.valid_rows(k)], places[plan.train_rows(k)]
        if embargo:
            assert angles(train, valid).min() > reach
        out = np.flatnonzero(plan.excluded[k])
        assert (angles(places[out], valid).min(axis=1) <= reach + 1e-9).all()
    assert (plan.fold >= 0).all()


def test_inner_rows_of_regions_are_patches():
    grid = synthetic_grid(384)
    column = np.tile(np.arange(384), 2)
    plan = regions(column, grid.lat, grid.lon, 5, embargo=1)
    places, spacing = unit_vectors(grid.lat, grid.lon), mean_spacing(384)
    assert sorted(set(plan.unit)) == list(range(384))
    assert len(set(zip(plan.unit, column, strict=True))) == 384
    order = places[np.argsort(plan.unit[:384])]
    assert np.median(np.diag(angles(order[1:], order[:-1]))) < 1.5 * spacing
    for k in range(5):
        fit, watch = plan.inner_rows(k, 0.15)
        train = set(plan.train_rows(k))
        assert set(fit) | set(watch) < train
        assert not set(fit) & set(watch)
        assert np.abs(plan.unit[fit][:, None] - plan.unit[watch][None]).min() > 1
        held = np.unique(column[watch])
        assert len(held) == round(0.15 * len(np.unique(column[plan.train_rows(k)])))
        # 3 blocks in a few pieces, not strewn over the globe: few others lie right beside them
        assert pieces(places[held], 1.6 * spacing) <= 9
        assert set(column[fit]).isdisjoint(held)
        inside = within(places[np.unique(column[fit])], places[held], 1.1 * spacing)
        assert inside.mean() < 0.25


def test_regions_refuse_columns_that_the_grid_lacks():
    grid = synthetic_grid(8)
    for column, said in ((np.arange(9), "0 to 8"), (np.array([-1, 0, 1]), "-1 to 1")):
        with pytest.raises(ClimstackError, match=f"grid columns {said}.*columns 0 to 7: give the"):
            regions(column, grid.lat, grid.lon, 2)


def test_random_rows_warn():
    with pytest.warns(LeakageWarning, match="neighbours in time"):
        plan = random_rows(100, 5, seed=1)
    assert np.bincount(plan.fold).tolist() == [20] * 5


def test_hash_depends_on_content_alone():
    time = np.repeat(np.arange(20), 3)
    assert time_blocks(time, 4, 1).hash == time_blocks(time.copy(), 4, 1).hash
    hashes = {time_blocks(time, n, e).hash for n in (4, 5) for e in (0, 1)}
    hashes |= {forward_chaining(time, 4, 1).hash, time_blocks(time + 1, 4, 1).hash}
    assert len(hashes) == 6


def test_save_and_load(tmp_path):
    plan = time_blocks(np.repeat(np.arange(20), 3), 4, 1)
    plan.save(tmp_path / "folds.parquet")
    again = FoldPlan.load(tmp_path / "folds.parquet")
    assert again.hash == plan.hash
    assert (again.excluded == plan.excluded).all()
    table = pl.read_parquet(tmp_path / "folds.parquet")
    assert table.columns[:3] == ["row", "fold", "unit"]


def test_an_edited_plan_is_refused(tmp_path):
    path = tmp_path / "folds.parquet"
    time_blocks(np.repeat(np.arange(20), 3), 4, 1).save(path)
    facts = pl.read_parquet_metadata(path)
    table = pl.read_parquet(path).with_columns(fold=pl.col("fold").reverse())
    table.write_parquet(path, metadata={k: v for k, v in facts.items() if k != "ARROW:schema"})
    with pytest.raises(ClimstackError, match="was changed"):
        FoldPlan.load(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, -1), "embargo must be at least 0, but got -1"),
        ((1, 0), "n_folds must be at least 2, but got 1"),
        ((30, 0), "20 timesteps can't be cut into 30 folds"),
        ((4, 50), "has 0 training rows"),
    ],
)
def test_impossible_plans_say_why(arguments, message):
    with pytest.raises(ClimstackError, match=message):
        time_blocks(np.repeat(np.arange(20), 3), *arguments)


@pytest.mark.parametrize("column", ["fold", "unit", "excluded_0"])
def test_a_plan_without_a_column_is_refused(tmp_path, column):
    path = tmp_path / "folds.parquet"
    time_blocks(np.repeat(np.arange(20), 3), 2, 1).save(path)
    facts = pl.read_parquet_metadata(path)
    facts = {k: v for k, v in facts.items() if k != "ARROW:schema"}
    pl.read_parquet(path).drop(column).write_parquet(path, metadata=facts)
    with pytest.raises(ClimstackError, match="was changed"):
        FoldPlan.load(path)


def test_a_refit_trains_on_all_but_the_last_units():
    plan = time_blocks(np.repeat(np.arange(20), 5), n_folds=4, embargo=1).refit()
    assert plan.n_folds == 1
    np.testing.assert_array_equal(plan.valid_rows(0), np.arange(95, 100))
    np.testing.assert_array_equal(plan.train_rows(0), np.arange(95))
    with pytest.warns(LeakageWarning):
        plan = random_rows(50, 5).refit()
    np.testing.assert_array_equal(plan.valid_rows(0), [48, 49])


def test_held_out_rows_are_found_once_for_all_folds():
    plan = forward_chaining(make_time(40, 3, 0), 4, 1)
    for k in range(4):
        np.testing.assert_array_equal(plan.valid_rows(k), np.flatnonzero(plan.fold == k))
        assert plan.valid_rows(k) is plan.valid_rows(k)
        with pytest.raises(ValueError, match="read-only"):
            plan.valid_rows(k)[0] = 1
