"""Non-negative least squares on the members, from second moments.

Breiman (1996), *Stacked Regressions*, Machine Learning 24: non-negative weights keep members that
are alike from cancelling each other, and need no sum of one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

RIDGE = 1e-9  # of the mean diagonal: equal members get equal weights instead of a failure


class NonNegative:
    """Weights that minimise the squared error, none below 0."""

    complexity = 2
    has_levels = True

    def solve(self, gram: NDArray[np.float64], cross: NDArray[np.float64]) -> NDArray[np.float64]:
        """With gram = LL', the error is |L'w - L^-1 cross|^2 up to a constant."""
        size = np.trace(gram) / len(gram)
        if not size > 0:
            return np.zeros(len(cross))
        factor = np.linalg.cholesky(gram + RIDGE * size * np.eye(len(gram)))
        weights: NDArray[np.float64] = nnls(factor.T, np.linalg.solve(factor, cross))[0]
        return weights


BLENDER = NonNegative()
