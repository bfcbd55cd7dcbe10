"""ClimSim's set with relative humidity and merged cloud: 557 inputs to 308 targets on 60 levels.

Specific humidity gives way to relative humidity, liquid and ice to their sum and the share of
liquid that temperature alone decides (:mod:`features.climate.climsim`); ``cam_in_SNOWHICE`` is an
input.

Source: the variable set ``v2_rh_mc`` of ClimSim (Yu et al., NeurIPS 2023, CC BY 4.0; its online
tests and models wrapped for them in github.com/leap-stc/ClimSim). Weights follow the schema
``leap``: ClimSim itself has none.
"""

from __future__ import annotations

from dataclasses import replace

from features.schemas.schema import Proportion, Schema, Variable
from features.schemas.sets.leap import FRACTION, N_LEVELS, TIMESTEP
from features.schemas.sets.leap import SCHEMA as LEAP


def _leap(first: str, last: str) -> tuple[Variable, ...]:
    """Variables of the schema ``leap`` from one to another, both included."""
    names = [variable.name for variable in LEAP.variables]
    return LEAP.variables[names.index(first) : names.index(last) + 1]


SCHEMA = Schema(
    name="v2_rh_mc",
    n_grid_columns=LEAP.n_grid_columns,
    variables=(
        LEAP.variable("state_t"),
        Variable(name="state_rh", unit="1", role="input", n_levels=N_LEVELS, limits=(-0.01, 100.0)),
        replace(LEAP.variable("state_q0002"), name="state_qn"),
        Variable(name="liq_partition", unit="1", role="input", n_levels=N_LEVELS, limits=FRACTION),
        *_leap("state_u", "cam_in_OCNFRAC"),
        # 1e30 wherever there is no sea ice: 88 of 100 columns.
        replace(LEAP.variable("cam_in_SNOWHLAND"), name="cam_in_SNOWHICE", policy="impute"),
        *_leap("cam_in_SNOWHLAND", "pbuf_N2O"),
        LEAP.variable("ptend_t"),
        replace(LEAP.variable("ptend_q0001"), lower_bound=None),  # its state is no input
        replace(
            LEAP.variable("ptend_q0002"),
            name="ptend_qn",
            exact=None,
            lower_bound=Proportion("state_qn", -TIMESTEP, (0, N_LEVELS)),
        ),
        *_leap("ptend_u", "cam_out_SOLLD"),
    ),
)
