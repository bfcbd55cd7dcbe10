from dataclasses import replace

import numpy as np
import pytest

from ensemble import ScoreSums, choose, evaluate
from ensemble.evaluation import held_out
from features import leap_score, r2_score


def outputs(rows, contender, final=False):
    """Final outputs and truth of all held-out rows, row by row."""
    y, y_pred = [], []
    for block in rows.blocks():
        blend = contender.final if final else contender.honest[block.fold]
        y.append(block.truth)
        y_pred.append(blend.apply(block.predictions, block.inputs))
    return np.concatenate(y), np.concatenate(y_pred)


def test_scores_from_sums_equal_scores_from_rows(rows, contenders, scores, schema):
    for contender in contenders:
        y, y_pred = outputs(rows, contender)
        honest = scores.r2(contender.name)
        np.testing.assert_allclose(honest, r2_score(y, y_pred), rtol=1e-9, atol=1e-9)
        assert honest.mean() == pytest.approx(leap_score(y, y_pred, schema.weights))
        y, y_pred = outputs(rows, contender, final=True)
        in_sample = scores.in_sample_r2(contender.name)
        np.testing.assert_allclose(in_sample, r2_score(y, y_pred), rtol=1e-9, atol=1e-9)


def test_blocks_and_targets_of_any_size_give_the_same(rows, contenders, scores, monkeypatch):
    monkeypatch.setattr(held_out, "BLOCK_ROWS", 23)
    monkeypatch.setattr("ensemble.evaluation.scores.CACHE_BYTES", 1)
    again = evaluate(rows, contenders)
    np.testing.assert_array_equal(again.rows, scores.rows)
    np.testing.assert_allclose(again.deviation, scores.deviation, rtol=1e-11, atol=1e-300)
    for name, errors in scores.squared_error.items():
        np.testing.assert_allclose(again.squared_error[name], errors, rtol=1e-11, atol=1e-300)


def test_sums_come_back_from_their_table(scores, schema, tmp_path):
    scores.save(tmp_path / "scores.parquet", schema.target_columns)
    again = ScoreSums.load(tmp_path / "scores.parquet", schema)
    for name in ("fold", "block", "rows", "deviation"):
        np.testing.assert_array_equal(getattr(again, name), getattr(scores, name))
    assert list(again.squared_error) == list(scores.squared_error)
    for name in scores.squared_error:
        np.testing.assert_array_equal(again.squared_error[name], scores.squared_error[name])
        np.testing.assert_array_equal(again.in_sample[name], scores.in_sample[name])


def test_the_simpler_blend_wins_a_tie(contenders, scores):
    best = max(contenders, key=lambda c: scores.r2(c.name).mean())
    simplest = contenders[0].name
    scores = replace(
        scores, squared_error={**scores.squared_error, simplest: scores.squared_error[best.name]}
    )
    assert choose(contenders, scores).name == simplest


def test_the_interval_of_a_difference_is_narrower_than_of_its_parts(scores):
    own = scores.interval("nnls/group")
    gap = scores.interval("nnls/group", "trees")
    assert gap[1] - gap[0] < own[1] - own[0]
    assert scores.interval("trees", "trees") == (0.0, 0.0)
    few = scores.interval("trees", targets=slice(0, 60))
    assert few != scores.interval("trees")


def test_weight_zero_columns_score_one_whatever_their_truth(rows, store, contenders, monkeypatch):
    """In the real rows some are not zero: the competition multiplies them by 0 first."""
    plain = evaluate(rows, contenders[:1]).r2(contenders[0].name)
    matrix = store.targets
    unscored = np.flatnonzero(store.schema.weights == 0)

    class Loud:
        shape = matrix.shape

        def __getitem__(self, rows):
            values = matrix[rows]
            values[:, unscored] = np.random.default_rng(0).normal(size=(len(values), 60))
            return values

    monkeypatch.setattr(store, "targets", Loud())
    loud = evaluate(rows, contenders[:1]).r2(contenders[0].name)
    assert (loud[unscored] == 1).all()
    np.testing.assert_array_equal(loud, plain)
