"""Physics of a column of air: hybrid levels, moisture, heights and the sun, as pure functions.

Shapes: ``n`` columns, 60 levels from the model top (0) to the surface (59), SI units throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from features.core.types import Array

N_LEVELS = 60
TIMESTEP = 1200.0  # seconds between ClimSim's state before and its state after
GRAVITY = 9.80616  # m/s2
HEAT_CAPACITY = 1004.64  # J/kg/K, dry air at constant pressure
GAS_CONSTANT = 287.042  # J/kg/K, dry air
GAS_CONSTANT_VAPOUR = 461.505  # J/kg/K
LATENT_HEAT_VAPOUR = 2.501e6  # J/kg, liquid to vapour
LATENT_HEAT_FUSION = 3.337e5  # J/kg, ice to liquid
WATER_DENSITY = 1000.0  # kg/m3
STEFAN_BOLTZMANN = 5.670374419e-8  # W/m2/K4
SOLAR_CONSTANT = 1361.0  # W/m2 (Kopp and Lean 2011)
REFERENCE_PRESSURE = 1e5  # Pa
MELTING_POINT = 273.15  # K
FREEZING_POINT = 235.0  # K, below it no liquid is left (homogeneous freezing)
SECONDS_PER_DAY = 86_400.0
DAYS_PER_YEAR = 365.0  # a calendar without leap years
KAPPA = GAS_CONSTANT / HEAT_CAPACITY
VAPOUR_RATIO = GAS_CONSTANT / GAS_CONSTANT_VAPOUR  # weight of water vapour against dry air

# hPa, in the middle of the levels over a surface pressure of 1000 hPa
# fmt: off
_LEVEL_PRESSURE = (
    0.07834781134, 0.1411083185, 0.2529232969, 0.4492506352, 0.7863461615, 1.34735576,
    2.244777287, 3.616431483, 5.615836425, 8.40325322, 12.14448935, 17.01682802,
    23.21079812, 30.91434626, 40.27758066, 51.37463235, 64.18922841, 78.63965761,
    94.630092, 112.0912735, 130.9778038, 151.2213181, 172.6739047, 195.0877098,
    218.1559348, 241.600379, 265.2585153, 289.1223222, 313.3120871, 338.0069992,
    363.3734918, 389.5233383, 416.5079218, 444.331412, 472.9572064, 502.2919169,
    532.1522732, 562.2393925, 592.1492761, 621.4328411, 649.6898971, 676.6564846,
    702.2421878, 726.4985895, 749.5376453, 771.4452172, 792.23426, 811.8566751,
    830.2596432, 847.4506531, 863.535902, 878.7158746, 893.246018, 907.3852126,
    921.3543975, 935.3167172, 949.3780562, 963.5995994, 978.0134324, 992.6355436,
)
# fmt: on
_PURE_PRESSURE = 17_000.0  # Pa: levels above do not follow the terrain

_ECCENTRICITY = 0.0167
_OBLIQUITY = np.deg2rad(23.44)
_PERIHELION = np.deg2rad(283.0)  # solar longitude at perihelion
_EQUINOX_DAY = 80.5  # day of the year of the March equinox


@dataclass(frozen=True, kw_only=True)
class HybridLevels:
    """Coefficients of p = hya * 100000 Pa + hyb * ps.

    Attributes:
        hyam: at the middle of the levels, shape (60,).
        hybm: at the middle of the levels, shape (60,).
        hyai: at the interfaces between levels, shape (61,).
        hybi: at the interfaces between levels, shape (61,).
    """

    hyam: Array
    hybm: Array
    hyai: Array
    hybi: Array


@lru_cache(maxsize=1)
def hybrid_levels() -> HybridLevels:
    """The 60 levels of E3SM-MMF as ClimSim stores them, from 0.078 hPa to 993 hPa.

    Pressures over a surface of 1000 hPa are ClimSim's. Tables don't say which share of them follows
    the surface; here none does above 170 hPa, and below it grows linearly to 1 at the ground.

    Source: ClimSim's grid file ``ClimSim_low-res_grid-info.nc`` (Yu et al., NeurIPS 2023,
    CC BY 4.0), variables ``lev`` and ``P0``. Interfaces lie so that each level is their mean.
    """
    p = np.empty(N_LEVELS + 1)
    p[-1] = 1.0
    for level in reversed(range(N_LEVELS)):
        p[level] = 2.0 * _LEVEL_PRESSURE[level] / 1000.0 - p[level + 1]
    pure = _PURE_PRESSURE / REFERENCE_PRESSURE
    hybi = np.clip((p - pure) / (1 - pure), 0.0, 1.0)
    hyai = p - hybi
    hyam, hybm = (0.5 * (x[1:] + x[:-1]) for x in (hyai, hybi))
    for coefficient in (hyam, hybm, hyai, hybi):
        coefficient.flags.writeable = False
    return HybridLevels(hyam=hyam, hybm=hybm, hyai=hyai, hybi=hybi)


def pressure(ps: Array, levels: HybridLevels | None = None) -> Array:
    """Pressure in the middle of the levels, Pa, shape (n, 60), from the surface's, shape (n,)."""
    grid = levels or hybrid_levels()
    return grid.hyam * REFERENCE_PRESSURE + grid.hybm * ps[:, None]


def interface_pressure(ps: Array, levels: HybridLevels | None = None) -> Array:
    """Pressure between the levels, Pa, shape (n, 61), from the surface's, shape (n,)."""
    grid = levels or hybrid_levels()
    return grid.hyai * REFERENCE_PRESSURE + grid.hybi * ps[:, None]


def layer_mass(ps: Array, levels: HybridLevels | None = None) -> Array:
    """Mass of air in each level dp/g, kg/m2, shape (n, 60), from surface pressure, shape (n,)."""
    return np.diff(interface_pressure(ps, levels), axis=1) / GRAVITY


def column_integral(field: Array, mass: Array) -> Array:
    """Integral of a field per kg of air over the column, shape (n,).

    Args:
        field: (n, 60), any unit per kg.
        mass: (n, 60), kg/m2, from :func:`layer_mass`.
    """
    total: Array = (field * mass).sum(axis=1)
    return total


def vapour_pressure_over_liquid(t: Array) -> Array:
    """Saturation vapour pressure over liquid, Pa, from temperature, K; same shape.

    Source: Bolton (1980), Mon. Wea. Rev. 108, 1046-1053, equation 10.
    """
    celsius = t - MELTING_POINT
    return 611.2 * np.exp(17.67 * celsius / (celsius + 243.5))


def vapour_pressure_over_ice(t: Array) -> Array:
    """Saturation vapour pressure over ice, Pa, from temperature, K; same shape.

    Source: Murphy and Koop (2005), Q. J. R. Meteorol. Soc. 131, 1539-1565, equation 7.
    """
    return np.exp(9.550426 - 5723.265 / t + 3.53068 * np.log(t) - 0.00728332 * t)


def liquid_fraction(t: Array) -> Array:
    """Share of new condensate that is liquid: 0 below 235 K, 1 above 273.15 K, smooth between."""
    x: Array = np.clip((t - FREEZING_POINT) / (MELTING_POINT - FREEZING_POINT), 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def saturation_humidity(t: Array, p: Array) -> Array:
    """Specific humidity of saturated air, kg/kg; liquid and ice weighted by temperature.

    Args:
        t: temperature, K.
        p: pressure, Pa, same shape.
    """
    liquid = liquid_fraction(t)
    e = liquid * vapour_pressure_over_liquid(t) + (1.0 - liquid) * vapour_pressure_over_ice(t)
    # Aloft e can exceed p: vapour alone would then fill the air, and the formula has no root.
    return VAPOUR_RATIO * e / np.maximum(p - (1.0 - VAPOUR_RATIO) * e, e)


def potential_temperature(t: Array, p: Array) -> Array:
    """Temperature, K, that air at t, K, and p, Pa, has when brought to 1000 hPa."""
    return t * (REFERENCE_PRESSURE / p) ** KAPPA


def virtual_temperature(t: Array, q: Array) -> Array:
    """Temperature, K, of dry air as light as air at t, K, with specific humidity q, kg/kg."""
    return t * (1.0 + (1.0 / VAPOUR_RATIO - 1.0) * q)


def height(t: Array, q: Array, ps: Array, levels: HybridLevels | None = None) -> Array:
    """Height of the levels above the ground, m, shape (n, 60), by the hypsometric equation.

    Args:
        t: temperature, K, shape (n, 60).
        q: specific humidity, kg/kg, shape (n, 60).
        ps: surface pressure, Pa, shape (n,).
        levels: grid; None takes :func:`hybrid_levels`.
    """
    log_interface = np.log(interface_pressure(ps, levels))
    scale = GAS_CONSTANT * virtual_temperature(t, q) / GRAVITY
    thickness = scale * np.diff(log_interface, axis=1)
    below = np.cumsum(thickness[:, ::-1], axis=1)[:, ::-1] - thickness
    z: Array = below + scale * (log_interface[:, 1:] - np.log(pressure(ps, levels)))
    return z


def condensation_temperature(t: Array, p: Array, q: Array) -> Array:
    """Temperature, K, at which lifted air begins to condense.

    Source: Bolton (1980), Mon. Wea. Rev. 108, 1046-1053, equation 21.

    Args:
        t: temperature before lifting, K.
        p: pressure before lifting, Pa.
        q: specific humidity, kg/kg.
    """
    e = np.maximum(p * q / (VAPOUR_RATIO + (1.0 - VAPOUR_RATIO) * q), 1e-3) / 100.0  # hPa
    return 2840.0 / (3.5 * np.log(t) - np.log(e) - 4.805) + 55.0


def moist_lapse(t: Array, p: Array) -> Array:
    """Warming of saturated air per unit of ln p, K, along a pseudoadiabat.

    Source: American Meteorological Society, Glossary of Meteorology, "moist-adiabatic lapse rate".

    Args:
        t: temperature, K.
        p: pressure, Pa, same shape.
    """
    q = saturation_humidity(t, p)
    above = GAS_CONSTANT * t + LATENT_HEAT_VAPOUR * q
    return above / (HEAT_CAPACITY + LATENT_HEAT_VAPOUR**2 * q / (GAS_CONSTANT_VAPOUR * t * t))


def solar_position(seconds: float) -> tuple[float, float]:
    """Declination of the sun, rad, and (mean distance / distance)^2.

    Source: Berger (1978), J. Atmos. Sci. 35, 2362-2367, to first order in the eccentricity.

    Args:
        seconds: time since the start of a year of 365 days, s.
    """
    day = seconds / SECONDS_PER_DAY
    mean = 2.0 * np.pi * (day - _EQUINOX_DAY) / DAYS_PER_YEAR
    at_equinox = np.sin(-_PERIHELION)  # the longitude counts from the equinox
    longitude = mean + 2.0 * _ECCENTRICITY * (np.sin(mean - _PERIHELION) - at_equinox)
    declination = np.arcsin(np.sin(_OBLIQUITY) * np.sin(longitude))
    nearness = (1.0 + _ECCENTRICITY * np.cos(longitude - _PERIHELION)) / (1.0 - _ECCENTRICITY**2)
    return float(declination), float(nearness**2)


def cos_zenith(seconds: float, latitude: Array, longitude: Array) -> Array:
    """Cosine of the sun's zenith angle, 0 at night, unit 1, shape (n,).

    Args:
        seconds: universal time since the start of the year, s.
        latitude: rad, shape (n,).
        longitude: rad, shape (n,).
    """
    declination, _ = solar_position(seconds)
    hour_angle = 2.0 * np.pi * (seconds / SECONDS_PER_DAY % 1.0) + longitude - np.pi
    up = np.sin(latitude) * np.sin(declination)
    mu: Array = up + np.cos(latitude) * np.cos(declination) * np.cos(hour_angle)
    return np.maximum(mu, 0.0)


def insolation(seconds: float, latitude: Array, longitude: Array) -> Array:
    """Sunlight on a level plane at the top of the air, W/m2, shape (n,): see cos_zenith."""
    _, nearness = solar_position(seconds)
    return SOLAR_CONSTANT * nearness * cos_zenith(seconds, latitude, longitude)
