"""Mixing by turbulence, the surface fluxes that feed it, and the drag of waves on the wind."""

from __future__ import annotations

import numpy as np

from features.climate import physics
from features.climate.physics import TIMESTEP
from features.core.types import Array
from features.synthetic.state import FIRST_ACTIVE, Air, Columns

KARMAN = 0.4
LONGEST_MIXING = 100.0  # m, mixing length far from the ground
DEEPEST_LAYER = 3000.0  # m


def diffusivity(columns: Columns) -> Array:
    """Eddy diffusivity between the active levels, m2/s, (n, 47).

    A cubic profile in the boundary layer (O'Brien 1970, J. Atmos. Sci. 27, 1213-1215), whose
    velocity and depth grow with stress and buoyancy flux; above it a mixing length with a
    Richardson number (Louis 1979, Boundary-Layer Meteorol. 17, 187-202).
    """
    s = columns.scalars
    active = slice(FIRST_ACTIVE, None)
    air, z, p = columns.air, columns.z[:, active], columns.p[:, active]
    moist = physics.virtual_temperature(air.t[:, active], air.qv[:, active])
    theta = physics.potential_temperature(moist, p)
    dz = z[:, :-1] - z[:, 1:]
    between = 0.5 * (z[:, :-1] + z[:, 1:])
    shear = (np.diff(air.u[:, active]) / dz) ** 2 + (np.diff(air.v[:, active]) / dz) ** 2 + 1e-8
    stability = physics.GRAVITY * (theta[:, :-1] - theta[:, 1:]) / (dz * theta[:, 1:])
    richardson = np.clip(stability / shear, -20.0, None)
    damping = np.where(
        richardson > 0.0,
        1.0 / (1.0 + 5.0 * np.maximum(richardson, 0.0)),
        np.sqrt(1.0 - 16.0 * np.minimum(richardson, 0.0)),
    )
    length = KARMAN * between / (1.0 + KARMAN * between / LONGEST_MIXING)
    free = 1.0 + length**2 * np.sqrt(shear) * damping
    density = p[:, -1] / (physics.GAS_CONSTANT * moist[:, -1])
    friction = (np.hypot(s["pbuf_TAUX"], s["pbuf_TAUY"]) / density) ** 0.5
    heat = np.maximum(s["pbuf_SHFLX"] + 0.07 * s["pbuf_LHFLX"], 0.0)
    depth = np.clip(150.0 + 1800.0 * friction + 9.0 * heat, None, DEEPEST_LAYER)
    buoyancy = physics.GRAVITY * heat / (density * physics.HEAT_CAPACITY * theta[:, -1])
    velocity = np.cbrt(friction**3 + 0.6 * buoyancy * depth)
    inside = np.clip(1.0 - between / depth[:, None], 0.0, None)
    return np.minimum(free + KARMAN * velocity[:, None] * between * inside**2, 400.0)


def mix(air: Air, columns: Columns, factor: Array) -> None:
    """Mix heat, vapour and momentum over the step and let the surface fluxes in at the bottom.

    Args:
        air: changed in place.
        columns: the state before the step.
        factor: multiplies the diffusivity, (n,).
    """
    s = columns.scalars
    active = slice(FIRST_ACTIVE, None)
    mass, z, p = columns.mass[:, active], columns.z[:, active], columns.p[:, active]
    t = 0.5 * (air.t[:, active][:, :-1] + air.t[:, active][:, 1:])
    density = 0.5 * (p[:, :-1] + p[:, 1:]) / (physics.GAS_CONSTANT * t)
    exchange = diffusivity(columns) * factor[:, None] * density * TIMESTEP
    exchange /= z[:, :-1] - z[:, 1:]  # kg/m2 that change places in the step
    potential = physics.GRAVITY * z / physics.HEAT_CAPACITY
    # Dry static energy over heat capacity, so that mixing keeps the column's enthalpy.
    fields = np.stack([air.t + 0.0, air.qv, air.u, air.v])[..., active]
    fields[0] += potential
    sources = [
        s["pbuf_SHFLX"] / physics.HEAT_CAPACITY,
        s["pbuf_LHFLX"] / physics.LATENT_HEAT_VAPOUR,
        s["pbuf_TAUX"],
        s["pbuf_TAUY"],
    ]
    fields[..., -1] += np.stack(sources) * (TIMESTEP / mass[:, -1])
    mixed = _implicit(fields, mass, exchange)
    flux = exchange * np.diff(mixed)  # upward: a gain above is exactly a loss below
    fields[..., :-1] += flux / mass[:, :-1]
    fields[..., 1:] -= flux / mass[:, 1:]
    air.t[:, active] = fields[0] - potential
    air.qv[:, active], air.u[:, active], air.v[:, active] = fields[1:]


def _implicit(fields: Array, mass: Array, exchange: Array) -> Array:
    """Solve mass x - d(exchange dx) = mass fields down each column (Thomas algorithm).

    Args:
        fields: (f, n, m).
        mass: (n, m).
        exchange: (n, m - 1).

    Returns:
        x, (f, n, m).
    """
    n_levels = mass.shape[1]
    diagonal = mass.copy()
    diagonal[:, :-1] += exchange
    diagonal[:, 1:] += exchange
    ratio = np.zeros((n_levels, len(mass)))
    solution = np.empty((n_levels, *fields.shape[:2]))
    weighted = fields * mass
    ratio[0] = exchange[:, 0] / diagonal[:, 0]
    solution[0] = weighted[..., 0] / diagonal[:, 0]
    for k in range(1, n_levels):
        above = exchange[:, k - 1]
        pivot = diagonal[:, k] - above * ratio[k - 1]
        if k < n_levels - 1:
            ratio[k] = exchange[:, k] / pivot
        solution[k] = (weighted[..., k] + above * solution[k - 1]) / pivot
    for k in reversed(range(n_levels - 1)):
        solution[k] += ratio[k] * solution[k + 1]
    return np.moveaxis(solution, 0, -1)


def drag(air: Air, columns: Columns) -> tuple[Array, Array]:
    """Slow the wind where waves break aloft and where land blocks it below.

    Args:
        air: changed in place.
        columns: the state before the step.

    Returns:
        Force on the column east and north, N/m2, each (n,).
    """
    active = slice(FIRST_ACTIVE, None)
    p = columns.p[:, active]
    u, v = air.u[:, active], air.v[:, active]
    speed = np.sqrt(u * u + v * v)
    land = columns.scalars["cam_in_LANDFRAC"][:, None]
    breaking = (2e-6 + 4e-6 * land) * np.sqrt(1e4 / p) * (speed / 20.0) ** 2
    breaking /= 1.0 + (p / 1e4) ** 3
    blocking = 6e-5 * land * np.exp(-columns.z[:, active] / 700.0) * speed / 5.0
    rate = (breaking + blocking) * TIMESTEP
    share = rate / (1.0 + rate)
    force = []
    for wind in (u, v):
        lost = share * wind
        wind -= lost
        force.append(-physics.column_integral(lost, columns.mass[:, active]) / TIMESTEP)
    return force[0], force[1]
