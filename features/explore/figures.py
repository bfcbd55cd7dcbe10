"""The pictures of ``climstack data explore``: each takes frames of an exploration."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from features.core.types import Array
from features.pages.page import DASHES, PALETTE, SEQUENTIAL, Figure, Table
from features.schemas.schema import Variable

PAIRS = (
    ("0.25", "0.75", "25 % and 75 %"),
    ("0.05", "0.95", "5 % and 95 %"),
    ("0.01", "0.99", "1 % and 99 %"),
)
MAP_HEIGHT = 460
FEW_TIMESTEPS = 200  # series of fewer show their points


def profile(variable: Variable, columns: pl.DataFrame) -> Figure:
    """Quantiles of a variable at each of its levels, the model top above.

    Args:
        variable: a profile.
        columns: facts on its columns, in the order of the levels.
    """
    levels = columns["level"].to_list()
    log = variable.encoding == "log"

    def line(quantile: str, name: str, place: int, legend: bool) -> dict[str, Any]:
        values = columns[f"q{quantile}"].to_numpy()
        style = {"color": PALETTE[0], "width": 3 if place == 0 else 1.5, "dash": DASHES[place]}
        return {
            "x": np.where(values > 0, values, np.nan) if log else values,
            "y": levels,
            "mode": "lines",
            "line": style,
            "name": name,
            "legendgroup": name,
            "showlegend": legend,
        }

    data = [line("0.5", "median", 0, True)]
    for place, (low, high, name) in enumerate(PAIRS):
        data += [line(low, name, place + 1, True), line(high, name, place + 1, False)]
    reading = "Level 0 is the model top, the last one lies at the ground."
    if log:
        reading += " Logarithmic: where a quantile is 0 its line ends."
    shown = [f"q{q}" for q in ("0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99")]
    table = columns.select(["level", "min", *shown, "max", "mean", "std"])
    return Figure(
        title=_named(variable),
        reading=reading,
        data=data,
        table=Table.of(table),
        layout={
            "xaxis": {
                "title": {"text": _unit(variable)},
                "type": "log" if log else "linear",
                "exponentformat": "power",
                "nticks": 6,
            },
            "yaxis": {"title": {"text": "level"}, "autorange": "reversed"},
        },
        wide=False,
    )


def tails(title: str, tail: pl.DataFrame) -> Figure:
    """How often values lie how far from their column's mean, one line per variable.

    Args:
        title: of the picture.
        tail: group, low, high, share.
        columns: facts on the columns of these groups, for the table.
    """
    data = []
    groups = tail["group"].unique(maintain_order=True).to_list()
    for place, group in enumerate(groups):
        part = tail.filter(pl.col("group") == group)
        low, high, share = (part[name].to_numpy() for name in ("low", "high", "share"))
        density = np.where(share > 0, share / (high - low), np.nan)
        data.append(
            {
                "x": np.arcsinh((low + high) / 2),
                "y": density,
                "customdata": (low + high) / 2,
                "hovertemplate": "%{customdata:.3g} sd: %{y:.2g} per sd",
                "mode": "lines+markers",
                "marker": {"size": 3},
                "line": _style(place),
                "name": group,
            }
        )
    middle = (tail["low"][:81].to_numpy() + tail["high"][:81].to_numpy()) / 2
    data.append(
        {
            "x": np.arcsinh(middle),
            "y": np.where(
                np.abs(middle) < 6, np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi), np.nan
            ),
            "mode": "lines",
            "line": {"color": "#000000", "width": 1, "dash": "dot"},
            "name": "normal",
        }
    )
    ticks = np.array([-300, -100, -30, -10, -3, 0, 3, 10, 30, 100, 300])
    return Figure(
        title=title,
        reading="Density of the distance from the column's mean, in standard deviations (sd), over"
        " all levels of a variable; dotted: the normal distribution. A line that reaches far out"
        " says that a squared error would be ruled by few rows.",
        data=data,
        table=Table.of(tail.filter(pl.col("share") > 0).select("group", "low", "high", "share")),
        layout={
            "xaxis": {
                "title": {"text": "distance from the mean, sd"},
                "tickvals": np.arcsinh(ticks),
                "ticktext": [str(tick) for tick in ticks],
            },
            "yaxis": {
                "title": {"text": "share per sd"},
                "type": "log",
                "exponentformat": "power",
                "dtick": 2,
            },
        },
        height=480,
    )


def histogram(variable: Variable, bins: pl.DataFrame) -> Figure:
    """Values of a scalar, share of rows on a logarithmic scale."""
    low, high = (bins[name].to_numpy() for name in ("low", "high"))
    share = bins["share"].to_numpy()
    return Figure(
        title=_named(variable),
        reading="Share of rows in each of 60 bins, logarithmic, so that rare values show.",
        data=[{"type": "bar", "x": (low + high) / 2, "y": np.where(share > 0, share, np.nan),
          "width": high - low, "marker": {"color": PALETTE[0]}}],
        table=Table.of(bins.select("low", "high", "share")),
        layout={
            "xaxis": {"title": {"text": _unit(variable)}, "exponentformat": "power", "nticks": 6},
            "yaxis": {"type": "log", "exponentformat": "power", "dtick": 1},
            "bargap": 0,
        },
        height=260,
        wide=False,
    )  # fmt: skip


def map_by_column(means: pl.DataFrame, names: list[str]) -> Figure:
    """Mean over time of each grid column, a menu to choose what is shown.

    Args:
        means: ``column``, perhaps ``lat`` and ``lon``, and one column per name.
        names: of the menu.
    """
    known = "lat" in means.columns
    first = means[names[0]].to_numpy()
    if known:
        marker = {"color": first, "colorscale": SEQUENTIAL, "size": 9, "symbol": "square",
                  "colorbar": {"thickness": 12}}  # fmt: skip
        trace = {"x": means["lon"].to_numpy(), "y": means["lat"].to_numpy(), "marker": marker,
                 "text": means["column"].to_list(),
                 "hovertemplate": "column %{text}: %{marker.color:.4g}"}  # fmt: skip
        axes = {
            "xaxis": {"title": {"text": "longitude, degrees east"}, "range": [-4, 364]},
            "yaxis": {"title": {"text": "latitude, degrees north"}, "range": [-94, 94]},
        }
        reading = "Mean over the sampled timesteps in each column of the grid, at its place."
    else:
        trace = {"x": means["column"].to_numpy(), "y": first, "marker": {"size": 4}}
        axes = {"xaxis": {"title": {"text": "grid column"}}, "yaxis": {"exponentformat": "power"}}
        reading = (
            "Mean over the sampled timesteps in each column of the grid, by its number: the store"
            " does not know the columns' places (give the grid file with --grid for a map)."
        )
    target = "marker.color" if known else "y"
    options = [(name, {target: [means[name].to_numpy()]}) for name in names]
    return Figure(
        title="Mean by grid column",
        reading=reading + " Choose a variable in the menu.",
        data=[{"type": "scatter", "mode": "markers", "showlegend": False} | trace],
        table=Table.of(means),
        layout=axes | _menu(options),
        height=MAP_HEIGHT,
    )


def series(means: pl.DataFrame, names: list[str], weighted: bool) -> Figure:
    """Mean over the grid at each sampled timestep, a menu to choose what is shown."""
    mode = "lines+markers" if len(means) < FEW_TIMESTEPS else "lines"
    options = [(name, {"y": [means[name].to_numpy()]}) for name in names]
    by = "weighted by area" if weighted else "each column counting the same"
    return Figure(
        title="Global mean by timestep",
        reading=f"Mean over the grid, {by}, at the sampled timesteps. A jump or a trend says that"
        " validation blocks differ from what a model was trained on. Choose a variable in the"
        " menu.",
        data=[{"x": means["time"].to_numpy(), "y": means[names[0]].to_numpy(), "mode": mode,
          "marker": {"size": 4}, "line": {"width": 1.5, "color": PALETTE[0]}}],
        table=Table.of(means),
        layout={"xaxis": {"title": {"text": "timestep"}}, "yaxis": {"exponentformat": "power"}}
        | _menu(options),
        height=MAP_HEIGHT,
    )  # fmt: skip


def heat_map(z: Array, x: list[str] | range, y: list[str], *, top: float, **parts: Any) -> Figure:
    """A matrix by colour, from 0 to ``top``.

    Args:
        z: (len(y), len(x)).
        x: names of its columns, or levels.
        y: names of its rows.
        top: value of the brightest colour.
        **parts: title, reading and table of the figure.
    """
    gap = 1 if len(x) < 30 else 0
    axis = {"title": {"text": "level" if isinstance(x, range) else ""}}
    return Figure(
        data=[{"type": "heatmap", "x": list(x), "y": y, "z": z, "zmin": 0, "zmax": top,
               "colorscale": SEQUENTIAL, "colorbar": {"thickness": 12}, "xgap": gap, "ygap": 1,
               "hovertemplate": "%{y}, %{x}: %{z:.3f}<extra></extra>"}],
        layout={
            "xaxis": axis | {"showgrid": False, "zeroline": False},
            "yaxis": {"autorange": "reversed", "type": "category", "showgrid": False,
                      "tickfont": {"size": 11}, "dtick": 1},
        },
        height=max(260, 110 + 19 * len(y)),
        **parts,
    )  # fmt: skip


def level_map(
    variables: list[Variable], columns: pl.DataFrame, fact: str, *, top: float, **parts: Any
) -> Figure:
    """A fact on every level of some profiles by colour; ``columns`` has one row per column."""
    levels = range(max(v.n_levels for v in variables))
    z = np.full((len(variables), len(levels)), np.nan)
    for row, v in zip(z, variables, strict=True):
        row[: v.n_levels] = columns.filter(pl.col("group") == v.name)[fact].to_numpy()
    names = [v.name for v in variables]
    rows = [(name, *row) for name, row in zip(names, z.tolist(), strict=True)]
    table = Table(("variable", *map(str, levels)), rows)
    return heat_map(z, levels, names, top=top, table=table, **parts)


def _unit(variable: Variable) -> str:
    return "" if variable.unit == "1" else variable.unit


def _named(variable: Variable) -> str:
    return f"{variable.name} ({variable.unit})" if _unit(variable) else variable.name


def _style(place: int) -> dict[str, Any]:
    dash = DASHES[place // (len(PALETTE) - 1) % len(DASHES)]
    return {"color": PALETTE[place % len(PALETTE)], "width": 1.5, "dash": dash}


def _menu(options: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    buttons = [{"label": name, "method": "restyle", "args": [change]} for name, change in options]
    place = {"x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "pad": {"b": 6}}
    return {
        "updatemenus": [{"buttons": buttons, "direction": "down", "showactive": True} | place],
        "margin": {"l": 56, "r": 16, "t": 64, "b": 44},
    }
