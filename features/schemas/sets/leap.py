"""The LEAP schema: 556 inputs to 368 targets on 60 levels.

Source: ClimSim (Yu et al., NeurIPS 2023, CC BY 4.0), the ``v2`` variable set of the Kaggle
competition *LEAP - Atmospheric Physics using AI*. Level 0 is the model top, level 59 the surface.
Tendencies are ``(after - before) / 1200 s``. Weights are the competition's 0/1 weights since
2024-06-19: the top 12 levels of all moisture and wind tendencies are not scored.
"""

from __future__ import annotations

from features.schemas.schema import Axis, Encoding, Proportion, Schema, Variable

N_LEVELS = 60
TIMESTEP = 1200.0  # seconds between the state before and the state after


def _profile(
    name: str, unit: str, encoding: Encoding = "linear", axis: Axis | None = None
) -> Variable:
    return Variable(name, unit, "input", N_LEVELS, encoding, axis)


def _scalar(name: str, unit: str, axis: Axis | None = None) -> Variable:
    return Variable(name, unit, "input", axis=axis)


def _wind_tendency(name: str, axis: Axis) -> Variable:
    return Variable(name, "m/s2", "target", N_LEVELS, axis=axis, unscored_levels=12)


def _moisture_tendency(species: str, exact: Proportion | None = None) -> Variable:
    source = f"state_{species}"
    return Variable(
        f"ptend_{species}",
        "kg/kg/s",
        "target",
        N_LEVELS,
        unscored_levels=12,
        exact=exact,
        lower_bound=Proportion(source, -TIMESTEP, (0, N_LEVELS)),  # nothing dries below zero
    )


SCHEMA = Schema(
    name="leap",
    n_grid_columns=384,
    variables=(
        _profile("state_t", "K"),
        _profile("state_q0001", "kg/kg", "log"),  # specific humidity
        _profile("state_q0002", "kg/kg", "log"),  # cloud liquid
        _profile("state_q0003", "kg/kg", "log"),  # cloud ice
        _profile("state_u", "m/s", axis="eastward"),
        _profile("state_v", "m/s", axis="northward"),
        _scalar("state_ps", "Pa"),
        _scalar("pbuf_SOLIN", "W/m2"),
        _scalar("pbuf_LHFLX", "W/m2"),
        _scalar("pbuf_SHFLX", "W/m2"),
        _scalar("pbuf_TAUX", "N/m2", axis="eastward"),
        _scalar("pbuf_TAUY", "N/m2", axis="northward"),
        _scalar("pbuf_COSZRS", "1"),
        _scalar("cam_in_ALDIF", "1"),
        _scalar("cam_in_ALDIR", "1"),
        _scalar("cam_in_ASDIF", "1"),
        _scalar("cam_in_ASDIR", "1"),
        _scalar("cam_in_LWUP", "W/m2"),
        _scalar("cam_in_ICEFRAC", "1"),
        _scalar("cam_in_LANDFRAC", "1"),
        _scalar("cam_in_OCNFRAC", "1"),
        _scalar("cam_in_SNOWHLAND", "m"),
        _profile("pbuf_ozone", "mol/mol"),
        _profile("pbuf_CH4", "mol/mol"),
        _profile("pbuf_N2O", "mol/mol"),
        Variable("ptend_t", "K/s", "target", N_LEVELS),
        _moisture_tendency("q0001"),
        # All liquid at levels 12-27 is gone after one step; exact in the real data.
        _moisture_tendency("q0002", exact=Proportion("state_q0002", -TIMESTEP, (12, 28))),
        _moisture_tendency("q0003"),
        _wind_tendency("ptend_u", "eastward"),
        _wind_tendency("ptend_v", "northward"),
        Variable("cam_out_NETSW", "W/m2", "target"),
        Variable("cam_out_FLWDS", "W/m2", "target"),
        Variable("cam_out_PRECSC", "m/s", "target"),
        Variable("cam_out_PRECC", "m/s", "target"),
        Variable("cam_out_SOLS", "W/m2", "target"),
        Variable("cam_out_SOLL", "W/m2", "target"),
        Variable("cam_out_SOLSD", "W/m2", "target"),
        Variable("cam_out_SOLLD", "W/m2", "target"),
    ),
)
