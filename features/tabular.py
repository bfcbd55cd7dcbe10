"""The tabular view: (n_samples, n_features) float32, one row per column of air."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.derived import Derived, available
from features.errors import ClimstackError
from features.schema import Schema, load_schema
from features.transforms import Array, Scaler

LOG_FLOOR = 1e-20  # kg/kg; less cloud than this is none, and keeps the logarithm finite


@dataclass(frozen=True)
class TabularView:
    """Encodes inputs as standardised float32 features; constant inputs are left out.

    Log-encoded variables (moisture) appear as the logarithm, whose order is that of the value, and
    with ``both`` also as the value itself, which a linear model needs. Profiles of
    :mod:`features.derived` are appended.

    Attributes:
        schema: the inputs' schema.
        scaler: fitted on training rows.
        both: log-encoded variables appear in both forms.
        clip: standardised features are clipped to +-clip, so one extreme value can't blow up.
    """

    schema: Schema
    scaler: Scaler
    both: bool
    clip: float = 30.0

    @classmethod
    def fit(cls, schema: Schema, blocks: Iterable[Array], both: bool = False) -> TabularView:
        """Fit on blocks of training inputs, each (n, n_inputs) float64."""
        return cls(schema, Scaler.fit(_encode(schema, block, both) for block in blocks), both)

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, length n_features."""
        names = _names(self.schema, self.both)
        return [names[i] for i in np.flatnonzero(~self.scaler.constant)]

    def transform(self, inputs: Array) -> NDArray[np.float32]:
        """Encode (n_samples, n_inputs) float64 as (n_samples, n_features) float32.

        Raises:
            ClimstackError: wrong width, or a value is not finite.
        """
        check_inputs(self.schema, inputs)
        with np.errstate(all="ignore"):  # what comes of it is looked at next
            encoded = self.scaler.transform(_encode(self.schema, inputs, self.both))
        if not np.isfinite(encoded).all():
            row, column = np.argwhere(~np.isfinite(encoded))[0]
            name = _names(self.schema, self.both)[column]
            raise ClimstackError(
                f"feature '{name}' is {encoded[row, column]} in row {row}: an input it is computed"
                " from is out of any physical range"
            )
        kept = encoded[:, ~self.scaler.constant]
        return np.clip(kept, -self.clip, self.clip).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the fitted view as one ``.npz`` file."""
        with path.open("wb") as file:
            np.savez(
                file,
                mean=self.scaler.mean,
                std=self.scaler.std,
                constant=self.scaler.constant,
                both=np.array(self.both),
                clip=np.array(self.clip),
                schema=np.array(self.schema.name),
            )

    @classmethod
    def load(cls, path: Path) -> TabularView:
        """Read a view back; no pickle."""
        with np.load(path, allow_pickle=False) as held:
            scaler = Scaler(held["mean"], held["std"], held["constant"])
            schema = load_schema(str(held["schema"]))
            return cls(schema, scaler, bool(held["both"]), float(held["clip"]))


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


def _encode(schema: Schema, inputs: Array, both: bool) -> Array:
    columns = [inputs] if both else []
    for variable in schema.inputs:
        values = inputs[:, schema.slice_of(variable.name)]
        if variable.encoding == "log":
            columns.append(np.log10(np.maximum(values, LOG_FLOOR)))
        elif not both:
            columns.append(values)
    for derived in _derived(schema):
        columns.append(derived.compute(*(inputs[:, schema.slice_of(n)] for n in derived.needs)))
    return np.concatenate(columns, axis=1)


def _names(schema: Schema, both: bool) -> list[str]:
    names = list(schema.input_columns) if both else []
    for variable in schema.inputs:
        if variable.encoding == "log":
            names += [f"log10_{column}" for column in variable.columns]
        elif not both:
            names += variable.columns
    for derived in _derived(schema):
        n_levels = schema.variable(derived.needs[0]).n_levels
        names += [f"{derived.name}_{level}" for level in range(n_levels)]
    return names


def _derived(schema: Schema) -> list[Derived]:
    return available({variable.name for variable in schema.inputs})
