"""Small generated tables of four kinds, as people bring them: to try climstack on, and to test it.

An arm whose joints' torques follow from its motion; molecules with many properties of which some
were never measured; a wind farm with gaps; a column of air over a column of soil. What is to be
learned is known, so a score says how much of it was found; noise leaves a tenth unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError, closest
from features.core.files import atomic_path
from features.core.types import Array

N_JOINTS = 7
N_PROPERTIES = 200
N_SITES = 6
N_AIR, N_SOIL = 30, 20
MISSING = 0.3  # of the molecules' properties
GRAVITY = 9.81  # m/s2


class Table(NamedTuple):
    """Rows of a table.

    Attributes:
        rows: all columns.
        targets: names of those to predict.
        is_test: which rows are to be predicted, (n,).
    """

    rows: pl.DataFrame
    targets: list[str]
    is_test: pl.Series


def write_table(
    kind: str, folder: str | Path, n_rows: int = 2000, seed: int = 0
) -> dict[str, Path]:
    """Write ``train.csv``, ``test.csv`` without targets, and ``solution.csv`` with them.

    Args:
        kind: ``robot_arm``, ``molecules``, ``wind_farm`` or ``air_and_soil``.
        folder: where the files go.
        n_rows: about so many rows in all.
        seed: of everything random.

    Returns:
        The files by name: ``train``, ``test`` and ``solution``.

    Raises:
        ClimstackError: there is no such kind.

    Example:
        >>> files = write_table("wind_farm", "wind", n_rows=300)
        >>> pl.read_csv(files["test"]).columns[:4]
        ['date', 'turbine', 'wind', 'direction']
    """
    if kind not in KINDS:
        raise ClimstackError(f"no table '{kind}' to generate: {closest(kind, KINDS)}")
    table = KINDS[kind](n_rows, np.random.default_rng(seed))
    test = table.rows.filter(table.is_test)
    parts = {
        "train": table.rows.filter(~table.is_test),
        "test": test.drop(table.targets),
        "solution": test,
    }
    files = {name: Path(folder) / f"{name}.csv" for name in parts}
    for name, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as made:
            parts[name].write_csv(made)
    return files


def robot_arm(n_rows: int, rng: np.random.Generator) -> Table:
    """Angles, speeds and accelerations of 7 joints (rad, s) to their torques (N m): 21 to 7."""
    angle = rng.uniform(-0.5, 0.5, (n_rows, N_JOINTS))
    speed = rng.normal(0, 1.0, (n_rows, N_JOINTS))
    push = rng.normal(0, 2.0, (n_rows, N_JOINTS))
    torque = _noisy(arm_torques(angle, speed, push), rng)
    columns = {"angle": angle, "speed": speed, "acceleration": push, "torque": torque}
    rows = pl.DataFrame(
        {f"{name}_{j + 1}": v for name, values in columns.items() for j, v in enumerate(values.T)}
    )
    targets = [f"torque_{joint + 1}" for joint in range(N_JOINTS)]
    return Table(rows, targets, pl.Series(rng.random(n_rows) < 0.2))


def arm_torques(angle: Array, speed: Array, push: Array) -> Array:
    """Torques of the joints of an arm of .3 m, 2 kg links in a vertical plane, (n, 7) N m.

    By the equations of rigid bodies (Newton and Euler), for (n, 7) angles of each joint against the
    one before, rad, their speeds and their accelerations.
    """
    length, mass = 0.3, 2.0
    turn, spin, kick = (np.cumsum(part, axis=1) for part in (angle, speed, push))
    along, across = (np.stack(pair, axis=2) for pair in (
        (np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn)),
    ))  # fmt: skip
    step = length * along  # of each link, (n, 7, 2)
    pull = length * (kick[..., None] * across - spin[..., None] ** 2 * along)
    end, end_pull = np.cumsum(step, axis=1), np.cumsum(pull, axis=1)
    middle, force = end - step / 2, mass * (end_pull - pull / 2 + [0.0, GRAVITY])
    start = end - step
    inertia = mass * length**2 / 12 * kick
    torque = np.empty_like(angle)
    for joint in range(N_JOINTS):
        arm = middle[:, joint:] - start[:, joint, None]
        turning = arm[..., 0] * force[:, joint:, 1] - arm[..., 1] * force[:, joint:, 0]
        torque[:, joint] = (turning + inertia[:, joint:]).sum(axis=1)
    return torque


def molecules(n_rows: int, rng: np.random.Generator) -> Table:
    """64 descriptors and a solvent to 200 properties of molecules, 30 % of them not measured.

    Molecules of one scaffold are alike, so whole scaffolds are held out and to be predicted.
    """
    n_scaffolds = max(12, n_rows // 25)
    scaffold = rng.integers(0, n_scaffolds, n_rows)
    latent = rng.normal(size=(n_scaffolds, 6))[scaffold] + 0.7 * rng.normal(size=(n_rows, 6))
    loads = rng.normal(size=(6, 64)) / np.sqrt(6)
    descriptors = latent @ loads + 0.3 * rng.normal(size=(n_rows, 64))
    solvents = np.array(["water", "ethanol", "hexane"])
    solvent = rng.integers(0, 3, n_rows)
    hidden = np.concatenate([latent, np.tanh(latent @ rng.normal(size=(6, 6))),
                             np.eye(3)[solvent]], axis=1)  # fmt: skip
    properties = _noisy(hidden @ rng.normal(size=(15, N_PROPERTIES)), rng)
    properties[rng.random(properties.shape) < MISSING] = np.nan
    targets = [f"property_{i + 1}" for i in range(N_PROPERTIES)]
    rows = pl.DataFrame(
        {
            "molecule": [f"CHEM-{i:05d}" for i in rng.permutation(n_rows)],
            "scaffold": [f"S{i:03d}" for i in scaffold],
            "solvent": solvents[solvent],
            **{f"d{i + 1:02d}": values for i, values in enumerate(descriptors.T)},
            **dict(zip(targets, properties.T, strict=True)),
        }
    ).with_columns(pl.col(targets).fill_nan(None))
    return Table(rows, targets, pl.Series(scaffold >= 0.8 * n_scaffolds))


def wind_farm(n_rows: int, rng: np.random.Generator) -> Table:
    """Weather at 6 turbines, hour by hour with gaps, to power (kW) and four more of each.

    The last fifth of the time is to be predicted. Anemometers fail for one hour in twelve.
    """
    n_hours = max(60, int(n_rows / N_SITES / 0.85))
    hour = np.repeat(np.arange(n_hours), N_SITES)
    site = np.tile(np.arange(N_SITES), n_hours)
    slow = np.cumsum(rng.normal(0, 1.2, (n_hours, 3)), axis=0)
    slow -= np.linspace(0, 1, n_hours)[:, None] * slow[-1]
    sun = np.sin(2 * np.pi * (hour % 24) / 24)
    wind = np.abs(8 + 0.35 * slow[hour, 0] + 0.8 * sun + rng.normal(0, 1.5, len(hour)))
    direction = (200 + 15 * slow[hour, 1] + rng.normal(0, 10, len(hour))) % 360
    temperature = 283 + 0.5 * slow[hour, 2] + 4 * sun + rng.normal(0, 0.5, len(hour))
    curtailed = rng.random(len(hour)) < 0.05
    model = np.array(["V90", "V90", "E82", "E82", "E82", "N117"])[site]
    size = np.array([2000.0, 2000.0, 2300.0, 2300.0, 2300.0, 2400.0])[site]
    wake = 1 - 0.15 * np.exp(-(((direction - 40 * site) % 360 - 180) ** 2) / 800)
    felt = wind * wake
    share = np.clip((felt - 3) / 9, 0, 1) ** 2 * (3 - 2 * np.clip((felt - 3) / 9, 0, 1))
    power = size * share * np.where(curtailed, 0.5, 1.0) * 283 / temperature
    spin = 6 + 10 * np.clip(felt / 12, 0, 1)
    outputs = np.stack([power, spin, 90 * np.clip((felt - 12) / 12, 0, 1), felt * 0.4,
                        temperature + 30 * share], axis=1)  # fmt: skip
    targets = ["out_power", "out_rotor_speed", "out_pitch", "out_vibration", "out_gear"]
    rows = pl.DataFrame(
        {
            "date": _dates(hour),
            "turbine": [f"WT{i + 1:02d}" for i in site],
            "wind": np.where(rng.random(len(hour)) < 1 / 12, np.nan, wind),
            "direction": direction,
            "temperature": temperature,
            "model": model,
            "curtailed": curtailed,
            **dict(zip(targets, _noisy(outputs, rng).T, strict=True)),
        }
    ).with_columns(pl.col("wind").fill_nan(None))
    down = (hour // 40 % 9 == site) | (rng.random(len(hour)) < 0.05)  # each is down now and then
    held = pl.Series(hour >= 0.8 * n_hours)
    return Table(rows.filter(~down), targets, held.filter(pl.Series(~down)))


def air_and_soil(n_rows: int, rng: np.random.Generator) -> Table:
    """Profiles of air on 30 levels and of soil on 20 to their heating: 71 to 52, a row an hour."""
    time = np.arange(n_rows)
    day, year = np.sin(2 * np.pi * time / 24), np.sin(2 * np.pi * time / 8766)
    height, depth = np.linspace(0, 1, N_AIR), np.linspace(0, 1, N_SOIL)
    waves = np.stack([np.sin(np.pi * k * height) for k in range(1, 5)])
    drift = np.cumsum(rng.normal(0, 0.15, (n_rows, 4)), axis=0)
    drift -= np.linspace(0, 1, n_rows)[:, None] * drift[-1]
    sun = np.maximum(day, 0) * (700 + 200 * year) * rng.uniform(0.4, 1, n_rows)
    air = 290 - 60 * height + (drift + rng.normal(0, 0.5, (n_rows, 4))) @ waves
    air += rng.normal(0, 0.2, air.shape)
    soil = 288 + (4 * year + 0.004 * sun)[:, None] * np.exp(-4 * depth)
    soil += rng.normal(0, 0.2, soil.shape)
    bend = np.diff(air, 2, axis=1, prepend=air[:, :1], append=air[:, -1:])
    heating = 0.5 * bend + 0.002 * sun[:, None] * np.exp(-5 * height)
    flow = np.diff(soil, 2, axis=1, prepend=soil[:, :1], append=soil[:, -1:])
    warming = 0.3 * flow + 0.001 * sun[:, None] * np.exp(-6 * depth)
    flux = np.stack([3 * (soil[:, 0] - air[:, 0]), 0.8 * sun + 0.05 * (soil[:, 0] - 288)], axis=1)
    profiles = {"air": air, "soil": soil}
    outputs = {"out_air": heating, "out_soil": warming}
    columns = {
        f"{name}_{level}": v
        for name, values in (profiles | {k: _noisy(v, rng) for k, v in outputs.items()}).items()
        for level, v in enumerate(values.T)
    }
    fluxes = dict(zip(("out_flux", "out_sun"), _noisy(flux, rng).T, strict=True))
    rows = pl.DataFrame({"date": _dates(time), "sun": sun, **columns, **fluxes})
    targets = [name for name in rows.columns if name.startswith("out_")]
    return Table(rows, targets, pl.Series(time >= 0.8 * n_rows))


KINDS: Mapping[str, Callable[[int, np.random.Generator], Table]] = {
    "robot_arm": robot_arm,
    "molecules": molecules,
    "wind_farm": wind_farm,
    "air_and_soil": air_and_soil,
}


def _dates(hour: NDArray[np.integer]) -> pl.Series:
    hours = hour.astype("timedelta64[h]").astype("timedelta64[us]")
    return pl.Series(np.datetime64("2024-01-01", "us") + hours)


def _noisy(values: Array, rng: np.random.Generator) -> Array:
    """With noise of a tenth of each column's variance."""
    noisy: Array = values + np.sqrt(0.1) * values.std(axis=0) * rng.normal(size=values.shape)
    return noisy
