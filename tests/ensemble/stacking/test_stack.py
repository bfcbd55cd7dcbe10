from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ensemble import Candidate, Graph, choose, collect_moments, evaluate, leaderboard
from ensemble.evaluation import out_of_fold
from ensemble.evaluation.leaderboard import interval
from ensemble.evaluation.out_of_fold import compare_members, out_of_fold_blocks
from ensemble.stacking.graph import fit_graph
from ensemble.stacking.moments import Moments
from ensemble.stacking.stack import save_stack
from features import ClimstackError, leap_score, r2_score, time_blocks
from features.core.metrics import r2_from_sums


def outputs(store, plan, members, contender, final=False):
    """Final outputs and truth of all validated rows, through the contender's graphs."""
    y, y_pred, inputs = [], [], []
    for fold in range(plan.n_folds):
        graph = contender.final if final else contender.honest[fold]
        for rows, predictions, truth in out_of_fold_blocks(store, plan, members, fold):
            y.append(truth)
            inputs.append(store.inputs[rows])
            y_pred.append(graph.apply(predictions, inputs[-1]))
    return np.concatenate(y), np.concatenate(y_pred), np.concatenate(inputs)


def test_scores_from_sums_equal_scores_from_rows(store, plan, members, contenders, errors):
    for contender in contenders:
        y, y_pred, _ = outputs(store, plan, members, contender)
        honest = errors[contender.name].r2()
        np.testing.assert_allclose(honest, r2_score(y, y_pred), rtol=1e-9, atol=1e-9)
        assert honest.mean() == pytest.approx(leap_score(y, y_pred, store.schema.weights))
        y, y_pred, _ = outputs(store, plan, members, contender, final=True)
        np.testing.assert_allclose(
            errors[contender.name].in_sample_r2(), r2_score(y, y_pred), rtol=1e-9, atol=1e-9
        )


def test_honest_weights_never_saw_their_rows(store, members, moments, schema, some_targets):
    """Spoiling a fold's truth changes every graph but the one that scores this fold."""
    names = [m.spec.name for m in members]
    candidate = Candidate("nnls", "target")

    def graphs(of):
        return [
            fit_graph(
                schema, names, some_targets, candidate, of.folds([j for j in range(3) if j != k])
            )
            for k in range(3)
        ]

    spoiled = moments.comoment.copy()
    spoiled[moments.fold == 1, :, -1, :-1] *= 0.3
    spoiled[moments.fold == 1, :, :-1, -1] *= 0.3
    other = replace(moments, comoment=spoiled)
    before, after = graphs(moments), graphs(other)
    np.testing.assert_array_equal(before[1].weights, after[1].weights)
    assert before[1].action == after[1].action
    assert not np.allclose(before[0].weights, after[0].weights)
    assert not np.allclose(before[2].weights, after[2].weights)


def test_rules_bounds_and_zero_columns(store, plan, members, contenders, schema):
    for contender in contenders:
        y, y_pred, inputs = outputs(store, plan, members, contender)
        exact = schema.exact_targets
        np.testing.assert_array_equal(y_pred[:, exact], y[:, exact])
        bounded, bound = schema.closed_form("lower_bound", inputs)
        scored = schema.weights[bounded] > 0
        assert (y_pred[:, bounded] >= bound)[:, scored].all()
        assert (y_pred[:, schema.weights == 0] == 0).all()


def test_a_hopeless_member_falls_back_to_a_safe_constant(schema, some_targets):
    rng = np.random.default_rng(0)
    shape = (200, len(some_targets))
    folds = []
    for fold in range(4):
        truth = rng.normal(size=shape)
        truth[:, 1] += 5  # a mean that is worth knowing
        noise = rng.normal(size=shape) * 3
        noise[:, 2] = truth[:, 2]
        folds.append(Moments.of_block([noise], truth, fold))
    moments = Moments.concatenate(folds)
    graph = fit_graph(schema, ["noise"], some_targets, Candidate("mean", "all"), moments)
    assert graph.action[1] == "mean"
    assert graph.action[2] == "blend"
    assert set(graph.action[3:]) <= {"mean", "zero"}


def test_a_target_that_is_still_in_some_folds_falls_back_to_zero(schema, some_targets):
    """Pooled over folds this member has R2 above 0; where the target is still it has -1e10."""
    rng = np.random.default_rng(1)
    folds = []
    for fold, alive in enumerate((True, False, True, False)):
        truth = rng.exponential(size=(300, len(some_targets))) * (1.0 if alive else 1e-6)
        prediction = 0.5 * truth + 0.1 * rng.normal(size=truth.shape)
        folds.append(Moments.of_block([prediction], truth, fold))
    moments = Moments.concatenate(folds)
    one = moments.merged()
    weights = np.ones((1, len(some_targets)))
    pooled = one.squared_error(weights, np.zeros(len(some_targets)))[0]
    assert (pooled < one.comoment[0, :, -1, -1]).all()
    graph = fit_graph(schema, ["m"], some_targets, Candidate("mean", "all"), moments)
    assert set(graph.action) == {"zero"}


def test_the_stored_stack_replays(contenders, errors, tmp_path, store, members, plan):
    chosen = next(c for c in contenders if c.name == "nnls/target")
    (tmp_path / "fold-7.json").write_text("of a blend before")
    save_stack(tmp_path, store, plan, chosen, members, errors)
    assert not (tmp_path / "fold-7.json").exists()
    std = store.targets[:].std(0)
    for fold in range(plan.n_folds):
        graph, start = Graph.load(tmp_path / f"fold-{fold}.json"), 0
        stored = np.load(tmp_path / "oof" / f"fold-{fold}.npy")
        assert len(stored) == len(plan.valid_rows(fold))
        for rows, predictions, _ in out_of_fold_blocks(store, plan, members, fold):
            again = graph.apply(predictions, store.inputs[rows])
            apart = np.abs(again - stored[start : start + len(rows)])
            assert (apart <= 1e-9 * std).all()
            start += len(rows)
    sums = pl.read_parquet(tmp_path / "scores.parquet").filter(pl.col("model") == "nnls/target")
    r2 = sums.group_by("target", maintain_order=True).agg(
        squared=pl.col("squared_error").sum(), deviation=pl.col("deviation").sum()
    )
    r2 = r2_from_sums(r2["squared"].to_numpy(), r2["deviation"].to_numpy())
    np.testing.assert_allclose(r2, errors["nnls/target"].r2(), atol=1e-12)


def test_graph_saves_and_loads_to_the_bit(contenders, tmp_path, store, members, plan, errors):
    chosen = next(c for c in contenders if c.name == "nnls/target")
    save_stack(tmp_path, store, plan, chosen, members, errors)
    again = Graph.load(tmp_path / "graph.json")
    for rows, predictions, _ in out_of_fold_blocks(store, plan, members, 0):
        inputs = store.inputs[rows]
        np.testing.assert_array_equal(
            again.apply(predictions, inputs), chosen.final.apply(predictions, inputs)
        )
    table = pl.read_parquet(tmp_path / "weights.parquet")
    assert table.columns == ["target", "member", "weight", "action"]
    weight = table.filter(
        (pl.col("member") == "trees")
        & (pl.col("target") == store.schema.target_columns[chosen.final.targets[3]])
    )["weight"].item()
    assert weight == chosen.final.weights[1, 3]


def test_a_graph_without_a_member_stops_with_its_name(contenders, store):
    graph = contenders[-1].final
    with pytest.raises(ClimstackError, match="member 'trees'"):
        graph.apply({"linear": np.zeros((2, len(graph.targets)))}, store.inputs[:2])


def test_partial_or_foreign_members_are_refused(store, plan, members):
    linear, trees = members
    partial = replace(trees, cells=trees.cells[:2])
    with pytest.raises(ClimstackError, match="'trees' has 2 of 3 folds"):
        compare_members(store, plan, [linear, partial])
    other = replace(
        trees, targets=trees.targets[:5], sets=trees.sets[:5], cells=[f[:5] for f in trees.cells]
    )
    with pytest.raises(ClimstackError, match="'trees' models 5 targets"):
        compare_members(store, plan, [linear, other])
    turned = replace(trees, cells=trees.cells[1:] + trees.cells[:1])
    with pytest.raises(ClimstackError, match=r"'trees' comes from other folds or data \(fold 0\)"):
        compare_members(store, plan, [linear, turned])
    other_plan = time_blocks(store.time, n_folds=3, embargo=2)
    with pytest.raises(ClimstackError, match="'linear' comes from other folds"):
        compare_members(store, other_plan, members)
    with pytest.raises(ClimstackError, match="share a name"):
        compare_members(store, plan, [linear, linear])
    with pytest.raises(ClimstackError, match="no models"):
        compare_members(store, plan, [])


def test_leaderboard_is_sorted_and_says_what_is_honest(store, members, contenders, errors):
    chosen = choose(contenders, errors)
    rows = leaderboard(store.schema, members, contenders, errors, chosen)
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert [row["model"] for row in rows if row["chosen"]] == [chosen.name]
    for row in rows:
        assert row["ci_low"] <= row["score"] + 0.02
        assert row["ci_high"] >= row["score"] - 0.02
        assert np.mean(row["score_per_fold"]) == pytest.approx(row["score"], abs=1e-9)
        assert set(row["score_per_group"]) == {v.name for v in store.schema.targets}
    best = max((r for r in rows if not r["blend"]), key=lambda r: r["score"])
    for row in rows:
        if row["blend"]:
            assert row["best_member"] == best["model"]
            assert row["gain"] == pytest.approx(row["score"] - best["score"])


def test_the_simpler_blend_wins_a_tie(contenders, errors):
    best = max(contenders, key=lambda c: errors[c.name].r2().mean())
    tied = dict(errors)
    simplest = contenders[0]
    tied[simplest.name] = errors[best.name]
    assert choose(contenders, tied).name == simplest.name


def test_the_interval_of_a_difference_is_narrower_than_of_its_parts(errors):
    own = interval(errors["nnls/group"])
    gap = interval(errors["nnls/group"], errors["trees"])
    assert gap[1] - gap[0] < own[1] - own[0]
    assert interval(errors["trees"], errors["trees"]) == (0.0, 0.0)


def test_weight_zero_columns_score_one_whatever_their_truth(
    store, plan, members, contenders, monkeypatch
):
    """In the real rows some are not zero: the competition multiplies them by 0 first."""
    plain = evaluate(store, plan, members, contenders[:1])[contenders[0].name].r2()
    matrix = store.targets
    unscored = np.flatnonzero(store.schema.weights == 0)

    class Loud:
        shape = matrix.shape

        def __getitem__(self, rows):
            values = matrix[rows]
            values[:, unscored] = np.random.default_rng(0).normal(size=(len(values), 60))
            return values

        def blocks(self, rows):
            yield self[rows]

    monkeypatch.setattr(store, "targets", Loud())
    loud = evaluate(store, plan, members, contenders[:1])[contenders[0].name].r2()
    assert (loud[unscored] == 1).all()
    np.testing.assert_array_equal(loud, plain)


def test_two_folds_are_too_few_to_stack(store, members):
    plan = time_blocks(store.time, n_folds=2, embargo=1)
    two = [replace(m, cells=m.cells[:2]) for m in members]
    with pytest.raises(ClimstackError, match="at least 3 folds, but the plan has 2"):
        compare_members(store, plan, two)


def test_moments_are_kept_and_a_new_member_only_adds_its_own(
    store, plan, members, moments, tmp_path, monkeypatch
):
    kept = tmp_path / "moments.npz"
    collect_moments(store, plan, members[:1], kept)
    grown = collect_moments(store, plan, members[::-1], kept).members([1, 0])
    scale = np.abs(moments.comoment).max((0, 2, 3))[None, :, None, None]
    np.testing.assert_allclose(grown.comoment / scale, moments.comoment / scale, atol=1e-12)
    monkeypatch.setattr(out_of_fold, "out_of_fold_blocks", None)  # no pass any more
    again = collect_moments(store, plan, members, kept)
    np.testing.assert_array_equal(again.comoment, grown.comoment)
