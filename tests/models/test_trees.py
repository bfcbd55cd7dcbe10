"""One binning per family and fold; swapped labels give what fresh fits give, to the byte."""

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb

from models import CellStore, FoldData, ModelSpec, cross_validate, load_family

LIGHTGBM = {"n_rounds": 10, "num_leaves": 7, "min_data_in_leaf": 5}
XGBOOST = {"n_rounds": 10, "max_depth": 3}


def fold_data(store, plan, targets, watch_blocks=0.1):
    data = FoldData(store, plan, 0, targets, both=False)
    fit, watch = data.inner_rows(25, watch_blocks)
    return data, data.arrays(fit), data.arrays(watch)


@pytest.mark.parametrize("early_stopping_rounds", [0, 25])
def test_lightgbm_equals_fresh_datasets(store, plan, few_targets, tmp_path, early_stopping_rounds):
    params = LIGHTGBM | {"early_stopping_rounds": early_stopping_rounds}
    spec = ModelSpec("m", "lightgbm", params, seed=3)
    family, parsed = load_family("lightgbm"), spec.parsed
    data = FoldData(store, plan, 0, few_targets, both=False)
    prepared = family.prepare(data, parsed, tmp_path)
    fitted = {served[0]: model for served, model in family.fit(prepared, range(5), parsed, 3)}
    fit, watch = data.inner_rows(early_stopping_rounds, parsed.inner_fraction)
    features, labels = data.arrays(fit)
    settings = parsed.engine(3)
    for target in range(5):
        label = np.clip(labels[:, target], -10, 10).astype(np.float32)
        train = lgb.Dataset(features, label, params=settings)
        valid, callbacks = [], []
        if early_stopping_rounds:
            watched, their = data.arrays(watch)
            their = np.clip(their[:, target], -10, 10).astype(np.float32)
            valid = [lgb.Dataset(watched, their, reference=train, params=settings)]
            callbacks = [lgb.early_stopping(early_stopping_rounds, verbose=False)]
        booster = lgb.train(settings, train, parsed.n_rounds, valid_sets=valid, callbacks=callbacks)
        best = booster.best_iteration if early_stopping_rounds else parsed.n_rounds
        assert booster.model_to_string(num_iteration=best) == fitted[target].text


def test_xgboost_equals_fresh_matrices(store, plan, few_targets, tmp_path):
    spec = ModelSpec("m", "xgboost", XGBOOST, seed=3)
    family, parsed = load_family("xgboost"), spec.parsed
    data, (features, labels), (watched, their) = fold_data(store, plan, few_targets)
    prepared = family.prepare(data, parsed, tmp_path)
    for served, model in family.fit(prepared, range(5), parsed, 3):
        label = np.clip(labels[:, served[0]], -10, 10).astype(np.float32)
        fresh = xgb.QuantileDMatrix(features, label, max_bin=parsed.max_bin)
        other = np.clip(their[:, served[0]], -10, 10).astype(np.float32)
        valid = xgb.QuantileDMatrix(watched, other, max_bin=parsed.max_bin, ref=fresh)
        booster = xgb.train(
            parsed.engine(3), fresh, parsed.n_rounds, evals=[(valid, "watch")],
            early_stopping_rounds=25, verbose_eval=False,
        )  # fmt: skip
        assert bytes(booster[: booster.best_iteration + 1].save_raw("ubj")) == model.raw


@pytest.mark.parametrize(
    ("family", "params", "module", "name"),
    [
        ("lightgbm", LIGHTGBM | {"early_stopping_rounds": 5}, lgb, "Dataset"),
        ("xgboost", XGBOOST, xgb, "QuantileDMatrix"),
    ],
)
def test_one_binning_per_fold(
    store, plan, few_targets, tmp_path, monkeypatch, family, params, module, name
):
    """Raw rows are binned once per fold for fitting, and once against those edges for watching."""
    made = []
    original = getattr(module, name)

    class Counting(original):
        def __init__(self, data, *args, **kwargs):
            reference = kwargs.get("reference") or kwargs.get("ref")
            if isinstance(data, np.ndarray):
                made.append("watch" if reference is not None else "fit")
            super().__init__(data, *args, **kwargs)

    monkeypatch.setattr(module, name, Counting)
    spec = ModelSpec("m", family, params)
    cross_validate(store, plan, spec, CellStore(tmp_path / "cells"), targets=few_targets, n_jobs=1)
    assert made == ["fit", "watch"] * plan.n_folds
