"""Hill climbing that may also subtract a member, as the second of LEAP's winners blended.

From the best member on, each step moves the blend toward one member or away from it, as far as
helps most within bounds; the weights keep the sum of one. It stops where no step helps any more.
"""

from __future__ import annotations

import numpy as np

from ensemble.stacking.moments import error_moments
from features.core.types import Array

STEPS = 100
LOWEST, HIGHEST = -0.5, 0.5  # share that a step moves
ENOUGH = 1e-6  # relative gain of a step that is worth it


class SignedHillClimb:
    """Weights that sum to one and may be negative."""

    complexity = 5
    pools = True

    def solve(self, gram: Array, cross: Array, truth: Array) -> Array:
        """All problems climb side by side, each with an exact line search per member."""
        n, n_members = cross.shape
        problem = np.arange(n)
        error = error_moments(gram, cross, truth)
        own = np.diagonal(error, axis1=1, axis2=2)
        weights = np.zeros((n, n_members))
        weights[problem, own.argmin(1)] = 1.0
        for _ in range(STEPS):
            shared = (error @ weights[..., None])[..., 0]
            now = (weights * shared).sum(1)
            # (1 - a) w + a e_j has the error now + 2 a (shared_j - now) + a^2 curve_j
            curve = own - 2 * shared + now[:, None]
            slope = shared - now[:, None]
            with np.errstate(divide="ignore", invalid="ignore"):
                move = np.clip(np.where(curve > 0, -slope / curve, 0.0), LOWEST, HIGHEST)
            change = 2 * move * slope + move**2 * curve
            picked = change.argmin(1)
            helps = change[problem, picked] < -ENOUGH * np.maximum(now, 0)
            if not helps.any():
                break
            step = np.where(helps, move[problem, picked], 0.0)
            weights *= (1 - step)[:, None]
            weights[problem, picked] += step
        return weights


BLENDER = SignedHillClimb()
