"""In-sample predictions are told from honest ones by how they fit beside another member."""

from types import SimpleNamespace

import numpy as np

from models.diagnostics.plausible import implausible

N_ROWS, N_TARGETS = 4_000, 12


def member(name, truth, predicted, targets=None, external=True):
    """What :func:`implausible` looks at, of two folds."""
    slope = [np.cov(y, p)[0, 1] / np.var(p) for y, p in zip(truth.T, predicted.T, strict=True)]
    r2 = 1 - ((truth - predicted) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
    cell = SimpleNamespace(score={"r2": r2.tolist(), "slope": slope})
    files = SimpleNamespace(oof=f"{name}.csv") if external else None
    return SimpleNamespace(
        spec=SimpleNamespace(name=name, external=files),
        targets=np.arange(truth.shape[1]) if targets is None else targets,
        cells=[[cell], [cell]],
        in_order=lambda columns: columns[0],
    )


def test_honest_ones_are_not_told_and_in_sample_ones_are():
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(2, N_ROWS, N_TARGETS))
    share = np.linspace(0.1, 0.9, N_TARGETS)  # of the truth that can be known
    known, unknown = np.sqrt(share) * signal, np.sqrt(1 - share) * noise
    truth = known + unknown
    own = member("own", truth, 0.4 * known, external=False)
    better = member("better", truth, known * 1.02)
    exact = member("exact", truth, truth + 1e-3 * noise)
    held_back = member("held_back", truth, 0.9 * known + 0.5 * unknown)
    assert implausible([own, better]) == []
    assert implausible([exact, held_back]) == []  # nothing to compare them with
    said = implausible([own, better, exact, held_back])
    assert len(said) == 2
    assert said[0].startswith(
        "member 'exact' fits implausibly well: its R2 is 1.000 where the best"
    )
    assert "on 12 of 12 targets its R2 is above 0.98" in said[0]
    assert "did it see the rows that held_back.csv predicts?" in said[1]


def test_targets_that_no_own_member_serves_are_left_out():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(N_ROWS, 3))
    own = member("own", truth[:, :1], 0 * truth[:, :1] + 1e-3, np.array([7]), external=False)
    seen = member("seen", truth, truth + 1e-3, np.array([5, 6, 8]))
    assert implausible([own, seen]) == []


def test_a_fold_without_a_targets_truth_has_no_say_on_it():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(N_ROWS, 3))
    own = member("own", truth, 0.1 * truth + rng.normal(size=truth.shape), external=False)
    seen = member("seen", truth, truth + 1e-3)
    for each in (own, seen):
        first, _ = each.cells
        gone = SimpleNamespace(score=first[0].score | {"r2": [None, None, 0.5]})
        each.cells = [first, [gone]]
    [said] = implausible([own, seen])
    assert "on 2 of 3 targets" in said
