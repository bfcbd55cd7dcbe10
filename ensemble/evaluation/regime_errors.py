"""Errors of the blend and of every member by target and regime, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ensemble.evaluation.held_out import Block, HeldOut
from features.climate.regimes import KIND_OF, latitude_of_rows, regime_masks
from features.core.errors import ClimstackError
from features.core.files import atomic_path
from features.core.metrics import Deviation, r2_from_sums
from features.core.types import Array

BLEND = "blend"  # the chosen blend's name in the table


class RegimeErrors:
    """Collects the errors of the blend and of every member by target and regime.

    The blend's predictions are its honest final outputs; the members' are their out-of-fold ones as
    they are: no constants in their place, no clipping.

    Args:
        held_out: members and the chosen honest blends.

    Raises:
        ClimstackError: a member has the blend's name, or the latitudes don't fit the store.
    """

    def __init__(self, held_out: HeldOut) -> None:
        self.models = [BLEND, *(member.spec.name for member in held_out.members)]
        if BLEND in self.models[1:]:
            raise ClimstackError(
                f"a member is named '{BLEND}', as the blend in the table of errors: rename it"
            )
        self.store, self.targets = held_out.data.store, held_out.targets
        grid = self.store.grid
        self.latitudes = (
            None
            if grid is None
            else latitude_of_rows(self.store.column, grid.lat, self.store.n_grid_columns)
        )
        self.sums: dict[str, RegimeSums] = {}

    def add(self, block: Block) -> None:
        """Add a block's rows to their regimes."""
        here = None if self.latitudes is None else self.latitudes[block.rows]
        y = block.truth[:, self.targets]  # NaN where missing
        errors = {BLEND: block.outputs[:, self.targets] - y}
        errors |= {name: values - y for name, values in block.predictions.items()}
        masks = regime_masks(self.store.schema, block.inputs, here, self.store.levels)
        for regime, mask in masks.items():
            if mask.any():
                if regime not in self.sums:
                    self.sums[regime] = RegimeSums.empty(len(self.targets), self.models)
                self.sums[regime].add(y[mask], {name: e[mask] for name, e in errors.items()})

    def table(self) -> pl.DataFrame:
        """One row per model, target and regime.

        Returns:
            model (``"blend"`` or a member), target, group, level (-1 for a scalar), kind and regime
            (:mod:`features.climate.regimes`), rows (that have the truth), r2 (against the truth's
            mean in that regime), rmse, mae and bias (prediction minus truth), in its unit. Regimes
            without rows are left out; r2 is null where there is one row, all are null where there
            is none or where the model doesn't serve the target.
        """
        schema, n_targets = self.store.schema, len(self.targets)
        columns = {
            "target": [schema.target_columns[target] for target in self.targets],
            "group": [schema.target_groups[target] for target in self.targets],
            "level": schema.target_levels[self.targets],
        }
        regimes = [regime for regime in KIND_OF if regime in self.sums]
        return pl.concat(
            pl.DataFrame(
                {"model": [model] * n_targets}
                | columns
                | {"kind": [KIND_OF[regime]] * n_targets, "regime": [regime] * n_targets}
                | self.sums[regime].scores(model)
            )
            for model in self.models
            for regime in regimes
        )

    def save(self, path: Path) -> None:
        """Write the table as a Parquet file."""
        with atomic_path(path) as made:
            self.table().write_parquet(made)


def write_errors(held_out: HeldOut, path: Path) -> pl.DataFrame:
    """Collect errors in a walk of their own and write the table; see :class:`RegimeErrors`.

    Example:
        >>> from dataclasses import replace
        >>> from pathlib import Path
        >>> seen = replace(held_out, honest=contenders[-1].honest)
        >>> write_errors(seen, Path("errors.parquet")).columns[:3]
        ['model', 'target', 'group']
    """
    errors = RegimeErrors(held_out)
    held_out.walk(errors, what="errors")
    errors.save(path)
    return errors.table()


@dataclass
class RegimeSums:
    """Sums over the rows of one regime.

    Attributes:
        truth: rows, mean and squared deviations of the truth.
        errors: by model (3, n_targets): sums of squared, absolute and signed errors.
    """

    truth: Deviation
    errors: dict[str, Array]

    @classmethod
    def empty(cls, n_targets: int, models: list[str]) -> RegimeSums:
        """No rows yet."""
        errors = {model: np.zeros((3, n_targets)) for model in models}
        return cls(Deviation.empty(n_targets), errors)

    @property
    def rows(self) -> NDArray[np.int64]:
        """How many truths came, (n_targets,)."""
        return self.truth.rows

    def add(self, y: Array, errors: Mapping[str, Array]) -> None:
        """Add rows: truth and, by model, prediction minus truth, (n, n_targets) each."""
        self.truth.add(y)
        missing = np.isnan(y)
        for model, e in errors.items():
            if missing.any():
                e = np.where(missing, 0.0, e)  # NaN is left where a member serves no target
            self.errors[model] += np.stack([(e**2).sum(0), np.abs(e).sum(0), e.sum(0)])

    def scores(self, model: str) -> dict[str, NDArray[np.generic] | pl.Series]:
        """Columns of the table, (n_targets,) each."""
        squared, absolute, signed = self.errors[model]
        rows = np.where(self.rows > 0, self.rows, np.nan)
        r2 = np.where(self.rows > 1, r2_from_sums(squared, self.truth.squared), np.nan)
        found = {
            "r2": np.where(np.isnan(squared), np.nan, r2),
            "rmse": np.sqrt(squared / rows),
            "mae": absolute / rows,
            "bias": signed / rows,
        }
        return {
            "rows": self.rows,
            **{name: pl.Series(values).fill_nan(None) for name, values in found.items()},
        }
