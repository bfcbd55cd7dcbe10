"""The score of the competition LEAP: plain mean of R2 over all targets, weight 0 counts 1.

Source: evaluation page of the Kaggle competition LEAP - Atmospheric Physics using AI.
"""

from __future__ import annotations

import numpy as np

from features.core.metrics import r2_from_sums
from features.core.types import Array
from features.schemas.schema import Schema
from features.scoring.metric import Sums


class Leap:
    """R2 on weighted values: a target of weight 0 is always met."""

    greater_is_better = True
    is_r2 = True
    in_units = False
    absolute = False

    def title(self, schema: Schema) -> str:
        """Its name."""
        return "LEAP score"

    def share(self, schema: Schema) -> Array:
        """1 for every target."""
        return np.ones(len(schema.weights))

    def of(self, sums: Sums) -> Array:
        """At most 1."""
        return r2_from_sums(sums.squared_error, sums.deviation)


METRIC = Leap()
