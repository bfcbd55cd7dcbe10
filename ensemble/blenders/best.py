"""The one member with the smallest squared error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Best:
    """All weight on the member whose error ``gram_ii - 2 cross_i`` is smallest."""

    complexity = 1
    has_levels = True

    def solve(self, gram: NDArray[np.float64], cross: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 for the best member, 0 for the others; the first one wins a tie."""
        weights = np.zeros(len(cross))
        weights[np.argmin(np.diag(gram) - 2 * cross)] = 1.0
        return weights


BLENDER = Best()
