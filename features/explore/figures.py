"""The pictures of ``climstack data explore``: each takes frames of an exploration."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from features.explore.column_facts import QUANTILES, TAIL_EDGES
from features.pages import plot
from features.pages.page import Figure, Table
from features.schemas.variable import Variable

LINES = {
    "median": ["q0.5"],
    "25 % and 75 %": ["q0.25", "q0.75"],
    "5 % and 95 %": ["q0.05", "q0.95"],
    "1 % and 99 %": ["q0.01", "q0.99"],
}
FEW_TIMESTEPS = 200  # series of fewer show their points
SD_TICKS = (-300, -100, -30, -10, -3, 0, 3, 10, 30, 100, 300)
THIN = {"thickness": 12}  # colour bars


def profile(variable: Variable, columns: pl.DataFrame, of_air: bool = True) -> Figure:
    """Quantiles of a profile, from facts on its columns: level 0 above, in air the model's top."""
    log = variable.encoding == "log"
    levels = columns["level"].to_list()
    data = []
    for place, (name, quantiles) in enumerate(LINES.items()):
        line = {"color": plot.PALETTE[0], "width": 1.5 if place else 3, "dash": plot.DASHES[place]}
        for quantile in quantiles:
            x = columns[quantile].to_numpy()
            x = np.where(x > 0, x, np.nan) if log else x
            named = {"name": name, "legendgroup": name, "showlegend": quantile == quantiles[0]}
            data.append(plot.trace("lines", x, levels, line=line, **named))
    shown = ["level", "min", *(f"q{q}" for q in QUANTILES[1:-1]), "max", "mean", "std"]
    x_axis = _axis(variable) | {"type": "log" if log else "linear"}
    return Figure(
        title=_named(variable),
        reading=(
            "Level 0 is the model top, the last one lies at the ground."
            if of_air
            else "Level 0 is above."
        )
        + (" Logarithmic: where a quantile is 0 its line ends." if log else ""),
        data=data,
        table=Table.of(columns.select(shown)),
        layout=plot.axes(x_axis, plot.axis("level", **plot.REVERSED)),
        wide=False,
    )


def tails(title: str, tail: pl.DataFrame) -> Figure:
    """How often values (group, low, high, share) lie how far from their column's mean."""
    data = []
    for place, ((name,), part) in enumerate(tail.group_by("group", maintain_order=True)):
        low, high, share = (part[column].to_numpy() for column in ("low", "high", "share"))
        middle = (low + high) / 2
        y = np.where(share > 0, share / (high - low), np.nan)
        look = {"line": plot.stroke(place, width=1.5), "marker": {"size": 3}}
        hover = {"customdata": middle, "hovertemplate": "%{customdata:.3g} sd: %{y:.2g} per sd"}
        x = np.arcsinh(middle)
        data.append(plot.trace("lines+markers", x, y, name=name, **look, **hover))
    middle = (TAIL_EDGES[1:] + TAIL_EDGES[:-1]) / 2
    normal = np.where(np.abs(middle) < 6, np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi), np.nan)
    dotted = {"color": "#000000", "width": 1, "dash": "dot"}
    data.append(plot.trace("lines", np.arcsinh(middle), normal, line=dotted, name="normal"))
    x_axis = plot.stretched_axis("distance from the mean, sd", SD_TICKS)
    return Figure(
        title=title,
        reading="Density of the distance from the column's mean, in standard deviations (sd), over"
        " all levels of a variable; dotted: the normal distribution. A line that reaches far out"
        " says that a squared error would be ruled by few rows.",
        data=data,
        table=Table.of(tail.filter(pl.col("share") > 0).select("group", "low", "high", "share")),
        layout=plot.axes(x_axis, plot.log_axis("share per sd", dtick=2)),
        height=480,
    )


def histogram(variable: Variable, bins: pl.DataFrame) -> Figure:
    """Values of a scalar, share of rows on a logarithmic scale."""
    low, high, share = (bins[name].to_numpy() for name in ("low", "high", "share"))
    y = np.where(share > 0, share, np.nan)
    layout = plot.axes(_axis(variable), {"type": "log", "dtick": 1, **plot.POWERS})
    return Figure(
        title=_named(variable),
        reading="Share of rows in each of 60 bins, logarithmic, so that rare values show.",
        data=[plot.bars((low + high) / 2, y, width=high - low)],
        table=Table.of(bins.select("low", "high", "share")),
        layout=layout | {"bargap": 0},
        height=260,
        wide=False,
    )


def map_by_column(means: pl.DataFrame) -> Figure:
    """Means by ``column``, at ``lat`` and ``lon`` if known; a menu chooses which of the others."""
    names = [name for name in means.columns if name not in ("column", "lat", "lon")]
    column, first = means["column"].to_numpy(), means[names[0]].to_numpy()
    if "lat" in means.columns:
        shown, place = "marker.color", "at its place."
        look = {"color": first, "colorscale": plot.SEQUENTIAL, "size": 9, "symbol": "square"}
        hover = {"text": column, "hovertemplate": "column %{text}: %{marker.color:.4g}"}
        x, y, look["colorbar"] = means["lon"].to_numpy(), means["lat"].to_numpy(), THIN
        layout = plot.axes(
            plot.axis("longitude, degrees east", range=[-4, 364]),
            plot.axis("latitude, degrees north", range=[-94, 94]),
        )
    else:
        shown, place = "y", (
            "by its number: the store does not know the columns' places (give the grid file"
            " with --grid for a map)."
        )  # fmt: skip
        x, y, look, hover = column, first, {"size": 4}, {}
        layout = plot.axes("grid column", plot.POWERS)
    return Figure(
        title="Mean by grid column",
        reading=f"Mean over the sampled timesteps in each column of the grid, {place} Choose a"
        " variable in the menu.",
        data=[plot.trace("markers", x, y, marker=look, **hover)],
        table=Table.of(means),
        layout=layout | plot.menu({name: {shown: [means[name].to_numpy()]} for name in names}),
        height=460,
    )


def series(means: pl.DataFrame, weighted: bool) -> Figure:
    """Means over the grid by ``time``; a menu chooses which of the others is shown."""
    mode = "lines+markers" if len(means) < FEW_TIMESTEPS else "lines"
    by = "weighted by area" if weighted else "each column counting the same"
    time, *values = means
    choices = {each.name: {"y": [each.to_numpy()]} for each in values}
    look = {"marker": {"size": 4}, "line": {"width": 1.5, "color": plot.PALETTE[0]}}
    return Figure(
        title="Global mean by timestep",
        reading=f"Mean over the grid, {by}, at the sampled timesteps. A jump or a trend says that"
        " validation blocks differ from what a model was trained on. Choose a variable in the"
        " menu.",
        data=[plot.trace(mode, time.to_numpy(), values[0].to_numpy(), **look)],
        table=Table.of(means),
        layout=plot.axes("timestep", plot.POWERS) | plot.menu(choices),
        height=460,
    )


def heat_map(frame: pl.DataFrame, *, top: float, **parts: Any) -> Figure:
    """A fact by colour, from 0 to ``top``; ``frame``: column and row of the picture, and fact.

    The table holds the picture's numbers unless ``parts`` has another.
    """
    x, y, fact = frame.columns
    wide = frame.pivot(x, index=y, values=fact, maintain_order=True)
    names, columns = wide[y].to_list(), frame[x].unique(maintain_order=True).to_list()
    hover = {"hovertemplate": "%{y}, %{x}: %{z:.3f}<extra></extra>"}
    look: plot.Piece = {"colorbar": THIN, "xgap": 1 if len(columns) < 30 else 0, "ygap": 1, **hover}
    x_axis = plot.axis("level" if x == "level" else "", showgrid=False, zeroline=False)
    y_axis = {"type": "category", "showgrid": False, "tickfont": {"size": 11}, "dtick": 1}
    return Figure(
        data=[plot.heat(columns, names, wide.drop(y).to_numpy(), zmin=0, zmax=top, **look)],
        layout=plot.axes(x_axis, y_axis | plot.REVERSED),
        height=max(260, 110 + 19 * len(names)),
        **{"table": Table.of(wide.rename({y: "variable"}))} | parts,
    )


def _unit(variable: Variable) -> str:
    return "" if variable.unit == "1" else variable.unit


def _named(variable: Variable) -> str:
    return f"{variable.name} ({variable.unit})" if _unit(variable) else variable.name


def _axis(variable: Variable) -> plot.Piece:
    return plot.axis(_unit(variable), nticks=6, **plot.POWERS)
