"""One variable: what its columns mean, what they may hold, how they are learned and scored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import Any, Literal

from features.core.settings import check

Kind = Literal["number", "category", "date"]
Encoding = Literal["linear", "log"]
Axis = Literal["eastward", "northward"]
Policy = Literal["refuse", "clip", "impute", "skip"]
AXES: tuple[Axis, ...] = ("eastward", "northward")


@dataclass(frozen=True)
class Proportion:
    """A closed form that ties a target to an input on the same level: ``source / divisor``.

    Attributes:
        source: name of the input variable.
        divisor: the input is divided by this (a division, so that exact truths stay exact).
        levels: first and one-past-last level where it holds.

    Example:
        >>> Proportion(source="state_q0002", divisor=-1200.0, levels=(12, 28)).levels
        (12, 28)
    """

    source: str
    divisor: float
    levels: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One quantity: a scalar, or a profile over the levels.

    Attributes:
        name: name without the level suffix.
        unit: SI unit, "1" for a pure number.
        role: ``"input"`` or ``"target"``.
        n_levels: 1 for a scalar; a profile's columns are ``name_0 .. name_{n_levels-1}``.
        kind: ``"number"``; ``"category"``, an input that takes one of the words ``categories`` and
            is stored as its position there; ``"date"``, an input stored in days since 1970-01-01.
        categories: the words of a category, in a fixed order. Any other word is a missing value.
        encoding: how the tabular view makes an input learnable.
        axis: of which it is a component, as a wind or a stress: in a mirror its sign changes.
        group: which targets are alike, so that blends may share weights; None: a variable's own.
        weight: of each of a target's columns in a weighted score.
        unscored_levels: the first so many levels of a target have weight 0.
        exact: rule that gives the target exactly, on its levels.
        lower_bound: the target is never below this, on its levels.
        limits: least and greatest value that can be true; None for any finite one.
        policy: what is done with missing values and those beyond the limits: see
            :mod:`features.views.missing`. A target is never imputed: it is learned and scored on
            the rows that have it where the policy is ``"skip"``.
        static: an input that never changes in time within a grid column, as a land fraction. Rows
            in a wrong order, or a wrong size of the grid, are known by it.
        slow: an input whose mean over the grid goes up and down with the seasons only, as that of
            ozone. Timesteps in a wrong order are known by it.

    Example:
        >>> Variable(name="wind", unit="m/s", role="input", n_levels=3).columns
        ['wind_0', 'wind_1', 'wind_2']
    """

    name: str
    role: Literal["input", "target"]
    unit: str = "1"
    n_levels: int = 1
    kind: Kind = "number"
    categories: tuple[str, ...] = ()
    encoding: Encoding = "linear"
    axis: Axis | None = None
    group: str | None = None
    weight: float = 1.0
    unscored_levels: int = 0
    exact: Proportion | None = None
    lower_bound: Proportion | None = None
    limits: tuple[float, float] | None = None
    policy: Policy = "refuse"
    static: bool = False
    slow: bool = False

    def __post_init__(self) -> None:
        what, limits = f"{self.role} '{self.name}'", self.limits
        check(bool(self.name), "a variable has no name: give it one")
        check(self.n_levels >= 1, f"{what} has {self.n_levels} levels: give at least 1")
        check(
            self.policy != "impute" or self.role == "input",
            f"{what} can't be imputed: refuse, clip or skip what is missing",
        )
        check(
            self.policy != "skip" or self.role == "target",
            f"{what} can't be skipped: refuse, clip or impute what is missing",
        )
        check(self.policy != "clip" or limits is not None, f"{what} has no limits to clip it to")
        check(
            limits is None or (len(limits) == 2 and limits[0] < limits[1]),
            f"{what}: low < high must hold, but got limits {limits}",
        )
        check(
            (self.kind == "category") == bool(self.categories),
            f"{what} is a {self.kind} with {len(self.categories)} categories: a category names"
            " them, nothing else does",
        )
        twice = [word for word, n in Counter(self.categories).items() if n > 1]
        check(not twice, f"{what} names the category '{twice[0] if twice else ''}' twice")
        check(
            self.kind == "number" or (self.role == "input" and self.n_levels == 1),
            f"{what} is a {self.kind}: only an input without levels can be one",
        )
        check(
            self.kind == "number" or (limits is None and self.encoding == "linear"),
            f"{what} is a {self.kind}, which has neither limits nor an encoding: remove them",
        )
        check(self.weight >= 0, f"{what} has weight {self.weight}: give at least 0")

    @property
    def columns(self) -> list[str]:
        """Column names in file order."""
        if self.n_levels == 1:
            return [self.name]
        return [f"{self.name}_{level}" for level in range(self.n_levels)]

    @property
    def may_miss(self) -> bool:
        """Whether a store may hold NaN for it: imputed inputs, skipped targets, categories."""
        return self.policy in ("impute", "skip") or self.kind == "category"

    def to_table(self) -> dict[str, Any]:
        """What differs from the defaults, as TOML and JSON hold it, without the role."""
        table: dict[str, Any] = {"name": self.name, "unit": self.unit}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("name", "unit", "role") or value == field.default:
                continue
            if isinstance(value, Proportion):
                value = {**vars(value), "levels": list(value.levels)}
            table[field.name] = list(value) if isinstance(value, tuple) else value
        return table
