"""Quantiles of scaled residuals from a stream: counts in bins whose edges grow by one factor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.core.types import Array

SMALLEST, DECADES, PER_DECADE = 1e-4, 8, 512
N_BINS = DECADES * PER_DECADE
# Bin 0: a score of 0. Bin 1: up to SMALLEST. The last: above 1e4, or not to be covered at all.
UPPER = np.concatenate([[0.0], SMALLEST * 10.0 ** (np.arange(N_BINS + 1) / PER_DECADE), [np.inf]])


@dataclass
class ScoreCounts:
    """How many scores of each target fell in each bin.

    Edges are 0.45 % apart, so a quantile is too large by at most that: intervals are wider by up to
    0.45 %, never narrower. Memory is 32 KiB per target, whatever the number of rows.

    Attributes:
        counts: (n_targets, N_BINS + 3).
    """

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, n_targets: int) -> ScoreCounts:
        """No scores yet."""
        return cls(np.zeros((n_targets, len(UPPER)), dtype=np.int64))

    def add(self, scores: Array) -> None:
        """Add rows of scores, (n, n_targets), each at least 0; inf counts, NaN is left out."""
        n_targets = len(self.counts)
        bins = np.searchsorted(UPPER, scores, side="left")
        flat = bins + np.arange(n_targets) * len(UPPER)
        missing = np.isnan(scores)
        flat = flat[~missing] if missing.any() else flat.ravel()
        new = np.bincount(flat, minlength=self.counts.size)
        self.counts += new.reshape(self.counts.shape)

    def quantile(self, confidence: float) -> Array:
        """The ceil((n + 1) confidence)-th smallest score of each target, as its bin's upper edge.

        The rank is that of split-conformal prediction (Lei et al. 2018, J. Amer. Statist. Assoc.
        113, 1094-1111). Infinite where so many scores are not to be covered,
        and where there are none.

        Args:
            confidence: wanted coverage, between 0 and 1.

        Returns:
            (n_targets,).
        """
        total = self.counts.sum(axis=1)
        rank = np.minimum(np.ceil((total + 1) * confidence), total)
        reached = self.counts.cumsum(axis=1) >= rank[:, None]
        edges: Array = np.where(total > 0, UPPER[reached.argmax(axis=1)], np.inf)
        return edges

    def share_within(self, limit: Array) -> Array:
        """Share of scores at most ``limit``, (n_targets,): one of the bins' upper edges each.

        NaN where there are no scores.
        """
        within = np.where(limit[:, None] >= UPPER, self.counts, 0).sum(axis=1)
        total = self.counts.sum(axis=1)
        share: Array = within / np.where(total > 0, total, np.nan)
        return share
