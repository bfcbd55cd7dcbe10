"""Which way a file's levels run: from the top of the atmosphere down, or from the ground up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from features.core.errors import ClimstackError
from features.core.types import Array
from features.sources.netcdf_file import Content, Wanted
from features.sources.units import conversion

HUMIDITY, OZONE, PRESSURE = "state_q0001", "pbuf_ozone", "state_pmid"
CLEAR = 10.0  # times: on ClimSim's rows humidity grows 3000 times downward, ozone 140 times upward


def turn_over(data: Any, content: Content, profiles: list[Wanted]) -> None:
    """Let all profiles run from the top down, with a note if they did not.

    Coordinates say it (``lev`` by its unit and ``positive``, ``hyam`` with ``hybm``, the pressure
    of the levels), else column means where they are clear: humidity grows downward, ozone upward.
    Where nothing says it, levels run from the top down, as ClimSim's do.

    Raises:
        ClimstackError: a coordinate neither rises nor falls, or two witnesses disagree.
    """
    if not profiles:
        return
    like = profiles[0]
    says = _coordinates(data, content, like)
    says |= _values(content, [PRESSURE, HUMIDITY, OZONE])
    if not says:
        rest = [name for name in (PRESSURE, HUMIDITY, OZONE) if name in data.variables]
        more = Content(path=content.path)
        more.read(data, [replace(like, name=name, unit=None) for name in rest])
        says = _values(more, rest)
    up = [witness for witness, is_up in says.items() if is_up]
    down = [witness for witness, is_up in says.items() if not is_up]
    if up and down:
        raise ClimstackError(
            f"{content.path}: by {up[0]} its levels run from the ground up, by {down[0]} from the"
            " top down: put one right"
        )
    if up:
        for name in {each.name for each in profiles}:
            content.values[name] = content.values[name][::-1]
        content.notes.append(f"levels run from the ground up by {up[0]} and were turned over")


def rises(where: str, values: Array) -> bool:
    """Whether a coordinate rises.

    Raises:
        ClimstackError: it neither rises nor falls from one value to the next.
    """
    steps = np.diff(values)
    if not (steps > 0).all() and not (steps < 0).all():
        raise ClimstackError(
            f"{where} neither rises nor falls from level to level, so it says no order of levels:"
            " put it right"
        )
    return bool(steps[0] > 0)


def _coordinates(data: Any, content: Content, like: Wanted) -> dict[str, bool]:
    """By witness, whether it says that levels run from the ground up."""
    path, says = content.path, {}
    held = Content(path=path)

    def read(name: str) -> Array:
        own = Wanted(name=name, unit=None, axes=("level",), lengths=like.lengths)
        held.read(data, [own])
        return held.values[name]

    for name in sorted(content.level_dimensions | {"lev"}):
        if name in data.variables:
            is_rising = rises(f"{path}: variable '{name}'", read(name))
            grows_down = _grows_down(f"{path}: variable '{name}'", data.variables[name])
            if grows_down is not None:
                says[name] = is_rising != grows_down
    if "hyam" in data.variables and "hybm" in data.variables:
        a, b = read("hyam"), read("hybm")
        a = a / 1e5 if np.abs(a).max() > 100 else a  # some write pascals
        says["hyam and hybm"] = not rises(f"{path}: hyam + hybm", a + b)
    return says


def _grows_down(where: str, coordinate: Any) -> bool | None:
    """Whether a vertical coordinate grows downward, as pressures do; None where nothing says it."""
    units, positive = (str(getattr(coordinate, name, "")).strip() for name in ("units", "positive"))
    known = {"": None, "down": True, "up": False}
    if positive.lower() not in known:
        raise ClimstackError(f"{where} has positive = '{positive[:20]}', expected up or down")
    says = known[positive.lower()]
    if _is(units, "Pa"):
        if says is False:
            raise ClimstackError(
                f"{where} is a pressure that grows upward by its attribute positive: put it right"
            )
        return True
    return False if says is None and _is(units, "m") else says


def _is(unit: str, like: str) -> bool:
    try:
        conversion(unit, like)
    except ClimstackError:
        return False
    return True


def _values(content: Content, names: list[str]) -> dict[str, bool]:
    """As of coordinates, from column means of fields that always lie one way."""
    says = {}
    for name in names:
        if name not in content.values:
            continue
        means = content.values[name].mean(1)
        quarter = max(len(means) // 4, 1)
        first, last = means[:quarter].mean(), means[len(means) - quarter :].mean()
        if first > 0 and last > 0 and max(first, last) > CLEAR * min(first, last):
            says[name] = bool(first < last) == (name == OZONE)
    return says
