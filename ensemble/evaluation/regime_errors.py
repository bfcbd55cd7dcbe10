"""Errors of the blend and of every member by target and regime, as data: ``errors.parquet``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ensemble.evaluation.held_out import HeldOut
from features.climate.regimes import KIND_OF, latitude_of_rows, regime_masks
from features.core.errors import ClimstackError
from features.core.files import atomic_path
from features.core.metrics import r2_from_sums
from features.core.types import Array

BLEND = "blend"  # the chosen blend's name in the table
FILE = "errors.parquet"


def write_errors(held_out: HeldOut, path: Path, latitude: Array | None = None) -> pl.DataFrame:
    """Write ``errors.parquet`` in one pass over the held-out rows.

    The blend's predictions are its honest final outputs; the members' are their out-of-fold ones as
    they are: no constants in their place, no clipping.

    Args:
        held_out: held-out rows with the chosen blend's honest outputs.
        path: of the file.
        latitude: of the grid columns, degrees north, (n_grid_columns,); None leaves it out.

    Returns:
        model (``"blend"`` or a member), target, group, level (-1 for a scalar), kind and regime
        (:mod:`features.climate.regimes`), rows, r2 (against the truth's mean in that regime), rmse,
        mae and bias (prediction minus truth) in the target's unit. Regimes without rows are left
        out; r2 is null in a regime of one row.

    Raises:
        ClimstackError: a member has the blend's name, or the latitudes don't fit the store.
    """
    names = [member.spec.name for member in held_out.members]
    if BLEND in names:
        raise ClimstackError(f"a member is named '{BLEND}', as the blend in errors.parquet: rename")
    store, latitudes = held_out.store, None
    if latitude is not None:
        latitudes = latitude_of_rows(store.column, latitude, store.n_grid_columns)
    schema, targets, levels = store.schema, held_out.targets, store.levels
    sums: dict[str, RegimeSums] = {}
    for block in held_out.blocks():
        here = None if latitudes is None else latitudes[block.rows]
        y = block.truth[:, targets]
        errors = {BLEND: block.outputs[:, targets] - y}
        errors |= {name: values - y for name, values in block.predictions.items()}
        for regime, mask in regime_masks(schema, block.inputs, here, levels).items():
            if mask.any():
                if regime not in sums:
                    sums[regime] = RegimeSums.empty(len(targets), list(errors))
                sums[regime].add(y[mask], {name: e[mask] for name, e in errors.items()})
    columns = {
        "target": [schema.target_columns[target] for target in targets],
        "group": [schema.target_groups[target] for target in targets],
        "level": schema.target_levels[targets],
    }
    found = [
        pl.DataFrame(
            {"model": [model] * len(targets)}
            | columns
            | {"kind": [KIND_OF[regime]] * len(targets), "regime": [regime] * len(targets)}
            | of_regime.scores(model)
        )
        for model in [BLEND, *names]
        for regime, of_regime in sums.items()
    ]
    table = pl.concat(found)
    with atomic_path(path) as made:
        table.write_parquet(made)
    return table


@dataclass
class RegimeSums:
    """Sums over the rows of one regime.

    Attributes:
        rows: how many.
        mean: (n_targets,), mean of the truth.
        deviation: (n_targets,), squared deviations of the truth from its mean.
        errors: by model (3, n_targets): sums of squared, absolute and signed errors.
    """

    rows: int
    mean: Array
    deviation: Array
    errors: dict[str, Array]

    @classmethod
    def empty(cls, n_targets: int, models: list[str]) -> RegimeSums:
        """No rows yet."""
        errors = {model: np.zeros((3, n_targets)) for model in models}
        return cls(0, np.zeros(n_targets), np.zeros(n_targets), errors)

    def add(self, y: Array, errors: Mapping[str, Array]) -> None:
        """Add rows: truth and, by model, prediction minus truth, (n, n_targets) each.

        The truth's variance is updated as by Chan, Golub and LeVeque (1979).
        """
        n, mean = len(y), y.mean(0)
        shift, total = mean - self.mean, self.rows + n
        self.deviation += ((y - mean) ** 2).sum(0) + shift**2 * (self.rows * n / total)
        self.mean = self.mean + shift * (n / total)
        self.rows = total
        for model, e in errors.items():
            self.errors[model] += np.stack([(e**2).sum(0), np.abs(e).sum(0), e.sum(0)])

    def scores(self, model: str) -> dict[str, NDArray[np.generic] | pl.Series]:
        """Columns of the table, (n_targets,) each."""
        squared, absolute, signed = self.errors[model]
        r2 = pl.Series(r2_from_sums(squared, self.deviation))
        return {
            "rows": np.full(len(squared), self.rows),
            "r2": r2 if self.rows > 1 else pl.Series([None] * len(squared), dtype=pl.Float64),
            "rmse": np.sqrt(squared / self.rows),
            "mae": absolute / self.rows,
            "bias": signed / self.rows,
        }
