"""Features computed from several inputs: each one function, with unit and source.

Trees can't form a difference or a ratio of two inputs in one split, so the view for trees shows
what moves heat, water and momentum: differences between levels, relative humidity, the path of
cloud above and below. What is a monotone function of a single input is left out, because a tree
splits on it exactly as on the input itself: the mass of a layer (of surface pressure), the rules'
lower bounds (of the moisture they belong to).

Levels count from the model top, so the level after is the one *below*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.climate import physics
from features.core.types import Array

TINY = 1e-20  # kg/kg or kg/m2; keeps the logarithm finite


class Column:
    """Columns of air: the inputs by name, and what several features share.

    Attributes:
        values: input variables by name, each (n_samples, n_levels), SI units.
        levels: hybrid levels; None for ClimSim's own.
    """

    def __init__(
        self, values: Mapping[str, Array], levels: physics.HybridLevels | None = None
    ) -> None:
        self.values = values
        self.levels = levels

    def __getitem__(self, name: str) -> Array:
        return self.values[name]

    @cached_property
    def pressure(self) -> Array:
        """Pressure, Pa; see :func:`features.climate.physics.pressure`."""
        return physics.pressure(self["state_ps"][:, 0], self.levels)

    @cached_property
    def mass(self) -> Array:
        """Mass of air in each layer, kg/m2; see :func:`features.climate.physics.layer_mass`."""
        return physics.layer_mass(self["state_ps"][:, 0], self.levels)

    @cached_property
    def saturation(self) -> Array:
        """Specific humidity of saturated air, kg/kg."""
        return physics.saturation_humidity(self["state_t"], self.pressure)

    @cached_property
    def relative_humidity(self) -> Array:
        """Specific humidity over its value in saturated air, 1."""
        return self["state_q0001"] / self.saturation

    @cached_property
    def moist_static_energy(self) -> Array:
        """Sum cp T + g z + Lv q, J/kg, with heights by the hypsometric equation."""
        t, q = self["state_t"], self["state_q0001"]
        z = physics.height(t, q, self["state_ps"][:, 0], self.levels)
        return physics.HEAT_CAPACITY * t + physics.GRAVITY * z + physics.LATENT_HEAT_VAPOUR * q

    @cached_property
    def virtual_potential_temperature(self) -> Array:
        """Potential temperature of dry air as light as this, K."""
        theta = physics.potential_temperature(self["state_t"], self.pressure)
        return physics.virtual_temperature(theta, self["state_q0001"])

    @cached_property
    def cloud_path(self) -> Array:
        """Liquid and ice in each layer, kg/m2."""
        return (self["state_q0002"] + self["state_q0003"]) * self.mass


def to_level_below(profile: Array) -> Array:
    """The level below minus this one, same shape and unit; 0 at the ground."""
    return np.diff(profile, axis=1, append=profile[:, -1:])


def curvature(profile: Array) -> Array:
    """Level above minus twice this one plus the level below, same unit; one-sided at the ends."""
    return np.diff(profile, 2, axis=1, prepend=profile[:, :1], append=profile[:, -1:])


def log_saturation_ratio(column: Column) -> Array:
    """Logarithm of specific humidity over saturation vapour pressure, log10(1/Pa).

    On a given pressure level it differs from the logarithm of relative humidity by a constant.
    Source: saturation over liquid water after Bolton (1980), Mon. Wea. Rev. 108, equation 10.
    """
    humidity = np.log10(np.maximum(column["state_q0001"], TINY))
    return humidity - np.log10(physics.vapour_pressure_over_liquid(column["state_t"]))


def cloud_water(column: Column) -> Array:
    """Liquid and ice together, log10(kg/kg)."""
    return np.log10(np.maximum(column["state_q0002"] + column["state_q0003"], TINY))


def cloud_above(column: Column) -> Array:
    """Cloud from the model top through this level, log10(kg/m2): what sunlight passes."""
    return np.log10(np.maximum(np.cumsum(column.cloud_path, axis=1), TINY))


def cloud_below(column: Column) -> Array:
    """Cloud from this level to the ground, log10(kg/m2): what warms the level from below."""
    path = np.cumsum(column.cloud_path[:, ::-1], axis=1)[:, ::-1]
    return np.log10(np.maximum(path, TINY))


def vapour_above(column: Column) -> Array:
    """Water vapour from the model top through this level, kg/m2."""
    return np.cumsum(column["state_q0001"] * column.mass, axis=1)


def wind_speed(column: Column) -> Array:
    """Speed of the horizontal wind, m/s."""
    return np.hypot(column["state_u"], column["state_v"])


def absorbed_sunlight(albedo: str) -> Callable[[Column], Array]:
    """Insolation x (1 - albedo), W/m2: what the ground would absorb under a clear sky."""
    return lambda column: column["pbuf_SOLIN"] * (1.0 - column[albedo])


def column_vapour(column: Column) -> Array:
    """Water vapour over the ground, kg/m2, (n_samples, 1)."""
    return physics.column_integral(column["state_q0001"], column.mass)[:, None]


def column_cloud(species: str) -> Callable[[Column], Array]:
    """Cloud water of one kind over the ground, log10(kg/m2), (n_samples, 1)."""

    def compute(column: Column) -> Array:
        path = physics.column_integral(column[species], column.mass)
        return np.log10(np.maximum(path, TINY))[:, None]

    return compute


def saturation_fraction(column: Column) -> Array:
    """Vapour below 100 hPa over what the same air could hold, 1, (n_samples, 1).

    Source: Bretherton, Peters and Back (2004), J. Climate 17, 1517-1528: rain follows it closely.
    """
    mass = np.where(column.pressure > 1e4, column.mass, 0.0)
    held = physics.column_integral(column["state_q0001"], mass)
    return (held / physics.column_integral(column.saturation, mass))[:, None]


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A derived feature.

    Attributes:
        name: columns are ``name_0`` and so on, or ``name`` for a scalar.
        unit: its unit.
        needs: names of the input variables it is computed from.
        compute: from :class:`Column` to (n_samples, n_levels), or (n_samples, 1) for a scalar.
        scalar: one value per column of air.
        linear: shown to linear models, instead of to trees.
    """

    name: str
    unit: str
    needs: tuple[str, ...]
    compute: Callable[[Column], Array]
    scalar: bool = False
    linear: bool = False


def _of(
    name: str, unit: str, needs: tuple[str, ...], compute: Callable[[Column], Array], **is_: bool
) -> Derived:
    return Derived(name=name, unit=unit, needs=needs, compute=compute, **is_)


_T, _Q, _LIQUID, _ICE, _U, _V, _PS = (
    *(f"state_{name}" for name in ("t", "q0001", "q0002", "q0003", "u", "v", "ps")),
)
_AIR, _CLOUD = (_T, _Q, _PS), (_LIQUID, _ICE, _PS)
_ALBEDOS = ("cam_in_ALDIF", "cam_in_ALDIR", "cam_in_ASDIF", "cam_in_ASDIR")

DERIVED = (
    _of("log_saturation_ratio", "log10(1/Pa)", (_T, _Q), log_saturation_ratio, linear=True),
    _of("relative_humidity", "1", _AIR, lambda c: c.relative_humidity),
    _of("moist_static_energy", "J/kg", _AIR, lambda c: c.moist_static_energy),
    _of("virtual_theta", "K", _AIR, lambda c: c.virtual_potential_temperature),
    _of("difference_t", "K", (_T,), lambda c: to_level_below(c[_T])),
    _of("difference_q", "kg/kg", (_Q,), lambda c: to_level_below(c[_Q])),
    _of("difference_u", "m/s", (_U,), lambda c: to_level_below(c[_U])),
    _of("difference_v", "m/s", (_V,), lambda c: to_level_below(c[_V])),
    _of("difference_rh", "1", _AIR, lambda c: to_level_below(c.relative_humidity)),
    _of("difference_mse", "J/kg", _AIR, lambda c: to_level_below(c.moist_static_energy)),
    _of("stability", "K", _AIR, lambda c: to_level_below(c.virtual_potential_temperature)),
    _of("curvature_t", "K", (_T,), lambda c: curvature(c[_T])),
    _of("curvature_q", "kg/kg", (_Q,), lambda c: curvature(c[_Q])),
    _of("curvature_u", "m/s", (_U,), lambda c: curvature(c[_U])),
    _of("curvature_v", "m/s", (_V,), lambda c: curvature(c[_V])),
    _of("wind_speed", "m/s", (_U, _V), wind_speed),
    _of("cloud_water", "log10(kg/kg)", (_LIQUID, _ICE), cloud_water),
    _of("cloud_above", "log10(kg/m2)", _CLOUD, cloud_above),
    _of("cloud_below", "log10(kg/m2)", _CLOUD, cloud_below),
    _of("vapour_above", "kg/m2", (_Q, _PS), vapour_above),
    _of("column_vapour", "kg/m2", (_Q, _PS), column_vapour, scalar=True),
    _of("column_liquid", "log10(kg/m2)", (_LIQUID, _PS), column_cloud(_LIQUID), scalar=True),
    _of("column_ice", "log10(kg/m2)", (_ICE, _PS), column_cloud(_ICE), scalar=True),
    _of("saturation_fraction", "1", _AIR, saturation_fraction, scalar=True),
    *(
        _of(name, "W/m2", ("pbuf_SOLIN", albedo), absorbed_sunlight(albedo), scalar=True)
        for albedo in _ALBEDOS
        for name in [f"absorbed_{albedo.removeprefix('cam_in_')}"]
    ),
)


def available(variables: set[str], linear: bool) -> list[Derived]:
    """The features for linear models or for trees whose inputs are there, given by their names."""
    return [d for d in DERIVED if d.linear == linear and variables.issuperset(d.needs)]
