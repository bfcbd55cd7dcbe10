import numpy as np
import pytest

from features import ClimstackError, regime_masks
from features.climate import physics
from features.climate.regimes import CLOUDY, KINDS, cloud_water_path, latitude_of_rows


def test_the_regimes_of_a_kind_share_the_rows_out(store, schema):
    inputs = store.inputs[:]
    latitude = np.linspace(-90, 90, len(inputs))
    found = regime_masks(schema, inputs, latitude)
    assert list(found) == [regime for regimes in KINDS.values() for regime in regimes]
    for regimes in KINDS.values():
        np.testing.assert_array_equal(sum(found[regime].astype(int) for regime in regimes), 1)
    assert found["tropics"].mean() == pytest.approx(1 / 3, abs=0.01)
    assert "tropics" not in regime_masks(schema, inputs)
    for regime in ("day", "night", "land", "ocean", "cloudy", "clear"):
        assert found[regime].mean() > 0.1
    sun = inputs[:, schema.column_index("pbuf_SOLIN")]
    np.testing.assert_array_equal(found["day"], sun > 0)


def test_water_on_one_level_makes_a_cloud(schema):
    inputs = np.zeros((3, len(schema.input_columns)))
    inputs[:, schema.column_index("state_ps")] = 1e5
    inputs[:, schema.column_index("cam_in_OCNFRAC")] = [0.3, 0.6, 0.2]
    inputs[:, schema.column_index("cam_in_ICEFRAC")] = [0.4, 0.1, 0.2]
    inputs[:, schema.column_index("cam_in_LANDFRAC")] = [0.3, 0.3, 0.6]
    mass = physics.layer_mass(np.full(1, 1e5))[0, 50]
    inputs[1, schema.column_index("state_q0002", 50)] = 0.9 * CLOUDY / mass
    inputs[2, schema.column_index("state_q0002", 50)] = 0.9 * CLOUDY / mass
    inputs[2, schema.column_index("state_q0003", 50)] = 0.2 * CLOUDY / mass
    path = cloud_water_path(schema, inputs)
    np.testing.assert_allclose(path, np.array([0, 0.9, 1.1]) * CLOUDY)
    found = regime_masks(schema, inputs)
    np.testing.assert_array_equal(found["cloudy"], [False, False, True])
    np.testing.assert_array_equal(found["ice"], [True, False, False])
    np.testing.assert_array_equal(found["ocean"], [False, True, False])
    np.testing.assert_array_equal(found["land"], [False, False, True])
    assert found["night"].all()


def test_latitudes_go_to_rows_and_nonsense_is_refused(store):
    column, latitude = store.column, np.linspace(-80, 80, 16)
    rows = latitude_of_rows(column, latitude, 16)
    np.testing.assert_array_equal(rows[16:32], latitude)
    with pytest.raises(ClimstackError, match="have 16 grid columns"):
        latitude_of_rows(column, latitude[:5], 16)
    with pytest.raises(ClimstackError, match=r"grid column 3 is 120\.0"):
        latitude_of_rows(column, np.where(np.arange(16) == 3, 120.0, latitude), 16)
    with pytest.raises(ClimstackError, match="column 0 is nan"):
        latitude_of_rows(column, latitude * np.nan, 16)
    with pytest.raises(ClimstackError, match="aren't known"):
        latitude_of_rows(np.full(4, -1), latitude, 16)
