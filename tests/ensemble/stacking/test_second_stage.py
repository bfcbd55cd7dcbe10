"""Nonlinear blenders: kept where they win on a fold they never saw, and stored to the bit."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from ensemble import Candidate, Graph, available_blenders
from ensemble.evaluation.out_of_fold import _moment_blocks
from ensemble.stacking.moments import Moments
from ensemble.stacking.second_stage import fit_corrected
from features import ClimstackError, time_blocks

NONLINEAR = [name for name in available_blenders() if not Candidate(name, "all").linear]


@dataclass
class Known:
    """A member whose out-of-fold predictions are given, (n_samples, n_targets)."""

    name: str
    targets: np.ndarray
    values: np.ndarray
    plan: object

    @property
    def spec(self):
        return SimpleNamespace(name=self.name)

    def oof(self, fold, rows=slice(None)):
        return self.values[self.plan.valid_rows(fold)][rows]


@pytest.fixture(scope="module")
def four_folds(store):
    return time_blocks(store.time, n_folds=4, embargo=1)


@pytest.fixture(scope="module")
def bent(store, schema, four_folds):
    """Two members that are off by what an input at the level says, and one target with no flaw."""
    rng = np.random.default_rng(0)
    names = ["ptend_t_40", "ptend_t_41", "ptend_u_45", "cam_out_SOLS"]
    targets = np.array([schema.target_columns.index(name) for name in names])
    truth = store.targets[:][:, targets]
    std = truth.std(0)
    sun = store.inputs[:][:, schema.column_index("pbuf_SOLIN")]
    flaw = np.where(sun > np.median(sun), 1.0, -1.0)[:, None] * std * [1.0, 1.0, 1.0, 0.0]
    return [
        Known(name, targets, truth + flaw + 0.3 * std * rng.normal(size=truth.shape), four_folds)
        for name in ("one", "two")
    ]


@pytest.mark.parametrize("name", NONLINEAR)
def test_a_correction_is_kept_where_it_wins(name, store, four_folds, bent, tmp_path, monkeypatch):
    from ensemble.stacking.blenders import level_net

    few_rows = {"epochs": 12, "batch_size": 32, "learning_rate": 5e-3}
    for key, value in few_rows.items():
        monkeypatch.setitem(level_net.SETTINGS, key, value)
    monkeypatch.setitem(level_net.CONFIG, "dim", 24)
    monkeypatch.setitem(level_net.CONFIG, "depth", 1)
    moments = Moments.of_blocks(_moment_blocks(store, four_folds, bent))
    learned = moments.without(0)
    graph = fit_corrected(store, four_folds, bent, learned, Candidate(name, "all"))
    kept = graph.correction.kept
    assert kept[:3].all()
    rows = four_folds.valid_rows(0)
    predictions = {member.name: member.oof(0) for member in bent}
    y = store.targets[rows]
    outputs = graph.apply(predictions, store.inputs[rows])
    plain = Graph(
        **{f: getattr(graph, f) for f in graph.__dataclass_fields__} | {"correction": None}
    )
    before = plain.apply(predictions, store.inputs[rows])
    for target in bent[0].targets[:3]:
        own, without = (((y - each)[:, target] ** 2).mean() for each in (outputs, before))
        assert own < 0.7 * without
    graph.save(tmp_path / "graph.json")
    again = Graph.load(tmp_path / "graph.json").apply(predictions, store.inputs[rows])
    np.testing.assert_array_equal(again, outputs)
    plain.save(tmp_path / "graph.json")
    assert not (tmp_path / "graph").exists()


def test_nothing_is_kept_where_there_is_nothing_to_learn(store, four_folds, bent):
    rng = np.random.default_rng(1)
    truth = store.targets[:][:, bent[0].targets]
    noisy = [
        Known(
            m.name,
            m.targets,
            truth + 0.03 * truth.std(0) * rng.normal(size=truth.shape),
            four_folds,
        )
        for m in bent
    ]
    moments = Moments.of_blocks(_moment_blocks(store, four_folds, noisy))
    graph = fit_corrected(store, four_folds, noisy, moments, Candidate("gbdt", "all"))
    assert graph.correction.kept.sum() <= 1


def test_two_folds_are_too_few(store, four_folds, bent):
    moments = Moments.of_blocks(_moment_blocks(store, four_folds, bent)).folds([1, 2])
    with pytest.raises(ClimstackError, match="or 4 for a nonlinear one"):
        fit_corrected(store, four_folds, bent, moments, Candidate("gbdt", "all"))
