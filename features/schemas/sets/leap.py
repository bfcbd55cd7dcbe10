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


def _input(name: str, unit: str, n_levels: int = 1, **more: Any) -> Variable:
    return Variable(name=name, unit=unit, role="input", n_levels=n_levels, **more)


def _target(name: str, unit: str, n_levels: int = 1, **more: Any) -> Variable:
    return Variable(name=name, unit=unit, role="target", n_levels=n_levels, **more)


def _wind_tendency(name: str, axis: Axis) -> Variable:
    return _target(name, "m/s2", N_LEVELS, axis=axis, unscored_levels=12)


def _moisture_tendency(species: str, exact: Proportion | None = None) -> Variable:
    dry = Proportion(f"state_{species}", -TIMESTEP, (0, N_LEVELS))  # nothing dries below zero
    unit, name = "kg/kg/s", f"ptend_{species}"
    return _target(name, unit, N_LEVELS, unscored_levels=12, exact=exact, lower_bound=dry)


SCHEMA = Schema(
    name="leap",
    score="LEAP score",
    n_grid_columns=384,
    variables=(
        _input("state_t", "K", N_LEVELS),
        _input("state_q0001", "kg/kg", N_LEVELS, encoding="log"),  # specific humidity
        _input("state_q0002", "kg/kg", N_LEVELS, encoding="log"),  # cloud liquid
        _input("state_q0003", "kg/kg", N_LEVELS, encoding="log"),  # cloud ice
        _input("state_u", "m/s", N_LEVELS, axis="eastward"),
        _input("state_v", "m/s", N_LEVELS, axis="northward"),
        _input("state_ps", "Pa"),
        _input("pbuf_SOLIN", "W/m2"),
        _input("pbuf_LHFLX", "W/m2"),
        _input("pbuf_SHFLX", "W/m2"),
        _input("pbuf_TAUX", "N/m2", axis="eastward"),
        _input("pbuf_TAUY", "N/m2", axis="northward"),
        _input("pbuf_COSZRS", "1"),
        _input("cam_in_ALDIF", "1"),
        _input("cam_in_ALDIR", "1"),
        _input("cam_in_ASDIF", "1"),
        _input("cam_in_ASDIR", "1"),
        _input("cam_in_LWUP", "W/m2"),
        _input("cam_in_ICEFRAC", "1"),
        _input("cam_in_LANDFRAC", "1", static=True),
        _input("cam_in_OCNFRAC", "1"),
        _input("cam_in_SNOWHLAND", "m"),
        _input("pbuf_ozone", "mol/mol", N_LEVELS),
        _input("pbuf_CH4", "mol/mol", N_LEVELS),
        _input("pbuf_N2O", "mol/mol", N_LEVELS),
        _target("ptend_t", "K/s", N_LEVELS),
        _moisture_tendency("q0001"),
        # All liquid at levels 12-27 is gone after one step; exact in the real data.
        _moisture_tendency("q0002", exact=Proportion("state_q0002", -TIMESTEP, (12, 28))),
        _moisture_tendency("q0003"),
        _wind_tendency("ptend_u", "eastward"),
        _wind_tendency("ptend_v", "northward"),
        _target("cam_out_NETSW", "W/m2"),
        _target("cam_out_FLWDS", "W/m2"),
        _target("cam_out_PRECSC", "m/s"),
        _target("cam_out_PRECC", "m/s"),
        _target("cam_out_SOLS", "W/m2"),
        _target("cam_out_SOLL", "W/m2"),
        _target("cam_out_SOLSD", "W/m2"),
        _target("cam_out_SOLLD", "W/m2"),
    ),
)
