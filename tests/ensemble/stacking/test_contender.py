"""Members that serve some targets, and truths that are missing."""

from types import SimpleNamespace

import numpy as np
import pytest

from ensemble import Candidate, available_blenders, fit_contenders
from ensemble.stacking.blend import fit_blend
from ensemble.stacking.candidate import POOLINGS
from ensemble.stacking.moments import Moments
from features import ClimstackError, load_schema
from features.schemas.schema import Schema
from features.schemas.variable import Variable

GROUPS = ["a", "a", "b", "b"]


def schema_of(n_targets=4):
    targets = [Variable(name=f"y{i}", role="target", policy="skip") for i in range(n_targets)]
    return Schema(name="s", variables=(Variable(name="x", role="input"), *targets))


def rows(seed=0, n=300, missing=0.0, absent=()):
    """Three members and the truth; ``absent`` are (member, target)."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, 4)) * [1, 10, 1e-3, 5] + [3, 0, 1, -2]
    members = [truth + s * truth.std(0) * rng.normal(size=truth.shape) for s in (0.3, 0.6, 1.0)]
    for member, target in absent:
        members[member][:, target] = np.nan
    truth[rng.random(truth.shape) < missing] = np.nan
    return members, truth


def moments_of(n_folds=3, **how):
    return Moments.of_blocks((fold, fold, *rows(fold, **how)) for fold in range(n_folds))


@pytest.mark.parametrize("name", available_blenders())
@pytest.mark.parametrize("pooling", POOLINGS)
def test_weights_are_those_of_the_members_that_serve_a_target(name, pooling):
    absent = [(0, 2), (0, 3), (1, 3), (2, 3)]  # nobody serves the last
    weights, intercept = Candidate(name, pooling).weights(moments_of(absent=absent), GROUPS)
    assert (weights[0, 2:] == 0).all()
    assert (weights[:, 3] == 0).all()
    means = moments_of().merged().mean[0, :, -1]
    assert intercept[3] == means[3]
    np.testing.assert_allclose(intercept, (1 - weights.sum(0)) * means, atol=1e-12)
    # As if only those targets and members were there.
    whole = moments_of().targets(np.array([0, 1]))
    np.testing.assert_array_equal(
        weights[:, :2], Candidate(name, pooling).weights(whole, GROUPS[:2])[0]
    )
    rest = moments_of().targets(np.array([2])).members([1, 2])
    np.testing.assert_array_equal(
        weights[1:, [2]], Candidate(name, pooling).weights(rest, ["b"])[0]
    )


def test_a_blend_lets_no_nan_through():
    absent = [(0, 2), (0, 3), (1, 3), (2, 3)]
    schema, moments = schema_of(), moments_of(absent=absent)
    names = ["m0", "m1", "m2"]
    blend = fit_blend(schema, names, np.arange(4), Candidate("nnls", "group"), moments)
    predictions, _ = rows(9, absent=absent)
    inputs = np.zeros((300, 1))
    outputs = blend.apply(dict(zip(names, predictions, strict=True)), inputs)
    assert np.isfinite(outputs).all()
    assert blend.action[3] == "mean"
    assert (outputs[:, 3] == blend.mean[3]).all()
    predictions[1][5, 2] = np.nan
    with pytest.raises(ClimstackError, match="no number for y2"):
        blend.apply(dict(zip(names, predictions, strict=True)), inputs)


def test_a_member_alone_gives_the_mean_where_it_serves_nothing():
    moments, schema = moments_of(absent=[(0, 2)]), schema_of()
    members = [
        SimpleNamespace(spec=SimpleNamespace(name=f"m{i}"), targets=np.arange(4)) for i in range(3)
    ]
    found = fit_contenders(schema, members, moments, [], targets=np.arange(4))
    assert found[0].final.action[2] == "mean"
    assert found[1].final.action[2] == "blend"


def test_a_member_predicts_all_rows_of_a_target_or_none():
    members, truth = rows()
    members[1][7, 2] = np.nan
    with pytest.raises(ClimstackError, match="modelled target 2"):
        Moments.of_blocks([(0, 0, members, truth)])
    with pytest.raises(ClimstackError, match="modelled target 2"):
        Moments.of_blocks([(0, 0, *rows()), (1, 0, *rows(absent=[(1, 2)]))])


def test_moments_are_of_each_targets_own_rows():
    pieces = [rows(seed, missing=0.3) for seed in range(4)]
    pieces[2][1][:, 1] = np.nan  # a part without any
    moments = Moments.of_blocks((0, part % 2, *piece) for part, piece in enumerate(pieces))
    one = moments.merged()
    truth = np.concatenate([t for _, t in pieces])
    for target in range(4):
        own = ~np.isnan(truth[:, target])
        columns = [np.concatenate([m[i][:, target] for m, _ in pieces])[own] for i in range(3)]
        z = np.stack([*columns, truth[own, target]])
        assert one.count[0, target] == own.sum()
        np.testing.assert_allclose(one.mean[0, target], z.mean(1), rtol=1e-10)
        centred = z - z.mean(1, keepdims=True)
        np.testing.assert_allclose(one.comoment[0, target], centred @ centred.T, rtol=1e-9)
        assert one.low[0, target] == z[-1].min()
        assert one.high[0, target] == z[-1].max()


def test_rows_without_a_truth_change_nothing_for_the_other_targets():
    plain, gaps = moments_of(), [rows(seed) for seed in range(3)]
    for _, truth in gaps:
        truth[::3, 1] = np.nan
    other = Moments.of_blocks((fold, fold, *piece) for fold, piece in enumerate(gaps))
    rest = np.array([0, 2, 3])
    np.testing.assert_allclose(other.comoment[:, rest], plain.comoment[:, rest], rtol=1e-12)


def test_a_target_with_too_few_truths_is_named_and_gets_its_mean():
    pieces = [rows(seed) for seed in range(3)]
    for fold in (1, 2):
        pieces[fold][1][:, 2] = np.nan
    moments = Moments.of_blocks((fold, fold, *piece) for fold, piece in enumerate(pieces))
    members = [
        SimpleNamespace(spec=SimpleNamespace(name=f"m{i}"), targets=np.arange(4)) for i in range(3)
    ]
    with pytest.warns(UserWarning, match="^y2: fewer than 2 truths"):
        found = fit_contenders(
            schema_of(), members, moments, [Candidate("nnls", "target")], targets=np.arange(4)
        )
    for contender in found:
        assert contender.final.action[2] == "mean"
        assert np.isfinite(contender.honest[0].mean).all()
        assert np.isfinite(contender.honest[0].low).all()


def test_blends_that_coincide_are_kept_once():
    """Each target is a group of its own here: nnls by group is nnls by target."""
    members = [
        SimpleNamespace(spec=SimpleNamespace(name=f"m{i}"), targets=np.arange(4)) for i in range(3)
    ]
    wanted = [Candidate("nnls", pooling) for pooling in ("all", "group", "shrunk", "target")]
    found = fit_contenders(schema_of(), members, moments_of(), wanted, targets=np.arange(4))
    same = {c.name: c.same_as for c in found if c.is_blend}
    assert same["nnls/group"] == ["nnls/shrunk", "nnls/target"]
    assert list(same) == ["nnls/all", "nnls/group"]


def test_leap_is_scored_by_its_own_metric():
    assert load_schema("leap").metric == "leap"
