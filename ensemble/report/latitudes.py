"""R2 by latitude and level, where the grid is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble.report.finished import SURFACE, Block, Finished
from features.core.metrics import r2_from_sums
from features.core.types import Array
from features.pages.page import SEQUENTIAL, Cell, Figure, Section, Table

BAND = 10.0  # degrees
N_BANDS = 18
ID, TITLE = "latitude", "R2 by latitude and level"


class Latitudes:
    """Sums by band of latitude and target, from which R2 inside each band comes."""

    def __init__(self, run: Finished, latitude: Array) -> None:
        self.run = run
        band_of_column = np.clip(((latitude + 90) / BAND).astype(np.intp), 0, N_BANDS - 1)
        self._band = band_of_column[run.store.column]
        n_targets = len(run.schema.target_columns)
        self._centre = np.zeros(n_targets)  # near the mean, so that squares don't cancel
        self._centre[run.graph.targets] = run.graph.mean
        self.rows = np.zeros(N_BANDS)
        self.squared_error, self.first, self.second = np.zeros((3, N_BANDS, n_targets))

    def add(self, block: Block) -> None:
        """Add a block's rows."""
        member = (self._band[block.rows] == np.arange(N_BANDS)[:, None]).astype(
            np.float64
        )  # (bands, n)
        away = block.truth - self._centre
        self.rows += member.sum(1)
        self.squared_error += member @ (block.predicted - block.truth) ** 2
        self.first += member @ away
        self.second += member @ away**2

    @property
    def r2(self) -> Array:
        """R2 against each band's own mean, (N_BANDS, n_targets); NaN without rows."""
        rows = np.maximum(self.rows, 1)[:, None]
        deviation = np.maximum(self.second - self.first**2 / rows, 0.0)
        r2 = r2_from_sums(self.squared_error, deviation)
        return np.where(self.rows[:, None] > 1, r2, np.nan)

    def section(self) -> Section:
        """A picture for each profile, and one for all scalars."""
        r2, schema = self.r2, self.run.schema
        bands = [f"{BAND * i - 90:.0f} to {BAND * (i + 1) - 90:.0f}" for i in range(N_BANDS)]
        middle: Array = BAND * np.arange(N_BANDS, dtype=np.float64) - 90 + BAND / 2
        figures = []
        for variable in [v for v in schema.targets if v.n_levels > max(v.unscored_levels, 1)]:
            here = schema.slice_of(variable.name)
            values = np.where(schema.weights[here] > 0, r2[:, here], np.nan).T
            levels = range(variable.n_levels)
            axis = self.run.level_axis(variable.unscored_levels)
            figures.append(_figure(variable.name, middle, levels, values, axis, bands))
        scalars = [v for v in schema.targets if v.n_levels == 1]
        if scalars:
            names = [v.name for v in scalars]
            values = r2[:, [schema.column_index(name) for name in names]].T
            figures.append(_figure(SURFACE, middle, names, values, {}, bands))
        lead = (
            "R2 of what the submission uses, against the mean of each band of latitude, so that"
            " knowing the climate alone scores 0. Values below 0 have the colour of 0."
        )
        return Section(ID, TITLE, [lead, *figures])


def _figure(
    title: str,
    x: Array,
    y: Sequence[str | int],
    values: Array,
    axis: dict[str, object],
    bands: list[str],
) -> Figure:
    heat = {
        "type": "heatmap",
        "x": x,
        "y": list(y),
        "z": values,
        "zmin": 0,
        "zmax": 1,
        "colorscale": SEQUENTIAL,
        "colorbar": {"title": {"text": "R2"}},
    }
    rows: list[list[Cell]] = [
        [name, *own.tolist()] for name, own in zip(y, values, strict=True) if np.isfinite(own).any()
    ]
    return Figure(
        title=title,
        reading="Brighter is better; the top of the air is above, the south pole on the left.",
        data=[heat],
        table=Table(["level", *bands], rows),
        layout={"xaxis": {"title": {"text": "latitude, degrees north"}}, "yaxis": axis},
        height=400,
        wide=False,
    )
