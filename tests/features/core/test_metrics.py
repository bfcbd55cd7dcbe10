import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error
from sklearn.metrics import r2_score as sklearn_r2

from features import ClimstackError, bias, crps, leap_score, mae, r2_score, rmse


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(-60, 2))
def test_r2_equals_scikit_learn_on_weighted_values(seed, n_rows, exponent):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n_rows, 6)) * 10.0**exponent
    y_pred = y + rng.normal(size=y.shape) * 10.0**exponent * rng.uniform(0, 2, 6)
    y[:, 3] = 0.0  # constant truth, missed
    y[:, 4] = y_pred[:, 4] = 0.0  # constant truth, met
    weights = np.array([1.0, 0.0, 1 / max(y[:, 2].std(), 1e-15), 1.0, 1.0, 1e15])
    expected = sklearn_r2(y * weights, y_pred * weights, multioutput="raw_values")
    np.testing.assert_array_equal(r2_score(y, y_pred, weights), expected)
    assert leap_score(y, y_pred, weights) == expected.mean()


def test_zero_weight_columns_score_one(schema):
    rng = np.random.default_rng(0)
    y, y_pred = rng.normal(size=(2, 50, 368))
    assert (r2_score(y, y_pred, schema.weights)[schema.weights == 0] == 1).all()


def test_the_traps_of_leap():
    y = np.random.default_rng(0).normal(size=(1000, 1)) * 3.5e-58
    assert r2_score(y, y).item() == 1
    through_float32 = y.astype(np.float32).astype(np.float64)
    assert r2_score(y, through_float32).item() <= 0


def test_errors_in_units():
    rng = np.random.default_rng(1)
    y, y_pred = rng.normal(size=(2, 30, 3))
    assert rmse(y, y_pred) == pytest.approx(
        np.sqrt(mean_squared_error(y, y_pred, multioutput="raw_values"))
    )
    assert mae(y, y_pred) == pytest.approx(mean_absolute_error(y, y_pred, multioutput="raw_values"))
    assert bias(y, y_pred) == pytest.approx((y_pred - y).mean(0))


@pytest.mark.parametrize(
    ("y", "y_pred", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), r"got \(3, 2\) and \(3, 1\)"),
        (np.zeros(3), np.zeros(3), "2-D"),
        (np.zeros((1, 2)), np.zeros((1, 2)), "at least 2 rows, but got 1"),
        (np.zeros((3, 2)), np.array([[0, 0], [0, np.nan], [0, 0]]), "nan at row 1, target 1"),
    ],
)
def test_bad_input_raises(y, y_pred, message):
    with pytest.raises(ClimstackError, match=message):
        r2_score(y, y_pred)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(-60, 2))
def test_crps_equals_the_integral_of_squared_differences_of_distributions(
    seed, n_members, exponent
):
    rng = np.random.default_rng(seed)
    ensemble, y = rng.normal(size=(n_members, 9, 2)), rng.normal(size=(9, 2))
    expected = np.zeros(2)
    for row, target in np.ndindex(9, 2):
        members, truth = ensemble[:, row, target], y[row, target]
        edges = np.sort([*members, truth])
        share = np.array([(members <= left).mean() for left in edges[:-1]])
        step = (edges[:-1] >= truth).astype(float)
        expected[target] += ((share - step) ** 2 * np.diff(edges)).sum() / 9
    scale = 10.0**exponent
    np.testing.assert_allclose(crps(y * scale, ensemble * scale), expected * scale, rtol=1e-9)
    np.testing.assert_allclose(crps(y, ensemble[:1]), mae(y, ensemble[0]), rtol=1e-12)


@pytest.mark.parametrize("size", [1e160, 1e308, -1.7e308])
def test_values_too_large_to_square_are_a_sentence(size):
    y = np.random.default_rng(0).normal(size=(5, 3))
    damaged = y.copy()
    damaged[2, 1] = size
    for truth, predicted in ((y, damaged), (damaged, y)):
        with pytest.raises(ClimstackError, match=r"target 1 holds .* too large to square"):
            r2_score(truth, predicted)
