import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.stacking.moments import Moments
from features import ClimstackError


def moments_of(predictions, truth, fold=0):
    return Moments.of_blocks([(fold, 0, predictions, truth)])


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
    merged = Moments.concatenate([moments_of(p[:-1], p[-1]) for p in parts]).merged()
    whole = moments_of(predictions, truth)
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
    moments = moments_of(predictions, truth)
    expected = ((truth - blend) ** 2).sum(0)
    np.testing.assert_allclose(moments.squared_error(weights, intercept)[0], expected, rtol=1e-9)
    zero = moments.constant_error(np.zeros(4))[0]
    np.testing.assert_allclose(zero, (truth**2).sum(0), rtol=1e-12)


def test_subsets_of_members_and_folds():
    blocks = [made(seed) for seed in range(3)]
    moments = Moments.concatenate([moments_of(*block, fold) for fold, block in enumerate(blocks)])
    assert moments.fold_names == [0, 1, 2]
    two = moments.folds([0, 2]).members([1])
    alone = moments_of(blocks[2][0][1:2], blocks[2][1])
    np.testing.assert_allclose(two.comoment[1], alone.comoment[0], rtol=1e-12)
    assert two.mean.shape == (2, 4, 2)
    assert two.count.tolist() == [[50.0] * 4] * 2


def test_a_member_that_joins_later_needs_only_its_own_rows_and_columns():
    blocks = [(fold, fold, *made(fold)) for fold in range(3)]
    whole = Moments.of_blocks(blocks)
    first = Moments.of_blocks((f, b, p[:1], t) for f, b, p, t in blocks)
    grown = Moments.of_blocks(blocks, first)
    scale = np.abs(whole.comoment).max()
    np.testing.assert_allclose(grown.comoment / scale, whole.comoment / scale, atol=1e-13)
    np.testing.assert_allclose(grown.mean, whole.mean, rtol=1e-13)
    np.testing.assert_array_equal(grown.comoment[..., 0, 0], first.comoment[..., 0, 0])
    with pytest.raises(ClimstackError, match="other rows"):
        Moments.of_blocks(blocks[:2], first)


def test_moments_are_kept_and_a_damaged_file_is_not_read(tmp_path):
    moments = Moments.of_blocks([(0, 0, *made(1)), (1, 3, *made(2))])
    path = tmp_path / "moments.npz"
    moments.save(path, ["a", "b", "c"])
    again, hashes = Moments.load(path)
    assert hashes == ["a", "b", "c"]
    np.testing.assert_array_equal(again.comoment, moments.comoment)
    assert again.block.tolist() == [0, 3]
    path.write_bytes(path.read_bytes()[:500])
    assert Moments.load(path) is None


def test_no_rows_are_refused():
    with pytest.raises(ClimstackError, match="no rows"):
        Moments.of_blocks([])
