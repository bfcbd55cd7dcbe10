"""What a study searches: the family's own space, with ranges that an experiment may replace.

A family's range is made wider where the model's own value lies outside: that value is the first
trial. A range that an experiment names stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from features.core.errors import ClimstackError, closest
from models.base import Family, TableShape
from models.spec import ModelSpec, load_family
from tuning.ranges import Distribution, holds, replaced, shown, widened

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
        defaults: the model's own values, the first trial; None where they follow the table and
            none was given.

    Example:
        >>> space = Space.of(ModelSpec(name="m", family="lightgbm", params={"n_rounds": 20}))
        >>> space.distributions["n_rounds"].low, space.defaults["n_rounds"]
        (20, 20)
    """

    distributions: dict[str, Distribution]
    defaults: dict[str, Any]

    @classmethod
    def of(
        cls, spec: ModelSpec, ranges: Ranges | None = None, table: TableShape | None = None
    ) -> Space:
        """The space of a model's family.

        Args:
            spec: the model.
            ranges: by parameter [lowest, highest] or, for a choice, the values: instead of the
                family's own.
            table: the table it will learn from: tells what is None by default, and whether there
                are levels to search anything about. None takes it as unknown.

        Raises:
            ClimstackError: the family has nothing to search; a range is of an unknown parameter or
                of one that the table has no use for, is no range, holds a value that the family
                refuses, or leaves the model's own value out.
        """
        family, ranges = load_family(spec.family), ranges or {}
        recorder = _Recorder()
        family.search_space(recorder)
        if not recorder.asked:
            raise ClimstackError(f"family '{spec.family}' has no search space: nothing to tune")
        _check_names(spec, ranges, recorder.asked)
        found = dict(recorder.asked)
        if table is not None and not table.has_levels:
            _check_levels(spec, family, ranges)
            found = {name: each for name, each in found.items() if name not in family.of_levels}
        own = spec.parsed if table is None else family.settle(spec.parsed, table)
        defaults = {name: getattr(own, name) for name in found}
        for name, value in defaults.items():
            if name in ranges:
                found[name] = replaced(spec, name, found[name], ranges[name])
            elif value is not None:
                found[name] = widened(spec, name, found[name], value)
            if value is not None and not holds(found[name], value):
                raise ClimstackError(
                    f"model '{spec.name}' has {name} = {value!r}, outside the search range"
                    f" {shown(found[name])}: give a range that holds it in [models.search]"
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


def _check_names(spec: ModelSpec, ranges: Ranges, known: Mapping[str, Any]) -> None:
    for name in ranges:
        if name not in known:
            raise ClimstackError(
                f"'{name}' is not searched for family '{spec.family}': {closest(name, known)}"
            )


def _check_levels(spec: ModelSpec, family: Family, ranges: Ranges) -> None:
    for name in ranges:
        if name in family.of_levels:
            raise ClimstackError(
                f"model '{spec.name}' searches {name}, which changes nothing on a table without"
                " levels: remove it from [models.search]"
            )


def _suggest(trial: Any, name: str, distribution: Distribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
