"""Fit blends on out-of-fold predictions, score them honestly, choose one.

Honest: the rows of fold k are scored with a graph learned from the other folds only.
In-sample: with the graph learned from all folds, the one that test rows get. One pass gives both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ensemble.blending import Candidate
from ensemble.graph import Graph, fit_graph
from ensemble.moments import Array, Moments
from features.errors import ClimstackError
from features.files import atomic_path
from features.folds import FoldPlan
from features.metrics import r2_from_sums
from features.store import BLOCK_ROWS, Store
from models.member import Member, cell_keys

N_BLOCKS = 40  # of time, for the bootstrap
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
        rows: (n_blocks,), rows of each block.
        squared_error: (n_blocks, n_targets), with honest graphs.
        in_sample: (n_blocks, n_targets), with the final graph.
        deviation: (n_blocks, n_targets), squared deviations of the truth from its mean over all.
    """

    fold: NDArray[np.intp]
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


def compare_members(store: Store, plan: FoldPlan, members: Sequence[Member]) -> None:
    """Refuse members that don't belong together.

    Raises:
        ClimstackError: names the member that is partial, or has other folds, data or targets.
    """
    if not members:
        raise ClimstackError("nothing to stack: the experiment has no models")
    if plan.n_folds < 3:
        raise ClimstackError(
            f"stacking needs at least 3 folds, but the plan has {plan.n_folds}: with 2, fallbacks"
            " could only be chosen on the rows that the weights were learned from"
        )
    for member in members:
        name = member.spec.name
        if len(member.cells) != plan.n_folds or not all(member.cells):
            raise ClimstackError(
                f"member '{name}' has {len(member.cells)} of {plan.n_folds} folds: fit the others"
            )
        if not np.array_equal(member.targets, members[0].targets):
            raise ClimstackError(
                f"member '{name}' models {len(member.targets)} targets, '{members[0].spec.name}'"
                f" models {len(members[0].targets)}: all members need the same targets"
            )
        for fold, cells in enumerate(member.cells):
            keys = cell_keys(store, plan, member.spec, member.targets, fold)
            if [cell.path.name for cell in cells] != [key.hash for key in keys]:
                raise ClimstackError(
                    f"member '{name}' comes from other folds or data (fold {fold}): fit it on these"
                )
    names = [member.spec.name for member in members]
    if len(set(names)) != len(names):
        raise ClimstackError(f"two members share a name in {names}: rename one")
    store.require_targets()


def out_of_fold_blocks(
    store: Store, plan: FoldPlan, members: Sequence[Member], fold: int
) -> Iterator[tuple[NDArray[np.intp], dict[str, Array], Array]]:
    """Validation rows of a fold by blocks: rows, predictions of each member, all targets."""
    rows = plan.valid_rows(fold)
    truth = store.require_targets()
    for start in range(0, len(rows), BLOCK_ROWS):
        here = slice(start, start + BLOCK_ROWS)
        predictions = {member.spec.name: member.oof(fold, here) for member in members}
        yield rows[here], predictions, truth[rows[here]]


def collect_moments(store: Store, plan: FoldPlan, members: Sequence[Member]) -> Moments:
    """One pass over the out-of-fold predictions: their moments, fold by fold."""
    compare_members(store, plan, members)
    targets = members[0].targets
    folds = []
    for fold in range(plan.n_folds):
        # One BLAS thread: the rounding, and so the weights, must not depend on the cores.
        with threadpool_limits(1, user_api="blas"):
            blocks = [
                Moments.of_block(list(predictions.values()), truth[:, targets])
                for _, predictions, truth in out_of_fold_blocks(store, plan, members, fold)
            ]
            folds.append(Moments.concatenate(blocks).merged())
    return Moments.concatenate(folds)


def fit_contenders(
    store: Store,
    members: Sequence[Member],
    moments: Moments,
    blends: Sequence[Candidate],
) -> list[Contender]:
    """Graphs for every member alone and for every blend of all members."""
    names = [member.spec.name for member in members]
    targets = members[0].targets
    alone = Candidate("mean", "all")
    wanted = [(name, [name], moments.members([i]), alone) for i, name in enumerate(names)]
    if len(members) > 1:
        wanted += [(candidate.name, names, moments, candidate) for candidate in blends]
    contenders = []
    for name, of, of_members, candidate in wanted:
        graphs = [
            fit_graph(
                store.schema,
                of,
                targets,
                candidate,
                of_members.folds([k for k in range(moments.n_folds) if k != fold]),
            )
            for fold in range(moments.n_folds)
        ]
        final = fit_graph(store.schema, of, targets, candidate, of_members)
        contenders.append(Contender(name, of, len(of) > 1, graphs, final))
    return contenders


def evaluate(
    store: Store, plan: FoldPlan, members: Sequence[Member], contenders: Sequence[Contender]
) -> dict[str, Errors]:
    """Score all contenders in one pass over the out-of-fold predictions.

    Errors are multiplied by the schema's weights: a target of weight 0 has none, and scores 1.
    """
    weights = store.schema.weights
    mean = _mean_of_truth(store, plan)
    block_of_row = _time_blocks(plan)
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
    fold_of_block = np.array([fold for fold, _ in keys])
    rows_of_block = np.array([float(count[key]) for key in keys])
    return {
        c.name: Errors(
            fold_of_block, rows_of_block, *np.stack([sums[key][c.name] for key in keys], axis=1)
        )
        for c in contenders
    }


def choose(contenders: Sequence[Contender], errors: Mapping[str, Errors]) -> Contender:
    """The contender with the best honest score; among ties the first, which is the simplest."""
    scores = {c.name: errors[c.name].r2().mean() for c in contenders}
    best = max(scores.values())
    return next(c for c in contenders if scores[c.name] >= best - TIE)


def save_stack(folder: Path, chosen: Contender, members: Sequence[Member]) -> None:
    """Write ``graph.json`` and ``weights.parquet`` (target, member, weight, action)."""
    hashes = {member.spec.name: member.hash for member in members}
    graph = replace(chosen.final, member_hashes=[hashes[name] for name in chosen.members])
    graph.save(folder / "graph.json")
    names = [graph.schema.target_columns[target] for target in graph.targets]
    table = pl.DataFrame(
        {
            "target": np.repeat(names, len(graph.members)),
            "member": graph.members * len(names),
            "weight": graph.weights.T.ravel(),
            "action": np.repeat(graph.action, len(graph.members)),
        }
    )
    with atomic_path(folder / "weights.parquet") as made:
        table.write_parquet(made)


def _time_blocks(plan: FoldPlan) -> NDArray[np.intp]:
    """Number of the block of units each row lies in, (n_samples,): at most N_BLOCKS blocks."""
    units, position = np.unique(plan.unit, return_inverse=True)
    return (position * min(N_BLOCKS, len(units))) // len(units)


def _mean_of_truth(store: Store, plan: FoldPlan) -> Array:
    """Mean of each target over all validated rows, (n_targets,)."""
    truth = store.require_targets()
    n_rows, mean = 0, np.zeros(truth.shape[1])
    for fold in range(plan.n_folds):
        for block in truth.blocks(plan.valid_rows(fold)):
            n_rows += len(block)
            mean += (block - mean).sum(0) / n_rows
    return mean
