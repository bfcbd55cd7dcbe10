import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error
from sklearn.metrics import r2_score as sklearn_r2

from features import ClimstackError, bias, crps, leap_score, mae, r2_score, rmse
from features.core.metrics import Deviation, mean_of_parts


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
@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(-60, 2))
def test_crps_is_the_fair_one_over_pairs_of_two_members(seed, n_members, exponent):
    rng = np.random.default_rng(seed)
    ensemble, y = rng.normal(size=(n_members, 9, 2)), rng.normal(size=(9, 2))
    pairs = np.abs(ensemble[:, None] - ensemble[None]).sum((0, 1)) / n_members / (n_members - 1)
    expected = (np.abs(ensemble - y).mean(0) - pairs / 2).mean(0)
    scale = 10.0**exponent
    np.testing.assert_allclose(crps(y * scale, ensemble * scale), expected * scale, rtol=1e-9)
    np.testing.assert_allclose(crps(y, ensemble[:1]), mae(y, ensemble[0]), rtol=1e-12)


@pytest.mark.parametrize("n_members", [2, 3, 10, 40])
def test_crps_of_draws_does_not_depend_on_their_number(n_members):
    rng = np.random.default_rng(0)
    y, ensemble = rng.normal(size=(40_000, 1)), rng.normal(size=(n_members, 40_000, 1))
    assert crps(y, ensemble).item() == pytest.approx(1 / np.sqrt(np.pi), abs=0.01)


@pytest.mark.parametrize("n_rows", [3, 7, 10, 1000])
@pytest.mark.parametrize("value", [0.1, 1e-20, 3.3, 288.15, 1e300])
def test_a_constant_truth_scores_one_or_zero_however_its_mean_is_rounded(n_rows, value):
    y = np.full((n_rows, 1), value)
    assert r2_score(y, y).item() == 1
    assert r2_score(y, y * 1.1).item() == 0
    blocks, sums = np.array_split(y, 3), Deviation.empty(1)
    for block in blocks:
        sums.add(block)
    assert sums.squared.item() == 0
    assert sums.mean.item() == value
    rows = np.array([float(len(block)) for block in blocks])
    assert mean_of_parts(np.stack([block[0] for block in blocks]), rows).item() == value


def test_deviations_in_blocks_are_those_of_the_whole():
    y = 300 + np.random.default_rng(3).normal(size=(101, 4)) * [1e-3, 1, 10, 0]
    sums = Deviation.empty(4)
    for block in np.array_split(y, 7):
        sums.add(block)
    assert (sums.rows == 101).all()
    np.testing.assert_allclose(sums.squared, ((y - y.mean(0)) ** 2).sum(0), rtol=1e-9)
    np.testing.assert_allclose(sums.mean, y.mean(0))
    assert sums.squared[3] == 0


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e160, 1e300])
def test_r2_of_values_whose_squares_are_no_numbers(size):
    y, noise = np.random.default_rng(4).normal(size=(2, 50, 1))
    y_pred = y + 0.5 * noise
    assert r2_score(y * size, y_pred * size).item() == pytest.approx(
        r2_score(y, y_pred).item(), rel=1e-12
    )


@pytest.mark.parametrize("size", [1e160, 1e308, -1.7e308])
def test_a_prediction_beyond_any_score_scores_minus_infinity(size):
    y = np.random.default_rng(0).normal(size=(5, 3))
    damaged = y.copy()
    damaged[2, 1] = size
    assert np.isneginf(r2_score(y, damaged)[1])
    assert r2_score(damaged, y)[1] == pytest.approx(0, abs=0.6)  # as far from its mean
