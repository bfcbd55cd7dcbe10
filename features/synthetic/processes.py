"""Clouds, rain and convection: every process moves water and heat, and none makes or loses any.

Latent heats: vapour to liquid LV, liquid to ice LF, vapour to ice LV + LF. Moist enthalpy is
cp T + LV qv - LF qi, so rain carries none away and snow carries -LF.
"""

from __future__ import annotations

import numpy as np

from features.climate import physics
from features.climate.physics import TIMESTEP
from features.core.types import Array
from features.synthetic.state import FIRST_ACTIVE, FIRST_LIQUID, Air, Columns

CP, LV, LF = physics.HEAT_CAPACITY, physics.LATENT_HEAT_VAPOUR, physics.LATENT_HEAT_FUSION
ACTIVE = slice(FIRST_ACTIVE, None)
N_COLD = FIRST_LIQUID - FIRST_ACTIVE  # the active levels too cold for liquid


def freeze(air: Air) -> None:
    """Homogeneous freezing: all liquid in the cold levels, and below them wherever it is cold."""
    t, ql, qi = air.t[:, ACTIVE], air.ql[:, ACTIVE], air.qi[:, ACTIVE]
    share = 1.0 / (1.0 + np.exp((t - physics.FREEZING_POINT) / 1.5))
    share[:, :N_COLD] = 1.0
    frozen = share * ql
    ql -= frozen
    qi += frozen
    t += LF / CP * frozen


def melt(air: Air) -> None:
    """Cloud ice turns liquid in warm air, within the step."""
    below = slice(FIRST_LIQUID, None)
    t, ql, qi = air.t[:, below], air.ql[:, below], air.qi[:, below]
    warm = np.maximum(t - physics.MELTING_POINT, 0.0)
    melted = np.minimum(qi * -np.expm1(-warm), CP / LF * warm)
    qi -= melted
    ql += melted
    t -= LF / CP * melted


def condense(air: Air, columns: Columns) -> None:
    """Saturation adjustment: cloud forms in supersaturated air and fades in dry air."""
    t, qv, ql, qi = (x[:, ACTIVE] for x in (air.t, air.qv, air.ql, air.qi))
    liquid = physics.liquid_fraction(t)
    liquid[:, :N_COLD] = 0.0
    saturated = physics.saturation_humidity(t, columns.p[:, ACTIVE])
    heat = LV + (1.0 - liquid) * LF
    # One Newton step: what condenses also warms, which lets the air hold more.
    slope = heat**2 * saturated / (CP * physics.GAS_CONSTANT_VAPOUR * t * t)
    excess = (qv - saturated) / (1.0 + slope)
    formed = np.minimum(np.maximum(excess, 0.0), qv)
    deficit = np.maximum(-excess, 0.0)
    cloud = ql + qi
    rate = -np.expm1(-np.maximum(1.0 - qv / saturated, 0.0))
    share = rate * deficit / (deficit + cloud + 1e-300)
    from_liquid, from_ice = share * ql, share * qi
    qv += from_liquid + from_ice - formed
    ql += liquid * formed - from_liquid
    qi += (1.0 - liquid) * formed - from_ice
    t += (heat * formed - LV * from_liquid - (LV + LF) * from_ice) / CP


def sediment(air: Air, columns: Columns) -> Array:
    """Ice crystals fall through the levels, faster where there are more (implicit, upwind).

    Returns:
        Ice that leaves the bottom, kg/m2, (n,).
    """
    qi, mass, t = air.qi[:, ACTIVE], columns.mass[:, ACTIVE], air.t[:, ACTIVE]
    density = columns.p[:, ACTIVE] / (physics.GAS_CONSTANT * t)
    speed = 0.15 + 0.7 * qi / (qi + 5e-5)  # m/s
    swept = speed * density * TIMESTEP  # kg of air per m2 that the crystals fall through
    falling = np.zeros(len(qi))
    for k in range(qi.shape[1]):
        held = (qi[:, k] * mass[:, k] + falling) / (mass[:, k] + swept[:, k])
        falling = held * swept[:, k]
        qi[:, k] = held
    return falling


def precipitate(air: Air, columns: Columns, factor: Array) -> tuple[Array, Array]:
    """Cloud turns to rain and snow, which melt and partly evaporate on the way down.

    The threshold form follows Sundqvist (1978), Q. J. R. Meteorol. Soc. 104, 677-690.

    Args:
        air: changed in place.
        columns: the state before the step.
        factor: multiplies the rate at which drops and crystals grow, (n,).

    Returns:
        Rain and snow at the surface, kg/m2 in the step, each (n,).
    """
    t, qv, ql, qi = (x[:, ACTIVE] for x in (air.t, air.qv, air.ql, air.qi))
    mass, p = columns.mass[:, ACTIVE], columns.p[:, ACTIVE]
    growth = factor[:, None] * TIMESTEP / 1500.0
    drops = ql * -np.expm1(-growth * -np.expm1(-((ql / 1e-4) ** 2)))
    drops[:, :N_COLD] = 0.0
    crystals = qi * -np.expm1(-growth * -np.expm1(-((qi / 4e-5) ** 2)))
    ql -= drops
    qi -= crystals
    saturated = physics.saturation_humidity(t, p)
    slope = LV**2 * saturated / (CP * physics.GAS_CONSTANT_VAPOUR * t * t)
    room = 0.5 * np.maximum(saturated - qv, 0.0) / (1.0 + slope) * mass
    dryness = np.maximum(1.0 - qv / saturated, 0.0)
    share = -np.expm1(-0.5 * dryness * mass * physics.GRAVITY / 5000.0)
    rain, snow = np.zeros(len(t)), np.zeros(len(t))
    for k in range(t.shape[1]):
        m = mass[:, k]
        rain = rain + drops[:, k] * m
        snow = snow + crystals[:, k] * m
        warm = np.maximum(t[:, k] - physics.MELTING_POINT, 0.0)
        melted = np.minimum(snow * -np.expm1(-0.5 * warm), CP / LF * warm * m)
        snow, rain = snow - melted, rain + melted
        wanted = share[:, k] * (rain + snow)
        limit = room[:, k] / (room[:, k] + wanted + 1e-300)  # never more than the air can take
        dried, sublimed = (limit * share[:, k] * x for x in (rain, snow))
        rain, snow = rain - dried, snow - sublimed
        qv[:, k] += (dried + sublimed) / m
        t[:, k] -= (LF * melted + LV * dried + (LV + LF) * sublimed) / (CP * m)
    return rain, snow


def convect(air: Air, columns: Columns, factor: Array) -> tuple[Array, Array]:
    """Relax unstable columns to a moist adiabat, rain out the water, and mix the wind.

    After Betts and Miller (1986), Q. J. R. Meteorol. Soc. 112, 693-709: a reference profile
    shifted so that the adjustment keeps the moist enthalpy.

    Args:
        air: changed in place.
        columns: the state before the step.
        factor: multiplies the rate of adjustment, (n,).

    Returns:
        Rain, kg/m2 in the step, and the energy of the buoyant air, J/kg; each (n,).
    """
    deep = slice(FIRST_LIQUID, None)
    t, qv, p, mass = air.t[:, deep], air.qv[:, deep], columns.p[:, deep], columns.mass[:, deep]
    parcel, moist_above = _ascent(t, qv, p)
    warmer = parcel - t
    log_p = np.log(p)
    thickness = np.gradient(log_p, axis=1) * moist_above
    energy = physics.GAS_CONSTANT * (np.maximum(warmer, 0.0) * thickness).sum(axis=1)
    within = moist_above / (1.0 + np.exp(-(warmer + 0.3) / 0.3))
    # Cloud ends at the first stable layer: the buoyant share can only shrink on the way up.
    for k in reversed(range(t.shape[1] - 1)):
        lower = np.maximum(within[:, k + 1], 1.0 - moist_above[:, k + 1])
        within[:, k] = np.minimum(within[:, k], lower)
    wetness = 0.35 + 0.4 * p / p[:, -1:]
    # Rising air dries the levels and never moistens them: every adjusted column rains.
    surplus = np.maximum(qv - wetness * physics.saturation_humidity(parcel, p), 0.0)
    drying = within * surplus
    air_within = np.maximum((within * mass).sum(axis=1), 1e-9)
    gap = within * mass * (CP * (parcel - t) - LV * surplus)
    shift = gap.sum(axis=1) / (CP * air_within)
    rain = physics.column_integral(drying, mass)
    active = -np.expm1(-energy / 150.0)
    rate = active * np.minimum(factor * TIMESTEP / 5400.0, 0.9)
    warming = within * (parcel - t - shift[:, None])
    qv -= rate[:, None] * drying
    t += rate[:, None] * warming
    for wind in (air.u[:, deep], air.v[:, deep]):
        mean = physics.column_integral(within * wind, mass) / air_within
        wind += 0.7 * rate[:, None] * within * (mean[:, None] - wind)
    return rate * rain, energy


def _ascent(t: Array, qv: Array, p: Array) -> tuple[Array, Array]:
    """Temperature of air lifted from near the ground, K, and where it is saturated (0 to 1)."""
    start = slice(-6, None)
    parcel_t, parcel_p, parcel_q = (x[:, start].mean(axis=1) for x in (t, p, qv))
    base = physics.condensation_temperature(parcel_t, parcel_p, parcel_q)
    base_p = parcel_p * (base / parcel_t) ** (1.0 / physics.KAPPA)
    dry = parcel_t[:, None] * (p / parcel_p[:, None]) ** physics.KAPPA
    moist_above = 1.0 / (1.0 + np.exp((p - base_p[:, None]) / 500.0))
    lifted, last_p = base, base_p
    profile = np.empty_like(t)
    for k in reversed(range(t.shape[1])):
        step = np.minimum(np.log(p[:, k] / last_p), 0.0)  # zero below the cloud base
        lifted = lifted + physics.moist_lapse(lifted, p[:, k]) * step
        last_p = np.minimum(p[:, k], last_p)
        profile[:, k] = lifted
    return moist_above * profile + (1.0 - moist_above) * dry, moist_above
