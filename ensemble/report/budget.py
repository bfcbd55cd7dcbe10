"""Energy and water of whole columns of air, in the truth and in the prediction, W/m2."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ensemble.evaluation.held_out import Block
from ensemble.report.distributions import Bins
from ensemble.report.finished import Finished
from features.climate import physics
from features.core.metrics import Deviation, r2_from_sums
from features.core.types import Array
from features.pages import plot
from features.pages.page import Figure, Parts, Table
from features.schemas.schema import Schema

INPUTS = ("state_ps", "state_u", "state_v")
PROFILES = ("ptend_t", "ptend_q0001", "ptend_q0002", "ptend_q0003", "ptend_u", "ptend_v")
RAIN = "cam_out_PRECC"
NEEDED = (*INPUTS, *PROFILES, RAIN)
TERMS = {
    "heating of the air": "cp times the temperature tendency",
    "water vapour": "Lv times the vapour tendency",
    "cloud liquid": "Lv times the cloud liquid tendency",
    "cloud ice": "Lv times the cloud ice tendency",
    "precipitation": f"Lv times {RAIN}",
    "water gained and precipitation": "sum of the four above: 0 where what falls is what the air"
    " has lost",
    "moist energy": "cp T + Lv vapour - Lf ice: no change of phase can change it",
    "energy of motion": "wind times its tendency",
}
BINS = Bins(121, 0.1, 5000.0)  # W/m2: even steps up to 10, ratios further out
TICKS = (-1000.0, -100.0, -10.0, 0.0, 10.0, 100.0, 1000.0)


def missing(schema: Schema, levels: physics.HybridLevels | None) -> str | None:
    """Why a schema has no budget, "" where it has no grid of air; None when it has."""
    known = {variable.name: variable.n_levels for variable in schema.variables}
    lacking = [name for name in NEEDED if name not in known]
    if len(lacking) == len(NEEDED) and schema.n_grid_columns is None:
        return ""
    if lacking:
        return f"Left out: the schema {schema.name} lacks {', '.join(lacking)}."
    if levels is None or any(known[name] != physics.N_LEVELS for name in PROFILES):
        return f"Left out: the mass of the levels is known for {physics.N_LEVELS} levels only."
    return None


def terms(
    schema: Schema, inputs: Array, targets: Array, levels: physics.HybridLevels | None
) -> Array:
    """Column-integrated budget terms in the order of TERMS, (len(TERMS), n), W/m2.

    Each tendency is summed over levels with their mass of air dp/g. Water counts as the heat that
    its evaporation takes, so that it can stand beside heat.

    Args:
        schema: with the variables in ``NEEDED``.
        inputs: (n, n_inputs).
        targets: true or predicted, (n, n_targets).
        levels: hybrid coefficients; None takes ClimSim's.
    """
    state = {name: inputs[:, schema.slice_of(name)] for name in INPUTS}
    mass = physics.layer_mass(state["state_ps"][:, 0], levels)
    tendency = {name: targets[:, schema.slice_of(name)] for name in PROFILES}
    latent = physics.LATENT_HEAT_VAPOUR
    heating = physics.HEAT_CAPACITY * physics.column_integral(tendency["ptend_t"], mass)
    vapour, liquid, ice = (
        latent * physics.column_integral(tendency[f"ptend_q000{kind}"], mass) for kind in (1, 2, 3)
    )
    rain = latent * physics.WATER_DENSITY * targets[:, schema.column_index(RAIN)]
    water = vapour + liquid + ice + rain
    energy = heating + vapour - ice * (physics.LATENT_HEAT_FUSION / latent)
    work = state["state_u"] * tendency["ptend_u"] + state["state_v"] * tendency["ptend_v"]
    motion = physics.column_integral(work, mass)
    return np.stack([heating, vapour, liquid, ice, rain, water, energy, motion])


class Budget:
    """Sums and histograms of each term in truth and prediction."""

    def __init__(self, run: Finished) -> None:
        self.schema, self.levels = run.schema, run.levels
        n = len(TERMS)
        self.truth, self.predicted = Deviation.empty(n), Deviation.empty(n)
        self.squared_error = np.zeros(n)
        self.counts = np.zeros((2, n, BINS.number), dtype=np.int64)

    def add(self, block: Block) -> None:
        """Add a block's rows."""
        both = [
            terms(self.schema, block.inputs, values, self.levels)
            for values in (block.truth, block.outputs)
        ]
        self.squared_error += ((both[1] - both[0]) ** 2).sum(1)
        for i, (values, sums) in enumerate(zip(both, (self.truth, self.predicted), strict=True)):
            sums.add(values.T)
            for j, own in enumerate(values):
                self.counts[i, j] += np.bincount(BINS.place(own), minlength=BINS.number)

    def table(self) -> Table:
        """Each term's means, bias, root mean squared error and R2."""
        true, predicted, rows = self.truth.mean, self.predicted.mean, self.truth.rows
        columns = {
            "term": list(TERMS),
            "what it is": list(TERMS.values()),
            "true mean": true,
            "predicted mean": predicted,
            "bias": predicted - true,
            "true std": np.sqrt(self.truth.squared / rows),
            "RMSE": np.sqrt(self.squared_error / rows),
            "R2": r2_from_sums(self.squared_error, self.truth.squared),
        }
        caption = "Column-integrated tendencies, W/m2, over all held-out rows"
        return Table.of(pl.DataFrame(columns), caption)

    def parts(self) -> dict[str, Parts]:
        """The table and the distribution of each term."""
        lead = (
            "No model was told about these sums, so they show whether its levels fit together."
            " Rows are not weighted by the area of their place on the globe."
        )
        figures = [_distribution(name, self.counts[:, i]) for i, name in enumerate(TERMS)]
        return {"budget": [lead, self.table(), *figures]}


def _distribution(name: str, counts: NDArray[np.int64]) -> Figure:
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    used = np.flatnonzero(counts.any(0))
    show = slice(max(used[0] - 1, 0), used[-1] + 2)
    x, (true, predicted) = BINS.middles[show], share[:, show]
    dashed = plot.stroke(1, width=2) | {"dash": "dash"}
    columns = [BINS.edges[used], BINS.edges[used + 1], *counts[:, used]]
    return Figure(
        title=name,
        reading="Share of rows in each bin; the two lines should lie on each other.",
        data=[
            plot.trace("lines", x, true, name="true", line=plot.stroke(0, width=2)),
            plot.trace("lines", x, predicted, name="predicted", line=dashed),
        ],
        table=Table.of_columns(["from, W/m2", "to", "true", "predicted"], columns),
        layout=plot.axes(BINS.axis("W/m2", TICKS), plot.axis("share of rows", rangemode="tozero")),
        height=300,
        wide=False,
    )
