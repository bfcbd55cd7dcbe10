"""Which columns a view has, and how inputs become them, before they are standardised."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from features.climate.derived import Column, available
from features.climate.physics import HybridLevels
from features.core.errors import ClimstackError
from features.core.types import Array
from features.schemas.schema import Schema
from features.schemas.variable import Axis, Variable
from features.views.fill import MAX_WORDS, Fill, one_hot, phases

Kind = Literal["linear", "trees", "networks"]
LOG_FLOOR = 1e-20  # kg/kg; less cloud than this is none, and keeps the logarithm finite
PHASES = ("year_sine", "year_cosine", "day_sine", "day_cosine")


class ViewColumn(NamedTuple):
    """A column of a view: the level of a scalar is -1.

    Attributes:
        name: what it is called.
        level: of its variable, -1 for a scalar.
        axis: of which it is a component.
        source: index of the input that it shows as it is, -1 of what is computed.
        is_category: whether it is the code of a word.
    """

    name: str
    level: int
    axis: Axis | None = None
    source: int = -1
    is_category: bool = False


@cache
def columns_of(schema: Schema, kind: Kind) -> list[ViewColumn]:
    """The encoded columns, before constant ones are left out."""
    columns: list[ViewColumn] = []
    numbers = [variable for variable in schema.inputs if variable.kind != "category"]
    if kind == "linear":
        columns = [each for v in numbers for each in _leveled(v.name, v.n_levels, v.axis)]
    for variable in schema.inputs:
        start = schema.slice_of(variable.name).start
        if variable.kind == "category":
            columns += _words(variable, kind, start)
        else:
            columns += _shown(variable, kind, start)
    for derived in available({variable.name for variable in schema.inputs}, kind == "linear"):
        needs = [schema.variable(name) for name in derived.needs]
        # What is computed from a component alone is a difference of it, and a component too.
        axis = needs[0].axis if len(needs) == 1 else None
        columns += _leveled(derived.name, 1 if derived.scalar else needs[0].n_levels, axis)
    if kind != "trees":
        imputed = [variable for variable in numbers if variable.policy == "impute"]
        columns += [each for v in imputed for each in _leveled(f"missing_{v.name}", v.n_levels)]
    return columns


def _leveled(
    name: str, n_levels: int, axis: Axis | None = None, start: int = -1
) -> Iterator[ViewColumn]:
    if n_levels == 1:
        yield ViewColumn(name, -1, axis, start)
        return
    for level in range(n_levels):
        yield ViewColumn(f"{name}_{level}", level, axis, start if start < 0 else start + level)


def _shown(variable: Variable, kind: Kind, start: int) -> Iterator[ViewColumn]:
    """Columns of a number or a date, besides the value itself that linear models see."""
    if variable.encoding == "log":
        yield from _leveled(f"log10_{variable.name}", variable.n_levels, None, start)
        if kind == "networks":
            yield from _leveled(f"root_{variable.name}", variable.n_levels)
    elif kind != "linear":
        yield from _leveled(variable.name, variable.n_levels, variable.axis, start)
    if variable.kind == "date":
        for what in PHASES:
            yield ViewColumn(f"{variable.name}.{what}", -1, None, start)


def _words(variable: Variable, kind: Kind, start: int) -> Iterator[ViewColumn]:
    """Columns of a category: its code, or one for each word; of many words for each rank."""
    if kind == "trees":
        yield ViewColumn(variable.name, -1, None, start, is_category=True)
        return
    words = list(variable.categories)
    if len(words) > MAX_WORDS:
        ranks = [f"number {rank} in frequency" for rank in range(1, MAX_WORDS)]
        words = [*ranks, "any rarer one"]
    for word in words:
        yield ViewColumn(f"{variable.name}={word}", -1)


def encode(
    schema: Schema,
    given: Array,
    kind: Kind,
    hybrid: HybridLevels | None,
    fill: Fill,
    first_row: int | None = None,
) -> Array:
    """All columns of the view before standardisation, (n, n_columns).

    In the view for trees NaN is what is missing, in others nothing is.

    Raises:
        ClimstackError: one of them is not finite; names it and, from ``first_row`` on, its row.
    """
    inputs = fill.apply(given)
    values = {
        variable.name: inputs[:, schema.slice_of(variable.name)] for variable in schema.inputs
    }
    columns = []
    if kind == "linear":
        words = list(schema.categories)
        columns = [np.delete(inputs, words, axis=1) if words else inputs]
    for variable in schema.inputs:
        columns += _encoded(variable, values[variable.name], kind)
    column = Column(values, hybrid)
    with np.errstate(all="ignore"):  # what comes of it is looked at next
        columns += [derived.compute(column) for derived in available(set(values), kind == "linear")]
    if kind != "trees" and len(fill.columns):
        columns.append(fill.holes(given).astype(np.float64))
    encoded = np.concatenate(columns, axis=1)
    if not np.isfinite(encoded).all():
        row, position = np.argwhere(~np.isfinite(encoded))[0]
        name = columns_of(schema, kind)[position].name
        where = "a training row" if first_row is None else f"row {first_row + row}"
        raise ClimstackError(
            f"feature '{name}' is {encoded[row, position]} in {where}: an input it is computed from"
            " is out of any physical range"
        )
    if kind == "trees" and (len(fill.columns) or fill.codes):
        gaps = [*fill.columns, *fill.codes]
        missing = np.isnan(np.where(np.isin(np.arange(inputs.shape[1]), gaps), inputs, 0.0))
        missing[:, fill.columns] = fill.holes(given)
        for position, shown in enumerate(columns_of(schema, kind)):
            if shown.source >= 0:
                encoded[missing[:, shown.source], position] = np.nan
    return encoded


def _encoded(variable: Variable, values: Array, kind: Kind) -> Iterator[Array]:
    """The columns of one variable, besides the value itself that linear models see."""
    if variable.kind == "category":
        if kind == "trees":
            yield np.nan_to_num(values, nan=0.0)
        else:
            yield one_hot(values[:, 0], len(variable.categories))
        return
    if variable.encoding == "log":
        yield np.log10(np.maximum(values, LOG_FLOOR))
        if kind == "networks":
            yield np.sqrt(np.maximum(values, 0.0))
    elif kind != "linear":
        yield values
    if variable.kind == "date":
        yield phases(values[:, 0])
