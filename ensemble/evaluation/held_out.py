"""Held-out rows with everything that is known about them, streamed block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ensemble.stacking.graph import Graph
from features.core.errors import ClimstackError
from features.core.types import Array, Mask, Rows
from features.folds.plan import FoldPlan
from features.store.matrix import BLOCK_ROWS
from features.store.store import Store
from models.member import Member


@dataclass(frozen=True)
class Block:
    """Some held-out rows of one fold.

    Attributes:
        fold: that held them out.
        rows: their places in the store, (n,).
        inputs: (n, n_inputs).
        truth: (n, n_targets).
        outputs: the chosen blend's honest final outputs, (n, n_targets).
        predictions: out-of-fold predictions of each member, (n, n_modelled).
        heads: expected absolute errors of the members that know them, (n, n_modelled).
    """

    fold: int
    rows: Rows
    inputs: Array
    truth: Array
    outputs: Array
    predictions: dict[str, Array]
    heads: dict[str, Array]


@dataclass(frozen=True)
class HeldOut:
    """All held-out rows of a stack.

    Attributes:
        store: the data.
        plan: who validates whom.
        members: all members of the stack.
        honest: the chosen blend's graph of each fold, learned from the other folds.
        outputs: for each fold its honest outputs, (n_valid, n_targets), in the order of
            ``plan.valid_rows``; memory-mapped arrays will do.
    """

    store: Store
    plan: FoldPlan
    members: Sequence[Member]
    honest: Sequence[Graph]
    outputs: Sequence[Array]

    def __post_init__(self) -> None:
        n_targets = self.store.require_targets().shape[1]
        for fold in range(self.plan.n_folds):
            expected = (len(self.plan.valid_rows(fold)), n_targets)
            if fold >= len(self.outputs) or self.outputs[fold].shape != expected:
                found = self.outputs[fold].shape if fold < len(self.outputs) else "nothing"
                raise ClimstackError(
                    f"the blend's outputs of fold {fold} need shape {expected}, but got {found}:"
                    " run the stack again"
                )

    @classmethod
    def read(cls, store: Store, plan: FoldPlan, members: Sequence[Member], stack: Path) -> Self:
        """What the stack left in its folder: ``fold-K.json`` and ``oof/fold-K.npy``.

        Raises:
            ClimstackError: a file is missing, or doesn't fit the folds.
        """
        folds = range(plan.n_folds)
        files = [stack / "oof" / f"fold-{fold}.npy" for fold in folds]
        for file in files:
            if not file.is_file():
                raise ClimstackError(f"no blend's outputs {file}: run the stack again")
        honest = [Graph.load(stack / f"fold-{fold}.json") for fold in folds]
        outputs: list[Array] = [np.load(file, mmap_mode="r") for file in files]
        return cls(store, plan, members, honest, outputs)

    @classmethod
    def of_graphs(
        cls, store: Store, plan: FoldPlan, members: Sequence[Member], honest: Sequence[Graph]
    ) -> Self:
        """Compute the outputs with the graphs, all in memory: for small data."""
        outputs = []
        for fold, graph in enumerate(honest):
            rows = plan.valid_rows(fold)
            predictions = {member.spec.name: member.oof(fold) for member in members}
            outputs.append(graph.apply(predictions, store.inputs[rows]))
        return cls(store, plan, members, honest, outputs)

    @property
    def targets(self) -> NDArray[np.intp]:
        """Indices of the modelled targets, (n_modelled,)."""
        return self.honest[0].targets

    def heads(self) -> list[str]:
        """Names of the members that say how far off they expect to be, on every fold."""
        folds = range(self.plan.n_folds)
        return [
            member.spec.name
            for member in self.members
            if all(cell.has_uncertainty for fold in folds for cell in member.cells[fold])
        ]

    def blocks(self, of: Mask | None = None, heads: Sequence[str] = ()) -> Iterator[Block]:
        """Held-out rows, at most BLOCK_ROWS at a time, fold by fold.

        Args:
            of: (n_samples,), which rows of the store; None takes all.
            heads: members whose expected errors are read.
        """
        truth = self.store.require_targets()
        for fold in range(self.plan.n_folds):
            rows = self.plan.valid_rows(fold)
            positions = np.arange(len(rows)) if of is None else np.flatnonzero(of[rows])
            for start in range(0, len(positions), BLOCK_ROWS):
                here = positions[start : start + BLOCK_ROWS]
                yield Block(
                    fold,
                    rows[here],
                    self.store.inputs[rows[here]],
                    truth[rows[here]],
                    np.asarray(self.outputs[fold][here]),
                    {member.spec.name: member.oof(fold, here) for member in self.members},
                    {
                        member.spec.name: member.uncertainty(fold, here)
                        for member in self.members
                        if member.spec.name in heads
                    },
                )
