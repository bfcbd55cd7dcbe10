"""Auxiliary sources: what they may train on, and that nothing near a held-out row does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features import (
    Auxiliary,
    ClimstackError,
    FoldPlan,
    Store,
    convert,
    enrich,
    groups,
    time_blocks,
)
from features.folds.enrichment import main_rows, plan_store

N_GRID, STRIDE = 16, 3
ARCHIVE = Auxiliary(source="archive.parquet", weight=0.5)


def timesteps(table: pl.DataFrame, chosen: np.ndarray) -> pl.DataFrame:
    """Rows of some timesteps, with ids of their own."""
    rows = (np.asarray(chosen)[:, None] * N_GRID + np.arange(N_GRID)).ravel()
    return table[rows]


def stored(folder: Path, schema, **tables: pl.DataFrame) -> Store:
    files = []
    for name, table in tables.items():
        files.append(folder / f"{name}.parquet")
        ids = pl.Series("sample_id", [f"{name}_{row}" for row in range(len(table))])
        table.with_columns(ids).write_parquet(files[-1])
    return convert(files, folder / "store", schema, N_GRID)


@pytest.fixture(scope="module")
def table(generated) -> pl.DataFrame:
    return pl.read_parquet(generated["train"])


@pytest.fixture(scope="module")
def every_third(table, schema, tmp_path_factory) -> Store:
    """Every third of 24 timesteps, and an archive of all of them."""
    folder = tmp_path_factory.mktemp("third")
    main = timesteps(table, np.arange(0, 24, STRIDE))
    return stored(folder, schema, main=main, archive=table)


def true_time(store: Store) -> np.ndarray:
    """Timestep of each row of ``every_third`` in the simulation."""
    first = store.time[store.source == 1].min()
    return np.where(store.source == 0, store.time * STRIDE, store.time - first)


@pytest.mark.parametrize("scheme", ["time_blocks", "forward_chaining"])
@pytest.mark.parametrize("embargo", [0, 1])
@pytest.mark.parametrize("own", [None, 2])
def test_copies_say_where_an_archive_lies_in_time(every_third, scheme, embargo, own):
    store, time = every_third, true_time(every_third)
    auxiliary = Auxiliary(source="archive.parquet", weight=0.5, embargo=own)
    plan = plan_store(store, scheme, n_folds=3, embargo=embargo, auxiliaries=[auxiliary])
    assert (plan.fold[plan.auxiliary] == -1).all()
    assert set(plan.weight[plan.auxiliary]) == {0.5}
    assert set(plan.weight[~plan.auxiliary]) == {1.0}
    for k in range(3):
        valid, train = plan.valid_rows(k), plan.train_rows(k)
        theirs = train[plan.auxiliary[train]]
        assert len(theirs) or (scheme, own) == ("forward_chaining", 2)  # the past is too short
        wanted = (embargo if own is None else own) * STRIDE
        first, last = time[valid].min(), time[valid].max()
        distance = np.maximum(first - time[theirs], time[theirs] - last)
        assert (distance > wanted).all()
        if scheme == "forward_chaining":
            assert (time[theirs] < first).all()
            continue
        # What lies between two copies may be as near as the nearer one, and no more is given away.
        left_out = np.setdiff1d(np.flatnonzero(plan.auxiliary), theirs)
        away = np.maximum(first - time[left_out], time[left_out] - last)
        assert (away < wanted + STRIDE).all()


def test_the_training_data_s_own_folds_are_as_without_extra_rows(every_third):
    store = every_third
    main = main_rows(store, [ARCHIVE])
    alone = time_blocks(store.time[main], 3, 1)
    plan = enrich(alone, store, [ARCHIVE])
    assert plan.hash != alone.hash
    assert enrich(alone, store, []) is alone
    for k in range(3):
        assert np.array_equal(plan.valid_rows(k), main[alone.valid_rows(k)])
        ours = plan.train_rows(k)
        assert np.array_equal(ours[~plan.auxiliary[ours]], main[alone.train_rows(k)])


def test_rows_to_watch_are_never_extra_ones_nor_near_those_to_fit_on(every_third):
    store, time = every_third, true_time(every_third)
    plan = plan_store(store, "time_blocks", n_folds=3, embargo=0, auxiliaries=[ARCHIVE])
    for k in range(3):
        fit, watch = plan.inner_rows(k, 0.2)
        assert plan.auxiliary[fit].any()
        assert not plan.auxiliary[watch].any()
        assert not np.isin(time[fit], time[watch]).any()
    with pytest.raises(ClimstackError, match="too few to hold"):  # auxiliary rows alone are no fit
        time_blocks_with_far_rows(store).inner_rows(0, 0.9)
    whole = plan.refit()
    assert not whole.auxiliary[whole.valid_rows(0)].any()
    held, train = whole.valid_rows(0), whole.train_rows(0)
    assert whole.auxiliary[train].sum() == plan.auxiliary.sum() - len(held)  # without their copies
    assert not np.isin(time[train], time[held]).any()


def time_blocks_with_far_rows(store: Store) -> FoldPlan:
    """A plan whose auxiliary rows are far from everything."""
    plan = plan_store(store, "time_blocks", n_folds=3, embargo=2, auxiliaries=[ARCHIVE])
    far = np.where(plan.auxiliary, 10**6, plan.unit)
    return replace(plan, excluded=plan.excluded & ~plan.auxiliary, unit=far, last=far)


def test_a_plan_with_extra_rows_is_read_back_as_it_was(every_third, tmp_path):
    plan = plan_store(every_third, "time_blocks", n_folds=3, embargo=1, auxiliaries=[ARCHIVE])
    plan.save(tmp_path / "folds.parquet")
    again = FoldPlan.load(tmp_path / "folds.parquet")
    assert again.hash == plan.hash
    assert np.array_equal(again.weight, plan.weight)
    assert np.array_equal(again.last, plan.last)
    assert np.array_equal(again.auxiliary, plan.auxiliary)
    other = plan_store(
        every_third,
        "time_blocks",
        n_folds=3,
        embargo=1,
        auxiliaries=[Auxiliary(source="archive.parquet")],
    )
    assert other.hash != plan.hash


def test_a_source_that_follows_keeps_its_distance_and_another_simulation_needs_none(
    table, schema, tmp_path
):
    store = stored(
        tmp_path,
        schema,
        main=timesteps(table, np.arange(12)),
        later=timesteps(table, [*range(12, 24)]),
    )
    after = plan_store(
        store,
        "time_blocks",
        n_folds=3,
        embargo=2,
        auxiliaries=[Auxiliary(source="later.parquet", time="stored")],
    )
    auxiliary = np.flatnonzero(after.auxiliary)
    assert set(store.time[auxiliary[after.excluded[2][auxiliary]]]) == {12, 13}
    assert not after.excluded[:2][:, auxiliary].any()
    apart = plan_store(
        store,
        "time_blocks",
        n_folds=3,
        embargo=2,
        auxiliaries=[Auxiliary(source="later.parquet", time="separate")],
    )
    assert not apart.excluded[:, auxiliary].any()
    with pytest.raises(ClimstackError, match="no known place in the training data's time: say"):
        plan_store(
            store,
            "time_blocks",
            n_folds=3,
            embargo=2,
            auxiliaries=[Auxiliary(source="later.parquet")],
        )


def test_what_the_settings_say_is_not_believed_against_copies(every_third, table, schema, tmp_path):
    for time, sentence in (
        ("separate", "holds copies of 8 of its timesteps: leave time out"),
        ("stored", "is a copy of the training data's timestep 0, so the store's numbers"),
    ):
        with pytest.raises(ClimstackError, match=sentence):
            plan_store(
                every_third,
                "time_blocks",
                n_folds=3,
                embargo=1,
                auxiliaries=[Auxiliary(source="archive.parquet", time=time)],
            )
    backwards = stored(
        tmp_path, schema, main=timesteps(table, np.arange(9)), other=timesteps(table, [5, 3, 20])
    )
    with pytest.raises(ClimstackError, match="in another order: sort it by time"):
        plan_store(
            backwards,
            "time_blocks",
            n_folds=3,
            embargo=1,
            auxiliaries=[Auxiliary(source="other.parquet")],
        )


def test_a_source_with_gaps_keeps_away_from_all_that_its_rows_may_be(table, schema, tmp_path):
    """Rows of a table are counted, not timed: between copies of 0 and 22 may lie any time."""
    main = timesteps(table, np.arange(0, 24, 2))
    there = np.array([0, 17, 19, 21, 22])
    store = stored(tmp_path, schema, main=main, gaps=timesteps(table, there))
    plan = plan_store(
        store, "time_blocks", n_folds=4, embargo=1, auxiliaries=[Auxiliary(source="gaps.parquet")]
    )
    own = np.flatnonzero(plan.auxiliary)
    true = np.repeat(there, N_GRID)
    assert plan.excluded[:, own[(true > 0) & (true < 22)]].all()
    for k in range(4):
        held = store.time[plan.valid_rows(k)] * 2
        train = ~plan.excluded[k, own]
        away = np.maximum(held.min() - true[train], true[train] - held.max())
        assert (away > 2).all()
    assert not plan.excluded[1:3, own].all()  # copies have their place


def test_training_data_do_not_count_on_from_a_source(table, schema, tmp_path):
    a, b, x = (timesteps(table, np.arange(*part)) for part in ((0, 6), (6, 12), (12, 24)))
    store = stored(tmp_path, schema, a=a, x=x, b=b)
    with pytest.raises(
        ClimstackError, match=r"count on from those of auxiliary source 'x\.parquet': co"
    ):
        plan_store(
            store,
            "time_blocks",
            n_folds=3,
            embargo=1,
            auxiliaries=[Auxiliary(source="x.parquet", time="separate")],
        )


def test_a_copy_is_found_behind_another_row_of_the_same_parity(table, schema, tmp_path):
    """The order of columns does not show in a parity; values decide."""
    first = timesteps(table, [1]).with_columns(
        state_t_10=pl.col("state_t_11"), state_t_11=pl.col("state_t_10")
    )
    main = pl.concat([first, timesteps(table, np.arange(1, 9))])
    store = stored(tmp_path, schema, main=main, copy=timesteps(table, [1]))
    parity = store.row_parities("inputs")
    assert np.array_equal(parity[:N_GRID], parity[N_GRID : 2 * N_GRID])
    with pytest.raises(ClimstackError, match="holds copies of 1 of its timesteps"):
        plan_store(
            store,
            "time_blocks",
            n_folds=3,
            embargo=1,
            auxiliaries=[Auxiliary(source="copy.parquet", time="separate")],
        )
    plan = plan_store(
        store, "time_blocks", n_folds=3, embargo=0, auxiliaries=[Auxiliary(source="copy.parquet")]
    )
    assert set(plan.unit[plan.auxiliary]) == {1}


def test_no_copy_of_a_held_out_row_trains_whatever_its_column(table, schema, tmp_path):
    main = timesteps(table, np.arange(9))
    rolled = pl.concat([main[N_GRID // 2 :], main[: N_GRID // 2]])
    store = stored(tmp_path, schema, main=main, rolled=rolled)
    with pytest.raises(ClimstackError, match=r"from 'rolled.parquet', is a copy of row \d+, which"):
        plan_store(
            store,
            "column_blocks",
            n_folds=4,
            embargo=0,
            auxiliaries=[Auxiliary(source="rolled.parquet")],
        )


def test_held_out_columns_are_held_out_of_extra_sources_too(every_third):
    plan = plan_store(every_third, "column_blocks", n_folds=4, embargo=1, auxiliaries=[ARCHIVE])
    for k in range(4):
        held = set(every_third.column[plan.valid_rows(k)])
        near = held | {c + d for c in held for d in (-1, 1)}
        train = plan.train_rows(k)
        assert not near & set(every_third.column[train[plan.auxiliary[train]]])
        assert plan.auxiliary[train].any()
    with pytest.raises(ClimstackError, match="has an embargo, which counts timesteps, but scheme"):
        plan_store(
            every_third,
            "column_blocks",
            n_folds=4,
            embargo=1,
            auxiliaries=[Auxiliary(source="archive.parquet", embargo=1)],
        )


@pytest.mark.parametrize(
    ("auxiliaries", "sentence"),
    [
        (
            [Auxiliary(source="archiv.parquet")],
            "has no source 'archiv.parquet': did you mean 'archive.parq",
        ),
        ([ARCHIVE, ARCHIVE], "auxiliary source 'archive.parquet' is named twice: remove one"),
        (
            [ARCHIVE, Auxiliary(source="main.parquet")],
            "is an auxiliary one: leave one to validate on",
        ),
    ],
)
def test_wrong_sources_are_refused(every_third, auxiliaries, sentence):
    with pytest.raises(ClimstackError, match=sentence):
        plan_store(every_third, "time_blocks", n_folds=3, embargo=1, auxiliaries=auxiliaries)


def test_random_folds_and_a_plan_of_other_rows_are_refused(every_third):
    with pytest.warns(match="random"), pytest.raises(ClimstackError, match="use time_blocks"):
        plan_store(every_third, "random_rows", n_folds=3, embargo=0, auxiliaries=[ARCHIVE])
    days = groups(every_third.time[main_rows(every_third, [ARCHIVE])] // 2, 3)
    with pytest.raises(ClimstackError, match="folds of scheme groups keep neither time nor place"):
        enrich(days, every_third, [ARCHIVE])
    with pytest.raises(ClimstackError, match="outside its auxiliary sources: make the plan from"):
        enrich(time_blocks(every_third.time, 3, 1), every_third, [ARCHIVE])


@pytest.mark.parametrize(
    ("name", "value"), [("weight", 0.0), ("weight", 1e300), ("embargo", -1), ("time", "far")]
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(ClimstackError, match=f"{name} must"):
        Auxiliary(source="more.parquet", **{name: value})


@pytest.mark.real
def test_real_pairs_find_their_place_among_the_rows_of_the_table(real_folder, schema, tmp_path):
    """Two timesteps of the archive, which the competition's table holds too."""
    pytest.importorskip("netCDF4")
    sources = [real_folder / "train.parquet", real_folder / "netcdf"]
    store = convert(sources, tmp_path / "store", schema)
    stamps = (real_folder / "timesteps.txt").read_text().split()
    places = [stamps.index(stamp) for stamp in ("0008-01-01-62400", "0008-01-11-01200")]
    plan = plan_store(
        store,
        "time_blocks",
        n_folds=5,
        embargo=0,
        auxiliaries=[Auxiliary(source="netcdf", weight=0.5)],
    )
    assert plan.unit[plan.auxiliary].tolist() == np.repeat(places, 384).tolist()
    for k in range(5):
        units = set(plan.unit[plan.valid_rows(k)])
        train = plan.train_rows(k)
        used = set(plan.unit[train[plan.auxiliary[train]]])
        assert used == {place for place in places if place not in units}
