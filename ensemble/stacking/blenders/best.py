"""The one member with the smallest squared error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Best:
    """All weight on the member whose error ``gram_ii - 2 cross_i`` is smallest."""

    complexity = 1
    has_levels = True

    def solve(
        self, gram: NDArray[np.float64], cross: NDArray[np.float64], truth: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """1 for the best member, 0 for the others; the first one wins a tie."""
        error = np.diagonal(gram, axis1=1, axis2=2) - 2 * cross
        weights = np.zeros(cross.shape)
        weights[np.arange(len(cross)), error.argmin(1)] = 1.0
        return weights


BLENDER = Best()
