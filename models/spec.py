"""Base learners by name: an experiment's model, its parameters, and the family behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache, cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core import registry
from features.core.errors import ClimstackError, closest
from features.core.settings import check, from_table
from features.schemas.schema import Schema
from models.base import Family, TableShape
from models.external import External

ARCHITECTURES = "models.seq2seq.architectures"
EXTERNAL = "external"  # the family of what was fitted elsewhere


@dataclass(frozen=True)
class Variant:
    """Parameters of a model for some of its targets.

    Attributes:
        targets: names of the target columns.
        params: values that replace the model's own.

    Example:
        >>> Variant(targets=("flux",), params={"num_leaves": 4}).targets
        ('flux',)
    """

    targets: tuple[str, ...]
    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A base learner of an experiment: family, parameters and seed.

    Attributes:
        name: how the experiment calls it.
        family: file name in ``models/families``; ``"external"`` for what was fitted elsewhere.
        params: values that differ from the family's defaults; unknown ones raise.
        seed: of everything random in it.
        inputs_from: their predictions become further inputs.
        variants: other parameters for some targets, as tuning finds them.
        targets: which targets it serves: names of columns, variables or groups, in which ``*``,
            ``?`` and ``[...]`` stand for other characters; empty for all, of an external one for
            those that its file has.
        external: the files of an external one.

    Example:
        >>> from features import load_schema
        >>> trees = ModelSpec(name="trees", family="lightgbm", targets=("cam_out_*",))
        >>> len(trees.served(load_schema("leap")))
        8
    """

    name: str
    family: str
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    inputs_from: tuple[ModelSpec, ...] = ()
    variants: tuple[Variant, ...] = ()
    targets: tuple[str, ...] = ()
    external: External | None = None

    def __post_init__(self) -> None:
        self._check_external()
        self.parsed  # noqa: B018 - a bad parameter should raise here, not hours later
        for spec in self.parts:
            spec.parsed  # noqa: B018
        named = [name for variant in self.variants for name in variant.targets]
        twice = [name for name in named if named.count(name) > 1]
        if twice:
            raise ClimstackError(
                f"model '{self.name}' has two variants for {twice[0]}: remove one of them"
            )

    def _check_external(self) -> None:
        is_external = self.family == EXTERNAL
        check(
            is_external == (self.external is not None),
            f"model '{self.name}' ({self.family}) "
            + (
                "needs oof, its file of out-of-fold predictions"
                if is_external
                else f"is fitted here: only family '{EXTERNAL}' has files of predictions"
            ),
        )
        for what in ("params", "variants", "inputs_from") if is_external else ():
            check(
                not getattr(self, what),
                f"model '{self.name}' is external, so it has no {what}: remove them",
            )

    @cached_property
    def parsed(self) -> Any:
        """The family's ``Params``, complete; of an external one its files."""
        if self.external is not None:
            return self.external
        where = f"model '{self.name}' ({self.family})"
        return from_table(load_family(self.family).Params, self.params, where)

    def served(self, schema: Schema, among: NDArray[np.intp] | None = None) -> NDArray[np.intp]:
        """Indices of the targets that it serves, ascending, in the store's target matrix.

        Args:
            schema: of the targets.
            among: only these; None for the schema's modelled targets.

        Raises:
            ClimstackError: a pattern matches nothing, or no target that needs a model is left; or
                a variant names a target that it does not serve.
        """
        among = schema.modelled_targets if among is None else np.asarray(among)
        columns = schema.target_columns
        matched = np.ones(len(columns), np.bool_)
        if self.external is not None and not self.targets:
            matched = self.external.serves(columns)
        if self.targets:
            matched = np.any([self._matched(each, schema) for each in self.targets], axis=0)
        for name in (name for variant in self.variants for name in variant.targets):
            if name not in columns:
                raise ClimstackError(
                    f"a variant of model '{self.name}' names {name}, which is no target:"
                    f" {closest(name, columns)}"
                )
            if not matched[columns.index(name)]:
                raise ClimstackError(
                    f"a variant of model '{self.name}' names {name}, which the model does not"
                    f" serve: its targets are {', '.join(self.targets)}"
                )
        served = among[matched[among]]
        if not len(served):
            names = self.targets or [columns[target] for target in np.flatnonzero(matched)[:8]]
            raise ClimstackError(
                f"model '{self.name}' serves no target that is to be learned: its targets are"
                f" {', '.join(names)}"
            )
        return served

    def _matched(self, pattern: str, schema: Schema) -> NDArray[np.bool_]:
        """Which target columns a pattern names, (n_targets,): by column, variable or group."""
        variables = [variable.name for variable in schema.targets for _ in variable.columns]
        names = list(zip(schema.target_columns, variables, schema.target_groups, strict=True))
        found = [pattern in each or any(fnmatchcase(n, pattern) for n in each) for each in names]
        if not any(found):
            known = dict.fromkeys(name for each in names for name in each[::-1])
            raise ClimstackError(
                f"model '{self.name}' has targets '{pattern}', which names no target, variable or"
                f" group: {closest(pattern, known)}"
            )
        return np.array(found)

    def settled(self, table: TableShape) -> ModelSpec:
        """The model with parameters that follow the table named as values."""
        own = self.parsed
        values = asdict(load_family(self.family).settle(own, table))
        found = {k: v for k, v in values.items() if v is not None and getattr(own, k) is None}
        bases = tuple(base.settled(table) for base in self.inputs_from)
        return replace(self, params=dict(self.params) | found, inputs_from=bases)

    @cached_property
    def parts(self) -> list[ModelSpec]:
        """The model without variants: once with its own parameters, then with each variant's."""
        own = [self.params, *(dict(self.params) | dict(v.params) for v in self.variants)]
        return [replace(self, params=params, variants=()) for params in own] if own[1:] else []

    @property
    def in_processes(self) -> bool:
        """Whether worker processes fit it."""
        return self.external is None and load_family(self.family).in_processes(self.parsed)

    @property
    def n_epochs(self) -> int:
        """How many epochs a study can watch a fit through; 0 for a family without any."""
        return load_family(self.family).n_epochs(self.parsed)


def available_families() -> list[str]:
    """Names of the families: files in ``models/families`` and ``models/seq2seq/architectures``.

    Example:
        >>> {"ridge", "lightgbm", "transformer"} <= set(available_families())
        True
    """
    return registry.names("models.families", ARCHITECTURES)


def load_family(name: str) -> Family:
    """A family by its name.

    Raises:
        ClimstackError: no such file in ``models/families`` or ``models/seq2seq/architectures``.

    Example:
        >>> load_family("lightgbm").Params(num_leaves=7).num_leaves
        7
    """
    known = available_families()
    if name not in known:
        near = closest(name, [*known, EXTERNAL])
        raise ClimstackError(f"no model family '{name}': {near}")
    if name in registry.names(ARCHITECTURES):
        return _network_family(name)
    family: Family = registry.load("models.families", name, "MODEL", "model family")
    return family


@cache
def _network_family(architecture: str) -> Family:
    # Imported by name, here: torch takes seconds, and networks stand upon this module.
    family: Family = import_module("models.network_family").NetworkFamily(architecture)
    return family
