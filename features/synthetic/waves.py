"""Random fields that are smooth on the sphere, in time and over the levels.

Every anomaly is a sum of plane waves cos(k.x + w t + phase) on the unit sphere, times bumps over
the levels: neighbours in space, time and height are alike, and any timestep can be made alone.
"""

from __future__ import annotations

import numpy as np

from features.climate.physics import N_LEVELS, SECONDS_PER_DAY
from features.core.types import Array

N_WAVES = 12
# Number of bumps over the levels of each anomaly; 1 stands for a field at the surface.
MOVING = {
    "t": 9,
    "rh": 10,
    "u": 8,
    "v": 8,
    "cloud": 8,
    "ozone": 5,
    "gas": 3,
    "surface": 1,
    "ps": 1,
    "lapse": 1,
    "contrast": 1,
    "snow": 1,
}
RESTING = {"land": 1, "height": 1, "soil": 1}


def lattice(n_columns: int) -> tuple[Array, Array]:
    """Latitude and longitude, rad, each (n_columns,), of evenly spread points on the sphere.

    Source: Gonzalez (2010), Math. Geosci. 42, 49-64: a Fibonacci lattice, north to south.
    """
    i = np.arange(n_columns)
    turn = np.pi * (3.0 - np.sqrt(5.0))
    return np.arcsin(1.0 - (2.0 * i + 1.0) / n_columns), (i * turn) % (2.0 * np.pi)


class Waves:
    """Every anomaly of one planet; all follow from the seed."""

    def __init__(self, latitude: Array, longitude: Array, seed: int) -> None:
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0])))
        names = MOVING | RESTING
        shape = (sum(names.values()), N_WAVES)
        direction = rng.standard_normal((*shape, 3))
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        number = rng.uniform(1.5, 7.0, shape)  # rad per Earth radius: some 6000 km and longer
        period = np.exp(rng.uniform(np.log(1.5), np.log(15.0), shape)) * SECONDS_PER_DAY
        self._frequency = 2.0 * np.pi / period * rng.choice([-1.0, 1.0], shape)
        self._frequency[sum(MOVING.values()) :] = 0.0
        east, north = np.cos(latitude) * np.cos(longitude), np.sin(latitude)
        points = np.stack([east, np.cos(latitude) * np.sin(longitude), north])
        phase = rng.uniform(0.0, 2.0 * np.pi, shape)[..., None]
        angle = (direction * number[..., None]) @ points + phase
        self._cos, self._sin = np.cos(angle), np.sin(angle)
        stops = np.cumsum([0, *names.values()])
        self._rows = dict(zip(names, map(slice, stops[:-1], stops[1:]), strict=True))

    def at(self, seconds: float) -> dict[str, Array]:
        """Anomalies of unit variance at one time: at the surface (n,), profiles (n, 60)."""
        turn = self._frequency * seconds
        waves = np.einsum("fk,fkn->fn", np.cos(turn), self._cos)
        waves -= np.einsum("fk,fkn->fn", np.sin(turn), self._sin)
        waves *= np.sqrt(2.0 / N_WAVES)
        fields = {name: waves[rows] for name, rows in self._rows.items()}
        return {n: _over_levels(f) if len(f) > 1 else f[0] for n, f in fields.items()}


def _over_levels(waves: Array) -> Array:
    """Spread (n_bumps, n) anomalies over the levels: (n, 60), unit variance."""
    centres = np.linspace(0.0, N_LEVELS - 1.0, len(waves))[:, None]
    bumps = np.exp(-0.5 * ((np.arange(N_LEVELS) - centres) / (0.75 * centres[1])) ** 2)
    bumps /= np.sqrt((bumps**2).sum(axis=0))
    spread: Array = waves.T @ bumps
    return spread
