"""R2 by latitude and level, where the grid is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble.evaluation.held_out import Block
from ensemble.report.finished import SURFACE, Finished
from features.core.metrics import Deviation, r2_from_sums
from features.core.types import Array
from features.pages import plot
from features.pages.page import Figure, Part, Parts, Table

BAND = 10.0  # degrees
N_BANDS = 18


class Latitudes:
    """Sums by band of latitude and target, from which R2 inside each band comes."""

    def __init__(self, run: Finished, latitude: Array) -> None:
        self.run = run
        band_of_column = np.clip(((latitude + 90) / BAND).astype(np.intp), 0, N_BANDS - 1)
        self._band = band_of_column[run.store.column]
        n_targets = len(run.schema.target_columns)
        self.truth = [Deviation.empty(n_targets) for _ in range(N_BANDS)]
        self.squared_error = np.zeros((N_BANDS, n_targets))

    def add(self, block: Block) -> None:
        """Add a block's rows."""
        squared, band = (block.outputs - block.truth) ** 2, self._band[block.rows]
        for each in np.unique(band):
            self.truth[each].add(block.truth[band == each])
            self.squared_error[each] += np.nansum(squared[band == each], axis=0)

    @property
    def r2(self) -> Array:
        """R2 against each band's own mean, (N_BANDS, n_targets); NaN without rows."""
        r2 = r2_from_sums(self.squared_error, np.stack([truth.squared for truth in self.truth]))
        rows = np.array([truth.rows for truth in self.truth])
        return np.where(rows > 1, r2, np.nan)

    def parts(self) -> dict[str, Parts]:
        """A picture for each profile, and one for all scalars."""
        lead = (
            "R2 of what the submission uses, against the mean of each band of latitude, so that"
            " knowing the climate alone scores 0. Values below 0 have the colour of 0."
        )
        parts: list[Part] = [lead]
        schema, r2 = self.run.schema, self.r2.T
        for variable in [v for v in schema.targets if v.n_levels > max(v.unscored_levels, 1)]:
            here = schema.slice_of(variable.name)
            values = np.where(schema.weights[here, None] > 0, r2[here], np.nan)
            axis = self.run.level_axis(variable.unscored_levels)
            parts.append(_figure(variable.name, range(variable.n_levels), values, axis))
        scalars = [v.name for v in schema.targets if v.n_levels == 1]
        if scalars:
            values = r2[[schema.column_index(name) for name in scalars]]
            parts.append(_figure(SURFACE, scalars, values, {}))
        return {"latitude": parts}


def _figure(title: str, y: Sequence[str | int], values: Array, y_axis: plot.Piece) -> Figure:
    """``values`` (len(y), N_BANDS)."""
    low = BAND * np.arange(N_BANDS) - 90
    bands = [f"{south:.0f} to {south + BAND:.0f}" for south in low]
    known = zip(y, values, strict=True)
    rows = [[name, *own.tolist()] for name, own in known if np.isfinite(own).any()]
    return Figure(
        title=title,
        reading="Brighter is better; the top of the air is above, the south pole on the left.",
        data=[plot.heat(low + BAND / 2, list(y), values, "R2", zmin=0, zmax=1)],
        table=Table(["level", *bands], rows),
        layout=plot.axes("latitude, degrees north", y_axis),
        height=400,
        wide=False,
    )
