"""Missing truths: each target is learned and scored on its own rows, and nothing is put in."""

import warnings

import lightgbm as lgb
import numpy as np
import pytest

from features import ClimstackError, r2_score
from models import (
    CellStore,
    FitContext,
    FoldData,
    ModelSpec,
    available_families,
    cross_validate,
    load_family,
)
from models.base import TableShape
from tests.models.tables import make_folded, numbers, robot

NET = {"preset": "tiny", "epochs": 2, "device": "cpu", "batch_size": 64}
PARAMS = {
    "ridge": {},
    "lightgbm": {"n_rounds": 20, "feature_fraction": 1.0, "early_stopping_rounds": 5},
    "xgboost": {"n_rounds": 20, "early_stopping_rounds": 5},
    "sklearn": {"params": {"n_estimators": 20}},
}
VARIABLES = [*numbers(12), *numbers(5, "target", policy="skip")]


def spec_of(family, **params):
    return ModelSpec(name="m", family=family, params=PARAMS.get(family, NET) | params)


def removed(targets, share=0.3, seed=1):
    lacks = np.random.default_rng(seed).random(targets.shape) < share
    return np.where(lacks, np.nan, targets), lacks


def fit(folded, spec, folder, targets=None):
    targets = np.arange(5) if targets is None else targets
    return cross_validate(folded, spec, CellStore(folder / "cells"), targets=targets, n_jobs=1)


@pytest.fixture(scope="module")
def table():
    return robot()


@pytest.mark.parametrize("family", ["lightgbm", "ridge", "xgboost", "transformer"])
def test_what_hides_under_the_mask_changes_nothing(family, table, tmp_path):
    """The same rows, but the truths that are removed were others: scales, models, scores."""
    x, y = table
    _, lacks = removed(y)
    found = []
    for name, truth in (("a", y), ("b", np.where(lacks, 1e3 * y - 7, y))):
        truth = np.where(lacks, np.nan, truth)
        folded = make_folded(tmp_path / name, VARIABLES, x, truth)
        member = fit(folded, spec_of(family), tmp_path / name)
        found.append((member.oof(0), member.cells[0][0].score["r2"]))
        assert np.isfinite(member.oof(0)).all()
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("linear_tree", [False, True])
def test_lightgbm_scores_as_by_hand(linear_tree, tmp_path):
    x, y = robot(4000)
    hidden, lacks = removed(y)
    folded = make_folded(tmp_path, VARIABLES, x, hidden)
    spec = spec_of("lightgbm", n_rounds=60, linear_tree=linear_tree, early_stopping_rounds=0)
    member = fit(folded, spec, tmp_path)
    for target in range(5):
        here = np.flatnonzero(~lacks[:, target])
        ours, theirs, truth = [], [], []
        for fold in (0, 1):
            valid, train = folded.plan.valid_rows(fold), folded.plan.train_rows(fold)
            own = np.intersect1d(train, here)
            gone = lacks[valid, target]
            mean, std = y[own, target].mean(), y[own, target].std()
            scaled = (x - x[train].mean(0)) / x[train].std(0)
            label = (y[own, target] - mean) / std
            settings = spec.settled(TableShape.of(folded.store)).parsed.engine(0)
            booster = lgb.train(settings, lgb.Dataset(scaled[own], label), 60)
            ours.append(member.oof(fold)[gone, target])
            theirs.append(booster.predict(scaled[valid][gone]) * std + mean)
            truth.append(y[valid][gone, target])
        truth = np.concatenate(truth)[:, None]
        hand = r2_score(truth, np.concatenate(theirs)[:, None])[0]
        assert hand > 0.5
        assert abs(r2_score(truth, np.concatenate(ours)[:, None])[0] - hand) < 0.01


def test_ridge_is_that_of_each_targets_own_rows(table, tmp_path, monkeypatch):
    x, y = table
    hidden, _ = removed(y)
    hidden[:, 3] = np.where(np.isnan(hidden[:, 2]), np.nan, y[:, 3])  # the same rows as another
    folded = make_folded(tmp_path, VARIABLES, x, hidden)
    member = fit(folded, spec_of("ridge"), tmp_path)
    for target in range(5):
        there = ~np.isnan(hidden[:, target])
        train = folded.plan.train_rows(0)
        own = train[there[train]]
        mean, std = hidden[own, target].mean(), hidden[own, target].std()
        model = member.models(0)[0]
        design = model.view.transform(x).astype(np.float64).clip(-8, 8)
        design = np.concatenate([design, np.ones((len(x), 1))], axis=1)
        alpha = model.fitted.alpha[target]
        gram = design[own].T @ design[own] + alpha * np.eye(design.shape[1])
        by_hand = np.linalg.solve(gram, design[own].T @ ((hidden[own, target] - mean) / std))
        predicted = design[folded.plan.valid_rows(0)] @ by_hand * std + mean
        np.testing.assert_allclose(member.oof(0)[:, target], predicted, rtol=1e-6, atol=1e-8)
    monkeypatch.setattr("models.families.ridge.MAX_SUMS", 1)  # a pass for each mask
    again = fit(folded, spec_of("ridge"), tmp_path / "again")
    np.testing.assert_array_equal(again.oof(0), member.oof(0))


def test_xgboost_learns_from_own_rows_alone(table, tmp_path):
    """A row that weighs 0 is as if it were not there: as a fit of the others, by the same bins."""
    import xgboost as xgb

    x, y = table
    hidden, _ = removed(y)
    folded = make_folded(tmp_path, VARIABLES, x, hidden)
    family, spec = load_family("xgboost"), spec_of("xgboost", early_stopping_rounds=0)
    spec = spec.settled(TableShape.of(folded.store))
    data = FoldData(data=folded, fold=0, targets=np.arange(5), kind="trees")
    prepared = family.prepare(data, spec.parsed, tmp_path)
    features, labels = data.arrays(data.train_rows)
    whole = xgb.QuantileDMatrix(features, max_bin=spec.parsed.max_bin)
    for (target,), model in family.fit(prepared, [[0], [1]], spec.parsed, FitContext(0)):
        own = ~np.isnan(labels[:, target])
        label = labels[own, target].clip(-10, 10).astype(np.float32)
        alone = xgb.QuantileDMatrix(features[own], label, ref=whole, max_bin=spec.parsed.max_bin)
        by_hand = xgb.train(spec.parsed.engine(0), alone, 20)
        np.testing.assert_allclose(
            by_hand.inplace_predict(features), model.predict(features)[:, 0], atol=1e-5
        )


@pytest.mark.parametrize("family", available_families())
def test_targets_of_few_rows_get_their_mean_and_are_named(family, table, tmp_path):
    x, y = table
    hidden = y.copy()
    hidden[10:, 1] = np.nan  # ten rows, in the first block
    hidden[:, 4] = np.nan
    hidden[::3, 2] = np.nan
    folded = make_folded(tmp_path, VARIABLES, x, hidden)
    with pytest.warns(UserWarning, match=r"2 of 5 .* fewer than 16 .*: y1 \(10\), y4 \(0\)"):
        member = fit(folded, spec_of(family), tmp_path)
    fold = int(10 not in folded.plan.train_rows(0))  # the one that trains on them
    np.testing.assert_allclose(member.oof(fold)[:, 1], y[:10, 1].mean(), rtol=1e-12)
    assert (member.oof(0)[:, 4] == 0).all()
    r2 = [r2 for cell in member.cells[fold] for r2 in cell.score["r2"]]
    assert r2[4] is None
    assert r2[1] is None  # no held-out row has it
    assert all(each is not None for each in (r2[0], r2[2], r2[3]))
    assert np.isfinite(member.oof(0)).all()
    assert np.ptp(member.oof(fold)[:, 2]) > 0


def test_scores_are_of_own_rows(table, tmp_path):
    x, y = table
    hidden, lacks = removed(y)
    folded = make_folded(tmp_path, VARIABLES, x, hidden)
    member = fit(folded, spec_of("ridge"), tmp_path)
    valid = folded.plan.valid_rows(0)
    for target, found in enumerate(member.cells[0][0].score["r2"]):
        here = ~lacks[valid, target]
        truth, oof = y[valid][here, target], member.oof(0)[here, target]
        assert found == pytest.approx(r2_score(truth[:, None], oof[:, None])[0], abs=1e-12)


@pytest.mark.parametrize("misses", [0.0, 0.3])
def test_networks_with_all_their_settings(misses, table, tmp_path):
    """Differences, a confidence head, a mirror, mixtures, fine-tuning, a watch: all finite."""
    x, y = table
    hidden, _ = removed(y, misses)
    profile = [*numbers(12), *numbers(1, "target", policy="skip", n_levels=5)]
    folded = make_folded(tmp_path, profile, x, hidden)
    settings = {
        "difference": 0.5, "confidence": 0.3, "mixup": 0.2, "patience": 2,
        "fine_tune_epochs": 1, "mirror": True,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        member = fit(folded, spec_of("transformer", **settings), tmp_path)
    assert np.isfinite(member.oof(0)).all()
    assert np.isfinite(member.uncertainty(0)).all()


def test_a_prediction_too_large_is_still_a_sentence(table, tmp_path):
    x, y = table
    hidden, _ = removed(y)
    folded = make_folded(tmp_path, VARIABLES, x, hidden * 1e160)
    with pytest.raises(ClimstackError, match="too large to square"):
        fit(folded, spec_of("ridge"), tmp_path)
