"""Mean absolute error, each target in its unit; their mean is weighted by the schema."""

from __future__ import annotations

import numpy as np

from features.core.types import Array
from features.schemas.schema import Schema
from features.scoring.metric import Sums, title_of


class Mae:
    """Absolute error per row."""

    greater_is_better = False
    is_r2 = False
    in_units = True
    absolute = True

    def title(self, schema: Schema) -> str:
        """With the unit where all targets share one."""
        return title_of("MAE", schema, weighted=True, unit=True)

    def share(self, schema: Schema) -> Array:
        """The weights."""
        return schema.weights

    def of(self, sums: Sums) -> Array:
        """At least 0."""
        assert sums.absolute_error is not None
        mean: Array = sums.absolute_error / np.maximum(sums.rows, 1)
        return mean


METRIC = Mae()
