"""Walks, scores, intervals and errors of members that serve some targets, and missing truths."""

from dataclasses import replace

import numpy as np
import pytest

from ensemble import candidates, choose, collect_moments, evaluate, fit_contenders, leaderboard
from ensemble.evaluation.regime_errors import RegimeErrors
from ensemble.uncertainty.conformal import Conformal
from features import r2_score, rmse


class Gappy:
    """A store's targets with some values missing."""

    def __init__(self, matrix, share):
        self.matrix, self.shape, self.share = matrix, matrix.shape, share

    def __getitem__(self, rows):
        values = self.matrix[rows].copy()
        lost = np.random.default_rng(7).random(self.shape) < self.share
        values[lost[rows]] = np.nan
        return values


@pytest.fixture
def partial(rows):
    """The trees serve all but the first five targets."""
    linear, trees = rows.members
    few = replace(
        trees, targets=trees.targets[5:], sets=trees.sets[:-5], cells=[f[5:] for f in trees.cells]
    )
    return replace(rows, members=[linear, few], modelled=linear.targets)


def fitted(rows, schema):
    blends = candidates(["mean", "nnls"], ["group", "target"])
    moments = collect_moments(rows)
    return fit_contenders(schema, rows.members, moments, blends, targets=rows.targets)


def by_rows(rows, contender):
    """Honest outputs and truth, row by row."""
    blocks = list(rows.blocks())
    outputs = [contender.honest[b.fold].apply(b.predictions, b.inputs) for b in blocks]
    return np.concatenate([b.truth for b in blocks]), np.concatenate(outputs)


def test_a_member_may_serve_some_targets(partial, schema, rows, contenders, scores):
    found = fitted(partial, schema)
    sums = evaluate(partial, found)
    for contender in found:
        y, y_pred = by_rows(partial, contender)
        np.testing.assert_allclose(sums.r2(contender.name), r2_score(y, y_pred), atol=1e-9)
    served = partial.members[1].targets
    unserved = np.setdiff1d(partial.targets, served)
    assert (np.abs(sums.r2("trees")[unserved]) < 0.2).all()  # as good as the mean
    np.testing.assert_array_equal(sums.r2("trees")[served], scores.r2("trees")[served])
    board = leaderboard(schema, partial.members, found, sums, choose(found, sums))
    count = {row["model"]: row["targets_served"] for row in board}
    assert count["trees"] == len(served)
    assert count["linear"] == count["nnls/group"] == len(partial.targets)
    whole = leaderboard(schema, rows.members, contenders, scores, contenders[0])
    assert "targets_served" not in whole[0]
    chosen = next(c for c in found if c.name == "nnls/target")
    seen = replace(partial, honest=chosen.honest)
    conformal, errors = Conformal(seen, chosen.final), RegimeErrors(seen)
    seen.walk(conformal, errors, what="chosen")
    assert conformal.table().null_count().sum_horizontal().item() == 0
    table = errors.table()
    lost = table.filter(table["model"] == "trees", table["rmse"].is_null())
    assert set(lost["target"]) == {schema.target_columns[t] for t in unserved}


def test_missing_truths_are_left_out_of_everything(rows, store, schema, monkeypatch):
    monkeypatch.setattr(store, "targets", Gappy(store.targets, 0.3))
    found = fitted(rows, schema)
    for metric, function in (("leap", r2_score), ("rmse", rmse)):
        sums = evaluate(rows, found, metric=metric)
        for contender in found:
            y, y_pred = by_rows(rows, contender)
            scored = schema.weights > 0
            values = sums.values(contender.name)[scored]
            np.testing.assert_allclose(values, function(y, y_pred)[scored], rtol=1e-6, atol=1e-9)
            assert np.isfinite(sums.interval(contender.name)).all()
    np.testing.assert_array_equal(sums.rows.sum(0), (~np.isnan(y)).sum(0))
    chosen = choose(found, sums)
    seen = replace(rows, honest=chosen.honest)
    conformal, errors = Conformal(seen, chosen.final), RegimeErrors(seen)
    seen.walk(conformal, errors, what="chosen")
    table = conformal.table()
    assert table.null_count().sum_horizontal().item() == 0
    own = (~np.isnan(y[:, rows.targets])).sum(0)
    np.testing.assert_array_equal(table["rows"], own)
    assert table["coverage_in"].min() > 0.85
    everywhere = errors.table().filter(errors.table()["regime"] == "all")
    np.testing.assert_array_equal(everywhere["rows"].head(len(own)), own)
    np.testing.assert_allclose(
        everywhere.filter(everywhere["model"] == "blend")["rmse"],
        rmse(*by_rows(rows, chosen))[rows.targets],
    )


def test_the_metric_decides_what_is_best(rows, schema, contenders, tmp_path):
    by_mae = evaluate(rows, contenders, metric="mae")
    by_mae.save(tmp_path / "scores.parquet", schema.target_columns)
    again = type(by_mae).load(tmp_path / "scores.parquet", schema, "mae")
    board = leaderboard(schema, rows.members, contenders, again, choose(contenders, again))
    found = [row["score"] for row in board]
    assert found == sorted(found)
    assert {row["metric"] for row in board} == {"mae"}
    best = min((row for row in board if not row["blend"]), key=lambda row: row["score"])
    for row in board:
        assert row["ci_low"] <= row["score"] <= row["ci_high"]
        if row["blend"]:
            assert row["gain"] == pytest.approx(best["score"] - row["score"])
            assert row["gain_low"] <= row["gain"] <= row["gain_high"]
