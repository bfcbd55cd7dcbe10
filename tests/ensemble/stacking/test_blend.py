from dataclasses import replace

import numpy as np
import pytest

from ensemble import Blend, Candidate
from ensemble.stacking.blend import fit_blend
from ensemble.stacking.moments import Moments
from features import ClimstackError


def moments_of(predictions, truth, fold=0):
    return Moments.of_blocks([(fold, 0, predictions, truth)])


def test_honest_weights_never_saw_their_rows(members, moments, schema, some_targets):
    """Spoiling a fold's truth changes every blend but the one that scores this fold."""
    names = [m.spec.name for m in members]
    candidate = Candidate("nnls", "target")

    def blends(of):
        return [
            fit_blend(
                schema, names, some_targets, candidate, of.folds([j for j in range(3) if j != k])
            )
            for k in range(3)
        ]

    spoiled = moments.comoment.copy()
    spoiled[moments.fold == 1, :, -1, :-1] *= 0.3
    spoiled[moments.fold == 1, :, :-1, -1] *= 0.3
    other = replace(moments, comoment=spoiled)
    before, after = blends(moments), blends(other)
    np.testing.assert_array_equal(before[1].weights, after[1].weights)
    assert before[1].action == after[1].action
    assert not np.allclose(before[0].weights, after[0].weights)
    assert not np.allclose(before[2].weights, after[2].weights)


def test_rules_bounds_and_zero_columns(rows, contenders, schema):
    for contender in contenders:
        for block in replace(rows, honest=contender.honest).blocks():
            exact = schema.exact_targets
            np.testing.assert_array_equal(block.outputs[:, exact], block.truth[:, exact])
            bounded, bound = schema.closed_form("lower_bound", block.inputs)
            scored = schema.weights[bounded] > 0
            assert (block.outputs[:, bounded] >= bound)[:, scored].all()
            assert (block.outputs[:, schema.weights == 0] == 0).all()


def test_a_hopeless_member_falls_back_to_a_safe_constant(schema, some_targets):
    rng = np.random.default_rng(0)
    shape = (200, len(some_targets))
    folds = []
    for fold in range(4):
        truth = rng.normal(size=shape)
        truth[:, 1] += 5  # a mean that is worth knowing
        noise = rng.normal(size=shape) * 3
        noise[:, 2] = truth[:, 2]
        folds.append(moments_of([noise], truth, fold))
    moments = Moments.concatenate(folds)
    blend = fit_blend(schema, ["noise"], some_targets, Candidate("mean", "all"), moments)
    assert blend.action[1] == "mean"
    assert blend.action[2] == "blend"
    assert set(blend.action[3:]) <= {"mean", "zero"}


def test_a_target_that_is_still_in_some_folds_falls_back_to_zero(schema, some_targets):
    """Pooled over folds this member has R2 above 0; where the target is still it has -1e10."""
    rng = np.random.default_rng(1)
    folds = []
    for fold, alive in enumerate((True, False, True, False)):
        truth = rng.exponential(size=(300, len(some_targets))) * (1.0 if alive else 1e-6)
        prediction = 0.5 * truth + 0.1 * rng.normal(size=truth.shape)
        folds.append(moments_of([prediction], truth, fold))
    moments = Moments.concatenate(folds)
    one = moments.merged()
    weights = np.ones((1, len(some_targets)))
    pooled = one.squared_error(weights, np.zeros(len(some_targets)))[0]
    assert (pooled < one.comoment[0, :, -1, -1]).all()
    blend = fit_blend(schema, ["m"], some_targets, Candidate("mean", "all"), moments)
    assert set(blend.action) == {"zero"}


def test_a_blend_without_a_member_stops_with_its_name(contenders, store):
    blend = contenders[-1].final
    with pytest.raises(ClimstackError, match="member 'trees'"):
        blend.apply({"linear": np.zeros((2, len(blend.targets)))}, store.inputs[:2])


def test_a_blend_saves_and_loads_to_the_bit(rows, contenders, tmp_path):
    final = next(c for c in contenders if c.name == "nnls/target").final
    final.save(tmp_path / "blend.json")
    again = Blend.load(tmp_path / "blend.json")
    for block in rows.blocks():
        np.testing.assert_array_equal(
            again.apply(block.predictions, block.inputs),
            final.apply(block.predictions, block.inputs),
        )
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ClimstackError, match="is not a blend"):
        Blend.load(tmp_path / "other.json")
