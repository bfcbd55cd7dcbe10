"""Sufficient statistics of the members' out-of-fold predictions, per fold and target.

One pass over the predictions gives, in float64 and centred, the moments of (members, truth). Every
linear blend is solved and scored from them, for any subset of folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Moments of ``n_members`` predictions and the truth (the last place), per fold and target.

    Attributes:
        count: (n_folds,), rows.
        mean: (n_folds, n_targets, n_members + 1).
        comoment: (n_folds, n_targets, n_members + 1, n_members + 1), sums of products of
            deviations from the fold's mean.
        low: (n_folds, n_targets), smallest truth.
        high: (n_folds, n_targets), largest truth.
    """

    count: Array
    mean: Array
    comoment: Array
    low: Array
    high: Array

    @classmethod
    def of_block(cls, predictions: Sequence[Array], truth: Array) -> Moments:
        """Moments of one block of rows as one fold: each array is (n_samples, n_targets)."""
        values = np.stack([*predictions, truth], axis=-1)  # (n_samples, n_targets, n_members + 1)
        mean = values.mean(0)
        centred = np.moveaxis(values - mean, 0, -1)  # (n_targets, n_members + 1, n_samples)
        comoment = centred @ np.swapaxes(centred, 1, 2)
        count = np.array([float(len(truth))])
        return cls(count, mean[None], comoment[None], truth.min(0)[None], truth.max(0)[None])

    @classmethod
    def concatenate(cls, parts: Sequence[Moments]) -> Moments:
        """Put folds one after the other."""
        names = ("count", "mean", "comoment", "low", "high")
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.count)

    def folds(self, chosen: Sequence[int]) -> Moments:
        """Only these folds, kept apart."""
        at = np.asarray(chosen, dtype=np.intp)
        return Moments(
            self.count[at], self.mean[at], self.comoment[at], self.low[at], self.high[at]
        )

    def members(self, chosen: Sequence[int]) -> Moments:
        """Only these members, and the truth."""
        at = np.append(np.asarray(chosen, dtype=np.intp), self.mean.shape[-1] - 1)
        comoment = self.comoment[:, :, at][..., at]
        return Moments(self.count, self.mean[:, :, at], comoment, self.low, self.high)

    def merged(self) -> Moments:
        """All folds as one, by the update of Chan, Golub and LeVeque (1979)."""
        total = self.count.sum()
        mean = np.tensordot(self.count, self.mean, axes=1) / total
        shift = self.mean - mean
        between = np.einsum("f,fti,ftj->tij", self.count, shift, shift)
        comoment = self.comoment.sum(0) + between
        return Moments(
            np.array([total]),
            mean[None],
            comoment[None],
            self.low.min(0)[None],
            self.high.max(0)[None],
        )

    def squared_error(self, weights: Array, intercept: Array) -> Array:
        """Sum of squared errors of a linear blend on each fold and target, (n_folds, n_targets).

        Args:
            weights: (n_members, n_targets).
            intercept: (n_targets,).
        """
        n_targets = weights.shape[1]
        signed = np.concatenate([weights.T, -np.ones((n_targets, 1))], axis=1)
        spread = np.einsum("ti,ftij,tj->ft", signed, self.comoment, signed)
        offset = np.einsum("fti,ti->ft", self.mean, signed) + intercept
        error: Array = np.maximum(spread, 0) + self.count[:, None] * offset**2
        return error

    def constant_error(self, value: Array) -> Array:
        """Sum of squared errors of a constant (broadcast to (n_folds, n_targets))."""
        error: Array = (
            self.comoment[..., -1, -1] + self.count[:, None] * (self.mean[..., -1] - value) ** 2
        )
        return error
