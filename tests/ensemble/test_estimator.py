"""StackedRegressor holds scikit-learn's own contract, with its exceptions listed."""

from __future__ import annotations

import copy
import gc
import pickle

import joblib
import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from ensemble import StackedRegressor, load_leaderboard
from features import ClimstackError, FoldPlan, Store
from features.core.files import read_json

COPIES = "its rows are two, each repeated, and no copy of a held-out row trains"
EXPECTED = {
    "check_sample_weights_shape": COPIES,
    "check_sample_weights_not_overwritten": COPIES,
    "check_sample_weight_equivalence_on_dense_data": "folds are cut by rows, not by their weights",
}
SKLEARN_RIDGE = {"family": "sklearn", "estimator": "sklearn.linear_model.Ridge"}
N = 120
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4))
Y = X @ RNG.normal(size=(4, 3)) + 0.1 * RNG.normal(size=(N, 3))


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [StackedRegressor(models=["ridge"]), StackedRegressor(models=[SKLEARN_RIDGE])],
    expected_failed_checks=lambda _: EXPECTED,
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def fitted() -> StackedRegressor:
    return StackedRegressor(models=["ridge", SKLEARN_RIDGE]).fit(X, Y)


def test_many_targets_are_learned(fitted):
    assert fitted.predict(X).shape == Y.shape
    assert fitted.score(X, Y) > 0.95
    assert fitted.leaderboard_[0]["score"] > 0.95
    assert {row["model"] for row in fitted.leaderboard_} >= {"ridge", "sklearn"}
    assert StackedRegressor(models=["ridge"]).fit(X, Y[:, :1]).predict(X).shape == (N, 1)
    assert StackedRegressor(models=["ridge"]).fit(X, Y[:, 0]).predict(X).shape == (N,)


def test_it_stands_in_a_pipeline_and_in_cross_validation():
    pipeline = make_pipeline(StandardScaler(), StackedRegressor(models=["ridge"], n_folds=3))
    assert cross_val_score(pipeline, X, Y[:, 0], cv=3).min() > 0.9
    groups = np.arange(N) // 10
    scores = cross_val_score(pipeline, X, Y, cv=GroupKFold(3), groups=groups)
    assert scores.min() > 0.9


@pytest.mark.parametrize("way", ["pickle", "joblib", "deepcopy"])
def test_what_is_fitted_can_be_sent_elsewhere(tmp_path, way):
    one = StackedRegressor(models=["ridge"]).fit(X, Y)
    expected, first = one.predict(X), one.run_
    if way == "pickle":
        data = pickle.dumps(one)
    elif way == "joblib":
        joblib.dump(one, tmp_path / "m.joblib")
    other = copy.deepcopy(one) if way == "deepcopy" else None
    del one
    gc.collect()
    assert not first.exists()
    if other is None:
        other = joblib.load(tmp_path / "m.joblib") if way == "joblib" else pickle.loads(data)  # noqa: S301
    np.testing.assert_array_equal(other.predict(X), expected)


def test_a_clone_is_not_fitted(fitted):
    again = clone(fitted).set_params(n_folds=3)
    assert again.models is not fitted.models or again.models == fitted.models
    assert not hasattr(again, "leaderboard_")
    assert again.get_params()["n_folds"] == 3


def test_a_named_run_is_a_run(tmp_path):
    named = StackedRegressor(models=["ridge"], run=tmp_path / "wind").fit(X, Y)
    assert load_leaderboard(tmp_path / "wind") == named.leaderboard_
    data = pickle.dumps(named)
    np.testing.assert_array_equal(pickle.loads(data).predict(X), named.predict(X))  # noqa: S301
    again = clone(named).fit(X, Y)
    facts = read_json(tmp_path / "wind" / "run.json")
    assert [s["cells_computed"] for s in facts["stages"] if s["stage"] == "fit ridge"] == [5, 0]
    with pytest.raises(ClimstackError, match="holds a run on other rows"):
        again.fit(X, Y + 1)


def test_groups_and_times_choose_the_folds(tmp_path):
    labels = RNG.choice(["a", "b", "c", "d"], N)
    for name, more in {
        "groups": {"groups": labels},
        "time_blocks": {"times": np.datetime64("2024-01-01") + np.arange(N)},
        "kfold": {},
    }.items():
        StackedRegressor(models=["ridge"], run=tmp_path / name).fit(X, Y, **more)
        plan = FoldPlan.load(tmp_path / name / "folds.parquet")
        assert plan.scheme == name
        if name == "groups":
            assert plan.n_folds == 4
            for k in range(4):
                assert not set(labels[plan.valid_rows(k)]) & set(labels[plan.train_rows(k)])


def test_weights_count_and_zeros_are_left_out():
    half = (np.arange(N) < 60).astype(float)
    y = np.where(half[:, None] > 0, Y, -Y)
    one = StackedRegressor(models=["ridge"], n_folds=3)
    with_zeros = one.fit(X, y, sample_weight=half).predict(X)
    without = clone(one).fit(X[:60], y[:60]).predict(X)
    np.testing.assert_array_equal(with_zeros, without)
    flat = np.where(half[:, None] > 0, Y, 0.5 * Y)
    heavy = clone(one).fit(X, flat, sample_weight=half + 0.01).predict(X)
    assert heavy.std() > 1.2 * clone(one).fit(X, flat).predict(X).std()
    with pytest.raises(ClimstackError, match="3 rows have a weight above 0"):
        one.fit(X, y, sample_weight=(np.arange(N) < 3))
    knn = {"family": "sklearn", "estimator": "sklearn.neighbors.KNeighborsRegressor"}
    with pytest.raises(ClimstackError, match="can't weigh rows"):
        StackedRegressor(models=[knn]).fit(X, y, sample_weight=half + 1)


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_frames_name_inputs_and_targets(library, tmp_path):
    def frame(values, names):
        if library == "polars":
            return pl.DataFrame(values, schema=names)
        return pytest.importorskip("pandas").DataFrame(values, columns=names)

    names = ["u", "v", "w", "y1"]
    one = StackedRegressor(models=["ridge"], run=tmp_path / "run")
    one.fit(frame(X, names), frame(Y, ["y1", "b", "c"]))
    assert one.feature_names_in_.tolist() == names
    assert Store(tmp_path / "run" / "store" / "train").schema.target_columns == [
        "target y1",
        "b",
        "c",
    ]
    np.testing.assert_array_equal(
        one.predict(frame(X, names))[:9], one.predict(frame(X[:9], names))
    )
    with pytest.raises(ValueError, match="feature names"):
        one.predict(frame(X, names[::-1]))


def test_missing_inputs_are_filled():
    gaps = X.copy()
    gaps[::7, 1] = np.nan
    one = StackedRegressor(models=["ridge"]).fit(gaps, Y)
    assert np.isfinite(one.predict(gaps)).all()


def test_a_target_is_learned_and_scored_where_it_is_there():
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(200, 4))
    truth = np.stack([inputs @ [1.0, 2.0, 0.0, 1.0], inputs[:, 0] - inputs[:, 3]], axis=1)
    gaps = np.where(rng.random(truth.shape) < 0.3, np.nan, truth)
    one = StackedRegressor(models=["ridge", "lightgbm"]).fit(inputs, gaps)
    assert one.leaderboard_[0]["score"] > 0.9
    missing = np.isnan(gaps)
    error = ((one.predict(inputs) - truth)[missing] ** 2).mean()
    assert error < 0.05 * truth[missing].var()


def test_parameters_of_a_family_stand_beside_its_name():
    trees = {"name": "extra", "family": "sklearn", "params": {"n_estimators": 5}}
    forest = {"family": "lightgbm", "n_rounds": 5, "min_data_in_leaf": 5}
    one = StackedRegressor(models=[trees, forest], n_folds=3, pooling=["group"])
    one.fit(X, Y[:, 0])
    assert {"extra", "lightgbm"} <= {row["model"] for row in one.leaderboard_}
    with pytest.raises(ClimstackError, match="has no setting 'n_round': did you mean"):
        StackedRegressor(models=[{"family": "lightgbm", "n_round": 5}]).fit(X, Y)
    with pytest.raises(ClimstackError, match="the name of a family or a table"):
        StackedRegressor(models=[3]).fit(X, Y)
