"""Held-out rows: the one place that walks them, by blocks of time, for whoever collects from them.

Whatever is learned from held-out rows is a :class:`Collector` of a walk, so that several share one
pass. Rows come by blocks of time, in the order that prediction intervals are calibrated in:

1. every other block of the first half, from which the expected error is learned;
2. the other blocks of the first half, which calibrate;
3. the later blocks, in order of time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ensemble.stacking.blend import Blend
from features.core.errors import ClimstackError
from features.core.types import Array, Mask, Progress, Rows
from features.folds.folded import FoldedStore
from features.folds.plan import FoldPlan
from features.store.matrix import BLOCK_ROWS
from models.member import Member, cell_keys, spread

N_BLOCKS = 40  # of time


class Collector(Protocol):
    """Something that is learned from held-out rows, in bounded memory."""

    def add(self, block: Block) -> None:
        """Take the rows of a block into account."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """All rows that some fold holds out, and what is known of them.

    Attributes:
        data: the rows and their folds.
        members: whose predictions are read; none are needed where outputs are stored.
        honest: the chosen blend of each fold, learned from the other folds.
        modelled: indices of the run's targets that need a model, (n_modelled,); None: those of the
            blends, else those of the first member.
        outputs: for each fold a file of what its honest blend gave, (n_valid, n_targets) in the
            order of ``plan.valid_rows``; without, outputs are computed.

    Example:
        >>> block = next(held_out.blocks())
        >>> block.truth.shape[1], sorted(block.predictions)
        (4, ['ridge', 'trees'])
    """

    data: FoldedStore
    members: Sequence[Member] = ()
    honest: Sequence[Blend] = ()
    outputs: Sequence[Path] = ()
    modelled: Rows | None = None

    def __post_init__(self) -> None:
        n_targets = len(self.data.store.schema.target_columns)
        for fold, file in enumerate(self.outputs):
            shape = (len(self.data.plan.valid_rows(fold)), n_targets)
            if not file.is_file() or np.load(file, mmap_mode="r").shape != shape:
                raise ClimstackError(f"{file} does not hold {shape} outputs: run the stack again")

    @property
    def targets(self) -> Rows:
        """Indices of the modelled targets, (n_modelled,)."""
        if self.honest:
            return self.honest[0].targets
        return self.members[0].targets if self.modelled is None else self.modelled

    @cached_property
    def served(self) -> Mask:
        """Whether each member predicts each target, (n_members, n_modelled)."""
        return np.stack([np.isin(self.targets, member.targets) for member in self.members])

    @cached_property
    def heads(self) -> list[str]:
        """Names of the members that say how far off they expect to be, on every fold."""
        return [
            member.spec.name
            for member in self.members
            if all(cell.has_uncertainty for fold in member.cells for cell in fold)
        ]

    @cached_property
    def n_blocks(self) -> int:
        """How many blocks of time there are, at most N_BLOCKS."""
        return int(self.block_of_row.max()) + 1

    @cached_property
    def block_of_row(self) -> Rows:
        """The block of time that each row lies in, (n_samples,); -1 if no fold holds it out.

        Where time is unknown, blocks are cut from the plan's units.
        """
        time, plan = self.data.store.time, self.data.plan
        return self.part_of_row if time.min() < 0 else _cut(time, plan)

    @cached_property
    def part_of_row(self) -> Rows:
        """The block of the plan's units that each row lies in, (n_samples,), for the bootstrap."""
        return _cut(self.data.plan.unit, self.data.plan)

    @property
    def first_later(self) -> int:
        """The first block of time on which intervals are tried."""
        return max(2, self.n_blocks // 2)

    @property
    def order(self) -> list[int]:
        """The blocks of time in the order of the walk; see the module's text."""
        numbers = range(self.n_blocks)
        first, later = numbers[: self.first_later], numbers[self.first_later :]
        return [*first[::2], *first[1::2], *later]

    def walk(self, *collectors: Collector, what: str, progress: Progress | None = None) -> None:
        """Show every held-out row once to every collector.

        Args:
            collectors: what takes the blocks.
            what: how progress calls the walk.
            progress: called with (what, rows done, rows in all).
        """
        done, total = 0, int((self.data.plan.fold >= 0).sum())
        # One BLAS thread: the rounding, and so the weights, must not depend on the cores.
        with threadpool_limits(1, user_api="blas"):
            for block in self.blocks():
                for collector in collectors:
                    collector.add(block)
                done += len(block.rows)
                if progress is not None:
                    progress(what, done, total)

    def blocks(self) -> Iterator[Block]:
        """Every held-out row once, at most BLOCK_ROWS of one fold and block of time together."""
        order, folds = self.order, range(self.data.plan.n_folds)
        rank_of = np.argsort(order)
        ranks = [rank_of[self.block_of_row[self.data.plan.valid_rows(fold)]] for fold in folds]
        # Each fold's rows in the order of the walk, and where each block of time starts in them.
        places = [np.argsort(rank, kind="stable") for rank in ranks]
        sizes = np.stack([np.bincount(rank, minlength=len(order)) for rank in ranks])
        starts = np.concatenate([np.zeros((len(sizes), 1), dtype=np.intp), sizes.cumsum(1)], axis=1)
        for first, last in _groups(sizes.sum(0).tolist()):
            begin = starts[:, first]
            read = [_Read(self, f, places[f][begin[f] : starts[f, last]]) for f in folds]
            for rank in range(first, last):
                for fold in folds:
                    start, stop = (starts[fold, rank : rank + 2] - begin[fold]).tolist()
                    for at in range(start, stop, BLOCK_ROWS):
                        here = slice(at, min(at + BLOCK_ROWS, stop))
                        yield Block(order[rank], *read[fold].piece(here))


@dataclass(frozen=True)
class Block:
    """Some held-out rows of one fold and one block of time; read when they are looked at.

    Attributes:
        number: of the block of time.
        source: rows that were read together.
        at: which of them these are.
    """

    number: int
    source: _Read
    at: slice

    @property
    def fold(self) -> int:
        """The fold that holds them out."""
        return self.source.fold

    @property
    def positions(self) -> Rows:
        """Their places among the fold's rows, (n,)."""
        return self.source.positions[self.at]

    @property
    def rows(self) -> Rows:
        """Their places in the store, (n,)."""
        return self.source.rows[self.at]

    @property
    def inputs(self) -> Array:
        """(n, n_inputs)."""
        return self.source.inputs[self.at]

    @property
    def truth(self) -> Array:
        """(n, n_targets)."""
        return self.source.truth[self.at]

    @property
    def outputs(self) -> Array:
        """The chosen blend's honest final outputs, (n, n_targets)."""
        return self.source.outputs[self.at]

    @property
    def predictions(self) -> dict[str, Array]:
        """Out-of-fold predictions of each member, (n, n_modelled); NaN where it serves none."""
        return {name: values[self.at] for name, values in self.source.predictions.items()}

    @property
    def heads(self) -> dict[str, Array]:
        """Expected absolute errors of the members that know them on every fold, (n, n_modelled)."""
        return {name: values[self.at] for name, values in self.source.heads.items()}

    def parts(self) -> Iterator[tuple[int, slice | Mask]]:
        """The blocks of the plan's units among the rows, each with its place in the arrays."""
        part = self.source.held_out.part_of_row[self.rows]
        names = np.unique(part).tolist()
        for name in names:
            yield name, slice(None) if len(names) == 1 else part == name


@dataclass(frozen=True)
class _Read:
    """Rows of a fold that are read together, each array when it is first asked for."""

    held_out: HeldOut
    fold: int
    positions: Rows

    def piece(self, at: slice) -> tuple[_Read, slice]:
        """Some of the rows: out of all that are read together, or apart where those are many."""
        if len(self.positions) <= BLOCK_ROWS:
            return self, at
        return replace(self, positions=self.positions[at]), slice(None)

    @cached_property
    def rows(self) -> Rows:
        return self.held_out.data.plan.valid_rows(self.fold)[self.positions]

    @cached_property
    def inputs(self) -> Array:
        return self.held_out.data.store.inputs[self.rows]

    @cached_property
    def truth(self) -> Array:
        return self.held_out.data.store.require_targets()[self.rows]

    @cached_property
    def predictions(self) -> dict[str, Array]:
        members = self.held_out.members
        return {
            member.spec.name: spread(
                member, member.oof(self.fold, self.positions), self.held_out.targets
            )
            for member in members
        }

    @cached_property
    def heads(self) -> dict[str, Array]:
        members, names = self.held_out.members, self.held_out.heads
        return {
            member.spec.name: spread(
                member, member.uncertainty(self.fold, self.positions), self.held_out.targets
            )
            for member in members
            if member.spec.name in names
        }

    @cached_property
    def outputs(self) -> Array:
        if self.held_out.outputs:
            # Opened anew: pages of an older map would count as this process's.
            file = np.load(self.held_out.outputs[self.fold], mmap_mode="r")
            return np.array(file[self.positions])
        return self.held_out.honest[self.fold].apply(self.predictions, self.inputs)


def check_members(
    data: FoldedStore, members: Sequence[Member], targets: Rows | None = None
) -> None:
    """Refuse members that don't belong together.

    Args:
        data: the rows and their folds.
        members: what is to be stacked.
        targets: indices of the modelled targets; None: those of the first member.

    Raises:
        ClimstackError: names the member that is partial, or has other folds, data or targets.
    """
    plan = data.plan
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
        modelled = members[0].targets if targets is None else targets
        if not len(member.targets) or not np.isin(member.targets, modelled).all():
            raise ClimstackError(
                f"member '{name}' models {len(member.targets)} targets, and not all of them are"
                f" among the {len(modelled)} that are stacked: fit it on those"
            )
        for fold, cells in enumerate(member.cells):
            keys = cell_keys(data, member.spec, member.targets, fold)
            if [cell.path.name for cell in cells] != [key.hash for key in keys]:
                raise ClimstackError(
                    f"member '{name}' comes from other folds or data (fold {fold}): fit it on these"
                )
    names = [member.spec.name for member in members]
    if len(set(names)) != len(names):
        raise ClimstackError(f"two members share a name in {names}: rename one")
    data.store.require_targets()


def _cut(values: NDArray[np.integer[Any]], plan: FoldPlan) -> Rows:
    """Cut the values of held-out rows into at most N_BLOCKS blocks; -1 for other rows."""
    held = plan.fold >= 0
    distinct, position = np.unique(values[held], return_inverse=True)
    block = np.full(len(values), -1, dtype=np.intp)
    block[held] = position * min(N_BLOCKS, len(distinct)) // len(distinct)
    return block


def _groups(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbours that have at most BLOCK_ROWS together, from the first to before the last."""
    first = total = 0
    for place, size in enumerate(sizes):
        if place > first and total + size > BLOCK_ROWS:
            yield first, place
            first, total = place, 0
        total += size
    yield first, len(sizes)
