"""What a study searches: the family's own space, with ranges that an experiment may replace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from features.core.errors import ClimstackError, closest
from models.spec import ModelSpec, load_family

Distribution = CategoricalDistribution | IntDistribution | FloatDistribution
Ranges = Mapping[str, Sequence[Any]]


class _Recorder:
    """Stands in for a trial and notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: dict[str, Distribution] = {}

    def suggest_float(self, name: str, low: float, high: float, **how: Any) -> float:
        self.asked[name] = FloatDistribution(low, high, **how)
        return low

    def suggest_int(self, name: str, low: int, high: int, **how: Any) -> int:
        self.asked[name] = IntDistribution(low, high, **how)
        return low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked[name] = CategoricalDistribution(tuple(choices))
        return choices[0]


@dataclass(frozen=True)
class Space:
    """The search space of a model.

    Attributes:
        distributions: of each searched parameter.
        defaults: the model's own values, the first trial.
    """

    distributions: dict[str, Distribution]
    defaults: dict[str, Any]

    @classmethod
    def of(cls, spec: ModelSpec, ranges: Ranges | None = None) -> Space:
        """The space of a model's family.

        Args:
            spec: the model.
            ranges: by parameter [lowest, highest] or, for a choice, the values: instead of the
                family's own.

        Raises:
            ClimstackError: the family has nothing to search; a range is of an unknown parameter,
                is no range, holds a value that the family refuses, or leaves the model's own value
                out.
        """
        family = load_family(spec.family)
        recorder = _Recorder()
        family.search_space(recorder)
        if not recorder.asked:
            raise ClimstackError(f"family '{spec.family}' has no search space: nothing to tune")
        found = dict(recorder.asked)
        for name, given in (ranges or {}).items():
            if name not in found:
                raise ClimstackError(
                    f"'{name}' is not searched for family '{spec.family}': {closest(name, found)}"
                )
            found[name] = _replaced(spec, name, found[name], given)
        defaults = {name: getattr(spec.parsed, name) for name in found}
        for name, value in defaults.items():
            if not _holds(found[name], value):
                raise ClimstackError(
                    f"model '{spec.name}' has {name} = {value!r}, outside the search range"
                    f" {_shown(found[name])}: give a range that holds it in [models.search]"
                )
        return cls(found, defaults)

    def suggest(self, trial: Any) -> dict[str, Any]:
        """A trial's values."""
        return {
            name: _suggest(trial, name, distribution)
            for name, distribution in self.distributions.items()
        }

    def to_table(self) -> dict[str, str]:
        """As text that differs when the space does."""
        return {name: distribution_to_json(d) for name, d in self.distributions.items()}


def _suggest(trial: Any, name: str, distribution: Distribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _replaced(
    spec: ModelSpec, name: str, distribution: Distribution, given: Sequence[Any]
) -> Distribution:
    """The distribution with another range; its ends must be values that the family accepts."""
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
        replace(spec, params=dict(spec.params) | {name: value})  # raises where it is refused
    return made


def _holds(distribution: Distribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return bool(distribution.low <= value <= distribution.high)


def _shown(distribution: Distribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return str(list(distribution.choices))
    return f"[{distribution.low}, {distribution.high}]"
