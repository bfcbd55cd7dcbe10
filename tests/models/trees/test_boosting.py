"""One binning per family and fold; swapped labels give what fresh fits give, to the byte."""

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
import xgboost as xgb

from features import FoldedStore, convert
from models import CellStore, FitContext, FoldData, ModelSpec, cross_validate, load_family
from models.base import TableShape
from models.trees.boosting import seen_levels

LIGHTGBM = {"n_rounds": 10, "num_leaves": 7, "min_data_in_leaf": 5}
XGBOOST = {"n_rounds": 10, "max_depth": 3}
STOPPING = [0, 25]
WINDOWS = [-1, 4]


def fitted(folded, targets, family, params, folder):
    """The fold's data, and the models of family and parameters by their targets."""
    spec = ModelSpec(name="m", family=family, params=params, seed=3)
    model = load_family(family)
    parsed = model.settle(spec.parsed, TableShape.of(folded.store))
    data = FoldData(data=folded, fold=0, targets=targets, kind="trees")
    sets = model.target_sets(folded.store.schema, targets, parsed)
    found = model.fit(model.prepare(data, parsed, folder), sets, parsed, FitContext(3))
    return data, parsed, list(found)


def clipped(labels):
    return np.clip(labels, -10, 10).astype(np.float32)


@pytest.fixture(scope="module")
def sparse(generated, schema, tmp_path_factory):
    """A store in which some inputs are mostly zero, as on real rows: LightGBM bundles such."""
    folder, rng = tmp_path_factory.mktemp("sparse"), np.random.default_rng(0)
    table = pl.read_parquet(generated["train"])
    may_be_zero = [v for v in schema.inputs if v.limits[0] <= 0 <= v.limits[1] and not v.static]
    rare = [c for v in may_be_zero if "cam_in" in v.name or "q000" in v.name for c in v.columns]
    kept = rng.random((len(rare), len(table))) < 0.04
    table.with_columns(
        pl.col(name) * pl.Series(here) for name, here in zip(rare, kept, strict=True)
    ).write_parquet(folder / "sparse.parquet")
    return convert(folder / "sparse.parquet", folder / "store", schema, 16)


@pytest.mark.parametrize("rows", ["store", "sparse"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("early_stopping_rounds", STOPPING)
def test_lightgbm_equals_fresh_datasets(
    request, plan, few_targets, tmp_path, early_stopping_rounds, window, rows
):
    store = request.getfixturevalue(rows)
    params = LIGHTGBM | {"early_stopping_rounds": early_stopping_rounds, "window": window}
    data, parsed, models = fitted(
        FoldedStore(store, plan), few_targets, "lightgbm", params, tmp_path
    )
    fit, watch = data.inner_rows(parsed.inner_fraction if early_stopping_rounds else 0)
    features, labels = data.arrays(fit)
    settings = parsed.engine(3)
    assert len(models) == 5
    for served, model in models:
        names = [data.feature_names[i] for i in model.columns]
        label = clipped(labels[:, served[0]])
        train = lgb.Dataset(features[:, model.columns], label, feature_name=names, params=settings)
        valid, callbacks = [], []
        if early_stopping_rounds:
            watched, their = data.arrays(watch)
            their = clipped(their[:, served[0]])
            seen = watched[:, model.columns]
            valid = [lgb.Dataset(seen, their, reference=train, params=settings)]
            callbacks = [lgb.early_stopping(early_stopping_rounds, verbose=False)]
        booster = lgb.train(settings, train, parsed.n_rounds, valid_sets=valid, callbacks=callbacks)
        best = booster.best_iteration if early_stopping_rounds else parsed.n_rounds
        assert booster.model_to_string(num_iteration=best) == model.text


@pytest.mark.parametrize("early_stopping_rounds", STOPPING)
def test_xgboost_equals_fresh_matrices(folded, few_targets, tmp_path, early_stopping_rounds):
    params = XGBOOST | {"early_stopping_rounds": early_stopping_rounds}
    data, parsed, models = fitted(folded, few_targets, "xgboost", params, tmp_path)
    fit, watch = data.inner_rows(parsed.inner_fraction if early_stopping_rounds else 0)
    features, labels = data.arrays(fit)
    for served, model in models:
        label = clipped(labels[:, served])
        fresh = xgb.QuantileDMatrix(features[:, model.columns], label, max_bin=parsed.max_bin)
        stopping = {}
        if early_stopping_rounds:
            watched, their = data.arrays(watch)
            other = xgb.QuantileDMatrix(
                watched[:, model.columns], clipped(their[:, served]), max_bin=parsed.max_bin,
                ref=fresh,
            )  # fmt: skip
            stopping = {"evals": [(other, "watch")], "early_stopping_rounds": 25}
        booster = xgb.train(
            parsed.engine(3), fresh, parsed.n_rounds, verbose_eval=False, **stopping
        )
        if stopping:
            booster = booster[: booster.best_iteration + 1]
        assert bytes(booster.save_raw("ubj")) == model.raw


@pytest.mark.parametrize(
    ("family", "params", "module", "name", "windows"),
    [
        ("lightgbm", LIGHTGBM, lgb, "Dataset", 1),
        ("xgboost", XGBOOST | {"window": -1}, xgb, "QuantileDMatrix", 1),
        ("xgboost", XGBOOST, xgb, "QuantileDMatrix", 4),
    ],
)
def test_one_binning_per_fold(
    folded, few_targets, tmp_path, monkeypatch, family, params, module, name, windows
):
    """Every raw value is binned once per fold and window, watched rows against the same edges."""
    binned = []
    original = getattr(module, name)

    class Counting(original):
        def __init__(self, data, *args, **kwargs):
            if isinstance(data, np.ndarray):
                reference = kwargs.get("ref")
                reference = args[1] if len(args) > 1 else reference
                binned.append(("fit" if reference is None else "watch", data.shape[1]))
            super().__init__(data, *args, **kwargs)

    monkeypatch.setattr(module, name, Counting)
    spec = ModelSpec(name="m", family=family, params=params | {"early_stopping_rounds": 5})
    cross_validate(
        folded,
        spec,
        CellStore(tmp_path / "cells"),
        targets=few_targets,
        folds=[0],
        n_jobs=1,
    )
    data = FoldData(data=folded, fold=0, targets=few_targets, kind="trees")
    for rows in ("fit", "watch"):
        widths = [width for what, width in binned if what == rows]
        if windows == 1:  # each of the fold's features exactly once
            assert sum(widths) == len(data.feature_names)
        else:
            assert len(widths) == windows


def test_window_of_a_target():
    there = [-1, *range(60)]
    assert seen_levels(30, 2, there) == [-1, 28, 29, 30, 31, 32]
    assert seen_levels(59, 2, there) == [-1, 57, 58, 59]
    assert seen_levels(30, -1, there) == there
    assert seen_levels(-1, 2, there) == [-1, *range(3, 60, 4)]
    assert seen_levels(30, 0, [*range(60)]) == [30]
    assert seen_levels(30, 2, [5, 6]) == [5, 6]  # nothing near: all is better than none


@pytest.mark.parametrize("family", ["lightgbm", "xgboost"])
def test_importance_is_the_gain_of_the_features_seen(folded, few_targets, tmp_path, family):
    params = XGBOOST | {"colsample_bytree": 1.0}
    if family == "lightgbm":
        params = LIGHTGBM | {"feature_fraction": 1.0}
    member = cross_validate(
        folded,
        ModelSpec(name="m", family=family, params=params),
        CellStore(tmp_path),
        targets=few_targets,
        folds=[0],
        n_jobs=1,
    )
    for cell in member.cells[0]:
        gain, model = np.load(cell.path / "importance.npy"), cell.model()
        assert gain.shape == (len(model.view.feature_names),)
        assert gain.sum() > 0
        unseen = np.setdiff1d(np.arange(len(gain)), model.fitted.columns)
        assert (gain[unseen] == 0).all()
    sunlight = member.cells[0][member.sets.index([4])] if [4] in member.sets else None
    if sunlight is not None:  # the visible flux at the ground depends on the sun above all
        gain = np.load(sunlight.path / "importance.npy")
        best = sunlight.model().view.feature_names[int(gain.argmax())]
        assert best.startswith(("pbuf_SOLIN", "pbuf_COSZRS", "absorbed_"))
