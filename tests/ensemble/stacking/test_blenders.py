"""Contract tests over every linear blender found, and what each one promises."""

import numpy as np
import pytest
from scipy.optimize import minimize, nnls

from ensemble import Candidate, available_blenders, candidates
from ensemble.stacking.blend import fit_blend
from ensemble.stacking.candidate import POOLINGS, load_blender
from ensemble.stacking.moments import Moments
from features import ClimstackError


def moments_of(predictions, truth, fold=0):
    return Moments.of_blocks([(fold, 0, predictions, truth)])


GROUPS = ["a", "a", "b"]
LINEAR = available_blenders()
UNITS = np.array([1.0, 1e-9, 100.0])


def problem(seed=0, n_rows=400, n_members=3, fold=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n_rows, 3)) * UNITS
    noise = rng.uniform(0.2, 2.0, (n_members, 3)) * UNITS
    shared = rng.normal(size=truth.shape) * UNITS * 0.5
    predictions = [
        0.8 * truth + shared + rng.normal(size=truth.shape) * noise[i] for i in range(n_members)
    ]
    return predictions, truth


def of_folds(n_folds=4, **how):
    return Moments.of_blocks(
        (fold, fold, *problem(seed, **how)) for fold, seed in enumerate(range(n_folds))
    )


def squared(weights, predictions, truth, target):
    """Mean squared error of centred rows, in units of the truth's variance."""
    rows = np.stack([p[:, target] - p[:, target].mean() for p in predictions], axis=1)
    y = truth[:, target] - truth[:, target].mean()
    return ((y - rows @ weights) ** 2).mean() / y.var()


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("level", POOLINGS)
def test_contract(name, level):
    predictions, truth = problem()
    moments = moments_of(predictions, truth)
    weights, intercept = Candidate(name, level).weights(moments, GROUPS)
    assert weights.shape == (3, 3)
    assert intercept.shape == (3,)
    assert np.isfinite(weights).all()
    # scale-free: other units give the same weights
    scaled = moments_of([p * 1e-12 for p in predictions], truth * 1e-12)
    again = Candidate(name, level).weights(scaled, GROUPS)[0]
    np.testing.assert_allclose(again, weights, rtol=1e-6, atol=1e-9)
    # a constant truth and constant members do not break it
    flat = moments_of([p * 0 for p in predictions], truth * 0)
    assert np.isfinite(Candidate(name, level).weights(flat, GROUPS)[0]).all()
    # equal members share or elect, but stay finite
    same = moments_of([predictions[0]] * 3, truth)
    assert np.isfinite(Candidate(name, level).weights(same, GROUPS)[0]).all()
    # members that meet the truth exactly
    exact = moments_of([truth] * 3, truth)
    weights, _ = Candidate(name, level).weights(exact, GROUPS)
    np.testing.assert_allclose(weights.sum(0), 1, atol=2e-3)


@pytest.mark.parametrize("name", ["nnls", "simplex", "hill_climb", "hill_climb_signed", "ridge"])
def test_learned_weights_beat_the_mean_and_the_best_in_sample(name):
    predictions, truth = problem(7, n_members=5)
    moments = moments_of(predictions, truth)
    own, plain, best = (
        Candidate(which, "target").weights(moments, GROUPS)[0] for which in (name, "mean", "best")
    )
    for target in range(3):
        error = squared(own[:, target], predictions, truth, target)
        assert error < squared(plain[:, target], predictions, truth, target)
        assert error <= squared(best[:, target], predictions, truth, target) + 1e-9


def test_nnls_per_target_equals_scipy_on_rows():
    predictions, truth = problem(3)
    weights, intercept = Candidate("nnls", "target").weights(moments_of(predictions, truth), GROUPS)
    for target in range(3):
        rows = np.stack([p[:, target] for p in predictions], axis=1)
        expected, _ = nnls(rows - rows.mean(0), truth[:, target] - truth[:, target].mean())
        np.testing.assert_allclose(weights[:, target], expected, atol=1e-6)
    assert (weights >= 0).all()
    np.testing.assert_allclose(intercept, (1 - weights.sum(0)) * truth.mean(0))


def test_simplex_equals_a_general_solver():
    predictions, truth = problem(4, n_members=4)
    weights, _ = Candidate("simplex", "target").weights(moments_of(predictions, truth), GROUPS)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(0), 1)
    for target in range(3):
        found = minimize(
            squared,
            np.full(4, 0.25),
            args=(predictions, truth, target),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(weights[:, target], found.x, atol=1e-4)


def test_ridge_equals_least_squares_when_members_differ():
    predictions, truth = problem(5)
    weights, _ = Candidate("ridge", "target").weights(moments_of(predictions, truth), GROUPS)
    for target in range(3):
        rows = np.stack([p[:, target] for p in predictions], axis=1)
        y = truth[:, target] - truth[:, target].mean()
        expected, *_ = np.linalg.lstsq(rows - rows.mean(0), y, rcond=None)
        np.testing.assert_allclose(weights[:, target], expected, atol=0.02)


def test_hill_climbing_picks_counts_and_the_signed_one_may_subtract():
    rng = np.random.default_rng(0)
    truth, common = rng.normal(size=(2, 500, 3))
    good = truth + common  # its error is known to the other
    other = 0.2 * truth + 2 * common
    moments = moments_of([good, other], truth)
    plain, _ = Candidate("hill_climb", "target").weights(moments, GROUPS)
    np.testing.assert_allclose(plain.sum(0), 1)
    assert (plain >= 0).all()
    signed, _ = Candidate("hill_climb_signed", "target").weights(moments, GROUPS)
    np.testing.assert_allclose(signed.sum(0), 1)
    assert (signed[1] < -0.2).all()
    for target in range(3):
        assert squared(signed[:, target], [good, other], truth, target) < 0.7 * squared(
            plain[:, target], [good, other], truth, target
        )


def test_group_level_shares_weights_inside_a_group_only():
    predictions, truth = problem(4)
    weights, _ = Candidate("nnls", "group").weights(moments_of(predictions, truth), GROUPS)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    assert not np.allclose(weights[:, 0], weights[:, 2])


def test_a_hopeless_target_does_not_drown_its_group():
    predictions, truth = problem(6)
    alone, _ = Candidate("nnls", "group").weights(
        moments_of([p[:, :1] for p in predictions], truth[:, :1]), ["a"]
    )
    truth[:, 1] *= 1e-4  # what is predicted there is ten thousand times too large
    weights, _ = Candidate("nnls", "group").weights(moments_of(predictions, truth), GROUPS)
    np.testing.assert_allclose(weights[:, 0], alone[:, 0])


def test_shrunk_weights_lie_between_the_groups_and_the_targets():
    moments = of_folds(n_rows=60)
    group, shrunk, target = (
        Candidate("nnls", level).weights(moments, GROUPS)[0]
        for level in ("group", "shrunk", "target")
    )
    for own in range(2):
        far = np.abs(target[:, own] - group[:, own]).sum()
        assert np.abs(shrunk[:, own] - group[:, own]).sum() < far
        assert np.abs(shrunk[:, own] - target[:, own]).sum() < far


def test_pulls_are_strong_where_targets_are_alike_and_weak_where_they_differ():
    rng = np.random.default_rng(1)

    def blocks(alike):
        for fold in range(4):
            truth = rng.normal(size=(40, 8))
            which = np.zeros(8, dtype=int) if alike else np.arange(8) % 2
            noise = np.where(which == np.arange(2)[:, None], 0.3, 3.0)
            yield fold, 0, [truth + rng.normal(size=truth.shape) * n for n in noise], truth

    one = Candidate("nnls", "shrunk")
    names = ["a"] * 8
    alike, differ = (Moments.of_blocks(blocks(kind)) for kind in (True, False))
    assert one._choose_pulls(alike, names)[0] > one._choose_pulls(differ, names)[0]


def test_best_takes_the_smallest_error_and_mean_is_the_mean():
    predictions, truth = problem(5)
    moments = moments_of(predictions, truth)
    weights, _ = Candidate("best", "target").weights(moments, GROUPS)
    error = np.array([[squared([1.0], [p], truth, t) for t in range(3)] for p in predictions])
    np.testing.assert_array_equal(weights.argmax(0), error.argmin(0))
    assert (weights.sum(0) == 1).all()
    weights, intercept = Candidate("mean", "all").weights(moments, GROUPS)
    assert (weights == 1 / 3).all()
    np.testing.assert_allclose(intercept / truth.std(0), 0, atol=1e-12)


@pytest.mark.parametrize("name", ["ridge", "nnls", "hill_climb_signed"])
def test_noise_gains_in_sample_but_not_honestly_and_the_guard_keeps_the_true_member(schema, name):
    rng = np.random.default_rng(2)
    targets = schema.modelled_targets[:20]
    names = ["true", *(f"noise{i}" for i in range(30))]

    def blocks():
        for block in range(20):
            true, rest = rng.normal(size=(2, 40, len(targets)))
            noise = [rng.normal(size=true.shape) * 0.5 for _ in range(30)]
            yield block // 5, block, [true, *noise], true + 0.3 * rest

    moments, candidate = Moments.of_blocks(blocks()), Candidate(name, "target")
    groups = [schema.target_groups[target] for target in targets]
    alone = np.zeros((31, len(targets)))
    alone[0] = 1.0

    def gain(learned, scored):
        """Error of the true member less that of the blend, by part: above 0 is a gain."""
        return (
            scored.squared_error(alone, np.zeros(len(targets)))
            - scored.squared_error(*candidate.weights(learned, groups))
        ).sum(1)

    assert gain(moments, moments).sum() > 0
    honest = np.concatenate(
        [gain(moments.without(fold), moments.folds([fold])) for fold in range(4)]
    )
    drawn = rng.integers(0, len(honest), (400, len(honest)))
    assert np.quantile(honest[drawn].mean(1), 0.025) <= 0
    graph = fit_blend(schema, names, targets, candidate, moments)
    kept = np.array(graph.action) == "member"
    assert kept.mean() >= 0.95
    assert (graph.weights[:, kept] == alone[:, kept]).all()


def test_candidates_are_ordered_simplest_first():
    names = [c.name for c in candidates(["nnls", "mean", "best"], ["target", "group"])]
    assert names == ["mean", "best/group", "best/target", "nnls/group", "nnls/target"]


def test_unknown_blender_names_the_closest():
    with pytest.raises(ClimstackError, match="did you mean 'nnls'"):
        load_blender("nnl")
