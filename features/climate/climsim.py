"""Moist variables as ClimSim defines them: relative humidity, merged cloud, liquid share.

Unlike :mod:`features.climate.physics` these follow ClimSim to the digit, because models that are
compared with its published ones must see the same numbers. Source: Yu et al. (NeurIPS 2023) and the
variable sets of ``climsim_utils/data_utils.py`` (github.com/leap-stc/ClimSim); saturation by the
polynomials of Flatau, Walko and Cotton (1992), J. Appl. Meteorol. 31, 1507-1513, in the form of the
System for Atmospheric Modeling (Khairoutdinov and Randall 2003).
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial.polynomial import polyval

from features.core.types import Array

TRIPLE_POINT = 273.16  # K
ALL_ICE = 253.16  # K, below it no cloud is liquid
GAS_CONSTANT_RATIO = 287.0 / 461.0  # dry air over water vapour, ClimSim's rounded constants

# Powers of t - 273.16 K, constant first, hPa.
_LIQUID = (
    6.11239921, 0.443987641, 0.142986287e-1, 0.264847430e-3, 0.302950461e-5, 0.206739458e-7,
    0.640689451e-10, -0.952447341e-13, -0.976195544e-15,
)  # fmt: skip
_ICE = (
    6.11147274, 0.503160820, 0.188439774e-1, 0.420895665e-3, 0.615021634e-5, 0.602588177e-7,
    0.385852041e-9, 0.146898966e-11, 0.252751365e-14,
)  # fmt: skip
_COLD_ICE = (0.00763685, 0.000151069, 7.48215e-07)  # below 185 K


def liquid_share(t: Array) -> Array:
    """Share of cloud that is liquid at temperature t, K: 0 below 253.16 K, 1 above 273.16 K."""
    return np.clip((t - ALL_ICE) / (TRIPLE_POINT - ALL_ICE), 0.0, 1.0)


def vapour_pressure(t: Array) -> Array:
    """Saturation vapour pressure, Pa, over liquid and ice weighted by :func:`liquid_share`."""
    celsius = t - TRIPLE_POINT
    liquid = polyval(np.maximum(celsius, -80.0), _LIQUID)
    cold = polyval(np.maximum(celsius, -100.0), _COLD_ICE)
    ice = np.where(t > 185.0, polyval(celsius, _ICE), cold)
    ice = np.where(t > 273.15, liquid, ice)
    share = liquid_share(t)
    return 100.0 * (share * liquid + (1.0 - share) * ice)


def relative_humidity(q: Array, t: Array, p: Array) -> Array:
    """Specific humidity q, kg/kg, over that of saturated air at t, K, and p, Pa; unit 1."""
    return q * p / (GAS_CONSTANT_RATIO * vapour_pressure(t))
