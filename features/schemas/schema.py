"""Variables, levels, units, weights and closed-form rules: the names behind every column index.

A schema lists input and target variables in file order. Nobody else in climstack turns a name and
a level into a column index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError, closest
from features.core.files import content_hash, read_toml
from features.core.settings import check, from_table
from features.core.types import Array
from features.schemas.variable import Axis, Proportion, Variable

ROLES = {"inputs": "input", "targets": "target"}  # sections of a schema file
ROW_COLUMNS = ("id", "time", "place", "group", "fold")


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What a schema file says besides the variables."""

    name: str
    n_grid_columns: int | None = None
    id_column: str | None = None
    time_column: str | None = None
    time_step: float | None = None
    place_column: str | None = None
    group_column: str | None = None
    fold_column: str | None = None
    ignore: tuple[str, ...] = ()
    independent: bool = False
    metric: str = "r2"


@dataclass(frozen=True, kw_only=True)
class Schema(_Settings):
    """The columns of a data set, in file order.

    Attributes:
        name: what people call the data set.
        variables: inputs first, then targets, in file order.
        n_grid_columns: rows of a timestep in time-major files, whose ids then tell time and place;
            None for a table without a grid, whose rows may stand in any order.
        id_column: column of the row ids; None where rows have none.
        time_column: column of the time of a row, dates or numbers; None where it is unknown.
        time_step: length of a timestep: in seconds where the time is a date, else in its own unit.
        place_column: column that says where a row was taken, as a site.
        group_column: column that says which rows belong together, as a patient or a scaffold.
        fold_column: column that says which fold holds a row out.
        ignore: columns that may be there and are not read; ``*`` and ``?`` stand for others.
        independent: whether rows say nothing about each other, so that any may validate any.
        metric: what these targets are scored by, unless an experiment says otherwise.

    Raises:
        ClimstackError: columns or settings that contradict each other.

    Example:
        >>> wind = Schema(
        ...     name="wind",
        ...     variables=(
        ...         Variable(name="gust", role="input", unit="m/s"),
        ...         Variable(name="power", role="target", unit="W"),
        ...     ),
        ... )
        >>> wind.input_columns, wind.target_columns
        (['gust'], ['power'])
    """

    variables: tuple[Variable, ...]
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
        self._check_columns()
        for variable in self.variables:
            for rule in filter(None, (variable.exact, variable.lower_bound)):
                self._check_rule(variable, rule)

    def _check_columns(self) -> None:
        where, named = f"schema {self.name}", [*self.input_columns, *self.target_columns]
        twice = [column for column in named if named.count(column) > 1] if _any_twice(named) else []
        check(not twice, f"{where}: column '{twice[0] if twice else ''}' belongs to two variables")
        for role, columns in (("input", self.input_columns), ("target", self.target_columns)):
            check(bool(columns), f"{where} has no {role}: name at least one")
        special = [column for column in self.row_columns.values() if column in self.target_columns]
        check(not special, f"{where}: '{special[0] if special else ''}' says which row and is no"
              " target: name it once")  # fmt: skip
        grid = self.n_grid_columns is not None
        check(not grid or int(self.n_grid_columns or 0) >= 1,
              f"{where} has a grid of {self.n_grid_columns} columns: give at least 1")  # fmt: skip
        check(
            not grid or (self.id_column is not None and self.time_column is None),
            f"{where} has a grid, so its ids tell time: name id_column, and no time_column",
        )
        check(
            (self.time_column is None) == (self.time_step is None),
            f"{where}: time_column and time_step go together: name both or neither",
        )
        check(self.time_step is None or self.time_step > 0,
              f"{where}: time_step must be above 0, but got {self.time_step}")  # fmt: skip
        check(
            not (self.independent and (grid or self.time_column is not None)),
            f"{where} has a time, so its rows are not independent: remove independent or the time",
        )

    def _check_rule(self, variable: Variable, rule: Proportion) -> None:
        source, where = self.variable(rule.source), f"schema {self.name}: '{rule.source}'"
        gives = f"gives '{variable.name}' by a rule"
        check(source.role == "input", f"{where} {gives}, so it must be an input")
        check(not source.may_miss, f"{where} {gives}, so it can't be imputed")
        check(rule.divisor != 0, f"{where} {gives} and is divided by 0 there")
        check(
            len(rule.levels) == 2,
            f"{where} {gives} on levels {list(rule.levels)}: give the first and one past the last",
        )
        first, last = rule.levels
        check(
            0 <= first < last <= min(source.n_levels, variable.n_levels),
            f"{where} {gives} on levels {first} to {last - 1}, which they don't both have",
        )

    @classmethod
    def read(cls, path: str | Path) -> Schema:
        """Read a schema file: TOML with the fields above, and ``inputs`` and ``targets`` in order.

        Raises:
            ClimstackError: no such file, or what is wrong in it.
        """
        path = Path(path)
        check(path.is_file(), f"no schema file {path}: make one with 'climstack data describe'")
        try:
            return cls.from_table(read_toml(path))
        except ClimstackError as error:
            known = str(error).startswith(str(path))
            raise ClimstackError(str(error) if known else f"{path}: {error}") from None

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Schema:
        """A schema from what :meth:`to_table` gives, or TOML.

        Raises:
            ClimstackError: an unknown, missing or wrong setting.
        """
        table = dict(table)
        variables = []
        for key, role in ROLES.items():
            given = table.pop(key, [])
            check(isinstance(given, list), f"{key} must be a list of tables")
            for position, each in enumerate(given):
                where = f"{key} number {position + 1}"
                check(isinstance(each, Mapping), f"{where} must be a table")
                own = {"role": role, **each}
                rules = {name: own[name] for name in ("exact", "lower_bound") if name in own}
                own |= {
                    name: from_table(Proportion, rule, f"{where} {name}")
                    for name, rule in rules.items()
                }
                variables.append(from_table(Variable, own, where))
        top = from_table(_Settings, table, "the schema")
        return cls(variables=tuple(variables), **vars(top))

    def to_table(self) -> dict[str, Any]:
        """What differs from the defaults, as TOML and JSON hold it."""
        table: dict[str, Any] = {"name": self.name}
        for each in fields(_Settings):
            value = getattr(self, each.name)
            if each.name != "name" and value != each.default:
                table[each.name] = list(value) if isinstance(value, tuple) else value
        for key, role in ROLES.items():
            table[key] = [v.to_table() for v in self.variables if v.role == role]
        return table

    def to_toml(self) -> str:
        """The text of a schema file, which :meth:`read` reads: a line for each variable."""
        table = self.to_table()
        lines = [f"{key} = {_toml(value)}" for key, value in table.items() if key not in ROLES]
        for role in ROLES:
            lines += ["", f"{role} = [", *(f"  {_toml(each)}," for each in table[role]), "]"]
        return "\n".join([*lines, ""])

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that the schema says."""
        return content_hash(self.to_table())

    def differs(self, other: Schema) -> str | None:
        """Where another schema first says something else, for a sentence; None where nowhere."""
        if self.hash == other.hash:
            return None
        mine, theirs = self.to_table(), other.to_table()
        for role in ROLES:
            here, there = mine.pop(role), theirs.pop(role)
            if len(here) != len(there):
                return f"{len(there)} {role} and not {len(here)}"
            for ours, own in zip(here, there, strict=True):
                if ours != own:
                    return f"'{_toml(own)}' and not '{_toml(ours)}' in {role}"
        key = next(key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key))
        return f"{key} {_toml(theirs.get(key))} and not {_toml(mine.get(key))}"

    @property
    def id_name(self) -> str:
        """What the column of ids is called in what climstack writes."""
        return self.id_column or "sample_id"

    @cached_property
    def row_columns(self) -> dict[str, str]:
        """Columns that say which row it is: ``id``, ``time``, ``place``, ``group``, ``fold``."""
        named = {what: getattr(self, f"{what}_column") for what in ROW_COLUMNS}
        return {what: column for what, column in named.items() if column is not None}

    @cached_property
    def inputs(self) -> tuple[Variable, ...]:
        """Input variables in file order."""
        return tuple(v for v in self.variables if v.role == "input")

    @cached_property
    def targets(self) -> tuple[Variable, ...]:
        """Target variables in file order."""
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
        """Score weight of each target, shape (n_targets,); 0 is not scored."""
        weights = np.ones(len(self.target_columns))
        for variable in self.targets:
            start = self._slices[variable.name].start
            weights[self._slices[variable.name]] = variable.weight
            weights[start : start + variable.unscored_levels] = 0.0
        return weights

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
        """The group of each target column, length n_targets: by default its variable."""
        return [v.group or v.name for v in self.targets for _ in range(v.n_levels)]

    @cached_property
    def targets_of_group(self) -> dict[str, NDArray[np.intp]]:
        """Indices of each group's targets, in the order of their first."""
        groups = np.array(self.target_groups)
        return {name: np.flatnonzero(groups == name) for name in dict.fromkeys(self.target_groups)}

    @cached_property
    def static_inputs(self) -> NDArray[np.intp]:
        """Indices of the inputs that never change in time within a grid column."""
        found = [v.static for v in self.inputs for _ in range(v.n_levels)]
        return np.flatnonzero(found)

    @cached_property
    def imputed_inputs(self) -> NDArray[np.intp]:
        """Indices of the inputs whose policy lets a store hold NaN, for models to fill."""
        found = [v.policy == "impute" for v in self.inputs for _ in range(v.n_levels)]
        return np.flatnonzero(found)

    @cached_property
    def categories(self) -> dict[int, tuple[str, ...]]:
        """The words of each input that is a category, by its index; a store holds positions."""
        found = {self._slices[v.name].start: v.categories for v in self.inputs}
        return {at: words for at, words in found.items() if words}

    @cached_property
    def skipped_targets(self) -> NDArray[np.intp]:
        """Indices of the targets that may be missing in a store (NaN): they are left out there."""
        found = [v.policy == "skip" for v in self.targets for _ in range(v.n_levels)]
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


def _any_twice(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)


def _toml(value: Any) -> str:
    """A value on one line of TOML."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_toml(each)}' for key, each in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
