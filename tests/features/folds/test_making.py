"""Schemes that go by labels, single rows and people's own folds."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest

from features import ClimstackError, LeakageWarning, Store, groups, kfold, own_folds, stratified
from features.folds.enrichment import plan_store
from features.folds.making import Wanted, default_scheme

RNG = np.random.default_rng(0)
N = 60
X, Y = RNG.normal(size=(N, 3)), RNG.normal(size=(N, 2))
SITES = RNG.choice(["oslo", "rome", "bern", "riga", "lyon", "kyiv", "faro"], N)


def store_of(folder, **rows) -> Store:
    return Store.from_arrays(folder / "store", X, Y, **rows)


def validated_once(plan) -> bool:
    return sorted(np.concatenate([plan.valid_rows(k) for k in range(plan.n_folds)])) == [*range(N)]


@pytest.mark.parametrize("labels", [{"groups": SITES}, {"places": SITES}])
def test_groups_go_by_words(tmp_path, labels):
    plan = plan_store(store_of(tmp_path, **labels), "groups", n_folds=3)
    assert validated_once(plan)
    for k in range(3):
        train, valid = SITES[plan.train_rows(k)], SITES[plan.valid_rows(k)]
        assert not set(train) & set(valid)
        fit, watch = plan.inner_rows(k, 0.3)
        assert not set(SITES[fit]) & set(SITES[watch])
        assert not set(SITES[fit]) & set(valid)
        assert set(fit) | set(watch) == set(plan.train_rows(k))
    sizes = [len(plan.valid_rows(k)) for k in range(3)]
    assert max(sizes) - min(sizes) <= np.unique(SITES, return_counts=True)[1].max()


def test_groups_are_drawn_by_the_seed_alone():
    labels = np.repeat(np.arange(30), 2)
    plans = [groups(labels, 5, seed).fold.tolist() for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]
    assert groups(labels.astype(str), 5).fold.tolist() is not None
    nothing = groups(["a", None, "b", None, "c"], 3)
    assert nothing.fold[1] == nothing.fold[3]


def test_kfold_warns_unless_rows_are_independent(tmp_path):
    store = store_of(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = plan_store(store, "kfold")
    assert validated_once(plan)
    grouped = Store.from_arrays(tmp_path / "b", X, Y, places=SITES)
    for scheme in ("kfold", "stratified"):
        with pytest.warns(LeakageWarning, match="independent = true"):
            plan_store(grouped, scheme, by="y0" if scheme == "stratified" else None)


def test_inner_rows_of_sorted_rows_are_spread():
    plan = kfold(100, 5)
    _, watch = plan.inner_rows(0, 0.2)
    assert len(watch) == 16
    assert np.ptp(watch) > 50
    assert len(np.unique(watch // 20)) >= 3


@pytest.mark.parametrize("by", ["y1", "x2"])
def test_stratified_by_quantiles(tmp_path, by):
    plan = plan_store(store_of(tmp_path), "stratified", n_folds=4, by=by)
    assert validated_once(plan)
    values = {"y1": Y[:, 1], "x2": X[:, 2]}[by]
    upper = values > np.median(values)
    shares = [upper[plan.valid_rows(k)].mean() for k in range(4)]
    assert max(shares) - min(shares) < 0.15


def test_stratified_by_words_and_gaps():
    words = np.array(["dry"] * 40 + ["wet"] * 8 + [None] * 4, dtype=object)
    plan = stratified(words, 4)
    assert [int((words[plan.valid_rows(k)] == "wet").sum()) for k in range(4)] == [2, 2, 2, 2]
    assert [sum(w is None for w in words[plan.valid_rows(k)]) for k in range(4)] == [1, 1, 1, 1]


def test_own_folds_of_a_column(tmp_path):
    labels = [None if row < 6 else f"{10 - row % 3}" for row in range(N)]
    plan = plan_store(store_of(tmp_path, folds=labels, groups=np.arange(N) // 3), "column")
    assert plan.n_folds == 3
    assert [labels[plan.valid_rows(k)[0]] for k in range(3)] == ["8", "9", "10"]
    assert all(set(range(6)) <= set(plan.train_rows(k)) for k in range(3))
    fit, watch = plan.inner_rows(0, 0.2)
    assert not set(fit // 3) & set(watch // 3)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_folds_of_a_file_go_by_ids(tmp_path, suffix):
    ids = RNG.permutation(N) * 3
    store = store_of(tmp_path, ids=ids)
    order = RNG.permutation(N)
    held = [None if i % 11 == 0 else i // 3 % 3 for i in ids[order].tolist()]
    table = pl.DataFrame({"sample_id": ids[order], "fold": held})
    file = tmp_path / f"folds.{suffix}"
    getattr(table, f"write_{suffix}")(file)
    plan = plan_store(store, "file", file=str(file))
    assert plan.fold.tolist() == [-1 if i % 11 == 0 else i // 3 % 3 for i in ids.tolist()]
    for wrong, sentence in (
        (table[1:], f"lacks the id '{ids[order[0]]}'"),
        (pl.concat([table, table[:1]]), f"holds the id '{ids[order[0]]}', twice"),
        (table.with_columns(sample_id=pl.col("sample_id") + 1), "holds the id '.*', which"),
        (table.rename({"fold": "folds"}), "has no column 'fold': did you mean 'folds'"),
    ):
        getattr(wrong, f"write_{suffix}")(file)
        with pytest.raises(ClimstackError, match=sentence):
            plan_store(store, "file", file=str(file))


def test_the_default_goes_by_what_is_known(tmp_path):
    times = np.arange(N)
    stores = {
        "time_blocks": {"times": times, "groups": SITES},
        "groups": {"groups": SITES},
        "kfold": {},
    }
    for name, rows in stores.items():
        store = Store.from_arrays(tmp_path / name, X, Y, **rows)
        assert default_scheme(store) == name
        assert plan_store(store).scheme == name


@pytest.mark.parametrize("scheme", ["time_blocks", "forward_chaining", "random_rows"])
def test_what_needs_time_says_what_works_without(tmp_path, scheme):
    with pytest.raises(ClimstackError, match=r"known time .* use groups or kfold"):
        plan_store(store_of(tmp_path, groups=SITES), scheme)


def test_what_needs_labels_says_what_works_without(tmp_path):
    store = store_of(tmp_path)
    for scheme, label in (("groups", "group or place"), ("column", "fold")):
        with pytest.raises(ClimstackError, match=f"has no {label} .* use kfold"):
            plan_store(store, scheme)
    with pytest.raises(ClimstackError, match="known grid column"):
        plan_store(store, "regions")
    with pytest.raises(ClimstackError, match="no column 'y7' to stratify by: known: x0"):
        plan_store(store, "stratified", by="y7")
    with pytest.raises(ClimstackError, match="1 folds are named"):
        own_folds(["a", None, "a"])
    with pytest.raises(ClimstackError, match="2 groups can't be cut into 3 folds"):
        groups(["a", "b"], 3)


@pytest.mark.parametrize(
    "wrong",
    [{"scheme": "stratified"}, {"by": "y0"}, {"scheme": "kfold", "by": "y0"}, {"scheme": "file"}],
)
def test_by_and_file_go_with_their_schemes(wrong):
    with pytest.raises(ClimstackError, match="go together"):
        Wanted(**wrong)


def test_random_rows_on_rows_with_a_time_still_warn(tmp_path):
    with pytest.warns(LeakageWarning, match="neighbours in time"):
        plan_store(store_of(tmp_path, times=np.arange(N)), "random_rows")


@pytest.mark.parametrize("scheme", ["groups", "kfold", "stratified", "column", "file"])
def test_no_copy_of_a_held_out_row_trains(tmp_path, scheme):
    x = X.copy()
    x[40:50] = x[:10]
    store = Store.from_arrays(tmp_path / "s", x, Y, groups=SITES, folds=np.arange(N) % 3)
    ids = store.sample_ids
    pl.DataFrame({"sample_id": ids, "fold": np.arange(N) % 4}).write_csv(tmp_path / "f.csv")
    more = {"stratified": {"by": "y0"}, "file": {"file": str(tmp_path / "f.csv")}}
    with warnings.catch_warnings(action="ignore", category=LeakageWarning):
        plan = plan_store(store, scheme, n_folds=3, **more.get(scheme, {}))
    whole = plan.refit()
    pairs = [(plan.train_rows(k), plan.valid_rows(k)) for k in range(plan.n_folds)]
    pairs += [plan.inner_rows(k, 0.2) for k in range(plan.n_folds)]
    pairs.append((whole.train_rows(0), whole.valid_rows(0)))
    for train, held in pairs:
        assert not (x[train][:, None] == x[held][None]).all(axis=2).any()
    assert len(whole.valid_rows(0)) == 2
