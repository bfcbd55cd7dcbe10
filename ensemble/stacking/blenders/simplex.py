"""Non-negative weights that sum to one: a weighted mean.

With a sum of one the error is the quadratic form w'Ew of the members' error moments E. For any x,
the smallest over its scale of |L'x|^2 + (1 - sum x)^2, with E = LL', is q / (1 + q) where q is the
error of x / sum x; so one non-negative least squares problem solves it exactly (the reduction of
Lawson and Hanson 1974, *Solving Least Squares Problems*, chapter 23, for equality constraints).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from ensemble.stacking.moments import error_moments
from features.core.types import Array

RIDGE = 1e-9  # of the mean diagonal: equal members share


class Simplex:
    """Weights that minimise the squared error among weighted means."""

    complexity = 2
    pools = True

    def solve(self, gram: Array, cross: Array, truth: Array) -> Array:
        """Equal weights where no member errs."""
        n_members = cross.shape[1]
        error = error_moments(gram, cross, truth)
        size = np.trace(error, axis1=1, axis2=2) / n_members
        weights = np.full(cross.shape, 1 / n_members)
        alive = np.flatnonzero(size > 0)
        # In units of the mean error; the right-hand side is then of the size of the matrix.
        scaled = error[alive] / size[alive, None, None] + RIDGE * np.eye(n_members)
        factor = np.linalg.cholesky(scaled + RIDGE * np.eye(n_members))
        rows = np.concatenate([np.swapaxes(factor, 1, 2), np.ones((len(alive), 1, n_members))], 1)
        right = np.append(np.zeros(n_members), 1.0)
        for place, matrix in zip(alive, rows, strict=True):
            found = nnls(matrix, right)[0]
            weights[place] = found / found.sum()
        return weights


BLENDER = Simplex()
