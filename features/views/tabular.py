"""The tabular view: (n_samples, n_features) float32, one row per column of air."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from features.climate.derived import Column, available
from features.climate.physics import HybridLevels
from features.core.arrays import check_numbers, read_npz
from features.core.errors import ClimstackError
from features.core.files import canonical_json
from features.core.settings import check
from features.core.types import Array, Float32
from features.schemas.schema import Schema
from features.schemas.variable import Axis
from features.views.transforms import OF_SCALER, Scaler

Kind = Literal["linear", "trees", "networks"]
VIEW_ROWS = 512  # rows encoded at once: a view is several times as wide as its inputs
LOG_FLOOR = 1e-20  # kg/kg; less cloud than this is none, and keeps the logarithm finite


@dataclass(frozen=True)
class Fill:
    """Puts the training fold's mean where an input is missing (NaN), level by level.

    Only inputs whose policy is ``impute`` can be missing: see :mod:`features.views.missing`.

    Attributes:
        columns: indices of those inputs, (n,).
        mean: of the training rows that are there, 0 where none is, (n,).
    """

    columns: NDArray[np.intp]
    mean: Array

    @classmethod
    def fit(cls, schema: Schema, blocks: Iterable[Array]) -> Fill:
        """Learn the means from blocks of training inputs, each (n, n_inputs)."""
        columns = schema.imputed_inputs
        total, count = np.zeros(len(columns)), np.zeros(len(columns))
        for block in blocks if len(columns) else ():
            values = block[:, columns]
            there = ~np.isnan(values)
            total += np.where(there, values, 0.0).sum(axis=0)
            count += there.sum(axis=0)
        return cls(columns, total / np.maximum(count, 1.0))

    def apply(self, inputs: Array) -> Array:
        """Inputs without gaps, (n, n_inputs); the same array where nothing can be missing."""
        if not len(self.columns):
            return inputs
        values = inputs[:, self.columns]
        filled = inputs.copy()
        filled[:, self.columns] = np.where(np.isnan(values), self.mean, values)
        return filled


@dataclass(frozen=True, kw_only=True)
class TabularView:
    """Encodes inputs as standardised float32 features; constant inputs are left out.

    Log-encoded variables (moisture) appear as the logarithm, whose order is that of the value, for
    linear models also as the value itself and for networks also as its square root. Features of
    :mod:`features.climate.derived` are appended.

    Attributes:
        schema: the inputs' schema.
        scaler: fitted on training rows.
        fill: what missing inputs become, fitted on training rows.
        kind: made for ``"linear"`` models, for ``"trees"`` or for ``"networks"``.
        clip: standardised features are clipped to +-clip, so one extreme value can't blow up.
        hybrid: hybrid levels that derived features are computed with; None for ClimSim's own.
    """

    schema: Schema
    scaler: Scaler
    kind: Kind
    fill: Fill
    clip: float = 30.0
    hybrid: HybridLevels | None = None

    @classmethod
    def fit(
        cls,
        schema: Schema,
        blocks: Iterable[Array],
        kind: Kind = "trees",
        fill: Fill | None = None,
        hybrid: HybridLevels | None = None,
    ) -> TabularView:
        """Fit on blocks of training inputs, each (n, n_inputs) float64.

        Args:
            schema: the inputs' schema.
            blocks: the training inputs.
            kind: what it is made for.
            fill: fitted on the same rows; None where nothing is missing.
            hybrid: hybrid levels: :attr:`features.store.store.Store.levels`; None for ClimSim's
            own.
        """
        fill = fill or Fill.fit(schema, ())
        parts = (part for block in blocks for part in _split(fill.apply(block)))
        scaler = Scaler.fit(_encode(schema, part, kind, hybrid) for part in parts)
        return cls(schema=schema, scaler=scaler, kind=kind, fill=fill, hybrid=hybrid)

    @cached_property
    def feature_names(self) -> list[str]:
        """Names of the features, length n_features."""
        return [column.name for column in self._visible]

    @property
    def visible_scaler(self) -> Scaler:
        """The scaler of the features that vary, which :meth:`transform` shows."""
        return self.scaler.take(np.flatnonzero(~self.scaler.constant))

    @cached_property
    def levels(self) -> NDArray[np.intp]:
        """Level of each feature, -1 for a scalar, (n_features,)."""
        return all_levels(self.schema, self.kind)[~self.scaler.constant]

    @property
    def axes(self) -> list[Axis | None]:
        """Axis of which each feature is a component, length n_features."""
        return [column.axis for column in self._visible]

    @property
    def _visible(self) -> list[_ViewColumn]:
        columns = _columns(self.schema, self.kind)
        return [columns[i] for i in np.flatnonzero(~self.scaler.constant)]

    def transform(self, inputs: Array) -> Float32:
        """Encode (n_samples, n_inputs) float64 as (n_samples, n_features) float32.

        Raises:
            ClimstackError: wrong width, or a value is not finite.
        """
        inputs = self.fill.apply(inputs) if inputs.ndim == 2 else inputs
        check_inputs(self.schema, inputs)
        features = np.empty((len(inputs), len(self.feature_names)), dtype=np.float32)
        start = 0
        for part in _split(inputs):
            encoded = self.scaler.transform(
                _encode(self.schema, part, self.kind, self.hybrid, start)
            )
            visible = encoded[:, ~self.scaler.constant]
            features[start : start + len(part)] = np.clip(visible, -self.clip, self.clip)
            start += len(part)
        return features

    def save(self, path: Path) -> None:
        """Write the fitted view as one ``.npz`` file."""
        hybrid = {} if self.hybrid is None else vars(self.hybrid)
        with path.open("wb") as file:
            np.savez(
                file,
                mean=self.scaler.mean,
                std=self.scaler.std,
                constant=self.scaler.constant,
                fill=self.fill.mean,
                kind=np.array(self.kind),
                clip=np.array(self.clip),
                schema=np.array(canonical_json(self.schema.to_table())),
                **hybrid,
            )

    @classmethod
    def load(cls, path: Path) -> TabularView:
        """Read a view back; no pickle.

        Raises:
            ClimstackError: the file is no view, or one of another version.
        """
        held = read_npz(path, (*OF_SCALER, "schema", "kind", "clip"))
        held.setdefault("fill", np.empty(0))  # views saved before had none
        schema = _schema_of(str(held["schema"]))
        kinds: list[Kind] = [kind for kind in get_args(Kind) if kind == str(held["kind"])]
        check(kinds != [], f"{path} is damaged (no kind of view): delete its cell and run again")
        n_columns = len(_columns(schema, kinds[0]))
        shapes = {"mean": (n_columns,), "fill": (len(schema.imputed_inputs),), "clip": ()}
        levels = [part.name for part in fields(HybridLevels)] if "hyam" in held else []
        n_levels = max(variable.n_levels for variable in schema.inputs)
        shapes |= {name: (n_levels + name.endswith("i"),) for name in levels}  # i: interfaces
        check_numbers(path, held, shapes)
        return cls(
            schema=schema,
            scaler=Scaler.read(path, held),
            kind=kinds[0],
            fill=Fill(schema.imputed_inputs, held["fill"]),
            clip=float(held["clip"]),
            hybrid=HybridLevels(**{name: held[name] for name in levels}) if levels else None,
        )


@cache
def _schema_of(text: str) -> Schema:
    return Schema.from_table(json.loads(text))


def check_inputs(schema: Schema, inputs: Array) -> None:
    """Refuse inputs of the wrong width or with values that are not finite.

    Raises:
        ClimstackError: names the width, or the first bad column and row.
    """
    width = len(schema.input_columns)
    if inputs.ndim != 2 or inputs.shape[1] != width:
        raise ClimstackError(
            f"inputs must have shape (n_samples, {width}) for schema {schema.name},"
            f" but got {inputs.shape}"
        )
    if not np.isfinite(inputs).all():
        row, column = np.argwhere(~np.isfinite(inputs))[0]
        raise ClimstackError(
            f"input '{schema.input_columns[column]}' is {inputs[row, column]} in row {row}:"
            " fill it or drop the row"
        )


def all_levels(schema: Schema, kind: Kind) -> NDArray[np.intp]:
    """Level of each feature before constant ones are left out, -1 for a scalar."""
    return np.array([column.level for column in _columns(schema, kind)], dtype=np.intp)


def _split(inputs: Array) -> Iterator[Array]:
    for start in range(0, len(inputs), VIEW_ROWS):
        yield inputs[start : start + VIEW_ROWS]


def _encode(
    schema: Schema,
    inputs: Array,
    kind: Kind,
    hybrid: HybridLevels | None,
    first_row: int | None = None,
) -> Array:
    """All columns of the view before standardisation, (n, n_columns).

    Raises:
        ClimstackError: one of them is not finite; names it and, from ``first_row`` on, its row.
    """
    values = {
        variable.name: inputs[:, schema.slice_of(variable.name)] for variable in schema.inputs
    }
    columns = [inputs] if kind == "linear" else []
    for variable in schema.inputs:
        if variable.encoding == "log":
            columns.append(np.log10(np.maximum(values[variable.name], LOG_FLOOR)))
            if kind == "networks":
                columns.append(np.sqrt(np.maximum(values[variable.name], 0.0)))
        elif kind != "linear":
            columns.append(values[variable.name])
    column = Column(values, hybrid)
    with np.errstate(all="ignore"):  # what comes of it is looked at next
        columns += [derived.compute(column) for derived in available(set(values), kind == "linear")]
    encoded = np.concatenate(columns, axis=1)
    if not np.isfinite(encoded).all():
        row, position = np.argwhere(~np.isfinite(encoded))[0]
        name = _columns(schema, kind)[position].name
        where = "a training row" if first_row is None else f"row {first_row + row}"
        raise ClimstackError(
            f"feature '{name}' is {encoded[row, position]} in {where}: an input it is computed from"
            " is out of any physical range"
        )
    return encoded


class _ViewColumn(NamedTuple):
    """A column of a view: the level of a scalar is -1."""

    name: str
    level: int
    axis: Axis | None


@cache
def _columns(schema: Schema, kind: Kind) -> list[_ViewColumn]:
    """The encoded columns, before constant ones are left out."""
    columns: list[_ViewColumn] = []

    def add(name: str, n_levels: int, axis: Axis | None = None) -> None:
        if n_levels == 1:
            columns.append(_ViewColumn(name, -1, axis))
        else:
            columns.extend(_ViewColumn(f"{name}_{i}", i, axis) for i in range(n_levels))

    if kind == "linear":
        for variable in schema.inputs:
            add(variable.name, variable.n_levels, variable.axis)
    for variable in schema.inputs:
        if variable.encoding == "log":
            add(f"log10_{variable.name}", variable.n_levels)
            if kind == "networks":
                add(f"root_{variable.name}", variable.n_levels)
        elif kind != "linear":
            add(variable.name, variable.n_levels, variable.axis)
    for derived in available({variable.name for variable in schema.inputs}, kind == "linear"):
        needs = [schema.variable(name) for name in derived.needs]
        # What is computed from a component alone is a difference of it, and a component too.
        axis = needs[0].axis if len(needs) == 1 else None
        add(derived.name, 1 if derived.scalar else needs[0].n_levels, axis)
    return columns
