"""Sections on regimes and intervals, from tables that the stack leaves."""

from __future__ import annotations

import numpy as np
import polars as pl

from ensemble.report.finished import Finished
from features.pages.page import PALETTE, SEQUENTIAL, Figure, Section, Table

LOWEST = -1.0  # of a target's R2 in a mean: one hopeless target must not hide the others


def regimes_section(run: Finished) -> Section:
    """R2 of each kind of target in each regime, the chosen blend and its best member."""
    name, title = "regimes", "Errors by regime"
    table = run.table("stack/errors.parquet")
    if table is None:
        return Section(name, title, ["Left out: the run has no stack/errors.parquet."])
    shown = [model for model in ("blend", *run.members[:1]) if (table["model"] == model).any()]
    means = table.group_by("model", "group", "kind", "regime", maintain_order=True).agg(
        targets=pl.len(),
        rows=pl.col("rows").max(),
        r2=pl.col("r2").clip(lower_bound=LOWEST).mean(),
    )
    lead = (
        "Mean R2 of each variable's targets against the truth's mean inside the regime; an R2 below"
        f" {LOWEST:g} counts as {LOWEST:g}. stack/errors.parquet holds every target with RMSE, MAE"
        " and bias."
    )
    return Section(name, title, [lead, *(_regimes(model, means) for model in shown)])


def intervals_section(run: Finished) -> Section:
    """Coverage of the intervals on later blocks than those that calibrated them."""
    name, title = "intervals", "Intervals"
    table = run.table("stack/uncertainty.parquet")
    if table is None:
        return Section(name, title, ["Left out: the run has no stack/uncertainty.parquet."])
    wanted = float(table["level"][0])
    x = np.arange(len(table))
    near = (table["coverage_later"] - wanted).abs() <= 0.03
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": group,
            "x": x[here],
            "y": table["coverage_later"].to_numpy()[here],
            "text": table["target"].to_numpy()[here].tolist(),
            "marker": {"size": 6, "color": PALETTE[place % 8], "symbol": place % 6},
        }
        for place, group in enumerate(table["group"].unique(maintain_order=True))
        if len(here := np.flatnonzero((table["group"] == group).to_numpy()))
    ]
    band = {
        "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": wanted - 0.03,
        "y1": wanted + 0.03, "fillcolor": "#56B4E9", "opacity": 0.2, "line": {"width": 0},
        "layer": "below",
    }  # fmt: skip
    figure = Figure(
        title=f"Coverage of {wanted:.0%} intervals on later blocks of time",
        reading=f"A dot for each target; in the blue band it lies within 3 points of {wanted:.0%}."
        " Above it, intervals are too wide; below, too narrow.",
        data=data,
        table=Table.of(table),
        layout={
            "xaxis": {"title": {"text": "modelled targets, in order"}},
            "yaxis": {"title": {"text": "coverage"}, "tickformat": ".0%"},
            "shapes": [band],
        },
    )
    lead = (
        f"{near.sum()} of {len(table)} modelled targets are covered to within 3 points of"
        f" {wanted:.0%} on blocks that played no part in the calibration."
    )
    return Section(name, title, [lead, figure])


def _regimes(model: str, means: pl.DataFrame) -> Figure:
    own = means.filter(pl.col("model") == model)
    regimes = own.unique("regime", maintain_order=True)["regime"].to_list()
    wide = own.pivot("regime", index="group", values="r2", maintain_order=True)
    heat = {
        "type": "heatmap",
        "x": regimes,
        "y": wide["group"].to_list(),
        "z": wide.select(regimes).to_numpy(),
        "zmin": 0,
        "zmax": 1,
        "colorscale": SEQUENTIAL,
        "colorbar": {"title": {"text": "R2"}},
    }
    rows = own.select("group", "kind", "regime", "targets", "rows", "r2")
    return Figure(
        title=f"R2 of {model} by regime",
        reading="Brighter is better; values below 0 have the colour of 0.",
        data=[heat],
        table=Table.of(rows),
        layout={"yaxis": {"autorange": "reversed"}, "xaxis": {"tickangle": -45}},
        height=180 + 24 * len(wide),
        wide=False,
    )
