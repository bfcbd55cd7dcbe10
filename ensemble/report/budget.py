"""Energy and water of whole columns of air, in the truth and in the prediction, W/m2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble.report.distributions import Bins
from ensemble.report.finished import Block, Finished
from features.climate.physics import (
    HEAT_CAPACITY,
    LATENT_HEAT_FUSION,
    LATENT_HEAT_VAPOUR,
    N_LEVELS,
    WATER_DENSITY,
    HybridLevels,
    column_integral,
    layer_mass,
)
from features.core.metrics import r2_from_sums
from features.core.types import Array
from features.pages.page import PALETTE, Cell, Figure, Section, Table
from features.schemas.schema import Schema

ID, TITLE = "budget", "Energy and water of the column"
INPUTS = ("state_ps", "state_u", "state_v")
PROFILES = ("ptend_t", "ptend_q0001", "ptend_q0002", "ptend_q0003", "ptend_u", "ptend_v")
RAIN = "cam_out_PRECC"
NEEDED = (*INPUTS, *PROFILES, RAIN)
HEATING, VAPOUR, LIQUID, ICE = "heating of the air", "water vapour", "cloud liquid", "cloud ice"
PRECIPITATION, WATER = "precipitation", "water gained and precipitation"
ENERGY, MOTION = "moist energy", "energy of motion"
TERMS = {
    HEATING: "cp times the temperature tendency",
    VAPOUR: "Lv times the vapour tendency",
    LIQUID: "Lv times the cloud liquid tendency",
    ICE: "Lv times the cloud ice tendency",
    PRECIPITATION: f"Lv times {RAIN}",
    WATER: "sum of the four above: 0 where what falls is what the air has lost",
    ENERGY: "cp T + Lv vapour - Lf ice: no change of phase can change it",
    MOTION: "wind times its tendency",
}
BINS = Bins(121, 0.1, 5000.0)  # W/m2: even steps up to 10, ratios further out
TICKS = (-1000.0, -100.0, -10.0, 0.0, 10.0, 100.0, 1000.0)


def missing(schema: Schema, levels: HybridLevels | None) -> str | None:
    """Why a schema has no budget; None when it has."""
    known = {variable.name: variable.n_levels for variable in schema.variables}
    lacking = [name for name in NEEDED if name not in known]
    if lacking:
        return f"Left out: the schema {schema.name} lacks {', '.join(lacking)}."
    if levels is None or any(known[name] != N_LEVELS for name in PROFILES):
        return f"Left out: the mass of the levels is known for {N_LEVELS} levels only."
    return None


def terms(schema: Schema, inputs: Array, targets: Array, levels: HybridLevels | None) -> Array:
    """Column-integrated budget terms, (len(TERMS), n), W/m2.

    Each tendency is summed over levels with their mass of air dp/g. Water counts as the heat that
    its evaporation takes, so that it can stand beside heat.

    Args:
        schema: with the variables in ``NEEDED``.
        inputs: (n, n_inputs).
        targets: true or predicted, (n, n_targets).
        levels: hybrid coefficients; None takes ClimSim's.
    """
    mass = layer_mass(inputs[:, schema.column_index("state_ps")], levels)
    wind = {axis: inputs[:, schema.slice_of(f"state_{axis}")] for axis in "uv"}
    tendency = {name: targets[:, schema.slice_of(name)] for name in PROFILES}
    heating = HEAT_CAPACITY * column_integral(tendency["ptend_t"], mass)
    water = [
        LATENT_HEAT_VAPOUR * column_integral(tendency[f"ptend_q000{kind}"], mass)
        for kind in (1, 2, 3)
    ]
    rain = LATENT_HEAT_VAPOUR * WATER_DENSITY * targets[:, schema.column_index(RAIN)]
    frozen = water[2] * (LATENT_HEAT_FUSION / LATENT_HEAT_VAPOUR)
    work = wind["u"] * tendency["ptend_u"] + wind["v"] * tendency["ptend_v"]
    found = {
        HEATING: heating,
        **dict(zip((VAPOUR, LIQUID, ICE), water, strict=True)),
        PRECIPITATION: rain,
        WATER: sum(water) + rain,
        ENERGY: heating + water[0] - frozen,
        MOTION: column_integral(work, mass),
    }
    return np.stack([found[name] for name in TERMS])


class Budget:
    """Sums and histograms of each term in truth and prediction."""

    def __init__(self, run: Finished) -> None:
        self.schema, self.levels = run.schema, run.levels
        n = len(TERMS)
        self.rows = 0
        self.first = np.zeros((2, n))  # of truth and prediction
        self.second = np.zeros(n)  # of the truth
        self.squared_error = np.zeros(n)
        self.counts = np.zeros((2, n, BINS.number), dtype=np.int64)

    def add(self, block: Block) -> None:
        """Add a block's rows."""
        both = [
            terms(self.schema, block.inputs, values, self.levels)
            for values in (block.truth, block.predicted)
        ]
        self.rows += len(block.rows)
        self.second += (both[0] ** 2).sum(1)
        self.squared_error += ((both[1] - both[0]) ** 2).sum(1)
        for i, values in enumerate(both):
            self.first[i] += values.sum(1)
            for j, own in enumerate(values):
                self.counts[i, j] += np.bincount(BINS.place(own), minlength=BINS.number)

    def table(self) -> Table:
        """Each term's means, bias, root mean squared error and R2."""
        mean = self.first / self.rows
        deviation = np.maximum(self.second - self.first[0] ** 2 / self.rows, 0.0)
        r2 = r2_from_sums(self.squared_error, deviation)
        rows: list[list[Cell]] = [
            [
                name,
                what,
                float(mean[0, i]),
                float(mean[1, i]),
                float(mean[1, i] - mean[0, i]),
                float(np.sqrt(deviation[i] / self.rows)),
                float(np.sqrt(self.squared_error[i] / self.rows)),
                float(r2[i]),
            ]
            for i, (name, what) in enumerate(TERMS.items())
        ]
        head = [
            "term", "what it is", "true mean", "predicted mean", "bias", "true std", "RMSE", "R2",
        ]  # fmt: skip
        return Table(head, rows, "Column-integrated tendencies, W/m2, over all held-out rows")

    def section(self) -> Section:
        """The table and the distribution of each term."""
        lead = (
            "No model was told about these sums, so they show whether its levels fit together."
            " Rows are not weighted by the area of their place on the globe."
        )
        figures = [_distribution(name, self.counts[:, i]) for i, name in enumerate(TERMS)]
        return Section(ID, TITLE, [lead, self.table(), *figures])


def _distribution(name: str, counts: NDArray[np.int64]) -> Figure:
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    used = np.flatnonzero(counts.any(0))
    show = slice(max(used[0] - 1, 0), used[-1] + 2)
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": which,
            "x": BINS.middles[show],
            "y": own[show],
            "line": {"color": PALETTE[place], "dash": ("solid", "dash")[place], "width": 2},
        }
        for place, (which, own) in enumerate(zip(("true", "predicted"), share, strict=True))
    ]
    edges = BINS.edges
    rows: list[list[Cell]] = [
        [float(edges[i]), float(edges[i + 1]), int(counts[0, i]), int(counts[1, i])] for i in used
    ]
    return Figure(
        title=name,
        reading="Share of rows in each bin; the two lines should lie on each other.",
        data=data,
        table=Table(["from, W/m2", "to", "true", "predicted"], rows),
        layout={
            "xaxis": BINS.axis("W/m2", TICKS),
            "yaxis": {"title": {"text": "share of rows"}, "rangemode": "tozero"},
        },
        height=300,
        wide=False,
    )
