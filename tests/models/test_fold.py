"""Models that build on others: honest predictions in, and out."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ensemble.inference.predict import _bases_of, _predict_fold, with_bases
from features import ClimstackError, FoldedStore, forward_chaining, r2_score, time_blocks
from models import CellStore, FoldData, ModelSpec, cell_keys, cross_validate
from models.diagnostics.importance import importance
from models.member import read_upstream

TREES = {"n_rounds": 12, "num_leaves": 7, "min_data_in_leaf": 5}
RIDGE = ModelSpec(name="ridge", family="ridge")
STACKED = ModelSpec(name="fed", family="lightgbm", params=TREES, inputs_from=(RIDGE,))


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return CellStore(tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="module")
def fit(folded, few_targets, cells):
    return lambda spec: cross_validate(folded, spec, cells, targets=few_targets, n_jobs=1)


@pytest.fixture(scope="module")
def ridge(fit):
    return fit(RIDGE)


def r2_of(member, store, plan):
    folds = range(plan.n_folds)
    truth = np.concatenate([store.targets[plan.valid_rows(k)][:, member.targets] for k in folds])
    return r2_score(truth, np.concatenate([member.oof(k) for k in folds]))


def test_a_training_row_shows_the_prediction_of_the_fold_that_held_it_out(
    ridge, folded, store, plan, few_targets, cells
):
    found = read_upstream(folded, STACKED, cells, few_targets)
    data = FoldData(data=folded, fold=1, targets=few_targets, kind="trees", upstream=found)
    rows = np.sort(np.random.default_rng(0).permutation(data.train_rows)[:90])
    ((name, upstream),) = found
    assert name == "ridge"
    shown = upstream(rows)
    for row, values in zip(rows, shown, strict=True):
        fold = int(plan.fold[row])
        assert fold != 1
        position = int(np.searchsorted(plan.valid_rows(fold), row))
        np.testing.assert_array_equal(values, ridge.oof(fold)[position])
    valid = plan.valid_rows(1)
    np.testing.assert_array_equal(upstream(valid), ridge.oof(1))
    features, _ = data.arrays(rows)
    added = data.upstream_scaler.transform(shown)
    np.testing.assert_array_equal(features[:, -len(few_targets) :], added.astype(np.float32))


def test_stored_models_give_the_out_of_fold_predictions(ridge, fit, store, plan, tmp_path):
    spec = STACKED
    members = {"ridge": ridge, spec.name: fit(spec)}
    assert with_bases([spec.name], members) == ["ridge", spec.name]
    done = {}
    for name in ("ridge", spec.name):
        bases = _bases_of(members[name], members, done)
        done[name] = _predict_fold(
            members[name], 1, store, bases, n_jobs=1, out=tmp_path, head=False
        )
    valid = plan.valid_rows(1)
    predicted = np.load(done[spec.name])[:, valid].T
    np.testing.assert_allclose(predicted, members[spec.name].oof(1), rtol=1e-9, atol=1e-25)
    with pytest.raises(ClimstackError, match="builds on others"):
        members[spec.name].models(0)[0].predict(store.inputs[:2])
    with pytest.raises(ClimstackError, match="builds on 'ridge', which is not given"):
        with_bases([spec.name], {spec.name: members[spec.name]})


def test_another_base_is_another_cell(folded, few_targets):
    other = ModelSpec(name="ridge", family="ridge", params={"clip": 5.0})
    specs = [
        ModelSpec(name="m", family="lightgbm", params=TREES),
        *(
            ModelSpec(name="m", family="lightgbm", params=TREES, inputs_from=(base,))
            for base in (RIDGE, other)
        ),
    ]
    hashes = {cell_keys(folded, spec, few_targets, 0)[0].hash for spec in specs}
    assert len(hashes) == 3


def test_a_base_must_be_there(folded, few_targets, tmp_path):
    with pytest.raises(ClimstackError, match="member 'ridge' lacks 1 of 1 cells"):
        cross_validate(folded, STACKED, CellStore(tmp_path), targets=few_targets)


def test_rows_without_an_out_of_fold_prediction_do_not_train(store, few_targets, tmp_path):
    plan = forward_chaining(store.time, 3, 1)
    cells = CellStore(tmp_path)
    folded = FoldedStore(store, plan)
    cross_validate(folded, RIDGE, cells, targets=few_targets, n_jobs=1)
    upstream = read_upstream(folded, STACKED, cells, few_targets)
    seen = FoldData(data=folded, fold=2, targets=few_targets, kind="trees", upstream=upstream)
    rows = seen.train_rows
    assert len(rows)
    assert (plan.fold[rows] >= 0).all()
    with pytest.raises(ClimstackError, match="no training row of fold 0"):
        _ = replace(seen, fold=0).train_rows


def test_no_leak_through_a_memorising_base(noise, schema, tmp_path):
    """Targets are noise: a base that fits its training rows closely must not help what follows."""
    plan = time_blocks(noise.time, 3, 1)
    targets = schema.modelled_targets[::60]
    deep = ModelSpec(
        name="deep", family="lightgbm", params={"num_leaves": 63, "min_data_in_leaf": 2}
    )
    cells = CellStore(tmp_path / "cells")
    cross_validate(FoldedStore(noise, plan), deep, cells, targets=targets, n_jobs=1)
    spec = ModelSpec(name="fed", family="lightgbm", params=TREES, inputs_from=(deep,))
    member = cross_validate(FoldedStore(noise, plan), spec, cells, targets=targets, n_jobs=1)
    assert r2_of(member, noise, plan).max() < 0.05


def test_importance_sums_over_groups_and_names_the_base(ridge, fit, schema):
    table = importance(fit(STACKED), schema)
    assert set(table["group"]) == {
        "ptend_t", "ptend_q0001", "ptend_u", "cam_out_FLWDS", "cam_out_SOLS",
    }  # fmt: skip
    shares = table.group_by("group").agg(pl.col("share").sum())["share"]
    np.testing.assert_allclose(shares, 1.0)
    assert "ridge.ptend_t_45" in set(table["variable"])
    assert table.filter(pl.col("variable") == "state_t")["level"].max() == 59
    assert importance(ridge, schema) is None
