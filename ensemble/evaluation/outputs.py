"""What the chosen blend gave for held-out rows, kept for the report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from ensemble.evaluation.held_out import Block, HeldOut
from features.core.files import atomic_path, release, scratch_array


class Outputs:
    """Collects honest final outputs in a file per fold; whole files, once the block ends well.

    Args:
        held_out: rows and the chosen honest blends.
        files: one per fold: (n_valid, n_targets) float64, rows in the order of the plan.
    """

    def __init__(self, held_out: HeldOut, files: Sequence[Path]) -> None:
        self._files, plan = files, held_out.data.plan
        n_targets = len(held_out.data.store.schema.target_columns)
        self._shapes = [(len(plan.valid_rows(fold)), n_targets) for fold in range(plan.n_folds)]
        self._open = ExitStack()

    def __enter__(self) -> Self:
        made = [self._open.enter_context(atomic_path(file, sync=False)) for file in self._files]
        self._arrays = [
            scratch_array(file, "<f8", shape)
            for file, shape in zip(made, self._shapes, strict=True)
        ]
        return self

    def __exit__(self, *error: object) -> None:
        self._open.__exit__(*error)  # type: ignore[arg-type]

    def add(self, block: Block) -> None:
        """Note a block's outputs."""
        self._arrays[block.fold][block.positions] = block.outputs
        release(self._arrays[block.fold])
