"""Variables, levels, units, weights and closed-form rules: the names behind every column index.

A schema lists input and target variables in file order. Nobody else in climstack turns a name and
a level into a column index.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.core import registry
from features.core.errors import ClimstackError, closest
from features.core.types import Array

Encoding = Literal["linear", "log"]
Axis = Literal["eastward", "northward"]
Policy = Literal["refuse", "clip", "impute"]
AXES: tuple[Axis, ...] = ("eastward", "northward")


@dataclass(frozen=True)
class Proportion:
    """A closed form that ties a target to an input on the same level: ``source / divisor``.

    Attributes:
        source: name of the input variable.
        divisor: the input is divided by this (a division, so that exact truths stay exact).
        levels: first and one-past-last level where it holds.
    """

    source: str
    divisor: float
    levels: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One physical quantity: a scalar, or a profile over the levels.

    Attributes:
        name: name without the level suffix.
        unit: SI unit.
        role: ``"input"`` or ``"target"``.
        n_levels: 1 for a scalar; a profile's columns are ``name_0 .. name_{n_levels-1}``.
        encoding: how the tabular view makes an input learnable.
        axis: of which it is a component, as a wind or a stress: in a mirror its sign changes.
        unscored_levels: the first so many levels of a target have weight 0.
        exact: rule that gives the target exactly, on its levels.
        lower_bound: the target is never below this, on its levels.
        limits: least and greatest value that can be true; None for any finite one.
        policy: what is done with missing values and those beyond the limits: see
            :mod:`features.views.missing`. A target is never imputed.
        static: an input that never changes in time within a grid column, as a land fraction. Rows
            in a wrong order, or a wrong size of the grid, are known by it.
        slow: an input whose mean over the grid goes up and down with the seasons only, as that of
            ozone. Timesteps in a wrong order are known by it.
    """

    name: str
    unit: str
    role: Literal["input", "target"]
    n_levels: int = 1
    encoding: Encoding = "linear"
    axis: Axis | None = None
    unscored_levels: int = 0
    exact: Proportion | None = None
    lower_bound: Proportion | None = None
    limits: tuple[float, float] | None = None
    policy: Policy = "refuse"
    static: bool = False
    slow: bool = False

    def __post_init__(self) -> None:
        if self.policy == "impute" and self.role == "target":
            raise ClimstackError(f"target '{self.name}' can't be imputed: refuse or clip it")
        if self.policy == "clip" and self.limits is None:
            raise ClimstackError(f"variable '{self.name}' has no limits to clip it to")
        if self.limits is not None and not self.limits[0] < self.limits[1]:
            raise ClimstackError(
                f"variable '{self.name}': low < high must hold, but got limits {self.limits}"
            )

    @property
    def columns(self) -> list[str]:
        """Column names in file order."""
        if self.n_levels == 1:
            return [self.name]
        return [f"{self.name}_{level}" for level in range(self.n_levels)]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The columns of a data set, in file order.

    Attributes:
        name: the schema's name, equal to its file in ``features/schemas/sets``.
        variables: inputs first, then targets, in file order.
        n_grid_columns: rows per timestep in time-major files.
        id_column: name of the row id column.
        score: what people call the mean R2 of these targets; None where it has no name.
    """

    name: str
    variables: tuple[Variable, ...]
    n_grid_columns: int
    id_column: str = "sample_id"
    score: str | None = None
    _slices: dict[str, slice] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        slices: dict[str, slice] = {}
        position = {"input": 0, "target": 0}
        for variable in self.variables:
            if variable.name in slices:
                raise ClimstackError(f"schema {self.name}: variable '{variable.name}' stands twice")
            start = position[variable.role]
            position[variable.role] = start + variable.n_levels
            slices[variable.name] = slice(start, start + variable.n_levels)
        object.__setattr__(self, "_slices", slices)
        for variable in self.variables:
            for rule in filter(None, (variable.exact, variable.lower_bound)):
                if self.variable(rule.source).policy == "impute":
                    raise ClimstackError(
                        f"schema {self.name}: '{rule.source}' gives '{variable.name}' by a rule, so"
                        " it can't be imputed"
                    )

    @cached_property
    def inputs(self) -> tuple[Variable, ...]:
        """Input variables in file order."""
        return tuple(v for v in self.variables if v.role == "input")

    @cached_property
    def targets(self) -> tuple[Variable, ...]:
        """Target variables in file order: each is one target group."""
        return tuple(v for v in self.variables if v.role == "target")

    @cached_property
    def input_columns(self) -> list[str]:
        """Names of the input columns, shape (n_inputs,)."""
        return [column for v in self.inputs for column in v.columns]

    @cached_property
    def target_columns(self) -> list[str]:
        """Names of the target columns, shape (n_targets,)."""
        return [column for v in self.targets for column in v.columns]

    def variable(self, name: str) -> Variable:
        """The variable of that name.

        Raises:
            ClimstackError: no such variable.
        """
        for variable in self.variables:
            if variable.name == name:
                return variable
        known = [v.name for v in self.variables]
        raise ClimstackError(f"schema {self.name} has no variable '{name}': {closest(name, known)}")

    def slice_of(self, name: str) -> slice:
        """Where a variable's columns lie in the input matrix or in the target matrix."""
        self.variable(name)
        return self._slices[name]

    def column_index(self, name: str, level: int = 0) -> int:
        """Index of one level of a variable in its matrix (inputs or targets).

        Raises:
            ClimstackError: no such variable or level.
        """
        variable = self.variable(name)
        if not 0 <= level < variable.n_levels:
            raise ClimstackError(
                f"variable '{name}' has levels 0 to {variable.n_levels - 1}, but got {level}"
            )
        start: int = self._slices[name].start
        return start + level

    @cached_property
    def target_levels(self) -> NDArray[np.intp]:
        """Level of each target column, -1 for a scalar, shape (n_targets,)."""
        levels = [range(v.n_levels) if v.n_levels > 1 else [-1] for v in self.targets]
        return np.array([level for each in levels for level in each], dtype=np.intp)

    @cached_property
    def target_axes(self) -> list[Axis | None]:
        """Axis of which each target column is a component, length n_targets."""
        return [v.axis for v in self.targets for _ in range(v.n_levels)]

    @cached_property
    def weights(self) -> Array:
        """Score weight of each target, shape (n_targets,): 0 or 1."""
        weights = np.ones(len(self.target_columns))
        for variable in self.targets:
            start = self._slices[variable.name].start
            weights[start : start + variable.unscored_levels] = 0.0
        return weights

    @property
    def score_name(self) -> str:
        """What its score is called: the plain mean of R2 over all targets, weighted first."""
        free = int((self.weights == 0).sum())
        but = f", {free} of weight 0" if free else ""
        return self.score or f"mean R2 over {len(self.target_columns)} targets{but}"

    @cached_property
    def exact_targets(self) -> NDArray[np.intp]:
        """Indices of the targets that a closed-form rule gives exactly."""
        return self._levels_of("exact")

    @cached_property
    def modelled_targets(self) -> NDArray[np.intp]:
        """Indices of the targets that need a model: scored, and not given by a rule."""
        modelled = self.weights > 0
        modelled[self.exact_targets] = False
        return np.flatnonzero(modelled)

    @cached_property
    def target_groups(self) -> list[str]:
        """The variable each target column belongs to, length n_targets."""
        return [v.name for v in self.targets for _ in range(v.n_levels)]

    @cached_property
    def static_inputs(self) -> NDArray[np.intp]:
        """Indices of the inputs that never change in time within a grid column."""
        found = [v.static for v in self.inputs for _ in range(v.n_levels)]
        return np.flatnonzero(found)

    @cached_property
    def imputed_inputs(self) -> NDArray[np.intp]:
        """Indices of the inputs that may be missing in a store (NaN), for models to fill."""
        found = [v.policy == "impute" for v in self.inputs for _ in range(v.n_levels)]
        return np.flatnonzero(found)

    def closed_form(
        self, kind: Literal["exact", "lower_bound"], inputs: Array
    ) -> tuple[NDArray[np.intp], Array]:
        """Evaluate every rule of one kind in float64.

        Args:
            kind: ``"exact"`` or ``"lower_bound"``.
            inputs: (n_samples, n_inputs), float64.

        Returns:
            Target indices, shape (m,), and their values, shape (n_samples, m).
        """
        indices = self._levels_of(kind)
        columns = [np.empty((inputs.shape[0], 0))]
        for variable in self.targets:
            rule: Proportion | None = getattr(variable, kind)
            if rule is not None:
                source = self._slices[rule.source].start
                first, last = rule.levels
                columns.append(inputs[:, source + first : source + last] / rule.divisor)
        return indices, np.concatenate(columns, axis=1, dtype=np.float64)

    def _levels_of(self, kind: str) -> NDArray[np.intp]:
        found = [np.empty(0, dtype=np.intp)]
        for variable in self.targets:
            rule: Proportion | None = getattr(variable, kind)
            if rule is not None:
                start = self._slices[variable.name].start
                found.append(np.arange(start + rule.levels[0], start + rule.levels[1]))
        return np.concatenate(found)


def available_schemas() -> list[str]:
    """Names of the schemas in ``features/schemas/sets``, found by file name."""
    return registry.names("features.schemas.sets")


def load_schema(name: str) -> Schema:
    """Load a schema by its name.

    Raises:
        ClimstackError: no file of that name in ``features/schemas/sets``.
    """
    schema: Schema = registry.load("features.schemas.sets", name, "SCHEMA", "schema")
    return schema
