"""Fitting a nonlinear blend: a linear one, and a learner of what it leaves over."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.evaluation.out_of_fold import time_blocks
from ensemble.stacking.blending import Candidate
from ensemble.stacking.correction import (
    Correction,
    Corrector,
    StackRows,
    load_row_blender,
    stack_features,
)
from ensemble.stacking.graph import BLEND, MEMBER, Graph, fit_graph
from ensemble.stacking.moments import Moments
from features.core.types import Array, Mask
from features.folds.plan import FoldPlan
from features.store.matrix import BLOCK_ROWS
from features.store.store import Store
from features.views.tabular import Fill, TabularView
from features.views.transforms import Scaler
from models.member import Member

BASE = Candidate("nnls", "shrunk")  # the linear blend that is corrected
FEATURE_BYTES = 2**30  # rows are drawn at random so that their features take no more
MARGIN = 1e-3  # share of the error that a correction must take away to be kept


def fit_corrected(
    store: Store,
    plan: FoldPlan,
    members: Sequence[Member],
    moments: Moments,
    candidate: Candidate,
    seed: int = 0,
) -> Graph:
    """A graph with a correction, learned from some folds' out-of-fold predictions.

    The first of the folds decides: blend and learner are fitted on the others, and a target is
    corrected where that has a smaller error on the first. Then both are fitted on all of them.

    Args:
        store: inputs and truth.
        plan: the shared folds.
        members: all members, in the moments' order.
        moments: of the folds to learn from, at least 3.
        candidate: a nonlinear blender.
        seed: of the rows drawn and of the learner.
    """
    names, targets = [member.spec.name for member in members], members[0].targets
    first, *others = moments.fold_names
    linear = fit_graph(store.schema, names, targets, BASE, moments.folds(others))
    every = np.ones(len(targets), dtype=bool)
    learned = _learn(store, plan, members, linear, candidate, others, every, seed)
    kept = _wins(store, plan, members, linear, learned, first)
    final = fit_graph(store.schema, names, targets, BASE, moments)
    kept &= np.isin(final.action, [BLEND, MEMBER])
    if kept.any():
        folds = [first, *others]
        learned = _learn(store, plan, members, final, candidate, folds, kept, seed)
    return replace(final, blender=candidate.name, correction=replace(learned, kept=kept))


def _learn(
    store: Store,
    plan: FoldPlan,
    members: Sequence[Member],
    graph: Graph,
    candidate: Candidate,
    folds: Sequence[int],
    wanted: Mask,
    seed: int,
) -> Correction:
    blender, targets = load_row_blender(candidate.blender), graph.targets
    drawn = _draw(plan, members, store, folds, seed)
    truth = store.require_targets()
    fill = Fill.fit(store.schema, (store.inputs[rows] for _, _, rows in drawn))
    inputs = (store.inputs[rows] for _, _, rows in drawn)
    view = TabularView.fit(store.schema, inputs, blender.view, fill, store.levels)
    scaler = Scaler.fit(truth[rows][:, targets] for _, _, rows in drawn)
    features, residual = [], []
    for predictions, blend, x, y in _blended(store, members, graph, drawn):
        features.append(stack_features(view, scaler, predictions, blend, x))
        residual.append(((y - blend) / scaler.std).astype(np.float32))
    columns = [store.schema.target_columns[target] for target in targets]
    levels, n_blocks = store.schema.target_levels[targets], len(members) + 1
    owners = [*(member.spec.name for member in members), "blend"]
    rows = StackRows(
        np.concatenate(features),
        [f"{owner}.{column}" for owner in owners for column in columns] + view.feature_names,
        np.concatenate([*[levels] * n_blocks, view.levels]),
        np.concatenate(residual),
        columns,
        levels,
        [store.schema.target_groups[target] for target in targets],
        n_blocks,
    )
    with tempfile.TemporaryDirectory(prefix=".stack.") as folder:
        learned: Corrector = blender.fit(rows, wanted, seed, Path(folder))
    return Correction(candidate.blender, view, scaler, wanted, learned)


def _wins(
    store: Store,
    plan: FoldPlan,
    members: Sequence[Member],
    graph: Graph,
    learned: Correction,
    fold: int,
) -> Mask:
    """Where the corrected blend is better on a fold that neither has seen.

    By more than the difference's standard error over blocks of time, and by more than MARGIN.
    """
    rows, block_of_row = plan.valid_rows(fold), time_blocks(plan)
    blocks = block_of_row[rows]
    parts = [
        (fold, at[i : i + BLOCK_ROWS], rows[at[i : i + BLOCK_ROWS]])
        for at in (np.flatnonzero(blocks == block) for block in np.unique(blocks))
        for i in range(0, len(at), BLOCK_ROWS)
    ]
    n_blocks = int(block_of_row.max()) + 1
    before, after = np.zeros((2, n_blocks, len(graph.targets)))
    blended = _blended(store, members, graph, parts)
    for (_, _, here), (predictions, blend, x, y) in zip(parts, blended, strict=True):
        corrected = learned.apply(blend, predictions, x)
        block = block_of_row[here[0]]
        before[block] += (((y - blend) / learned.scaler.std) ** 2).sum(0)
        after[block] += (((y - corrected) / learned.scaler.std) ** 2).sum(0)
    gain = (before - after)[np.unique(blocks)]
    total = gain.sum(0)
    wins: Mask = (total > np.sqrt(len(gain)) * gain.std(0)) & (total > MARGIN * before.sum(0))
    return wins


def _blended(
    store: Store,
    members: Sequence[Member],
    graph: Graph,
    parts: Sequence[tuple[int, NDArray[np.intp] | slice, NDArray[np.intp]]],
) -> Iterator[tuple[list[Array], Array, Array, Array]]:
    """Members' predictions, linear blend, inputs and truth of some validation rows."""
    truth = store.require_targets()
    for fold, at, rows in parts:
        predictions = [member.oof(fold, at) for member in members]
        blend = graph.blend(predictions)
        yield predictions, blend, store.inputs[rows], truth[rows][:, graph.targets]


def _draw(
    plan: FoldPlan, members: Sequence[Member], store: Store, folds: Sequence[int], seed: int
) -> list[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
    """Validation rows of the folds, by fold: positions among them and rows of the store."""
    n_inputs = 3 * len(store.schema.input_columns)  # a view is up to that wide
    width = (len(members) + 2) * len(members[0].targets) + n_inputs
    most = FEATURE_BYTES // (4 * width)
    counts = {fold: len(plan.valid_rows(fold)) for fold in folds}
    share = min(1.0, most / sum(counts.values()))
    rng, drawn = np.random.default_rng(seed), []
    for fold, n_rows in counts.items():
        some = np.sort(rng.choice(n_rows, max(1, int(share * n_rows)), replace=False))
        for start in range(0, len(some), BLOCK_ROWS):
            at = some[start : start + BLOCK_ROWS]
            drawn.append((fold, at, plan.valid_rows(fold)[at]))
    return drawn
