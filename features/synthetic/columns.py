"""Simulated columns of air, one stored timestep after the other, in the schema's order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.climate import physics
from features.climate.physics import TIMESTEP
from features.core.errors import ClimstackError
from features.core.types import Array
from features.schemas.known import load_schema
from features.schemas.schema import Schema
from features.sources.grid import Grid
from features.synthetic import processes, turbulence
from features.synthetic.radiation import longwave, shortwave
from features.synthetic.state import Air, Columns, Weather
from features.synthetic.waves import lattice

STRIDE = 7  # physics steps between stored timesteps: 140 minutes
PROFILES = {
    "t": "t", "q0001": "qv", "q0002": "ql", "q0003": "qi", "u": "u", "v": "v",
}  # fmt: skip
SPREAD = {"convection": 0.4, "mixing": 0.3, "growth": 0.3}  # of the logarithm of random factors


@dataclass(frozen=True, kw_only=True)
class SyntheticColumns:
    """Simulated rows, time-major: all columns of a timestep, then the next timestep.

    Attributes:
        inputs: (n, 556), in schema order.
        targets: (n, 368), in schema order.
        time: number of the stored timestep of each row, (n,).
        column: number of the grid column of each row, (n,).
        latitude: of the grid columns, rad, (n_columns,).
        longitude: of the grid columns, rad, (n_columns,).
        diagnostics: what closes the budgets, each (n,). W/m2: ``toa_sw_net``, ``surface_sw_net``,
            ``sw_absorbed``, ``toa_lw_up``, ``surface_lw_down``, ``lw_convergence``. N/m2:
            ``drag_x``, ``drag_y``. J/kg: ``cape``. m/s: ``convective_rain``.
    """

    inputs: Array
    targets: Array
    time: NDArray[np.int64]
    column: NDArray[np.int64]
    latitude: Array
    longitude: Array
    diagnostics: dict[str, Array]


def simulate(
    n_timesteps: int, n_columns: int, seed: int, first_timestep: int = 0, stride: int = STRIDE
) -> SyntheticColumns:
    """Simulate the columns of a small planet; a row depends on nothing but its place and time.

    Args:
        n_timesteps: stored timesteps.
        n_columns: grid columns, spread evenly over the sphere.
        seed: planet, weather and chance follow from it.
        first_timestep: number of the first stored timestep; 0 is the start of a year.
        stride: physics steps of 1200 s between stored timesteps.

    Raises:
        ClimstackError: an argument is too small.
    """
    smallest = {"n_timesteps": 1, "n_columns": 1, "seed": 0, "first_timestep": 0, "stride": 1}
    given = (n_timesteps, n_columns, seed, first_timestep, stride)
    for (name, least), value in zip(smallest.items(), given, strict=True):
        if value < least:
            raise ClimstackError(f"synthetic data need {name} of at least {least}, but got {value}")
    schema, weather = load_schema("leap"), Weather(n_columns, seed)
    n = n_timesteps * n_columns
    inputs = np.empty((n, len(schema.input_columns)))
    targets = np.empty((n, len(schema.target_columns)))
    diagnostics: dict[str, Array] = {}
    for i in range(n_timesteps):
        timestep, rows = first_timestep + i, slice(i * n_columns, (i + 1) * n_columns)
        # One timestep at a time: the same shapes, hence the same bits, whatever is asked for.
        columns = weather.at(timestep * stride * TIMESTEP)
        chance = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 1, timestep])))
        _write_inputs(inputs[rows], columns, schema)
        for name, values in _step(targets[rows], columns, schema, chance).items():
            diagnostics.setdefault(name, np.empty(n))[rows] = values
    return SyntheticColumns(
        inputs=inputs,
        targets=targets,
        time=np.repeat(np.arange(first_timestep, first_timestep + n_timesteps), n_columns),
        column=np.tile(np.arange(n_columns), n_timesteps),
        latitude=weather.latitude,
        longitude=weather.longitude,
        diagnostics=diagnostics,
    )


def synthetic_grid(n_columns: int) -> Grid:
    """Where the columns of :func:`simulate` lie; the levels are ClimSim's own.

    Args:
        n_columns: grid columns, at least 1.
    """
    latitude, longitude = (np.rad2deg(angle) for angle in lattice(n_columns))
    area = np.full(n_columns, 4.0 * np.pi / n_columns)
    return Grid(lat=latitude, lon=longitude, area=area, levels=physics.hybrid_levels())


def _write_inputs(out: Array, columns: Columns, schema: Schema) -> None:
    profiles = {f"state_{name}": getattr(columns.air, part) for name, part in PROFILES.items()}
    for name, values in (profiles | columns.scalars | columns.gases).items():
        out[:, schema.slice_of(name)] = values.reshape(len(values), -1)


def _step(
    out: Array, columns: Columns, schema: Schema, chance: np.random.Generator
) -> dict[str, Array]:
    """Run one physics step, write the targets, and return the diagnostics."""
    n = len(out)
    factor = {
        name: np.exp(spread * chance.standard_normal(n) - 0.5 * spread**2)
        for name, spread in SPREAD.items()
    }
    air = columns.air.copy()
    sun = shortwave(columns)
    heat, heat_down = longwave(columns)
    warming = -np.diff(sun.net + heat, axis=1) / (physics.HEAT_CAPACITY * columns.mass)
    air.t += warming * TIMESTEP
    turbulence.mix(air, columns, factor["mixing"])
    drag_x, drag_y = turbulence.drag(air, columns)
    convective, cape = processes.convect(air, columns, factor["convection"])
    processes.freeze(air)
    processes.melt(air)
    processes.condense(air, columns)
    snow = processes.sediment(air, columns)
    rain, flakes = processes.precipitate(air, columns, factor["growth"])
    snow += flakes
    per_second = physics.WATER_DENSITY * TIMESTEP
    surface = {
        "NETSW": sun.net[:, -1],
        "FLWDS": heat_down,
        "PRECSC": snow / per_second,
        "PRECC": (rain + snow + convective) / per_second,
        "SOLS": sun.direct[0],
        "SOLL": sun.direct[1],
        "SOLSD": sun.diffuse[0],
        "SOLLD": sun.diffuse[1],
    }
    _write_tendencies(out, columns.air, air, schema)
    for name, values in surface.items():
        out[:, schema.slice_of(f"cam_out_{name}")] = values[:, None]
    return {
        "toa_sw_net": sun.net[:, 0],
        "surface_sw_net": sun.net[:, -1],
        "sw_absorbed": sun.net[:, 0] - sun.net[:, -1],
        "toa_lw_up": -heat[:, 0],
        "surface_lw_down": heat_down,
        "lw_convergence": heat[:, 0] - heat[:, -1],
        "drag_x": drag_x,
        "drag_y": drag_y,
        "cape": cape,
        "convective_rain": convective / per_second,
    }


def _write_tendencies(out: Array, before: Air, after: Air, schema: Schema) -> None:
    for name, part in PROFILES.items():
        target = schema.variable(f"ptend_{name}")
        old = getattr(before, part)
        tendency = (getattr(after, part) - old) / TIMESTEP
        if target.lower_bound is not None:
            # The division can round past it: what is there is the most that can be lost.
            tendency = np.maximum(tendency, old / target.lower_bound.divisor)
        if target.exact is not None:
            levels = slice(*target.exact.levels)
            tendency[:, levels] = old[:, levels] / target.exact.divisor
        out[:, schema.slice_of(target.name)] = tendency
