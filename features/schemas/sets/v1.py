"""ClimSim's first variable set: 124 inputs to 128 targets on 60 levels.

Source: ClimSim (Yu et al., NeurIPS 2023, CC BY 4.0), ``set_to_v1_vars`` of
``climsim_utils/data_utils.py`` (github.com/leap-stc/ClimSim). Weights follow the schema ``leap``:
ClimSim itself has none.
"""

from __future__ import annotations

from features.schemas.schema import Schema
from features.schemas.sets.leap import SCHEMA as LEAP

SCHEMA = Schema(
    name="v1",
    n_grid_columns=LEAP.n_grid_columns,
    variables=tuple(
        LEAP.variable(name)
        for name in (
            "state_t",
            "state_q0001",
            "state_ps",
            "pbuf_SOLIN",
            "pbuf_LHFLX",
            "pbuf_SHFLX",
            "ptend_t",
            "ptend_q0001",
            "cam_out_NETSW",
            "cam_out_FLWDS",
            "cam_out_PRECSC",
            "cam_out_PRECC",
            "cam_out_SOLS",
            "cam_out_SOLL",
            "cam_out_SOLSD",
            "cam_out_SOLLD",
        )
    ),
)
