"""What the report says of regimes and intervals, from tables that the stack leaves."""

from __future__ import annotations

import polars as pl

from ensemble.report.finished import Finished
from features.pages import plot
from features.pages.page import Figure, Parts, Table

LOWEST = -1.0  # of a target's R2 in a mean: one hopeless target must not hide the others
NEAR = 0.03  # a coverage within this of the wanted one is right


def regimes(run: Finished) -> Parts:
    """R2 of each kind of target in each regime, the chosen blend and its best member."""
    table = run.table(run.folder.errors)
    if table is None:
        return ["Left out: the run has no stack/errors.parquet."]
    if table["regime"].n_unique() < 2 and run.schema.n_grid_columns is None:
        return []  # regimes are of the atmosphere
    shown = [model for model in ("blend", *run.members[:1]) if (table["model"] == model).any()]
    means = table.group_by("model", "group", "kind", "regime", maintain_order=True).agg(
        targets=pl.len(), rows=pl.col("rows").max(), r2=pl.col("r2").clip(lower_bound=LOWEST).mean()
    )
    lead = (
        "Mean R2 of each variable's targets against the truth's mean inside the regime; an R2 below"
        f" {LOWEST:g} counts as {LOWEST:g}. stack/errors.parquet holds every target with RMSE, MAE"
        " and bias."
    )
    return [lead, *(_regimes(model, means.filter(pl.col("model") == model)) for model in shown)]


def _regimes(model: str, means: pl.DataFrame) -> Figure:
    wide = means.pivot("regime", index="group", values="r2", maintain_order=True)
    z = wide.drop("group").to_numpy()
    return Figure(
        title=f"R2 of {model} by regime",
        reading="Brighter is better; values below 0 have the colour of 0.",
        data=[plot.heat(wide.columns[1:], wide["group"].to_list(), z, "R2", zmin=0, zmax=1)],
        table=Table.of(means.select(["group", "kind", "regime", "targets", "rows", "r2"])),
        layout=plot.axes(plot.SLANTED, plot.REVERSED),
        height=180 + 24 * len(wide),
        wide=False,
    )


def intervals(run: Finished) -> Parts:
    """Coverage of the intervals on later blocks than those that calibrated them."""
    table = run.table(run.folder.uncertainty)
    if table is None:
        return ["Left out: the run has no stack/uncertainty.parquet."]
    wanted = float(table["confidence"][0])
    near = (table["coverage_later"] - wanted).abs() <= NEAR
    data = []
    groups = table.with_row_index("x").group_by("group", maintain_order=True)
    for place, ((group,), own) in enumerate(groups):
        look = {"size": 6, "color": plot.PALETTE[place % 8], "symbol": place % 6}
        x, y, text = (own[name].to_list() for name in ("x", "coverage_later", "target"))
        data.append(plot.trace("markers", x, y, name=group, text=text, marker=look))
    band = {
        "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": wanted - NEAR,
        "y1": wanted + NEAR, "fillcolor": "#56B4E9", "opacity": 0.2, "line": {"width": 0},
        "layer": "below",
    }  # fmt: skip
    y_axis = plot.axis("coverage", tickformat=".0%")
    figure = Figure(
        title=f"Coverage of {wanted:.0%} intervals on later {run.blocks_of}",
        reading=f"A dot for each target; in the blue band it lies within 3 points of {wanted:.0%}."
        " Above it, intervals are too wide; below, too narrow.",
        data=data,
        table=Table.of(table),
        layout=plot.axes("modelled targets, in order", y_axis) | {"shapes": [band]},
    )
    lead = (
        f"{near.sum()} of {len(table)} modelled targets are covered to within 3 points of"
        f" {wanted:.0%} on blocks that played no part in the calibration."
    )
    return [lead, figure]
