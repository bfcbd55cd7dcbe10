"""The plain mean of the members."""

from __future__ import annotations

import numpy as np

from features.core.types import Array


class Mean:
    """Equal weights; nothing to learn."""

    complexity = 0
    pools = False

    def solve(self, gram: Array, cross: Array, truth: Array) -> Array:
        """``1 / n_members`` for each."""
        return np.full(cross.shape, 1 / cross.shape[1])


BLENDER = Mean()
