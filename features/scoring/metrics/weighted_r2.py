"""Mean of R2 weighted by the schema's ``weight`` of each target."""

from __future__ import annotations

from features.core.metrics import r2_from_sums
from features.core.types import Array
from features.schemas.schema import Schema
from features.scoring.metric import Sums, title_of


class WeightedR2:
    """1 less squared error over that of the truth's mean."""

    greater_is_better = True
    is_r2 = True
    in_units = False
    absolute = False

    def title(self, schema: Schema) -> str:
        """With the number of targets."""
        return title_of("weighted R2", schema)

    def share(self, schema: Schema) -> Array:
        """The weights."""
        return schema.weights

    def of(self, sums: Sums) -> Array:
        """At most 1."""
        return r2_from_sums(sums.squared_error, sums.deviation)


METRIC = WeightedR2()
