"""How hard a row is: the error to be expected of the blend, per row and target.

A linear function, with weights of at least 0, of what is known before the truth: 1, the members'
spread, how far the blend is from the target's mean, and the mean of the confidence heads. It is
fitted to the absolute residuals by least squares, from sums, so rows are seen once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from ensemble.stacking.blend import Blend
from features.core.types import Array

SIGNS = ("one", "spread", "distance", "head")
FLOOR = 0.01  # of the mean absolute residual: no row is expected to be easier than that
JITTER = 1e-9  # on the diagonal: signs that are alike share their weight


def signs_of_difficulty(
    blend: Blend,
    outputs: Array,
    predictions: Mapping[str, Array],
    heads: Mapping[str, Array],
    members: Sequence[str],
) -> Array:
    """What the expected error is made of, (n_samples, n_modelled, 4), physical units.

    Args:
        blend: its range of the truth caps every sign: a member may be off by any amount.
        outputs: final outputs, (n_samples, n_targets).
        predictions: of each member, (n_samples, n_modelled); NaN where it does not serve a target.
        heads: expected absolute errors of members, likewise; may be empty.
        members: whose standard deviation is the spread; with fewer than two it is 0.
    """
    centre, width = outputs[:, blend.targets], blend.high - blend.low
    spread, head = np.zeros((2, *centre.shape))
    if len(members) > 1:
        within = [np.clip(predictions[name], blend.low, blend.high) for name in members]
        spread = _over_members(np.std, within)
    if heads:
        clipped = [np.clip(values, 0.0, width) for values in heads.values()]
        head = _over_members(np.mean, clipped)
    distance = np.abs(centre - blend.mean)
    return np.stack([np.ones_like(centre), spread, np.minimum(distance, width), head], axis=-1)


def _over_members(function: Callable[..., Array], of: Sequence[Array]) -> Array:
    """A statistic over the members that serve a target; 0 where none does."""
    served = np.stack([~np.isnan(values[:1]).all(0) for values in of])
    if served.all():
        return function(of, axis=0)
    found = np.zeros_like(of[0])
    patterns, at = np.unique(served, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        here = np.flatnonzero(at.ravel() == number)
        if pattern.any():
            own = [values[:, here] for values, serves in zip(of, pattern, strict=True) if serves]
            found[:, here] = function(own, axis=0)
    return found


@dataclass
class DifficultySums:
    """Sums over rows that the weights come from.

    Attributes:
        n_rows: (n_modelled,), rows seen that have the truth.
        gram: (n_modelled, 4, 4), products of the signs.
        cross: (n_modelled, 4), products of the signs with the absolute residual.
    """

    n_rows: Array
    gram: Array
    cross: Array

    @classmethod
    def empty(cls, n_targets: int) -> DifficultySums:
        """No rows yet."""
        return cls(np.zeros(n_targets), np.zeros((n_targets, 4, 4)), np.zeros((n_targets, 4)))

    def add(self, signs: Array, residual: Array) -> None:
        """Add rows: signs (n, n_modelled, 4), absolute residuals (n, n_modelled).

        A residual that is NaN is left out: its truth is missing.
        """
        missing = np.isnan(residual)
        if missing.any():
            signs = np.where(missing[..., None], 0.0, signs)
            residual = np.where(missing, 0.0, residual)
        by_target = np.ascontiguousarray(np.moveaxis(signs, 0, -1))  # (n_modelled, 4, n)
        self.gram += by_target @ np.swapaxes(by_target, 1, 2)
        self.cross += (by_target @ np.ascontiguousarray(residual.T)[:, :, None])[..., 0]
        self.n_rows += (~missing).sum(0)

    def solve(self) -> Difficulty:
        """Non-negative least squares for each target (Lawson and Hanson 1974, chapter 23)."""
        weights = np.zeros_like(self.cross)
        n_rows = np.maximum(self.n_rows, 1)
        mean = self.cross[:, 0] / n_rows
        for target, (gram, cross) in enumerate(zip(self.gram, self.cross, strict=True)):
            n = n_rows[target]
            size = np.sqrt(np.diag(gram) / n)
            here = np.flatnonzero(size > 0)
            if not mean[target] > 0:
                continue
            unit = size[here]
            scaled = gram[np.ix_(here, here)] / np.outer(unit, unit) / n
            aim = cross[here] / unit / n / mean[target]
            factor = np.linalg.cholesky(scaled + JITTER * np.eye(len(here)))
            found = nnls(factor.T, np.linalg.solve(factor, aim))[0]
            weights[target, here] = found * mean[target] / unit
        return Difficulty(weights, FLOOR * mean)


@dataclass(frozen=True)
class Difficulty:
    """The fitted function.

    Attributes:
        weights: (n_modelled, 4), of the signs.
        floor: (n_modelled,), the smallest expected error.
    """

    weights: Array
    floor: Array

    def expected(self, signs: Array) -> Array:
        """Expected absolute error, (n, n_modelled), from signs, (n, n_modelled, 4)."""
        errors: Array = np.maximum(np.einsum("ntk,tk->nt", signs, self.weights), self.floor)
        return errors
