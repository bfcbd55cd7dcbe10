"""The plain mean of the members."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Mean:
    """Equal weights; nothing to learn."""

    complexity = 0
    has_levels = False

    def solve(
        self, gram: NDArray[np.float64], cross: NDArray[np.float64], truth: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """``1 / n_members`` for each."""
        return np.full(cross.shape, 1 / cross.shape[1])


BLENDER = Mean()
