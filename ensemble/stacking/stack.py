"""Fit blends on out-of-fold predictions, score them honestly, choose one.

Honest: the rows of fold k are scored with a graph learned from the other folds only.
In-sample: with the graph learned from all folds, the one that test rows get. One pass gives both.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ensemble.evaluation.out_of_fold import out_of_fold_blocks, time_blocks
from ensemble.stacking.blending import Candidate
from ensemble.stacking.graph import Graph, fit_graph
from ensemble.stacking.moments import Moments
from ensemble.stacking.second_stage import fit_corrected
from features.core.files import atomic_path, scratch_array
from features.core.metrics import r2_from_sums
from features.core.types import Array, Progress
from features.folds.plan import FoldPlan
from features.store.store import Store
from models.member import Member

TIE = 1e-4  # honest scores closer than this are a tie


@dataclass(frozen=True)
class Contender:
    """A member or a blend with its graphs.

    Attributes:
        name: on the leaderboard.
        members: names of the members in it.
        is_blend: whether it blends several members.
        honest: one graph per fold, learned from the other folds.
        final: the graph learned from all folds.
    """

    name: str
    members: list[str]
    is_blend: bool
    honest: list[Graph]
    final: Graph


@dataclass(frozen=True)
class Errors:
    """Sums that R2 comes from, kept apart by fold and by block of time.

    Attributes:
        fold: (n_blocks,), the fold of each block.
        block: (n_blocks,), the number of the block of time.
        rows: (n_blocks,), rows of each block.
        squared_error: (n_blocks, n_targets), with honest graphs.
        in_sample: (n_blocks, n_targets), with the final graph.
        deviation: (n_blocks, n_targets), squared deviations of the truth from its mean over all.
    """

    fold: NDArray[np.intp]
    block: NDArray[np.intp]
    rows: Array
    squared_error: Array
    in_sample: Array
    deviation: Array

    def r2(self) -> Array:
        """Honest R2 of each target, (n_targets,)."""
        return r2_from_sums(self.squared_error.sum(0), self.deviation.sum(0))

    def in_sample_r2(self) -> Array:
        """R2 of each target with the final graph, (n_targets,): optimistic."""
        return r2_from_sums(self.in_sample.sum(0), self.deviation.sum(0))

    def fold_scores(self) -> list[float]:
        """Score of each fold, with the truth's variance taken over all folds.

        Weighted by their rows they average to the score: no fold's own tiny variance sinks it.
        """
        variance = self.deviation.sum(0) / self.rows.sum()
        scores = []
        for fold in np.unique(self.fold):
            at = self.fold == fold
            scores.append(
                float(
                    r2_from_sums(
                        self.squared_error[at].sum(0), variance * self.rows[at].sum()
                    ).mean()
                )
            )
        return scores


def fit_contenders(
    store: Store,
    plan: FoldPlan,
    members: Sequence[Member],
    moments: Moments,
    blends: Sequence[Candidate],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Contender]:
    """Graphs for every member alone and for every blend of all members.

    Args:
        store: the data; only nonlinear blends look at rows.
        plan: the shared folds.
        members: what is blended.
        moments: of the members, from :func:`ensemble.evaluation.out_of_fold.collect_moments`.
        blends: what competes, simplest first.
        seed: of nonlinear blends.
        progress: called with (what, done, total).
    """
    alone = Candidate("mean", "all")
    wanted = [([i], member.spec.name, alone) for i, member in enumerate(members)]
    if len(members) > 1:
        wanted += [(list(range(len(members))), blend.name, blend) for blend in blends]
    contenders = []
    for done, (of, name, candidate) in enumerate(wanted):
        if progress is not None:
            progress("blend", done, len(wanted))
        own, mine = moments.members(of), [members[i] for i in of]
        learn = partial(_fit, store, plan, mine, candidate, seed)
        honest = [learn(own.without(fold)) for fold in range(plan.n_folds)]
        names = [member.spec.name for member in mine]
        contenders.append(Contender(name, names, len(of) > 1, honest, learn(own)))
    if progress is not None:
        progress("blend", len(wanted), len(wanted))
    return contenders


def _fit(
    store: Store,
    plan: FoldPlan,
    members: Sequence[Member],
    candidate: Candidate,
    seed: int,
    moments: Moments,
) -> Graph:
    if not candidate.linear:
        return fit_corrected(store, plan, members, moments, candidate, seed)
    names = [member.spec.name for member in members]
    return fit_graph(store.schema, names, members[0].targets, candidate, moments)


def evaluate(
    store: Store, plan: FoldPlan, members: Sequence[Member], contenders: Sequence[Contender]
) -> dict[str, Errors]:
    """Score all contenders in one pass over the out-of-fold predictions.

    Errors are multiplied by the schema's weights: a target of weight 0 has none, and scores 1.
    """
    weights = store.schema.weights
    mean = _mean_of_truth(store, plan)
    block_of_row = time_blocks(plan)
    # A block of units can straddle two folds: each pair of fold and block is kept apart.
    sums: dict[tuple[int, int], dict[str, Array]] = {}
    count: dict[tuple[int, int], int] = {}
    for fold in range(plan.n_folds):
        for rows, predictions, y in out_of_fold_blocks(store, plan, members, fold):
            inputs = store.inputs[rows]
            deviation = ((y - mean) * weights) ** 2
            squared = {
                c.name: np.stack(
                    [
                        ((y - c.honest[fold].apply(predictions, inputs)) * weights) ** 2,
                        ((y - c.final.apply(predictions, inputs)) * weights) ** 2,
                        deviation,
                    ]
                )
                for c in contenders
            }
            for block in np.unique(block_of_row[rows]):
                at = block_of_row[rows] == block
                key = (fold, int(block))
                count[key] = count.get(key, 0) + int(at.sum())
                have = sums.setdefault(key, {})
                for name, values in squared.items():
                    have[name] = have.get(name, 0.0) + values[:, at].sum(1)
    keys = sorted(sums)
    fold, block = np.array(keys, dtype=np.intp).T
    n_rows = np.array([float(count[key]) for key in keys])
    return {
        c.name: Errors(fold, block, n_rows, *np.stack([sums[key][c.name] for key in keys], axis=1))
        for c in contenders
    }


def choose(contenders: Sequence[Contender], errors: Mapping[str, Errors]) -> Contender:
    """The contender with the best honest score; among ties the first, which is the simplest."""
    scores = {c.name: errors[c.name].r2().mean() for c in contenders}
    best = max(scores.values())
    return next(c for c in contenders if scores[c.name] >= best - TIE)


def save_stack(
    folder: Path,
    store: Store,
    plan: FoldPlan,
    chosen: Contender,
    members: Sequence[Member],
    errors: Mapping[str, Errors],
) -> None:
    """Write the stack's folder; what was there of another blend is deleted.

    ``graph.json`` is what test rows get, ``fold-K.json`` what scored fold K, and
    ``oof/fold-K.npy``, (n_valid, n_targets) float64, what that gave for the fold's validation rows,
    in their order. ``weights.parquet`` holds (target, member, weight, action), ``scores.parquet``
    the sums behind every score: (model, target, fold, block, rows, squared_error, in_sample,
    deviation).
    """
    (folder / "graph.json").unlink(missing_ok=True)  # it comes last: with it the stack is whole
    shutil.rmtree(folder / "oof", ignore_errors=True)
    for old in folder.glob("fold-*.json"):
        old.unlink()
        shutil.rmtree(old.with_suffix(""), ignore_errors=True)
    hash_of = {member.spec.name: member.hash for member in members}
    hashes = [hash_of[name] for name in chosen.members]
    n_targets = len(store.schema.target_columns)
    for fold, graph in enumerate(chosen.honest):
        replace(graph, member_hashes=hashes).save(folder / f"fold-{fold}.json")
        with atomic_path(folder / "oof" / f"fold-{fold}.npy", sync=False) as made:
            outputs = scratch_array(made, "<f8", (len(plan.valid_rows(fold)), n_targets))
            start = 0
            for rows, predictions, _ in out_of_fold_blocks(store, plan, members, fold):
                outputs[start : start + len(rows)] = graph.apply(predictions, store.inputs[rows])
                start += len(rows)
    _weights_table(chosen.final, folder / "weights.parquet")
    _scores_table(store.schema.target_columns, errors, folder / "scores.parquet")
    replace(chosen.final, member_hashes=hashes).save(folder / "graph.json")


def _weights_table(graph: Graph, path: Path) -> None:
    names = [graph.schema.target_columns[target] for target in graph.targets]
    table = pl.DataFrame(
        {
            "target": np.repeat(names, len(graph.members)),
            "member": graph.members * len(names),
            "weight": graph.weights.T.ravel(),
            "action": np.repeat(graph.action, len(graph.members)),
        }
    )
    with atomic_path(path) as made:
        table.write_parquet(made)


def _scores_table(targets: Sequence[str], errors: Mapping[str, Errors], path: Path) -> None:
    parts = []
    for name, own in errors.items():
        n_parts = len(own.fold)
        parts.append(
            pl.DataFrame(
                {
                    "model": np.repeat(name, n_parts * len(targets)),
                    "target": list(targets) * n_parts,
                    "fold": np.repeat(own.fold, len(targets)),
                    "block": np.repeat(own.block, len(targets)),
                    "rows": np.repeat(own.rows, len(targets)),
                    "squared_error": own.squared_error.ravel(),
                    "in_sample": own.in_sample.ravel(),
                    "deviation": own.deviation.ravel(),
                }
            )
        )
    with atomic_path(path) as made:
        pl.concat(parts).write_parquet(made)


def _mean_of_truth(store: Store, plan: FoldPlan) -> Array:
    """Mean of each target over all validated rows, (n_targets,)."""
    truth = store.require_targets()
    n_rows, mean = 0, np.zeros(truth.shape[1])
    for fold in range(plan.n_folds):
        for block in truth.blocks(plan.valid_rows(fold)):
            n_rows += len(block)
            mean += (block - mean).sum(0) / n_rows
    return mean
