"""Ranges of a search: made wider for a model's own value, or replaced by an experiment's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import gcd
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from features.core.errors import ClimstackError
from models.spec import ModelSpec

Distribution = CategoricalDistribution | IntDistribution | FloatDistribution


def widened(spec: ModelSpec, name: str, distribution: Distribution, value: Any) -> Distribution:
    """A family's range, with the model's own value in it.

    Choices that go with nothing else that the model has are left out, as a width that its heads
    don't divide. A logarithmic range that must hold 0 becomes an even one.

    Args:
        spec: the model.
        name: the parameter.
        distribution: the family's range.
        value: the model's own.

    Example:
        >>> spec = ModelSpec(name="m", family="lightgbm")
        >>> widened(spec, "num_leaves", IntDistribution(7, 63, log=True), 4)
        IntDistribution(high=63, log=True, low=4, step=1)
        >>> widened(spec, "lambda_l2", FloatDistribution(0.1, 30.0, log=True), 0.0)
        FloatDistribution(high=30.0, log=False, low=0.0, step=None)
    """
    if isinstance(distribution, CategoricalDistribution):
        kept = [v for v in distribution.choices if v == value or accepts(spec, name, v)]
        return CategoricalDistribution(kept if value in kept else _in_order([*kept, value]))
    low, high = min(distribution.low, value), max(distribution.high, value)
    log = distribution.log and low > 0
    if isinstance(distribution, FloatDistribution):
        return FloatDistribution(float(low), float(high), log)
    step = 1 if distribution.log else gcd(distribution.step, value - distribution.low)
    high -= (high - low) % step
    return IntDistribution(int(low), int(high), log, step)


def replaced(
    spec: ModelSpec, name: str, distribution: Distribution, given: Sequence[Any]
) -> Distribution:
    """The distribution with another range; its ends must be values that the family accepts.

    Raises:
        ClimstackError: what is given is no range, or the family refuses one of its ends.
    """
    made: Distribution
    if isinstance(distribution, CategoricalDistribution):
        values = list(given)
        made = CategoricalDistribution(tuple(values))
    else:
        numbers = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(given) != 2 or len(numbers) != 2 or not given[0] <= given[1]:
            raise ClimstackError(
                f"the range of {name} must be [lowest, highest], but got {list(given)}"
            )
        values = list(given)
        whole = isinstance(distribution, IntDistribution)
        if whole and not all(isinstance(v, int) for v in values):
            raise ClimstackError(f"the range of {name} must be whole numbers, but got {values}")
        if distribution.log and values[0] <= 0:
            raise ClimstackError(f"the range of {name} must start above 0, but got {values}")
        if whole:
            step = int(distribution.step or 1)
            step = step if (values[1] - values[0]) % step == 0 else 1
            made = IntDistribution(values[0], values[1], distribution.log, step)
        else:
            made = FloatDistribution(float(values[0]), float(values[1]), distribution.log)
    for value in values:
        _with(spec, name, value)  # raises where it is refused
    return made


def accepts(spec: ModelSpec, name: str, value: Any) -> bool:
    """Whether the model's family accepts a value beside its other parameters."""
    try:
        _with(spec, name, value)
    except ClimstackError:
        return False
    return True


def holds(distribution: Distribution, value: Any) -> bool:
    """Whether a value lies in a range."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return bool(distribution.low <= value <= distribution.high)


def shown(distribution: Distribution) -> str:
    """A range as people write it."""
    if isinstance(distribution, CategoricalDistribution):
        return str(list(distribution.choices))
    return f"[{distribution.low}, {distribution.high}]"


def _with(spec: ModelSpec, name: str, value: Any) -> ModelSpec:
    return replace(spec, params=dict(spec.params) | {name: value})


def _in_order(values: list[Any]) -> list[Any]:
    """Sorted where they can be."""
    try:
        return sorted(values)
    except TypeError:
        return values
