"""Plain mean of R2 over the targets of weight above 0."""

from __future__ import annotations

import numpy as np

from features.core.metrics import r2_from_sums
from features.core.types import Array
from features.schemas.schema import Schema
from features.scoring.metric import Sums, title_of


class R2:
    """1 less squared error over that of the truth's mean."""

    greater_is_better = True
    is_r2 = True
    in_units = False
    absolute = False

    def title(self, schema: Schema) -> str:
        """With the number of targets."""
        return title_of("R2", schema)

    def share(self, schema: Schema) -> Array:
        """1 for each target that is scored."""
        return (schema.weights > 0).astype(np.float64)

    def of(self, sums: Sums) -> Array:
        """At most 1."""
        return r2_from_sums(sums.squared_error, sums.deviation)


METRIC = R2()
