"""Greedy selection with replacement: at each step the member whose addition helps the mean most.

Caruana, Niculescu-Mizil, Crew and Ksikes (2004), *Ensemble Selection from Libraries of Models*,
ICML. Few steps make few distinct weights, which is what keeps it from overfitting.
"""

from __future__ import annotations

import numpy as np

from ensemble.stacking.moments import error_moments
from features.core.types import Array

STEPS = 100


class HillClimb:
    """Weights that are counts of picks; the mean of the picks with the smallest error is kept."""

    complexity = 2
    pools = True

    def solve(self, gram: Array, cross: Array, truth: Array) -> Array:
        """All problems climb side by side; the first member wins a tie."""
        n, n_members = cross.shape
        problem = np.arange(n)
        error = error_moments(gram, cross, truth)
        own = np.diagonal(error, axis1=1, axis2=2)
        counts = np.zeros((n, n_members))
        shared = np.zeros((n, n_members))  # error @ counts
        total = np.zeros(n)  # counts @ error @ counts
        best, kept = np.full(n, np.inf), np.zeros((n, n_members))
        for step in range(1, STEPS + 1):
            picked = (total[:, None] + 2 * shared + own).argmin(1)
            total += 2 * shared[problem, picked] + own[problem, picked]
            shared += error[problem, :, picked]
            counts[problem, picked] += 1
            better = total / step**2 < best
            best = np.where(better, total / step**2, best)
            kept[better] = counts[better] / step
        return kept


BLENDER = HillClimb()
