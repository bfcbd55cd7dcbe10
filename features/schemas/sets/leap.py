"""The LEAP schema: 556 inputs to 368 targets on 60 levels.

Source: ClimSim (Yu et al., NeurIPS 2023, CC BY 4.0), the ``v2`` variable set of the Kaggle
competition *LEAP - Atmospheric Physics using AI*. Level 0 is the model top, level 59 the surface.
Tendencies are ``(after - before) / 1200 s``. Weights are the competition's 0/1 weights since
2024-06-19: the top 12 levels of all moisture and wind tendencies are not scored.
"""

from __future__ import annotations

from typing import Any

from features.schemas.schema import Axis, Proportion, Schema, Variable

N_LEVELS = 60
TIMESTEP = 1200.0  # seconds between the state before and the state after

# What can't be true, with room for other years, regions and rounding: docs/limits.md has sources.
# A tendency is limited by what leads from one limit of its state to the other in one step.
WIND, WIND_TENDENCY = (-500.0, 500.0), (-1.0, 1.0)
CLOUD, CLOUD_TENDENCY = (-1e-6, 0.05), (-5e-5, 5e-5)
GAS = (0.0, 1e-4)
SUNLIGHT = (-1.0, 1500.0)
HEAT_RADIATION = (5.0, 1500.0)  # of black bodies of 97 and 403 K
TURBULENT_HEAT = (-900.0, 3000.0)
STRESS = (-100.0, 100.0)
FRACTION = (-0.01, 1.01)
SNOW = (-1e-3, 20.0)

Limits = tuple[float, float]


def _input(name: str, unit: str, limits: Limits, n_levels: int = 1, **more: Any) -> Variable:
    return Variable(name=name, unit=unit, role="input", limits=limits, n_levels=n_levels, **more)


def _target(name: str, unit: str, limits: Limits, n_levels: int = 1, **more: Any) -> Variable:
    return Variable(name=name, unit=unit, role="target", limits=limits, n_levels=n_levels, **more)


def _wind_tendency(name: str, axis: Axis) -> Variable:
    return _target(name, "m/s2", WIND_TENDENCY, N_LEVELS, axis=axis, unscored_levels=12)


def _moisture_tendency(species: str, limits: Limits, exact: Proportion | None = None) -> Variable:
    dry = Proportion(f"state_{species}", -TIMESTEP, (0, N_LEVELS))  # nothing dries below zero
    return _target(
        f"ptend_{species}",
        "kg/kg/s",
        limits,
        N_LEVELS,
        unscored_levels=12,
        exact=exact,
        lower_bound=dry,
    )


SCHEMA = Schema(
    name="leap",
    score="LEAP score",
    n_grid_columns=384,
    variables=(
        _input("state_t", "K", (80.0, 600.0), N_LEVELS),
        # Specific humidity, cloud liquid, cloud ice.
        _input("state_q0001", "kg/kg", (-1e-6, 0.1), N_LEVELS, encoding="log"),
        _input("state_q0002", "kg/kg", CLOUD, N_LEVELS, encoding="log"),
        _input("state_q0003", "kg/kg", CLOUD, N_LEVELS, encoding="log"),
        _input("state_u", "m/s", WIND, N_LEVELS, axis="eastward"),
        _input("state_v", "m/s", WIND, N_LEVELS, axis="northward"),
        _input("state_ps", "Pa", (3e4, 1.2e5)),
        _input("pbuf_SOLIN", "W/m2", SUNLIGHT),
        _input("pbuf_LHFLX", "W/m2", TURBULENT_HEAT),
        _input("pbuf_SHFLX", "W/m2", TURBULENT_HEAT),
        _input("pbuf_TAUX", "N/m2", STRESS, axis="eastward"),
        _input("pbuf_TAUY", "N/m2", STRESS, axis="northward"),
        _input("pbuf_COSZRS", "1", (-1.01, 1.01)),
        _input("cam_in_ALDIF", "1", FRACTION),
        _input("cam_in_ALDIR", "1", FRACTION),
        _input("cam_in_ASDIF", "1", FRACTION),
        _input("cam_in_ASDIR", "1", FRACTION),
        _input("cam_in_LWUP", "W/m2", HEAT_RADIATION),
        _input("cam_in_ICEFRAC", "1", FRACTION),
        _input("cam_in_LANDFRAC", "1", FRACTION, static=True),
        _input("cam_in_OCNFRAC", "1", FRACTION),
        _input("cam_in_SNOWHLAND", "m", SNOW),
        _input("pbuf_ozone", "mol/mol", GAS, N_LEVELS, slow=True),
        _input("pbuf_CH4", "mol/mol", GAS, N_LEVELS),
        _input("pbuf_N2O", "mol/mol", GAS, N_LEVELS),
        _target("ptend_t", "K/s", (-0.5, 0.5), N_LEVELS),
        _moisture_tendency("q0001", (-1e-4, 1e-4)),
        # All liquid at levels 12-27 is gone after one step; exact in the real data.
        _moisture_tendency(
            "q0002", CLOUD_TENDENCY, exact=Proportion("state_q0002", -TIMESTEP, (12, 28))
        ),
        _moisture_tendency("q0003", CLOUD_TENDENCY),
        _wind_tendency("ptend_u", "eastward"),
        _wind_tendency("ptend_v", "northward"),
        _target("cam_out_NETSW", "W/m2", SUNLIGHT),
        _target("cam_out_FLWDS", "W/m2", HEAT_RADIATION),
        _target("cam_out_PRECSC", "m/s", (-1e-9, 1e-4)),
        _target("cam_out_PRECC", "m/s", (-1e-9, 6e-4)),
        _target("cam_out_SOLS", "W/m2", SUNLIGHT),
        _target("cam_out_SOLL", "W/m2", SUNLIGHT),
        _target("cam_out_SOLSD", "W/m2", SUNLIGHT),
        _target("cam_out_SOLLD", "W/m2", SUNLIGHT),
    ),
)
