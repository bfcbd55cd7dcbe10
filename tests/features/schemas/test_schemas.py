"""Limits of the known data sets: what they refuse, what they let pass, and the page on them."""

import re
from pathlib import Path

import numpy as np
import pytest

from features import available_schemas, convert, load_schema
from features.climate import climsim, physics
from features.synthetic import simulate
from features.views.missing import Repair
from features.views.tabular import TabularView

PAGE = Path(__file__).parents[3] / "docs" / "limits.md"
SETS = {name: load_schema(name) for name in available_schemas()}
VARIABLES = {v.name: v for schema in SETS.values() for v in schema.variables}
FILL_VALUES = (-9999.0, -999.0, -32768.0, 9999.0, 1e20, -1e20, 9.96921e36, 1e30, np.inf, np.nan)
ROW = re.compile(r"^\| `(\w+)` \| (\S+) \| (\S+) to (\S+) \| (\S+) to (\S+) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def rows():
    """Generated values by variable, over seeds, sizes and seasons."""
    leap, made = SETS["leap"], [simulate(6, 60, seed, 4000 * seed) for seed in range(6)]
    inputs = np.concatenate([each.inputs for each in made])
    targets = np.concatenate([each.targets for each in made])
    values = {v.name: inputs[:, leap.slice_of(v.name)] for v in leap.inputs}
    values |= {v.name: targets[:, leap.slice_of(v.name)] for v in leap.targets}
    t, q, ps = (values[f"state_{name}"] for name in ("t", "q0001", "ps"))
    return values | {
        "state_rh": climsim.relative_humidity(q, t, physics.pressure(ps[:, 0])),
        "state_qn": values["state_q0002"] + values["state_q0003"],
        "liq_partition": climsim.liquid_share(t),
        "cam_in_SNOWHICE": values["cam_in_SNOWHLAND"],
        "ptend_qn": values["ptend_q0002"] + values["ptend_q0003"],
    }


@pytest.mark.parametrize("name", VARIABLES)
def test_no_value_as_a_number_is_refused_and_generated_rows_pass(name, rows):
    variable = VARIABLES[name]
    assert variable.limits is not None
    assert variable.policy == ("impute" if name == "cam_in_SNOWHICE" else "refuse")
    repair = Repair([variable])
    assert repair.apply(rows[name].copy()) is None
    assert not repair.counts
    for fill in FILL_VALUES:
        values = rows[name].copy()
        values[7, -1] = fill
        if variable.policy == "impute":
            assert repair.apply(values) is None
            assert np.isnan(values[7, -1])
        else:
            assert repair.apply(values) == (7, variable.n_levels - 1)


@pytest.mark.parametrize(
    ("name", "factor", "shift"),
    [
        ("state_t", 1.0, -273.15),  # degrees C
        ("state_ps", 0.01, 0.0),  # hPa
        *((f"state_{water}", 1000.0, 0.0) for water in ("q0001", "q0002", "q0003", "qn")),  # g/kg
        *((name, 1200.0, 0.0) for name, v in VARIABLES.items() if v.unit == "W/m2"),  # J/m2
        *((name, 100.0, 0.0) for name in VARIABLES if re.match(r"cam_in_A|\w+FRAC", name)),  # %
        ("liq_partition", 100.0, 0.0),
        ("state_rh", 100.0, 0.0),
        ("cam_out_PRECC", 86_400_000.0, 0.0),  # mm/day
        ("cam_out_PRECSC", 86_400_000.0, 0.0),
        ("cam_out_PRECC", 1000.0, 0.0),  # kg/m2/s
        ("cam_in_SNOWHLAND", 1000.0, 0.0),  # mm
        *((name, 86_400.0, 0.0) for name in VARIABLES if name.startswith("ptend_")),  # a day
        *((f"ptend_{water}", 1000.0, 0.0) for water in ("q0001", "q0002", "q0003")),  # g/kg/s
        *((f"pbuf_{gas}", 1e6, 0.0) for gas in ("ozone", "CH4", "N2O")),  # ppm
    ],
)
def test_another_unit_is_refused(name, factor, shift, rows):
    assert Repair([VARIABLES[name]]).apply(factor * rows[name] + shift) is not None


def test_a_tendency_leads_no_further_than_from_limit_to_limit_in_a_step():
    for name, variable in VARIABLES.items():
        if name.startswith("ptend_"):
            low, high = VARIABLES[name.replace("ptend", "state")].limits
            assert -variable.limits[0] == variable.limits[1]
            assert 1.0 <= variable.limits[1] * 1200.0 / (high - low) < 1.25


@pytest.mark.parametrize("kind", ["linear", "trees", "networks"])
@pytest.mark.parametrize("schema", SETS.values(), ids=SETS)
def test_within_the_limits_every_feature_is_finite(schema, kind):
    low, high = np.array([v.limits for v in schema.inputs for _ in range(v.n_levels)]).T
    chance = np.random.default_rng(0)
    corners = np.where(chance.random((200, len(low))) < 0.5, low, high)
    within = chance.uniform(low, high, (200, len(low)))
    inputs = np.concatenate([corners, within])
    assert np.isfinite(TabularView.fit(schema, [inputs], kind).transform(inputs)).all()


def limits_on_the_page():
    return {name: ends for name, *ends in ROW.findall(PAGE.read_text())}


def test_the_page_has_the_limits_of_every_variable():
    page = limits_on_the_page()
    assert page.keys() == VARIABLES.keys()
    for name, (unit, low, high, *_) in page.items():
        limits = VARIABLES[name].limits
        assert (unit, low, high) == (VARIABLES[name].unit, f"{limits[0]:g}", f"{limits[1]:g}")
    number = r"(-?[\d.]+(?:e-?\d+)?)"
    for name, row in re.findall(r"^\| `(\w+)` \|(.+)$", PAGE.read_text(), re.MULTILINE):
        for low, high in re.findall(rf"\| {number} to {number} (?=\|)", row)[1:]:
            limits = VARIABLES[name].limits
            assert limits[0] <= float(low) < float(high) <= limits[1], name


@pytest.mark.real
@pytest.mark.parametrize(
    ("source", "name"), [("train.parquet", "leap"), ("netcdf", "leap"), ("netcdf", "v2_rh_mc")]
)
def test_real_rows_are_within_the_limits_and_the_page_has_their_extremes(
    source, name, real_folder, tmp_path
):
    schema = SETS[name]
    made = convert(real_folder / source, tmp_path / "store", schema)  # beyond a limit is refused
    page, of_table = limits_on_the_page(), {v.name for v in SETS["leap"].variables}
    for variable in schema.variables:
        if (variable.name in of_table) == (source == "train.parquet"):
            held = made.inputs if variable.role == "input" else made.targets
            values = held[:][:, schema.slice_of(variable.name)]
            ends = [shown(np.nanmin(values)), shown(np.nanmax(values))]
            assert page[variable.name][3:] == ends, variable.name


def shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
