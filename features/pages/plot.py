"""Pieces of figures in plotly's JSON form: colours, traces, axes and a menu, as dictionaries.

Each takes further keys of plotly's as they are. :class:`features.pages.page.Figure` holds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from features.core.types import Array

Piece = dict[str, Any]

# Okabe and Ito (2008), "Color Universal Design": told apart by colour-blind eyes.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")
DASHES = ("solid", "dash", "dot", "dashdot")
SEQUENTIAL = "Cividis"  # of heat maps, unless they say otherwise
DIVERGING = [[0.0, "#B2500A"], [0.25, "#E9B48A"], [0.5, "#F7F7F7"], [0.75, "#8DBBDD"],
             [1.0, "#0A5A94"]]  # fmt: skip
REVERSED = {"autorange": "reversed"}  # an axis whose first value stands on top
SLANTED = {"tickangle": -45}  # an axis of long names
POWERS = {"exponentformat": "power"}


def stroke(place: int, colours: Sequence[str] = PALETTE, **keys: Any) -> Piece:
    """The look of the line at a place: all colours in turn, solid first and then dashed.

    >>> stroke(1), stroke(9, width=2)
    ({'color': '#D55E00', 'dash': 'solid'}, {'color': '#D55E00', 'dash': 'dash', 'width': 2})
    """
    rounds, colour = divmod(place, len(colours))
    return {"color": colours[colour], "dash": DASHES[rounds % len(DASHES)], **keys}


def trace(mode: str, x: Any, y: Any, **keys: Any) -> Piece:
    """Points as ``lines``, ``markers`` or ``lines+markers``."""
    return {"type": "scatter", "mode": mode, "x": x, "y": y, **keys}


def bars(x: Any, y: Any, **keys: Any) -> Piece:
    """Bars in the first colour."""
    return {"type": "bar", "x": x, "y": y, "marker": {"color": PALETTE[0]}, **keys}


def heat(x: Any, y: Any, z: Array, bar: str = "", **keys: Any) -> Piece:
    """A matrix by colour, (len(y), len(x)), with a title on its colour bar."""
    title = {"colorbar": {"title": {"text": bar}}} if bar else {}
    return {"type": "heatmap", "x": x, "y": y, "z": z, **title, **keys}


def axis(title: str = "", **keys: Any) -> Piece:
    """An axis with a title."""
    return {"title": {"text": title}, **keys}


def log_axis(title: str = "", **keys: Any) -> Piece:
    """A logarithmic axis that names powers of ten."""
    return axis(title, type="log", **POWERS, **keys)


def stretched_axis(title: str, ticks: Sequence[float], scale: float = 1.0) -> Piece:
    """An axis on the scale of asinh(scale * value), named by some values."""
    at, names = np.arcsinh(scale * np.array(ticks)), [f"{tick:g}" for tick in ticks]
    return axis(title, tickvals=at, ticktext=names)


def axes(x: str | Piece, y: str | Piece) -> Piece:
    """The layout of two axes; a string is a title."""
    both = {"xaxis": x, "yaxis": y}
    return {name: axis(of) if isinstance(of, str) else of for name, of in both.items()}


def menu(options: Mapping[str, Piece]) -> Piece:
    """The layout of a menu above the picture: what each choice changes in the traces, by name."""
    buttons = [{"label": k, "method": "restyle", "args": [v]} for k, v in options.items()]
    place = {"x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "pad": {"b": 6}}
    return {
        "updatemenus": [{"buttons": buttons, "direction": "down", "showactive": True, **place}],
        "margin": {"l": 56, "r": 16, "t": 64, "b": 44},
    }
