import numpy as np
import pytest

from features import ClimstackError, Schema, Variable, available_schemas, load_schema


def test_leap_has_the_competitions_columns(schema):
    assert len(schema.input_columns) == 556
    assert len(schema.target_columns) == 368
    assert schema.input_columns[360] == "state_ps"
    assert schema.input_columns[-1] == "pbuf_N2O_59"
    assert schema.target_columns[360] == "cam_out_NETSW"
    assert (schema.weights == 0).sum() == 60
    assert len(schema.exact_targets) == 16
    assert len(schema.modelled_targets) == 292


def test_column_index_agrees_with_names(schema):
    for name, level in [("state_q0002", 13), ("pbuf_SOLIN", 0), ("pbuf_ozone", 59)]:
        column = name if schema.variable(name).n_levels == 1 else f"{name}_{level}"
        assert schema.input_columns[schema.column_index(name, level)] == column
    assert schema.target_columns[schema.column_index("ptend_u", 7)] == "ptend_u_7"


def test_rules_are_computed_in_float64(schema):
    inputs = np.zeros((2, 556))
    inputs[:, schema.column_index("state_q0002", 12)] = 2.9e-58
    indices, values = schema.closed_form("exact", inputs)
    assert schema.target_columns[indices[0]] == "ptend_q0002_12"
    assert values[0, 0] == 2.9e-58 / -1200
    bounded, bound = schema.closed_form("lower_bound", inputs)
    assert len(bounded) == 180
    assert (bound <= 0).all()


@pytest.mark.parametrize(
    "call", [lambda s: s.variable("state_q001"), lambda s: s.slice_of("ptend")]
)
def test_unknown_variable_names_the_closest(schema, call):
    with pytest.raises(ClimstackError, match=r"did you mean|known:"):
        call(schema)


def test_level_out_of_range_raises(schema):
    with pytest.raises(ClimstackError, match="levels 0 to 59, but got 60"):
        schema.column_index("state_t", 60)


def test_duplicate_variable_raises():
    twice = (Variable(name="a", unit="1", role="input"), Variable(name="a", unit="1", role="input"))
    with pytest.raises(ClimstackError, match="'a' stands twice"):
        Schema(name="x", variables=twice, n_grid_columns=1)


def test_a_rule_needs_its_first_level_and_one_past_its_last():
    table = {
        "name": "x",
        "inputs": [{"name": "a", "n_levels": 3}],
        "targets": [
            {"name": "b", "n_levels": 3,
             "exact": {"source": "a", "divisor": 2.0, "levels": [0, 1, 2]}},
        ],
    }  # fmt: skip
    with pytest.raises(ClimstackError, match=r"on levels \[0, 1, 2\]: give the first and one past"):
        Schema.from_table(table)


def test_every_schema_file_loads():
    for name in available_schemas():
        assert load_schema(name).name == name
    with pytest.raises(ClimstackError, match="did you mean 'leap'"):
        load_schema("leapp")
