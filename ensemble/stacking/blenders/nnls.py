"""Non-negative least squares on the members, from second moments.

Breiman (1996), *Stacked Regressions*, Machine Learning 24: non-negative weights keep members that
are alike from cancelling each other, and need no sum of one.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from features.core.types import Array

RIDGE = 1e-9  # of the mean diagonal: equal members get equal weights instead of a failure


class NonNegative:
    """Weights that minimise the squared error, none below 0."""

    complexity = 3
    pools = True

    def solve(self, gram: Array, cross: Array, truth: Array) -> Array:
        """With gram = LL', the error is |L'w - L^-1 cross|^2 up to a constant."""
        n_members = cross.shape[1]
        size = np.trace(gram, axis1=1, axis2=2) / n_members
        weights = np.zeros(cross.shape)
        alive = np.flatnonzero(size > 0)
        ridge = RIDGE * size[alive, None, None] * np.eye(n_members)
        factor = np.linalg.cholesky(gram[alive] + ridge)
        right = np.linalg.solve(factor, cross[alive, :, None])[..., 0]
        for place, matrix, vector in zip(alive, factor, right, strict=True):
            weights[place] = nnls(matrix.T, vector)[0]
        return weights


BLENDER = NonNegative()
