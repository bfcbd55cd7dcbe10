"""Passes over the members' out-of-fold predictions, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.stacking.moments import Block, Moments
from features.core.errors import ClimstackError
from features.core.types import Array
from features.folds.plan import FoldPlan
from features.store.matrix import BLOCK_ROWS
from features.store.store import Store
from models.member import Member, cell_keys

N_BLOCKS = 40  # of time, for the bootstrap


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


def collect_moments(
    store: Store, plan: FoldPlan, members: Sequence[Member], kept: Path | None = None
) -> Moments:
    """One pass over the out-of-fold predictions: their moments by fold and block of time.

    Args:
        store: the truth.
        plan: the shared folds.
        members: whose moments.
        kept: file that keeps them. Members found in it are not read again if no other is new, and
            of a new member only its own rows and columns are computed.
    """
    compare_members(store, plan, members)
    hashes = [member.hash for member in members]
    held = None if kept is None else Moments.load(kept)
    if held is None:
        moments, order = Moments.of_blocks(_moment_blocks(store, plan, members)), hashes
    else:
        moments, have = held
        order = [own for own in have if own in hashes]
        moments = moments.members([have.index(own) for own in order])
        new = [own for own in hashes if own not in order]
        if new:
            order = [*order, *new]
            in_order = [members[hashes.index(own)] for own in order]
            blocks = _moment_blocks(store, plan, in_order)
            moments = moments.grown(blocks) if len(order) > len(new) else Moments.of_blocks(blocks)
    if kept is not None and (held is None or held[1] != order):
        moments.save(kept, order)
    return moments.members([order.index(own) for own in hashes])


def _moment_blocks(store: Store, plan: FoldPlan, members: Sequence[Member]) -> Iterator[Block]:
    targets, block_of_row = members[0].targets, time_blocks(plan)
    for fold in range(plan.n_folds):
        for rows, predictions, truth in out_of_fold_blocks(store, plan, members, fold):
            for block in np.unique(block_of_row[rows]):
                at = block_of_row[rows] == block
                own = [values[at] for values in predictions.values()]
                yield fold, int(block), own, truth[at][:, targets]


def time_blocks(plan: FoldPlan) -> NDArray[np.intp]:
    """Number of the block of units each row lies in, (n_samples,): at most N_BLOCKS blocks.

    Rows of auxiliary sources, which no fold holds out, have -1.
    """
    ours = plan.main
    units, position = np.unique(plan.unit[ours], return_inverse=True)
    block = np.full(len(plan), -1, dtype=np.intp)
    block[ours] = (position * min(N_BLOCKS, len(units))) // len(units)
    return block
