"""Base learners by name: an experiment's model, its parameters, and the family behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from importlib import import_module
from typing import Any

from features.core import registry
from features.core.errors import ClimstackError, closest
from features.core.settings import from_table
from models.base import Family, TableShape

ARCHITECTURES = "models.seq2seq.architectures"


@dataclass(frozen=True)
class Variant:
    """Parameters of a model for some of its targets.

    Attributes:
        targets: names of the target columns.
        params: values that replace the model's own.
    """

    targets: tuple[str, ...]
    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A base learner of an experiment: family, parameters and seed.

    Attributes:
        name: how the experiment calls it.
        family: file name in ``models/families``.
        params: values that differ from the family's defaults; unknown ones raise.
        seed: of everything random in it.
        inputs_from: their predictions become further inputs.
        variants: other parameters for some targets, as tuning finds them.
    """

    name: str
    family: str
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    inputs_from: tuple[ModelSpec, ...] = ()
    variants: tuple[Variant, ...] = ()

    def __post_init__(self) -> None:
        self.parsed  # noqa: B018 - a bad parameter should raise here, not hours later
        for spec in self.parts:
            spec.parsed  # noqa: B018
        named = [name for variant in self.variants for name in variant.targets]
        twice = [name for name in named if named.count(name) > 1]
        if twice:
            raise ClimstackError(
                f"model '{self.name}' has two variants for {twice[0]}: remove one of them"
            )

    @cached_property
    def parsed(self) -> Any:
        """The family's ``Params``, complete."""
        where = f"model '{self.name}' ({self.family})"
        return from_table(load_family(self.family).Params, self.params, where)

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
        return load_family(self.family).in_processes(self.parsed)

    @property
    def n_epochs(self) -> int:
        """How many epochs a study can watch a fit through; 0 for a family without any."""
        return load_family(self.family).n_epochs(self.parsed)


def available_families() -> list[str]:
    """Names of the families: files in ``models/families`` and ``models/seq2seq/architectures``."""
    return registry.names("models.families", ARCHITECTURES)


def load_family(name: str) -> Family:
    """A family by its name.

    Raises:
        ClimstackError: no such file in ``models/families`` or ``models/seq2seq/architectures``.
    """
    known = available_families()
    if name not in known:
        raise ClimstackError(f"no model family '{name}': {closest(name, known)}")
    if name in registry.names(ARCHITECTURES):
        return _network_family(name)
    family: Family = registry.load("models.families", name, "MODEL", "model family")
    return family


@cache
def _network_family(architecture: str) -> Family:
    # Imported by name, here: torch takes seconds, and networks stand upon this module.
    family: Family = import_module("models.network_family").NetworkFamily(architecture)
    return family
