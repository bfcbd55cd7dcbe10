"""The tabular view: (n_samples, n_features) float32, one row per column of air."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from features.climate.physics import HybridLevels
from features.core.arrays import check_numbers, read_npz
from features.core.errors import ClimstackError
from features.core.files import canonical_json
from features.core.settings import check
from features.core.types import Array, Float32
from features.schemas.schema import Schema
from features.schemas.variable import Axis
from features.views.encoding import Kind, ViewColumn, columns_of, encode
from features.views.fill import Fill
from features.views.transforms import OF_SCALER, Scaler

VIEW_ROWS = 512  # rows encoded at once: a view is several times as wide as its inputs


@dataclass(frozen=True, kw_only=True)
class TabularView:
    """Encodes inputs as standardised float32 features; constant inputs are left out.

    Log-encoded variables (moisture) appear as the logarithm, whose order is that of the value, for
    linear models also as the value itself and for networks also as its square root. Features of
    :mod:`features.climate.derived` are appended. A date is shown with the phases of year and day.

    Trees see a missing input as NaN, and a category as its code, neither scaled nor clipped. Others
    see the mean and, where rows miss in training, an indicator ``missing_NAME``; and a column
    ``NAME=WORD`` for each word, all 0 where it is missing or new.

    Attributes:
        schema: the inputs' schema.
        scaler: fitted on training rows.
        fill: what missing inputs become, fitted on training rows.
        kind: made for ``"linear"`` models, for ``"trees"`` or for ``"networks"``.
        clip: standardised features are clipped to +-clip, so one extreme value can't blow up.
        hybrid: hybrid levels that derived features are computed with; None for ClimSim's own.

    Example:
        >>> view = TabularView.fit(store.schema, [store.inputs[:100]], kind="trees")
        >>> view.transform(store.inputs[100:]).shape, view.feature_names
        ((60, 4), ['state_0', 'state_1', 'state_2', 'sun'])
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
        parts = (part for block in blocks for part in _split(block))
        encoded = (encode(schema, part, kind, hybrid, fill) for part in parts)
        if kind != "trees" or not (len(fill.columns) or fill.codes):
            scaler = Scaler.fit(encoded)
            return cls(schema=schema, scaler=scaler, kind=kind, fill=fill, hybrid=hybrid)
        n_columns = len(columns_of(schema, kind))
        lacks, has = np.zeros((2, n_columns), dtype=bool)

        def watched() -> Iterator[Array]:
            for part in encoded:
                missing = np.isnan(part)
                np.logical_or(lacks, missing.any(0), out=lacks)
                np.logical_or(has, ~missing.all(0), out=has)
                yield part

        scaler = Scaler.fit(watched())
        words = np.array([column.is_category for column in columns_of(schema, kind)])
        scaler = Scaler(
            np.where(words, 0.0, scaler.mean),
            np.where(words, 1.0, scaler.std),
            scaler.constant & ~(lacks & has),  # whether it is there may say something
        )
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
    def categories(self) -> NDArray[np.bool_]:
        """Whether each feature is the code of a category, as trees see it, (n_features,)."""
        return np.array([column.is_category for column in self._visible], dtype=bool)

    @property
    def axes(self) -> list[Axis | None]:
        """Axis of which each feature is a component, length n_features."""
        return [column.axis for column in self._visible]

    @property
    def _visible(self) -> list[ViewColumn]:
        columns = columns_of(self.schema, self.kind)
        return [columns[i] for i in np.flatnonzero(~self.scaler.constant)]

    def transform(self, inputs: Array) -> Float32:
        """Encode (n_samples, n_inputs) float64 as (n_samples, n_features) float32.

        Raises:
            ClimstackError: wrong width, or a value is not finite.
        """
        check_inputs(self.schema, inputs)
        features = np.empty((len(inputs), len(self.feature_names)), dtype=np.float32)
        limit = np.where(self.categories, np.inf, self.clip) if self.fill.codes else self.clip
        start = 0
        for part in _split(inputs):
            encoded = self.scaler.transform(
                encode(self.schema, part, self.kind, self.hybrid, fill=self.fill, first_row=start)
            )
            visible = encoded[:, ~self.scaler.constant]
            features[start : start + len(part)] = np.clip(visible, -limit, limit)
            start += len(part)
        return features

    def save(self, path: Path) -> None:
        """Write the fitted view as one ``.npz`` file."""
        more: dict[str, Any] = {} if self.hybrid is None else dict(vars(self.hybrid))
        more |= {f"codes_{at}": codes for at, codes in self.fill.codes.items()}
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
                **more,
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
        n_columns = len(columns_of(schema, kinds[0]))
        filled = Fill.fit(schema, ()).columns
        shapes = {"mean": (n_columns,), "fill": (len(filled),), "clip": ()}
        levels = [part.name for part in fields(HybridLevels)] if "hyam" in held else []
        n_levels = max(variable.n_levels for variable in schema.inputs)
        shapes |= {name: (n_levels + name.endswith("i"),) for name in levels}  # i: interfaces
        check_numbers(path, held, shapes)
        return cls(
            schema=schema,
            scaler=Scaler.read(path, held),
            kind=kinds[0],
            fill=Fill(filled, held["fill"], _codes_of(path, held, schema)),
            clip=float(held["clip"]),
            hybrid=HybridLevels(**{name: held[name] for name in levels}) if levels else None,
        )


def _codes_of(path: Path, held: Mapping[str, Any], schema: Schema) -> dict[int, NDArray[np.intp]]:
    found = {}
    for at, words in schema.categories.items():
        codes = held.get(f"codes_{at}", np.empty(0))
        right = codes.dtype.kind == "i" and codes.shape == (len(words),)
        right = right and bool(((codes >= -1) & (codes < len(words))).all())
        check(right, f"{path} is damaged (codes of {at} are none): delete its cell and run again")
        found[at] = codes.astype(np.intp)
    return found


@cache
def _schema_of(text: str) -> Schema:
    return Schema.from_table(json.loads(text))


def check_inputs(schema: Schema, inputs: Array) -> None:
    """Refuse inputs of the wrong width or with values that are neither finite nor may be missing.

    Raises:
        ClimstackError: names the width, or the first bad column and row.
    """
    width = len(schema.input_columns)
    if inputs.ndim != 2 or inputs.shape[1] != width:
        raise ClimstackError(
            f"inputs must have shape (n_samples, {width}) for schema {schema.name},"
            f" but got {inputs.shape}"
        )
    bad = ~np.isfinite(inputs)
    gaps = [*schema.imputed_inputs, *schema.categories]
    if gaps:
        bad[:, gaps] &= ~np.isnan(inputs[:, gaps])
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ClimstackError(
            f"input '{schema.input_columns[column]}' is {inputs[row, column]} in row {row}:"
            " fill it or drop the row"
        )


def all_levels(schema: Schema, kind: Kind) -> NDArray[np.intp]:
    """Level of each feature before constant ones are left out, -1 for a scalar."""
    return np.array([column.level for column in columns_of(schema, kind)], dtype=np.intp)


def _split(inputs: Array) -> Iterator[Array]:
    for start in range(0, len(inputs), VIEW_ROWS):
        yield inputs[start : start + VIEW_ROWS]
