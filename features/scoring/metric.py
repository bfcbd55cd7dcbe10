"""What a metric is, and what it is computed from: sums over rows, so that no row is kept.

A metric file defines ``METRIC``, one object; it sees sums of any rows and gives each target's
value. How much a target counts in the score, its share, may come from the schema's weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from features.core import registry
from features.core.metrics import Deviation
from features.core.types import Array
from features.schemas.schema import Schema


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over rows, each (..., n_targets), in the targets' units.

    Attributes:
        rows: how many have the truth.
        deviation: of squared deviations of the truth from its mean.
        squared_error: of squared errors.
        absolute_error: of absolute errors; None where the metric doesn't ask for them.
    """

    rows: Array
    deviation: Array
    squared_error: Array
    absolute_error: Array | None = None

    @classmethod
    def of_rows(cls, y: Array, y_pred: Array) -> Sums:
        """Of truth (NaN where missing) and prediction, (n_samples, n_targets) each."""
        truth, missing = Deviation.empty(y.shape[1]), np.isnan(y)
        truth.add(y)
        error = np.where(missing, 0.0, y_pred - y)
        return cls(
            rows=truth.rows.astype(np.float64),
            deviation=truth.squared,
            squared_error=(error**2).sum(0),
            absolute_error=np.abs(error).sum(0),
        )


class Metric(Protocol):
    """How far off a target's predictions are.

    Attributes:
        greater_is_better: whether a larger value is a better one.
        is_r2: whether a target's value is its R2, which every fitted model knows of itself.
        in_units: whether a target's value is in its unit.
        absolute: whether it needs sums of absolute errors.
    """

    greater_is_better: ClassVar[bool]
    is_r2: ClassVar[bool]
    in_units: ClassVar[bool]
    absolute: ClassVar[bool]

    def title(self, schema: Schema) -> str:
        """What the score of all targets is called, as ``mean RMSE over 3 targets, W/m2``."""

    def share(self, schema: Schema) -> Array:
        """How much each target counts in the score, at least 0, (n_targets,)."""

    def of(self, sums: Sums) -> Array:
        """Value of each target, of the sums' shape; anything where there are no rows."""


def available_metrics() -> list[str]:
    """Names of the metrics, found by file name in ``features/scoring/metrics``."""
    return registry.names("features.scoring.metrics")


def load_metric(name: str) -> Metric:
    """A metric by its name.

    Raises:
        ClimstackError: no such file in ``features/scoring/metrics``.

    Example:
        >>> load_metric("rmse").greater_is_better
        False
    """
    metric: Metric = registry.load("features.scoring.metrics", name, "METRIC", "metric")
    return metric


def values_of(metric: Metric, sums: Sums) -> Array:
    """Value of each target; NaN where it has no rows."""
    if (sums.rows > 0).all():
        return metric.of(sums)
    return np.where(sums.rows > 0, metric.of(sums), np.nan)


def aggregate(values: Array, share: Array) -> Array:
    """One number from the targets' values: their mean, weighted by their shares.

    Args:
        values: (..., n_targets); NaN is left out.
        share: (n_targets,).

    Returns:
        (...); NaN where no target with a share has a value.

    Example:
        >>> float(aggregate(np.array([1.0, np.nan, 4.0]), np.array([1.0, 1.0, 2.0])))
        3.0
    """
    own = values if (share > 0).all() else values[..., share > 0]
    if own.shape[-1] and (share[share > 0] == share.max()).all() and not np.isnan(own).any():
        mean: Array = own.mean(-1)
        return mean
    weight = np.where(np.isnan(own), 0.0, share[share > 0])
    total = weight.sum(-1)
    found = (weight * np.where(np.isnan(own), 0.0, own)).sum(-1)
    return np.where(total > 0, found / np.where(total > 0, total, 1.0), np.nan)


def skill(metric: Metric, y: Array, y_pred: Array) -> Array:
    """How good predictions are where targets of any unit are compared, (n_targets,).

    The metric itself where greater is better; else 1 less its ratio to that of the truth's mean.
    1 is perfect, 0 is as good as that mean.
    """
    found = values_of(metric, Sums.of_rows(y, y_pred))
    if metric.greater_is_better:
        return found
    known = ~np.isnan(y)
    mean = np.where(known, y, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    plain = values_of(metric, Sums.of_rows(y, np.broadcast_to(mean, y.shape)))
    return np.where(plain > 0, 1 - found / np.where(plain > 0, plain, 1.0), (found == 0) * 1.0)


def title_of(what: str, schema: Schema, weighted: bool = False, unit: bool = False) -> str:
    """``mean RMSE over 3 targets, W/m2``: the unit where all targets share one."""
    weights = schema.weights[schema.weights > 0]
    by = ", weighted" if weighted and len(set(weights.tolist())) > 1 else ""
    scored = [v for v in schema.targets if schema.weights[schema.slice_of(v.name)].any()]
    units = {variable.unit for variable in scored}
    of = f", {units.pop()}" if unit and len(units) == 1 else ""
    return f"mean {what} over {len(weights)} targets{by}{of}"
