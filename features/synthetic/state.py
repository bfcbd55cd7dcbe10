"""The weather before the step: smooth random fields on the sphere around a simple climate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.climate import physics
from features.climate.physics import N_LEVELS
from features.core.types import Array
from features.synthetic.waves import Waves, lattice

FIRST_ACTIVE = 12  # levels above have no clouds, no mixing and no drag
FIRST_LIQUID = 28  # levels above keep no liquid: it freezes within the step
WELL_MIXED = 27  # methane and nitrous oxide are constant from this level down
LONGEST_WIND = 25.0  # m/s: stronger surface winds do not raise the bulk fluxes


@dataclass(kw_only=True)
class Air:
    """What the physics changes; each (n, 60).

    Attributes:
        t: temperature, K.
        qv: specific humidity, kg/kg.
        ql: cloud liquid, kg/kg.
        qi: cloud ice, kg/kg.
        u: eastward wind, m/s.
        v: northward wind, m/s.
    """

    t: Array
    qv: Array
    ql: Array
    qi: Array
    u: Array
    v: Array

    def copy(self) -> Air:
        """The same air in arrays of its own."""
        return replace(self, **{name: x.copy() for name, x in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns at one time, before the step.

    Attributes:
        air: the state, each (n, 60).
        scalars: the schema's scalar inputs by name, each (n,).
        gases: ozone, CH4 and N2O by their input names, mol/mol, each (n, 60).
        p: pressure of the levels, Pa, (n, 60).
        mass: dp/g, kg/m2, (n, 60).
        z: height above the ground, m, (n, 60).
    """

    air: Air
    scalars: dict[str, Array]
    gases: dict[str, Array]
    p: Array
    mass: Array
    z: Array


class Weather:
    """A reproducible planet: geography and weather follow from the seed alone.

    Attributes:
        latitude: rad, (n_columns,).
        longitude: rad, (n_columns,).
    """

    def __init__(self, n_columns: int, seed: int) -> None:
        self.latitude, self.longitude = lattice(n_columns)
        self._waves = Waves(self.latitude, self.longitude, seed)

    def at(self, seconds: float) -> Columns:
        """All columns at one time, in seconds since the start of the first year."""
        wave = self._waves.at(seconds)
        s, ts = self._surface(seconds, wave)
        p = physics.pressure(s["state_ps"])
        air, rh = self._air(seconds, p, ts, s, wave)
        _clouds(air, rh, wave["cloud"])
        z = physics.height(air.t, air.qv, s["state_ps"])
        _surface_fluxes(s, ts, air, p)
        mass = physics.layer_mass(s["state_ps"])
        gases = _gases(p, self.latitude, wave)
        return Columns(air=air, scalars=s, gases=gases, p=p, mass=mass, z=z)

    def _surface(self, seconds: float, wave: dict[str, Array]) -> tuple[dict[str, Array], Array]:
        """Scalar inputs but for the fluxes, and the surface temperature, K, (n,)."""
        sin_latitude = np.sin(self.latitude)
        declination, _ = physics.solar_position(seconds)
        season = np.sin(declination)
        land = np.clip(2.0 * wave["land"], 0.0, 1.0)
        height = land * np.clip(600.0 * (wave["height"] + 0.4), 0.0, None)
        ts = 299.5 - 48.0 * (sin_latitude - 0.3 * season) ** 2 + 2.0 * wave["surface"]
        hour = 2.0 * np.pi * (seconds / physics.SECONDS_PER_DAY % 1.0) + self.longitude - np.pi
        day_and_night = 6.0 * np.cos(self.latitude) * np.cos(hour - 0.5)  # warmest two hours late
        yearly = 25.0 * sin_latitude * season
        on_land = ts + land * (yearly + day_and_night + 2.0 * wave["surface"]) - 6.0e-3 * height
        frozen = 1.0 / (1.0 + np.exp((ts - 271.0) / 1.2))
        sea = (1.0 - frozen) * np.maximum(ts, 271.35) + frozen * np.minimum(ts - 4.0, 271.35)
        ice, ts = (1.0 - land) * frozen, land * on_land + (1.0 - land) * sea
        storms = 900.0 * wave["ps"] * (0.3 + 0.7 * np.abs(sin_latitude))
        ps = (101_000.0 + storms) * np.exp(-physics.GRAVITY * height / physics.GAS_CONSTANT / ts)
        cold = np.clip((274.0 - ts) / 12.0, 0.0, 2.0)
        snow = land * 0.15 * cold * np.exp(0.7 * wave["snow"])
        mu = physics.cos_zenith(seconds, self.latitude, self.longitude)
        scalars = {
            "state_ps": ps,
            "pbuf_SOLIN": physics.insolation(seconds, self.latitude, self.longitude),
            "pbuf_COSZRS": mu,
            "cam_in_LWUP": (0.97 + 0.02 * (1.0 - land)) * physics.STEFAN_BOLTZMANN * ts**4,
            "cam_in_ICEFRAC": ice,
            "cam_in_LANDFRAC": land,
            "cam_in_OCNFRAC": 1.0 - land - ice,
            "cam_in_SNOWHLAND": snow,
        }
        # Sea albedo to the direct beam: Briegleb et al. (1986), J. Clim. Appl. Meteorol. 25, 214.
        sea_beam = 0.026 / (mu**1.7 + 0.065) + 0.15 * (mu - 0.1) * (mu - 0.5) * (mu - 1.0)
        covered = snow / (snow + 0.05)
        low_sun = 0.06 * (1.0 - mu)
        for band, ground, white in (("S", 0.10, 0.85), ("L", 0.24, 0.60)):
            bare = ground * np.exp(0.3 * wave["soil"])
            soil = land * (covered * white + (1.0 - covered) * bare)
            floe = ice * (white - 0.15)
            open_sea = np.maximum(scalars["cam_in_OCNFRAC"], 0.0)
            scalars[f"cam_in_A{band}DIF"] = soil + floe + open_sea * 0.06
            scalars[f"cam_in_A{band}DIR"] = soil + floe + land * low_sun + open_sea * sea_beam
        return scalars, ts

    def _air(
        self, seconds: float, p: Array, ts: Array, s: dict[str, Array], wave: dict[str, Array]
    ) -> tuple[Air, Array]:
        """Air without clouds, and how moist it is on a scale of 0 to 1.05, (n, 60)."""
        declination, _ = physics.solar_position(seconds)
        sin_latitude = np.sin(self.latitude)[:, None]
        offset = sin_latitude - 0.3 * np.sin(declination)
        sigma = p / s["state_ps"][:, None]
        aloft = 1.0 - sigma
        cold = np.clip((288.0 - ts) / 40.0, 0.0, 1.2)
        exponent = 0.188 + 0.012 * wave["lapse"] - 0.035 * cold
        near_ground = ts - 0.8 + 1.3 * wave["contrast"] + 1.5 * cold
        lower = near_ground[:, None] * sigma ** exponent[:, None]
        upper = 198.0 + 16.0 * offset**2 + 60.0 * np.exp(-((np.log(p / 120.0) / 1.7) ** 2))
        t = upper + 6.0 * np.logaddexp(0.0, (lower - upper) / 6.0)
        t += (0.5 + 2.2 * aloft) * wave["t"]
        jet = np.exp(-((np.log(p / 22_000.0) / 0.95) ** 2))
        u = 32.0 * np.sin(2.0 * self.latitude[:, None]) ** 2 * jet + 4.0 * np.abs(sin_latitude)
        u += -6.0 * np.exp(-((offset / 0.3) ** 2)) + (3.0 + 8.0 * aloft) * wave["u"]
        v = (3.0 + 7.0 * aloft) * wave["v"]
        rains = 1.4 * np.exp(-((offset / 0.15) ** 2))
        deserts = 0.9 * np.exp(-(((np.abs(offset) - 0.42) / 0.15) ** 2))
        score = 1.2 - 2.0 * np.sin(np.pi * sigma) ** 2 - 0.6 * aloft + rains - deserts
        rh = 1.05 / (1.0 + np.exp(-score - (0.7 + 0.9 * aloft) * wave["rh"]))
        moist = np.log(rh * physics.saturation_humidity(t, p))
        dry = np.log(3.5e-6) - 0.08 * np.log(p / 1e4) + 0.08 * wave["rh"]
        tropopause = 11_000.0 + 13_000.0 * sin_latitude**2
        below = 1.0 / (1.0 + (tropopause / p) ** 6)
        q = np.exp(below * moist + (1.0 - below) * dry)
        zero = np.zeros_like(t)
        return Air(t=t, qv=q, ql=zero, qi=zero, u=u, v=v), below * rh


def _clouds(air: Air, rh: Array, anomaly: Array) -> None:
    """Fill cloud liquid and ice: thick near saturation, fading exponentially in dry or cold air."""
    level = np.arange(N_LEVELS)
    log_total = np.log(5e-5) - 9.0 * np.maximum(0.95 - rh, 0.0) + 0.9 * anomaly
    warmth = (air.t - 256.0) / 4.0
    n_cold = FIRST_LIQUID - FIRST_ACTIVE
    above_liquid = n_cold * np.clip((FIRST_LIQUID - level) / n_cold, 0.0, 1.0) ** 2.5
    above_ice = np.clip(WELL_MIXED - level, 0, n_cold)
    log_liquid = log_total - np.logaddexp(0.0, -warmth) - 5.5 * above_liquid
    air.ql = np.exp(np.maximum(log_liquid, -134.0))  # 6e-59: what the real data hold at least
    air.qi = np.exp(log_total - np.logaddexp(0.0, warmth) - 1.5 * above_ice)


def _gases(p: Array, latitude: Array, wave: dict[str, Array]) -> dict[str, Array]:
    layer = np.exp(-((np.log(p / 1000.0) / 1.5) ** 2))
    ozone = 8e-6 * layer * (1.0 - 0.25 * np.sin(latitude[:, None]) ** 2) + 4e-8
    age = (1.0 + 0.1 * wave["gas"]) * (1.0 - 0.2 * np.cos(latitude[:, None]))
    decay = np.where(np.arange(N_LEVELS) < WELL_MIXED, np.log(p / 29_000.0) * age, 0.0)
    return {
        "pbuf_ozone": ozone * np.exp(0.12 * wave["ozone"]),
        "pbuf_CH4": 1.8e-6 * np.exp(0.25 * np.minimum(decay, 0.0)),
        "pbuf_N2O": 3.2e-7 * np.exp(0.6 * np.minimum(decay, 0.0)),
    }


def _surface_fluxes(s: dict[str, Array], ts: Array, air: Air, p: Array) -> None:
    """Bulk fluxes; upward heat and moisture, and the stress that the ground puts on the air.

    Source: Large and Pond (1981, 1982), J. Phys. Oceanogr., constant exchange coefficients scaled
    by the sign of the contrast between ground and air.
    """
    t, q, u, v = air.t[:, -1], air.qv[:, -1], air.u[:, -1], air.v[:, -1]
    land = s["cam_in_LANDFRAC"]
    density = p[:, -1] / (physics.GAS_CONSTANT * physics.virtual_temperature(t, q))
    wind = np.sqrt(np.minimum(u * u + v * v, LONGEST_WIND**2) + 1.0)
    contrast = ts - t
    stability = 1.0 + 0.5 * np.tanh(contrast / 2.0)
    exchange = density * wind * stability * (1.2e-3 + 1.3e-3 * land)
    wetness = 1.0 - 0.65 * land
    vapour = wetness * exchange * (physics.saturation_humidity(ts, s["state_ps"]) - q)
    s["pbuf_LHFLX"] = physics.LATENT_HEAT_VAPOUR * vapour
    s["pbuf_SHFLX"] = physics.HEAT_CAPACITY * exchange * contrast
    stress = -density * wind * stability * (1.3e-3 + 2.0e-3 * land)
    s["pbuf_TAUX"], s["pbuf_TAUY"] = stress * u, stress * v
