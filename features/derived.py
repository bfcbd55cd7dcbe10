"""Features computed from several inputs: each one function, with unit and source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.physics import vapour_pressure_over_liquid

Array = NDArray[np.float64]
TINY_HUMIDITY = 1e-20  # kg/kg; keeps the logarithm finite


@dataclass(frozen=True)
class Derived:
    """A derived profile.

    Attributes:
        name: columns are ``name_0`` and so on.
        unit: its unit.
        needs: names of the input variables it is computed from, all on the same levels.
        compute: takes them in that order, each (n_samples, n_levels), and returns the same shape.
    """

    name: str
    unit: str
    needs: tuple[str, ...]
    compute: Callable[..., Array]


def log_saturation_ratio(t: Array, q: Array) -> Array:
    """Logarithm of specific humidity over saturation vapour pressure, log10(1/Pa).

    On a given pressure level it differs from the logarithm of relative humidity by a constant, so
    it needs no hybrid coefficients, which the tables of the competition don't hold.

    Args:
        t: temperature, K, (n_samples, n_levels).
        q: specific humidity, kg/kg, same shape.

    Source: saturation over liquid water after Bolton (1980), Mon. Wea. Rev. 108, equation 10.
    """
    ratio: Array = np.log10(np.maximum(q, TINY_HUMIDITY)) - np.log10(vapour_pressure_over_liquid(t))
    return ratio


DERIVED = (
    Derived(
        "log_saturation_ratio", "log10(1/Pa)", ("state_t", "state_q0001"), log_saturation_ratio
    ),
)


def available(variables: set[str]) -> list[Derived]:
    """The derived profiles whose variables are there, given by their names."""
    return [derived for derived in DERIVED if variables.issuperset(derived.needs)]
