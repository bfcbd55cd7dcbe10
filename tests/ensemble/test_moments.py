import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.moments import Moments


def made(seed, exponent=0, n_rows=50):
    rng = np.random.default_rng(seed)
    truth = (rng.normal(size=(n_rows, 4)) + 3) * 10.0**exponent
    predictions = [truth + rng.normal(size=truth.shape) * 10.0**exponent for _ in range(3)]
    return predictions, truth


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(-12, 3), st.lists(st.integers(1, 49), max_size=4))
def test_any_split_into_blocks_merges_to_the_same(seed, exponent, cuts):
    predictions, truth = made(seed, exponent)
    cuts = sorted(set(cuts))
    parts = zip(*(np.split(values, cuts) for values in [*predictions, truth]), strict=True)
    merged = Moments.concatenate([Moments.of_block(p[:-1], p[-1]) for p in parts]).merged()
    whole = Moments.of_block(predictions, truth)
    scale = np.abs(whole.comoment).max()
    np.testing.assert_allclose(merged.comoment / scale, whole.comoment / scale, atol=1e-12)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_array_equal(merged.low, whole.low)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(-12, 3))
def test_squared_error_from_moments_equals_that_of_rows(seed, exponent):
    predictions, truth = made(seed, exponent)
    rng = np.random.default_rng(seed + 1)
    weights, intercept = rng.normal(size=(3, 4)), rng.normal(size=4) * 10.0**exponent
    blend = sum(p * w for p, w in zip(predictions, weights, strict=True)) + intercept
    moments = Moments.of_block(predictions, truth)
    expected = ((truth - blend) ** 2).sum(0)
    np.testing.assert_allclose(moments.squared_error(weights, intercept)[0], expected, rtol=1e-9)
    zero = moments.constant_error(np.zeros(4))[0]
    np.testing.assert_allclose(zero, (truth**2).sum(0), rtol=1e-12)


def test_subsets_of_members_and_folds():
    blocks = [made(seed) for seed in range(3)]
    moments = Moments.concatenate([Moments.of_block(*block) for block in blocks])
    assert moments.n_folds == 3
    two = moments.folds([0, 2]).members([1])
    alone = Moments.of_block(blocks[2][0][1:2], blocks[2][1])
    np.testing.assert_allclose(two.comoment[1], alone.comoment[0], rtol=1e-12)
    assert two.mean.shape == (2, 4, 2)
    assert two.count.tolist() == pytest.approx([50, 50])
