"""A store for people: its rows as a frame, and itself in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from features.core.types import Array, Rows
from features.schemas.variable import Variable

if TYPE_CHECKING:
    from features.store.store import Store

LABELS = ("place", "group", "fold")
SECOND = 1e6  # microseconds
DAY = 86_400 * SECOND


def to_polars(store: Store, rows: Rows | None) -> pl.DataFrame:
    """Ids, labels, inputs and targets of some rows or all; see :meth:`Store.to_polars`."""
    schema, at = store.schema, slice(None) if rows is None else np.asarray(rows)
    index = store.index[at] if rows is None else store.index[np.asarray(rows).tolist()]
    columns: dict[str, pl.Series] = {schema.id_name: index["sample_id"]}
    for what, name in schema.row_columns.items():
        if what in LABELS and what in index.columns:
            columns[name] = index[what]
        elif what == "time" and name not in schema.input_columns and index["time"].min() != -1:
            columns[name] = _time(store, index["time"])
    sides = [(schema.inputs, store.inputs)]
    sides += [] if store.targets is None else [(schema.targets, store.targets)]
    for variables, matrix in sides:
        values, start = matrix[at], 0
        for variable in variables:
            for column in variable.columns:
                columns[column] = _column(variable, values[:, start])
                start += 1
    return pl.DataFrame(columns)


def facts(store: Store) -> dict[str, str]:
    """What a store is, in a few words each."""
    n_targets = 0 if store.targets is None else store.targets.shape[1]
    return {
        "path": str(store.called),
        "rows": f"{len(store):,}",
        "inputs": str(store.inputs.shape[1]),
        "targets": str(n_targets) if store.targets is not None else "none: rows to predict",
        "schema": store.schema.name,
        "sources": ", ".join(str(source["file"]) for source in store.sources),
    }


def as_html(store: Store) -> str:
    """A small table of :func:`facts`."""
    rows = (
        f"<tr><th>{key}</th><td>{escape(value)}</td></tr>" for key, value in facts(store).items()
    )
    return f"<table><caption>Store</caption>{''.join(rows)}</table>"


def _time(store: Store, steps: pl.Series) -> pl.Series:
    """When the timestep of each row begins."""
    begins = steps.cast(pl.Float64) * (store.schema.time_step or 1.0)
    if any(source["clock"] == "numbers" for source in store.sources):
        return begins
    return (begins * SECOND).round().cast(pl.Int64).cast(pl.Datetime("us"))


def _column(variable: Variable, values: Array) -> pl.Series:
    """Values as a person writes them: words of a category, dates, null where nothing stands."""
    held = pl.Series(values).fill_nan(None) if variable.may_miss else pl.Series(values)
    if variable.kind == "category":
        words = pl.Series(variable.categories, dtype=pl.String)
        return words.gather(held.cast(pl.UInt32))
    if variable.kind == "date":
        return (held * DAY).round().cast(pl.Int64).cast(pl.Datetime("us"))
    return held
