"""Regressors of scikit-learn: many kinds, missing truths, weights, and no pickle."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.preprocessing import FunctionTransformer

from features import ClimstackError, FoldedStore, Store, kfold
from features.core.settings import from_table
from models import CellStore, FitContext, ModelSpec, cross_validate, load_family
from models.families.sklearn import FILE, Prepared, SklearnModel, SklearnParams

ESTIMATORS = {
    "ensemble.ExtraTreesRegressor": {"n_estimators": 10},
    "ensemble.HistGradientBoostingRegressor": {"max_iter": 20},
    "ensemble.GradientBoostingRegressor": {"n_estimators": 20},
    "linear_model.Ridge": {"alpha": 0.1},
    "linear_model.LassoCV": {},
    "neighbors.KNeighborsRegressor": {"n_neighbors": 3},
    "neural_network.MLPRegressor": {"hidden_layer_sizes": [20], "max_iter": 300},
    "svm.SVR": {},
    "gaussian_process.GaussianProcessRegressor": {},
    "kernel_ridge.KernelRidge": {},
    "cross_decomposition.PLSRegression": {},
}
FAMILY = load_family("sklearn")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
Y = np.stack([X[:, 0] + X[:, 1], X[:, 1] - 0.5 * X[:, 2]], axis=1)


def params(name: str, **own) -> SklearnParams:
    return from_table(SklearnParams, {"estimator": f"sklearn.{name}", "params": own}, "here")


def spec(name: str, **own) -> ModelSpec:
    held = {"estimator": f"sklearn.{name}", "params": own}
    return ModelSpec(name="m", family="sklearn", params=held, seed=3)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_many_kinds_learn_and_come_back_to_the_bit(name, tmp_path):
    store = Store.from_arrays(tmp_path / "s", X, Y)
    data = FoldedStore(store, kfold(len(X), 3))
    cells = CellStore(tmp_path / "cells")
    member = cross_validate(data, spec(name, **ESTIMATORS[name]), cells, n_jobs=1)
    assert cross_validate(data, spec(name, **ESTIMATORS[name]), cells).computed == 0
    for fold in range(3):
        held = data.plan.valid_rows(fold)
        again = member.in_order([model.predict(X[held]) for model in member.models(fold)])
        np.testing.assert_array_equal(again, member.oof(fold))
        assert ((member.oof(fold) - Y[held]) ** 2).mean() < 0.6 * Y[held].var()


def fit(model: SklearnParams, y, weights=None, seed=0):
    prepared = Prepared(X, y, weights)
    sets = FAMILY.target_sets(None, np.arange(y.shape[1]), model)
    return dict(
        zip(map(tuple, sets), FAMILY.fit(prepared, sets, model, FitContext(seed)), strict=True)
    )


def test_a_target_learns_from_its_own_rows():
    y = Y.copy()
    y[::3, 0] = y[5:, 1] = np.nan
    model = params("linear_model.Ridge", alpha=1e-6)
    [(_, fitted)] = fit(model, y).values()
    predicted = fitted.predict(X.astype(np.float32))
    np.testing.assert_allclose(predicted, Y, atol=1e-2)
    y[:, 1] = np.nan
    [(_, fitted)] = fit(model, y).values()
    assert (fitted.predict(X.astype(np.float32))[:, 1] == 0).all()


def test_seed_and_threads_are_ours_unless_given():
    made = params("ensemble.ExtraTreesRegressor").make(7)
    assert (made.random_state, made.n_jobs) == (7, 1)
    assert params("ensemble.ExtraTreesRegressor", random_state=1).make(7).random_state == 1
    assert params("ensemble.ExtraTreesRegressor", max_features="None").make(7).max_features is None
    with_none = params("ensemble.ExtraTreesRegressor", max_features=None)
    assert with_none.params == {"max_features": "None"}


def test_weights_count_or_are_refused(tmp_path):
    weights = np.where(np.arange(90) < 45, 1.0, 0.0).astype(np.float32)
    y = np.where(np.arange(90)[:, None] < 45, Y, -Y)
    [(_, fitted)] = fit(params("linear_model.Ridge", alpha=1e-6), y, weights).values()
    np.testing.assert_allclose(fitted.predict(X.astype(np.float32)), Y, atol=1e-2)

    class Weighted:
        train_rows = np.arange(90)
        weights = staticmethod(lambda rows: weights)

    with pytest.raises(ClimstackError, match="KNeighborsRegressor can't weigh rows"):
        FAMILY.prepare(Weighted(), params("neighbors.KNeighborsRegressor"), tmp_path)


@pytest.mark.parametrize(
    ("estimator", "own", "sentence"),
    [
        ("lightgbm.LGBMRegressor", {}, "is not of scikit-learn"),
        ("sklearn.ensemble.ExtraTree", {}, "is not there"),
        ("sklearn.nothing.Ridge", {}, "is not there"),
        ("sklearn.linear_model.ridge_regression", {}, "is no estimator"),
        ("sklearn.linear_model.LogisticRegression", {}, "is no regressor"),
        ("sklearn.multioutput.MultiOutputRegressor", {}, "is made of others"),
        ("sklearn.linear_model.Ridge", {"alfa": 1.0}, "no parameter 'alfa': did you mean 'alpha'"),
        ("sklearn.linear_model.Ridge", {"alpha": -1.0}, "'alpha' parameter of Ridge must be"),
        ("sklearn.linear_model.Ridge", {"alpha": object()}, "alpha must be a number"),
    ],
)
def test_what_is_wrong_is_said_before_a_fit(estimator, own, sentence):
    with pytest.raises(ClimstackError, match=sentence):
        ModelSpec(name="m", family="sklearn", params={"estimator": estimator, "params": own})


def test_what_goes_wrong_in_a_fit_is_a_sentence():
    with pytest.raises(ClimstackError, match="could not be fitted: "):
        fit(params("cross_decomposition.PLSRegression", n_components=50), Y)


def test_what_is_not_of_scikit_learn_is_not_stored(tmp_path):
    made = ExtraTreesRegressor(2).fit(X, Y)
    made.more = FunctionTransformer(np.testing.assert_equal)
    with pytest.raises(ClimstackError, match="ExtraTreesRegressor can't be stored without pickle"):
        SklearnModel([made], 2, 3).save(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("numpy", "memmap"), ("sklearn.utils._testing", "MinimalRegressor")],
)
def test_a_changed_archive_makes_nothing_else(tmp_path, module, name):
    SklearnModel([ExtraTreesRegressor(2).fit(X, Y)], 2, 3).save(tmp_path)
    with zipfile.ZipFile(tmp_path / FILE) as held:
        files = {each: held.read(each) for each in held.namelist()}
    text = json.loads(files["schema.json"])
    estimator = text["content"]["estimators"]["content"][0]
    estimator |= {"__module__": module, "__class__": name}
    files["schema.json"] = json.dumps(text).encode()
    with zipfile.ZipFile(tmp_path / FILE, "w") as made:
        for each, data in files.items():
            made.writestr(each, data)
    with pytest.raises(ClimstackError, match=r"no class of scikit-learn|is damaged"):
        FAMILY.load(tmp_path)


def test_damage_is_a_sentence(tmp_path):
    SklearnModel([ExtraTreesRegressor(2).fit(X, Y)], 2, 3).save(tmp_path)
    data = (tmp_path / FILE).read_bytes()
    for cut in (0, 10, len(data) // 2):
        (tmp_path / FILE).write_bytes(data[:cut])
        with pytest.raises(ClimstackError, match="is damaged"):
            FAMILY.load(tmp_path)


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        SklearnModel([ExtraTreesRegressor(3, random_state=0).fit(X, Y)], 2, 3).save(tmp_path / name)
    assert (tmp_path / "a" / FILE).read_bytes() == (tmp_path / "b" / FILE).read_bytes()
