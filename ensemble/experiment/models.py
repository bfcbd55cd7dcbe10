"""``[[models]]`` of an experiment: parameters, variants, targets, files of predictions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from ensemble.experiment.text import expand, table_of
from features.core.errors import ClimstackError, closest
from features.core.files import read_toml
from features.core.sealed import is_sealed
from features.core.settings import Bounded, check, from_table
from features.schemas.schema import Schema
from models.external import External
from models.member import check_serves
from models.spec import EXTERNAL, ModelSpec, Variant

Seed = Annotated[int, Interval(ge=0, lt=2**31)]
FILES = ("oof", "test", "folds", "oof_sha256")  # keys of an external model


def read_models(
    tables: Sequence[Any], folder: Path, *, seed: int, tuned: bool
) -> tuple[tuple[ModelSpec, ...], dict[str, Any]]:
    """The base learners of an experiment, and the search ranges of those that have their own.

    Args:
        tables: of ``[[models]]``.
        folder: that paths are relative to.
        seed: of the models that set none.
        tuned: take parameters from the files that ``tuned`` names.

    Raises:
        ClimstackError: an unknown or missing setting, or a bad value.
    """
    specs: list[ModelSpec] = []
    search: dict[str, Any] = {}
    for position, model in enumerate(tables):
        where = f"[[models]] number {position + 1}"
        model = {"seed": seed} | dict(table_of(model, where))
        external = _pop_external(model, folder, where)
        params = table_of(model.pop("params", {}), f"{where} params")
        ranges = table_of(model.pop("search", {}), f"{where} search")
        variants = _variants(model.pop("variants", []), where)
        model.setdefault("name", model.get("family", ""))
        entry = from_table(_ModelTable, model, where)
        if entry.tuned is not None and tuned:
            check(not variants, f"{where} has both tuned and variants: leave one out")
            params, variants = _tuned(folder / expand(entry.tuned, where), entry, params)
        fitted = _Fitted(params, variants, external)
        specs.append(_model_spec(entry, fitted, specs, where))
        if ranges:
            from tuning.space import Space

            Space.of(specs[-1], ranges)  # raises for a bad range
            search[entry.name] = dict(ranges)
    return tuple(specs), search


def resolved(spec: ModelSpec, schema: Schema) -> dict[str, Any]:
    """What the resolved experiment says of an external model, so that its file need not be read.

    Args:
        spec: the model.
        schema: of the targets.
    """
    if spec.external is None:
        return {}
    names = [schema.target_columns[target] for target in spec.served(schema)]
    return asdict(replace(spec.external, oof_sha256=spec.external.sha256)) | {"targets": names}


def check_targets(spec: ModelSpec, schema: Schema) -> None:
    """See that a model's targets are there, and that those it builds on serve them.

    Raises:
        ClimstackError: they are not, or do not.
    """
    targets = spec.served(schema)
    for base in spec.inputs_from:
        check_serves(schema, spec, targets, base, base.served(schema))


@dataclass(frozen=True, kw_only=True)
class _ModelTable(Bounded):
    name: str
    family: str
    seed: Seed
    targets: tuple[str, ...] = ()
    inputs_from: tuple[str, ...] = ()
    tuned: str | None = None


@dataclass(frozen=True)
class _Fitted:
    """How a model is fitted, or the files of one that was fitted elsewhere."""

    params: Mapping[str, Any]
    variants: tuple[Variant, ...]
    external: External | None


@dataclass(frozen=True)
class _VariantTable:
    targets: tuple[str, ...]


def _pop_external(table: dict[str, Any], folder: Path, where: str) -> External | None:
    """Take the files out of a model's table; None for a model that is fitted here."""
    found = {key: table.pop(key) for key in FILES if key in table}
    if table.get("family") != EXTERNAL:
        named = next(iter(found), "")
        check(
            not found,
            f"{where} has the setting '{named}', which only family '{EXTERNAL}' has: remove it, or"
            f' write family = "{EXTERNAL}"',
        )
        return None
    for key in ("params", "search", "tuned", "variants", "inputs_from"):
        check(
            key not in table,
            f"{where} is of family '{EXTERNAL}', which was fitted elsewhere: remove {key}",
        )
    files = from_table(External, found, where)
    oof, test = (
        None if path is None else os.path.realpath(folder / expand(path, where))
        for path in (files.oof, files.test)
    )
    return replace(files, oof=str(oof), test=test)


def _variants(tables: Any, where: str) -> tuple[Variant, ...]:
    """``[[models.variants]]``: other parameters for some targets."""
    check(isinstance(tables, list), f"{where} variants must be a list of tables")
    found = []
    for each in tables:
        table = dict(table_of(each, f"{where} variants"))
        params = table_of(table.pop("params", {}), f"{where} variants params")
        found.append(Variant(from_table(_VariantTable, table, where).targets, params))
    return tuple(found)


def _tuned(
    file: Path, own: _ModelTable, params: Mapping[str, Any]
) -> tuple[Mapping[str, Any], tuple[Variant, ...]]:
    """Parameters and variants from a ``best.toml``."""
    if not file.is_file():
        raise ClimstackError(
            f"model '{own.name}' takes its parameters from {file}, which is not there: run"
            f" 'climstack tune' with --model {own.name} first, or remove tuned"
        )
    best = read_toml(file)
    check(
        is_sealed(best),
        f"{file} was changed by hand or made by an earlier version (its checksum does not match):"
        " run 'climstack tune' again, or write its parameters into the experiment",
    )
    check(
        best.get("family") == own.family,
        f"{file} holds parameters of family '{best.get('family')}', but model '{own.name}' is"
        f" of family '{own.family}'",
    )
    found = dict(params) | dict(table_of(best.get("params", {}), f"{file} params"))
    return found, _variants(best.get("variants", []), str(file))


def _model_spec(
    table: _ModelTable, fitted: _Fitted, earlier: Sequence[ModelSpec], where: str
) -> ModelSpec:
    """A base learner; the models it builds on must stand before it."""
    known = {spec.name: spec for spec in earlier}
    for name in table.inputs_from:
        check(
            name in known,
            f"{where} inputs_from names '{name}', which is no model before it:"
            f" {closest(name, known) if known else 'put that model first'}",
        )
    inputs_from = tuple(known[name] for name in table.inputs_from)
    return ModelSpec(
        name=table.name,
        family=table.family,
        params=fitted.params,
        seed=table.seed,
        inputs_from=inputs_from,
        variants=fitted.variants,
        targets=table.targets,
        external=fitted.external,
    )
