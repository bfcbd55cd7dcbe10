"""Nonlinear blending: what a second learner adds to a linear blend, where it honestly wins.

The learner sees the members' predictions, their linear blend and the inputs, and learns what the
blend leaves over. A blender file for one defines ``BLENDER`` with ``fit`` and ``load``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from features.core import registry
from features.core.types import Array, Float32, Mask
from features.views.tabular import Kind, TabularView
from features.views.transforms import Scaler

CLIP = 30.0  # standard deviations: one extreme prediction can't blow a learner up


@dataclass(frozen=True)
class StackRows:
    """Rows to learn from.

    Attributes:
        features: (n, n_features): each member's predictions of all targets, the blend's, then the
            inputs; standardised.
        names: of the features.
        levels: of the features, -1 for scalars, (n_features,).
        residual: (n, n_targets), truth minus blend, in standard deviations of the truth.
        targets: names of the targets.
        target_levels: of the targets, -1 for scalars, (n_targets,).
        target_groups: variable of each target, length n_targets.
        n_blocks: how many times the targets stand among the features: members and the blend.
    """

    features: Float32
    names: list[str]
    levels: NDArray[np.intp]
    residual: Float32
    targets: list[str]
    target_levels: NDArray[np.intp]
    target_groups: list[str]
    n_blocks: int


class Corrector(Protocol):
    """A fitted learner."""

    def predict(self, features: Float32) -> Array:
        """What to add to the blend, (n, n_targets), in standard deviations of the truth."""

    def save(self, folder: Path) -> None:
        """Write it into an existing, empty folder; data only."""


class RowBlender(Protocol):
    """A learner for a second stage.

    Attributes:
        complexity: orders blenders; the simpler one wins a tie.
        has_levels: False: it has no weights to share.
        view: which encoding of the inputs it takes.
    """

    complexity: ClassVar[int]
    has_levels: ClassVar[bool]
    view: ClassVar[Kind]

    def fit(self, rows: StackRows, wanted: Mask, seed: int, scratch: Path) -> Corrector:
        """Learn the residual.

        Args:
            rows: to learn from.
            wanted: (n_targets,), which targets will be used; others may be left at 0.
            seed: of everything random.
            scratch: an empty folder for temporary files.
        """

    def load(self, folder: Path) -> Corrector:
        """Read what :meth:`Corrector.save` wrote."""


@dataclass(frozen=True)
class Correction:
    """A fitted second stage, ready to be applied to a blend.

    Attributes:
        blender: file name in ``ensemble/stacking/blenders``.
        view: encodes the inputs.
        scaler: of the truth, over the modelled targets.
        kept: (n_targets,), where it won on a fold that it had not seen.
        corrector: the learner.
    """

    blender: str
    view: TabularView
    scaler: Scaler
    kept: Mask
    corrector: Corrector

    def apply(self, blend: Array, predictions: Sequence[Array], inputs: Array) -> Array:
        """The blend with the correction, (n, n_targets), physical units.

        Args:
            blend: the linear blend, (n, n_targets).
            predictions: each member's, (n, n_targets).
            inputs: (n, n_inputs).
        """
        if not self.kept.any():
            return blend
        features = stack_features(self.view, self.scaler, predictions, blend, inputs)
        added = self.corrector.predict(features)[:, self.kept] * self.scaler.std[self.kept]
        corrected = blend.copy()
        corrected[:, self.kept] += added
        return corrected

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        (folder / "corrector").mkdir(parents=True)
        self.corrector.save(folder / "corrector")
        self.view.save(folder / "view.npz")
        with (folder / "correction.npz").open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                blender=np.array(self.blender),
                kept=self.kept,
                mean=self.scaler.mean,
                std=self.scaler.std,
                constant=self.scaler.constant,
            )

    @classmethod
    def load(cls, folder: Path) -> Correction:
        """Read it back; no pickle."""
        with np.load(folder / "correction.npz", allow_pickle=False) as held:
            blender, kept = str(held["blender"]), held["kept"]
            scaler = Scaler(held["mean"], held["std"], held["constant"])
        corrector = load_row_blender(blender).load(folder / "corrector")
        return cls(blender, TabularView.load(folder / "view.npz"), scaler, kept, corrector)


def stack_features(
    view: TabularView, scaler: Scaler, predictions: Sequence[Array], blend: Array, inputs: Array
) -> Float32:
    """Features of rows, (n, n_features); see :class:`StackRows`."""
    scaled = [np.clip(scaler.transform(each), -CLIP, CLIP) for each in (*predictions, blend)]
    return np.concatenate([*scaled, view.transform(inputs)], axis=1, dtype=np.float32)


def load_row_blender(name: str) -> RowBlender:
    """A nonlinear blender by its name."""
    blender: RowBlender = registry.load("ensemble.stacking.blenders", name, "BLENDER", "blender")
    return blender
