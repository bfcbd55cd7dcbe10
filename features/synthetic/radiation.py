"""Sunlight and heat radiation through the layers; energy is neither lost nor made on the way.

Both schemes return net fluxes at the 61 interfaces: what a layer gains is their difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.climate import physics
from features.climate.physics import N_LEVELS
from features.core.types import Array
from features.synthetic.state import Columns

SLANT = 1.66  # mean path of diffuse light through a layer over its thickness (Elsasser 1942)
OZONE_MASS_RATIO = 48.0 / 28.97
VISIBLE_SHARE = 0.46  # of sunlight, below 0.7 micrometres
WINDOW_SHARE = 0.28  # of black-body radiation, where vapour and CO2 are nearly clear


@dataclass(frozen=True)
class Sunlight:
    """Shortwave fluxes, W/m2.

    Attributes:
        net: downward minus upward at the interfaces, (n, 61).
        direct: beam at the surface in the visible and the near infrared, (2, n).
        diffuse: scattered light at the surface in the same bands, (2, n).
    """

    net: Array
    direct: Array
    diffuse: Array


def shortwave(columns: Columns) -> Sunlight:
    """Two bands, a direct beam and diffuse light, by adding layers from the ground up.

    Source of the adding method: Lacis and Hansen (1974), J. Atmos. Sci. 31, 118-133.
    """
    s, air, mass = columns.scalars, columns.air, columns.mass
    ozone = columns.gases["pbuf_ozone"] * OZONE_MASS_RATIO
    cloud = (150.0 * air.ql + 50.0 * air.qi) * mass  # optical depth: drops 10, crystals 30 um
    molecules = np.array([0.12, 0.01])[:, None, None] * mass / 1e4
    absorbing = np.stack([8.0 * ozone * mass, 0.008 * air.qv * mass + 0.01 * cloud])
    scattering = molecules + cloud
    backward = 0.5 * molecules + 0.075 * cloud
    slant = np.maximum(s["pbuf_COSZRS"], 0.02)[:, None]  # the sphere keeps paths finite
    depth = absorbing + scattering
    passing = np.exp(-depth / slant)
    up_share = backward / slant / (1.0 + backward / slant)
    down_share = (1.0 - passing - up_share) * scattering / depth
    reflect = SLANT * backward / (1.0 + SLANT * backward)
    transmit = (1.0 - reflect) * np.exp(-SLANT * absorbing)

    share = np.array([VISIBLE_SHARE, 1.0 - VISIBLE_SHARE])[:, None]
    top = share * s["pbuf_SOLIN"]
    beam = np.empty((N_LEVELS + 1, *top.shape))
    beam[0] = top
    for k in range(N_LEVELS):
        beam[k + 1] = beam[k] * passing[..., k]
    # Above each interface: upward light = albedo * diffuse light going down + source.
    albedo, source = np.empty_like(beam), np.empty_like(beam)
    albedo[-1] = np.stack([s["cam_in_ASDIF"], s["cam_in_ALDIF"]])
    source[-1] = np.stack([s["cam_in_ASDIR"], s["cam_in_ALDIR"]]) * beam[-1]
    for k in reversed(range(N_LEVELS)):
        r, t = reflect[..., k], transmit[..., k]
        between = 1.0 / (1.0 - r * albedo[k + 1])
        down = beam[k] * down_share[..., k]
        albedo[k] = r + t * t * albedo[k + 1] * between
        source[k] = beam[k] * up_share[..., k]
        source[k] += t * (source[k + 1] + albedo[k + 1] * down) * between
    diffuse = np.zeros_like(beam)
    for k in range(N_LEVELS):
        r, t = reflect[..., k], transmit[..., k]
        arriving = t * diffuse[k] + r * source[k + 1] + beam[k] * down_share[..., k]
        diffuse[k + 1] = arriving / (1.0 - r * albedo[k + 1])
    net = (beam + diffuse - albedo * diffuse - source).sum(axis=1)
    return Sunlight(net.T, beam[-1], diffuse[-1])


def longwave(columns: Columns) -> tuple[Array, Array]:
    """Two grey bands: emission and absorption by vapour, CO2, ozone and cloud.

    Returns:
        Net flux (downward minus upward) at the interfaces, W/m2, (n, 61), and the flux down to
        the surface, W/m2, (n,).
    """
    air, mass = columns.air, columns.mass
    cloud = 140.0 * air.ql + 50.0 * air.qi
    broadening = np.sqrt(columns.p / physics.REFERENCE_PRESSURE)
    ozone = 20.0 * columns.gases["pbuf_ozone"] * OZONE_MASS_RATIO
    opaque = (1.2e-4 + 0.07 * air.qv * broadening + ozone + cloud) * mass
    window = (1.2 * air.qv**2 + cloud) * mass
    emissivity = -np.expm1(-SLANT * np.stack([opaque, window]))
    share = np.array([1.0 - WINDOW_SHARE, WINDOW_SHARE])[:, None]
    emitted = emissivity * share[..., None] * physics.STEFAN_BOLTZMANN * air.t**4
    down = np.zeros((N_LEVELS + 1, 2, len(mass)))
    up = np.empty_like(down)
    up[-1] = share * columns.scalars["cam_in_LWUP"]
    for k in range(N_LEVELS):
        down[k + 1] = down[k] * (1.0 - emissivity[..., k]) + emitted[..., k]
    for k in reversed(range(N_LEVELS)):
        up[k] = up[k + 1] * (1.0 - emissivity[..., k]) + emitted[..., k]
    return (down - up).sum(axis=1).T, down[-1].sum(axis=0)
