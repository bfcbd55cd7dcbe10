"""What a blender is, and how the weights of a group of targets become weights per target.

A blender file defines ``BLENDER``, one object with ``solve``. It sees centred second moments in
units where each target's truth has variance 1, summed over the targets that share weights, and
returns one weight per member. It never sees rows, so it can be cross-fitted at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ensemble.moments import Array, Moments
from features import registry

Level = Literal["all", "group", "target"]
LEVELS: tuple[Level, ...] = ("all", "group", "target")


class Blender(Protocol):
    """A rule for the members' weights.

    Attributes:
        complexity: orders blenders; the simpler one wins a tie.
        has_levels: whether weights can differ between targets.
    """

    complexity: ClassVar[int]
    has_levels: ClassVar[bool]

    def solve(self, gram: Array, cross: Array) -> Array:
        """Weights of the members, (n_members,).

        Args:
            gram: (n_members, n_members), covariances among members.
            cross: (n_members,), covariances of each member with the truth, whose variance is 1.
        """


@dataclass(frozen=True)
class Candidate:
    """A blender at a level: ``nnls/group``.

    Attributes:
        blender: file name in ``ensemble/blenders``.
        level: which targets share weights: all, those of a group (variable), or none.
    """

    blender: str
    level: Level

    @property
    def name(self) -> str:
        """Name on the leaderboard."""
        return (
            f"{self.blender}/{self.level}"
            if load_blender(self.blender).has_levels
            else self.blender
        )

    @property
    def complexity(self) -> tuple[int, int]:
        """Simpler ones compare lower."""
        return load_blender(self.blender).complexity, LEVELS.index(self.level)

    def weights(self, moments: Moments, groups: Sequence[str]) -> tuple[Array, Array]:
        """Solve on all folds of ``moments``.

        Args:
            moments: the folds to learn from.
            groups: the group of each target, length n_targets.

        Returns:
            Weights, (n_members, n_targets), and intercepts, (n_targets,).
        """
        blender = load_blender(self.blender)
        one = moments.merged()
        mean, comoment = one.mean[0], one.comoment[0]
        n_targets, n_members = mean.shape[0], mean.shape[1] - 1
        variance = comoment[:, -1, -1]
        usable = variance > 0
        scaled = np.zeros_like(comoment)
        scaled[usable] = comoment[usable] / variance[usable, None, None]
        weights = np.zeros((n_members, n_targets))
        for members_of in _shared(self.level, groups):
            total = scaled[members_of].sum(0)
            solved = blender.solve(total[:-1, :-1], total[:-1, -1])
            weights[:, members_of] = solved[:, None]
        # What the weights leave of 1 goes to the truth's mean; a member alone stays as it is.
        return weights, (1 - weights.sum(0)) * mean[:, -1]


def candidates(blenders: Sequence[str], levels: Sequence[Level]) -> list[Candidate]:
    """Every blender at every level that makes sense for it, simplest first."""
    everything: Sequence[Level] = ("all",)
    found = [
        Candidate(name, level)
        for name in blenders
        for level in (levels if load_blender(name).has_levels else everything)
    ]
    return sorted(found, key=lambda candidate: candidate.complexity)


def available_blenders() -> list[str]:
    """Names of the blenders, found by file name in ``ensemble/blenders``."""
    return registry.names("ensemble.blenders")


def load_blender(name: str) -> Blender:
    """A blender by its name.

    Raises:
        ClimstackError: no such file in ``ensemble/blenders``.
    """
    blender: Blender = registry.load("ensemble.blenders", name, "BLENDER", "blender")
    return blender


def _shared(level: Level, groups: Sequence[str]) -> list[NDArray[np.intp]]:
    names = np.array(groups)
    if level == "target":
        return [np.array([target]) for target in range(len(names))]
    if level == "all":
        return [np.arange(len(names))]
    return [np.flatnonzero(names == group) for group in dict.fromkeys(groups)]
