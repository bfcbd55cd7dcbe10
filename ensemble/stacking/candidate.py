"""What a blender is, and how the weights of a group of targets become weights per target.

A blender file defines ``BLENDER``, one object. Its ``solve`` sees centred second moments in units
where each target's truth has variance 1, summed over the targets that share weights, and returns
one weight per member. It never sees rows, so it can be cross-fitted at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ensemble.stacking.moments import Moments
from features.core import registry
from features.core.types import Array, Mask

Pooling = Literal["all", "group", "shrunk", "target"]
POOLINGS: tuple[Pooling, ...] = ("all", "group", "shrunk", "target")
# How many targets' worth of its group's moments a target takes beside its own when shrunk.
PULLS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
PULL = 1.0  # where there is but one fold to learn from, so that none can be left out


class Blender(Protocol):
    """A rule for the members' weights.

    Attributes:
        complexity: orders blenders; the simpler one wins a tie.
        pools: whether weights can differ between targets.
    """

    complexity: ClassVar[int]
    pools: ClassVar[bool]

    def solve(self, gram: Array, cross: Array, truth: Array) -> Array:
        """Weights of the members for ``n`` problems side by side, (n, n_members).

        Args:
            gram: (n, n_members, n_members), covariances among members.
            cross: (n, n_members), covariances of each member with the truth.
            truth: (n,), variance of the truth.
        """


@dataclass(frozen=True)
class Candidate:
    """A blender with a pooling: ``nnls/group``.

    Attributes:
        blender: file name in ``ensemble/stacking/blenders``.
        pooling: which targets share weights: all, those of a group (variable), or none; or
            ``shrunk``: each has its own, pulled toward its group's.

    Example:
        >>> Candidate("nnls", "group").name, Candidate("mean", "all").name
        ('nnls/group', 'mean')
    """

    blender: str
    pooling: Pooling

    @property
    def name(self) -> str:
        """Name on the leaderboard."""
        pools = load_blender(self.blender).pools
        return f"{self.blender}/{self.pooling}" if pools else self.blender

    @property
    def complexity(self) -> tuple[int, int]:
        """Simpler ones compare lower."""
        return load_blender(self.blender).complexity, POOLINGS.index(self.pooling)

    def weights(self, moments: Moments, groups: Sequence[str]) -> tuple[Array, Array]:
        """Solve on all folds of ``moments``.

        Targets share weights only with those that the same members serve. A member that does not
        serve a target has weight 0 there; where none does, the intercept is the truth's mean.

        Args:
            moments: the folds to learn from.
            groups: the group of each target, length n_targets.

        Returns:
            Weights, (n_members, n_targets), and intercepts, (n_targets,).
        """
        if moments.served.all():
            return self._weights(moments, groups)
        weights = np.zeros((moments.n_members, len(groups)))
        intercept = moments.merged().mean[0, :, -1].copy()
        patterns, of = np.unique(moments.served, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            some, own = np.flatnonzero(of.ravel() == number), np.flatnonzero(pattern)
            if len(own):
                part = moments.targets(some).members(own.tolist())
                found = self._weights(part, [groups[target] for target in some.tolist()])
                weights[np.ix_(own, some)], intercept[some] = found
        return weights, intercept

    def _weights(self, moments: Moments, groups: Sequence[str]) -> tuple[Array, Array]:
        """Where every member serves every target."""
        one = moments.merged()
        scaled, hopeful = _scaled(one)
        if self.pooling == "target":
            weights = self._solve(scaled)
        elif self.pooling == "shrunk":
            pulls = self._choose_pulls(moments, groups)
            weights = self._solve(_pulled(scaled, hopeful, groups, pulls))
        else:
            shared = _shared(self.pooling, groups)
            solved = self._solve(np.stack([_mean(scaled, hopeful, some) for some in shared]))
            weights = np.empty((len(scaled), solved.shape[1]))
            for some, own in zip(shared, solved, strict=True):
                weights[some] = own
        # What the weights leave of 1 goes to the truth's mean; a member alone stays as it is.
        return weights.T, (1 - weights.sum(1)) * one.mean[0, :, -1]

    def _solve(self, scaled: Array) -> Array:
        blender = load_blender(self.blender)
        return blender.solve(scaled[:, :-1, :-1], scaled[:, :-1, -1], scaled[:, -1, -1])

    def _choose_pulls(self, moments: Moments, groups: Sequence[str]) -> Array:
        """For each group the pull that does best on folds left out, spread over targets."""
        names, pulls = moments.fold_names, np.full(len(groups), PULL)
        if len(names) < 2:
            return pulls
        errors = np.zeros((len(PULLS), len(groups)))
        for fold in names:
            held, rest = moments.folds([fold]), moments.without(fold).merged()
            scaled, hopeful = _scaled(rest)
            for position, pull in enumerate(PULLS):
                pulls[:] = pull
                weights = self._solve(_pulled(scaled, hopeful, groups, pulls)).T
                intercept = (1 - weights.sum(0)) * rest.mean[0, :, -1]
                errors[position] += held.squared_error(weights, intercept).sum(0)
        one = moments.merged()
        _, hopeful = _scaled(one)
        variance = one.comoment[0, :, -1, -1]
        errors = np.where(hopeful, errors / np.where(variance > 0, variance, 1.0), 0.0)
        for some in _shared("group", groups):
            pulls[some] = PULLS[int(errors[:, some].sum(1).argmin())]
        return pulls


def candidates(blenders: Sequence[str], poolings: Sequence[Pooling]) -> list[Candidate]:
    """Every blender with every pooling that makes sense for it, simplest first.

    Example:
        >>> [each.name for each in candidates(["mean", "nnls"], ["group", "target"])]
        ['mean', 'nnls/group', 'nnls/target']
    """
    everything: Sequence[Pooling] = ("all",)
    found = [
        Candidate(name, pooling)
        for name in blenders
        for pooling in (poolings if load_blender(name).pools else everything)
    ]
    return sorted(found, key=lambda candidate: candidate.complexity)


def available_blenders() -> list[str]:
    """Names of the blenders, found by file name in ``ensemble/stacking/blenders``.

    Example:
        >>> "nnls" in available_blenders()
        True
    """
    return registry.names("ensemble.stacking.blenders")


def load_blender(name: str) -> Blender:
    """A blender by its name.

    Raises:
        ClimstackError: no such file in ``ensemble/stacking/blenders``.
    """
    blender: Blender = registry.load("ensemble.stacking.blenders", name, "BLENDER", "blender")
    return blender


def _scaled(one: Moments) -> tuple[Array, Mask]:
    """Moments where each truth has variance 1 (n_targets, ...), and where a member is of use.

    A target that every member predicts worse than its mean would drown its group's moments.
    """
    comoment = one.comoment[0]
    variance = comoment[:, -1, -1]
    scaled = np.zeros_like(comoment)
    alive = variance > 0
    scaled[alive] = comoment[alive] / variance[alive, None, None]
    own = np.diagonal(scaled, axis1=1, axis2=2)[:, :-1]
    hopeful: Mask = alive & (own - 2 * scaled[:, :-1, -1] < 0).any(1)
    return scaled, hopeful


def _mean(scaled: Array, hopeful: Mask, some: NDArray[np.intp]) -> Array:
    """Mean moments of some targets, over the hopeful ones if there are any."""
    of = some[hopeful[some]]
    mean: Array = scaled[of if len(of) else some].mean(0)
    return mean


def _pulled(scaled: Array, hopeful: Mask, groups: Sequence[str], pulls: Array) -> Array:
    """Each target's moments with its group's beside them, as if it had seen those rows, too."""
    together = scaled.copy()
    for some in _shared("group", groups):
        together[some] += pulls[some, None, None] * _mean(scaled, hopeful, some)
    return together


def _shared(pooling: Pooling, groups: Sequence[str]) -> list[NDArray[np.intp]]:
    names = np.array(groups)
    if pooling == "all":
        return [np.arange(len(names))]
    return [np.flatnonzero(names == group) for group in dict.fromkeys(groups)]
