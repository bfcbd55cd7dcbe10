"""Contract tests over every blender found, and what each one promises."""

import numpy as np
import pytest
from scipy.optimize import nnls

from ensemble import Candidate, available_blenders, candidates
from ensemble.blending import load_blender
from ensemble.moments import Moments
from features import ClimstackError

GROUPS = ["a", "a", "b"]


def problem(seed=0, n_rows=400, n_members=3):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n_rows, 3)) * [1.0, 1e-9, 100.0]
    noise = rng.uniform(0.2, 2.0, (n_members, 3)) * [1.0, 1e-9, 100.0]
    predictions = [truth + rng.normal(size=truth.shape) * noise[i] for i in range(n_members)]
    return predictions, truth


@pytest.mark.parametrize("name", available_blenders())
@pytest.mark.parametrize("level", ["all", "group", "target"])
def test_contract(name, level):
    predictions, truth = problem()
    moments = Moments.of_block(predictions, truth)
    weights, intercept = Candidate(name, level).weights(moments, GROUPS)
    assert weights.shape == (3, 3)
    assert intercept.shape == (3,)
    assert np.isfinite(weights).all()
    # scale-free: other units give the same weights
    scaled = Moments.of_block([p * 1e-12 for p in predictions], truth * 1e-12)
    np.testing.assert_allclose(Candidate(name, level).weights(scaled, GROUPS)[0], weights, 1e-6)
    # a constant truth and constant members do not break it
    flat = Moments.of_block([p * 0 for p in predictions], truth * 0)
    assert np.isfinite(Candidate(name, level).weights(flat, GROUPS)[0]).all()
    # equal members share or elect, but stay finite
    same = Moments.of_block([predictions[0]] * 3, truth)
    assert np.isfinite(Candidate(name, level).weights(same, GROUPS)[0]).all()


def test_nnls_per_target_equals_scipy_on_rows():
    predictions, truth = problem(3)
    weights, intercept = Candidate("nnls", "target").weights(
        Moments.of_block(predictions, truth), GROUPS
    )
    for target in range(3):
        rows = np.stack([p[:, target] for p in predictions], axis=1)
        expected, _ = nnls(rows - rows.mean(0), truth[:, target] - truth[:, target].mean())
        np.testing.assert_allclose(weights[:, target], expected, atol=1e-6)
    assert (weights >= 0).all()
    np.testing.assert_allclose(intercept, (1 - weights.sum(0)) * truth.mean(0))


def test_group_level_shares_weights_inside_a_group_only():
    predictions, truth = problem(4)
    weights, _ = Candidate("nnls", "group").weights(Moments.of_block(predictions, truth), GROUPS)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    assert not np.allclose(weights[:, 0], weights[:, 2])


def test_best_takes_the_smallest_error_and_mean_is_the_mean():
    predictions, truth = problem(5)
    moments = Moments.of_block(predictions, truth)
    weights, _ = Candidate("best", "target").weights(moments, GROUPS)
    squared = np.array([((p - truth) ** 2).sum(0) for p in predictions])
    np.testing.assert_array_equal(weights.argmax(0), squared.argmin(0))
    assert (weights.sum(0) == 1).all()
    weights, intercept = Candidate("mean", "all").weights(moments, GROUPS)
    assert (weights == 1 / 3).all()
    np.testing.assert_allclose(intercept / truth.std(0), 0, atol=1e-12)


def test_candidates_are_ordered_simplest_first():
    names = [c.name for c in candidates(["nnls", "mean", "best"], ["target", "group"])]
    assert names == ["mean", "best/group", "best/target", "nnls/group", "nnls/target"]


def test_unknown_blender_names_the_closest():
    with pytest.raises(ClimstackError, match="did you mean 'nnls'"):
        load_blender("nnl")
