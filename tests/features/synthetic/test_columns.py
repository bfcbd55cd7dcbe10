"""The generated data: reproducible, physical, and with the traps of the real ones."""

import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import Grid
from features.climate import physics
from features.core.errors import ClimstackError
from features.schemas.known import load_schema
from features.synthetic import SyntheticColumns, simulate, write_dataset

SCHEMA = load_schema("leap")
LV, LF, CP = physics.LATENT_HEAT_VAPOUR, physics.LATENT_HEAT_FUSION, physics.HEAT_CAPACITY


@pytest.fixture(scope="module")
def rows() -> SyntheticColumns:
    return simulate(20, 96, seed=7)


def state(made, name):
    values = made.inputs[:, SCHEMA.slice_of(name)]
    return values[:, 0] if values.shape[1] == 1 else values


def target(made, name):
    values = made.targets[:, SCHEMA.slice_of(name)]
    return values[:, 0] if values.shape[1] == 1 else values


def assert_closes(change, terms):
    """The change equals the sum of the terms to 1e-9 of the largest of them."""
    largest = np.abs(np.stack([change, *terms])).max()
    np.testing.assert_allclose(change, sum(terms), rtol=0, atol=1e-9 * largest)


def test_shapes_and_place_in_time_major_order(rows):
    assert rows.inputs.shape == (1920, 556)
    assert rows.targets.shape == (1920, 368)
    assert rows.inputs.dtype == rows.targets.dtype == np.float64
    np.testing.assert_array_equal(rows.time, np.arange(1920) // 96)
    np.testing.assert_array_equal(rows.column, np.arange(1920) % 96)
    assert rows.latitude.shape == rows.longitude.shape == (96,)
    assert all(values.shape == (1920,) for values in rows.diagnostics.values())


def test_same_seed_gives_the_same_bits_and_another_seed_others():
    one, two, other = simulate(2, 30, 5), simulate(2, 30, 5), simulate(2, 30, 6)
    np.testing.assert_array_equal(one.inputs, two.inputs)
    np.testing.assert_array_equal(one.targets, two.targets)
    assert not np.array_equal(one.targets, other.targets)


def test_a_row_does_not_depend_on_how_many_are_asked_for():
    all_rows, first, last = simulate(8, 37, 5), simulate(4, 37, 5), simulate(3, 37, 5, 5)
    for name in ("inputs", "targets", "time", "column"):
        whole = getattr(all_rows, name)
        np.testing.assert_array_equal(whole[: 4 * 37], getattr(first, name))
        np.testing.assert_array_equal(whole[5 * 37 :], getattr(last, name))


def test_stride_counts_physics_steps():
    coarse, fine = simulate(2, 10, 5, stride=7), simulate(8, 10, 5, stride=1)
    np.testing.assert_array_equal(coarse.inputs[10:], fine.inputs[70:])


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**40), n_columns=st.integers(1, 40), first=st.integers(0, 26_280))
def test_budgets_of_water_energy_and_momentum_close(seed, n_columns, first):
    made = simulate(2, n_columns, seed, first_timestep=first)
    assert np.isfinite(made.inputs).all()
    assert np.isfinite(made.targets).all()
    mass = physics.layer_mass(state(made, "state_ps"))
    vapour, liquid, ice = (target(made, f"ptend_q000{i}") for i in (1, 2, 3))
    latent = state(made, "pbuf_LHFLX")
    precipitation = physics.WATER_DENSITY * target(made, "cam_out_PRECC")
    snow = physics.WATER_DENSITY * target(made, "cam_out_PRECSC")
    water = physics.column_integral(vapour + liquid + ice, mass)
    assert_closes(water, [latent / LV, -precipitation])
    enthalpy = CP * target(made, "ptend_t") + LV * vapour - LF * ice
    found = made.diagnostics
    energy = [
        found["sw_absorbed"], found["lw_convergence"], state(made, "pbuf_SHFLX"), latent, LF * snow
    ]  # fmt: skip
    assert_closes(physics.column_integral(enthalpy, mass), energy)
    for wind, stress, drag in (("u", "TAUX", "drag_x"), ("v", "TAUY", "drag_y")):
        momentum = physics.column_integral(target(made, f"ptend_{wind}"), mass)
        assert_closes(momentum, [state(made, f"pbuf_{stress}"), found[drag]])
    assert (snow >= 0).all()
    assert (precipitation >= snow).all()


def test_radiation_at_the_boundaries_agrees_with_the_outputs(rows):
    found = rows.diagnostics
    absorbed = found["toa_sw_net"] - found["surface_sw_net"]
    np.testing.assert_allclose(found["sw_absorbed"], absorbed, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found["surface_sw_net"], target(rows, "cam_out_NETSW"))
    bands = {"SOLS": "ASDIR", "SOLSD": "ASDIF", "SOLL": "ALDIR", "SOLLD": "ALDIF"}
    net = sum(
        target(rows, f"cam_out_{flux}") * (1 - state(rows, f"cam_in_{albedo}"))
        for flux, albedo in bands.items()
    )
    np.testing.assert_allclose(net, target(rows, "cam_out_NETSW"), rtol=0, atol=1e-9)
    dark = state(rows, "pbuf_COSZRS") == 0
    assert 0.3 < dark.mean() < 0.7
    assert (target(rows, "cam_out_NETSW")[dark] == 0).all()
    assert (found["sw_absorbed"] >= 0).all()
    surface = state(rows, "cam_in_LWUP") - found["surface_lw_down"]
    convergence = surface - found["toa_lw_up"]
    np.testing.assert_allclose(found["lw_convergence"], convergence, rtol=0, atol=1e-9)


def test_liquid_in_cold_levels_goes_exactly(rows):
    index, truth = SCHEMA.closed_form("exact", rows.inputs)
    np.testing.assert_array_equal(rows.targets[:, index], truth)
    assert (truth < 0).all()


def test_no_moisture_falls_below_zero(rows):
    index, bound = SCHEMA.closed_form("lower_bound", rows.inputs)
    assert (rows.targets[:, index] >= bound).all()


def test_top_levels_of_moisture_and_wind_do_not_change(rows):
    for name in ("q0001", "q0002", "q0003", "u", "v"):
        assert (target(rows, f"ptend_{name}")[:, :12] == 0).all()
    assert (rows.targets[:, SCHEMA.modelled_targets].std(axis=0) > 0).all()


def test_cloud_liquid_aloft_is_smaller_than_float32_can_hold(rows):
    liquid = state(rows, "state_q0002")[:, 12:28]
    assert (liquid > 0).all()
    assert 1e-58 <= liquid.min() < 1e-46
    assert (liquid.astype(np.float32) == 0).any()


def test_magnitudes_are_those_of_the_earth(rows):
    limits = {
        "state_t": (170, 325), "state_q0001": (1e-8, 0.04), "state_q0002": (0, 0.01),
        "state_q0003": (0, 0.01), "state_u": (-120, 120), "state_v": (-90, 90),
        "state_ps": (55_000, 108_000), "pbuf_SOLIN": (0, 1420), "pbuf_LHFLX": (-150, 1500),
        "pbuf_SHFLX": (-300, 700), "pbuf_TAUX": (-4, 4), "pbuf_TAUY": (-4, 4),
        "pbuf_COSZRS": (0, 1), "cam_in_LWUP": (80, 620), "cam_in_SNOWHLAND": (0, 5),
        "pbuf_ozone": (1e-9, 2e-5), "pbuf_CH4": (1e-8, 2e-6), "pbuf_N2O": (1e-10, 4e-7),
        "cam_out_FLWDS": (40, 600), "cam_out_PRECC": (0, 2e-5), "cam_out_NETSW": (0, 1400),
        "ptend_t": (-0.02, 0.02), "ptend_u": (-0.1, 0.1), "ptend_v": (-0.1, 0.1),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        values = (state if SCHEMA.variable(name).role == "input" else target)(rows, name)
        assert low <= values.min(), name
        assert values.max() <= high, name
    shares = [state(rows, f"cam_in_{name}FRAC") for name in ("ICE", "LAND", "OCN")]
    np.testing.assert_allclose(sum(shares), 1.0, rtol=0, atol=1e-12)
    for share in shares:
        assert share.min() >= -1e-12
        assert np.ptp(share) > 0.5
    for name in ("ALDIF", "ALDIR", "ASDIF", "ASDIR"):
        albedo = state(rows, f"cam_in_{name}")
        assert 0 < albedo.min() < albedo.max() < 1
    spread = rows.targets[:, SCHEMA.modelled_targets].std(axis=0)
    assert spread.min() < 1e-20
    assert 50 < spread.max() < 400


def test_methane_and_nitrous_oxide_are_constant_near_the_ground(rows):
    for name in ("pbuf_CH4", "pbuf_N2O"):
        gas = state(rows, name)
        assert np.ptp(gas[:, 27:]) == 0
        assert (np.ptp(gas[:, :27], axis=0) > 0).all()
    assert len(np.unique(state(rows, "pbuf_ozone")[:, 2])) == len(rows.inputs)


def test_neighbours_in_time_and_space_are_alike(rows):
    latitude, apart = rows.latitude, rows.longitude[:, None] - rows.longitude
    cosine = np.outer(np.sin(latitude), np.sin(latitude))
    cosine += np.outer(np.cos(latitude), np.cos(latitude)) * np.cos(apart)
    np.fill_diagonal(cosine, -1.0)
    nearest = cosine.argmax(axis=1)
    for name in ("state_t", "state_u", "state_q0001"):
        field = state(rows, name)[:, 40].reshape(20, 96)
        anomaly = field - field.mean()
        assert np.corrcoef(anomaly.ravel(), anomaly[:, nearest].ravel())[0, 1] > 0.3, name
        step = np.abs(field[1:] - field[:-1]).mean()
        assert step < 0.5 * np.abs(field[19] - field[0]).mean(), name
        assert step < np.abs(field[:, nearest] - field).mean(), name


def test_grid_is_the_one_of_the_facts():
    levels = physics.hybrid_levels()
    ps = np.array([101_325.0, 60_000.0])
    p, between = physics.pressure(ps), physics.interface_pressure(ps)
    assert 7.0 < p[0, 0] < 9.0
    assert abs(physics.pressure(np.array([1e5]))[0, 59] - 99_300) < 100
    assert (np.diff(between, axis=1) > 0).all()
    np.testing.assert_array_equal(between[:, -1], ps)
    assert (levels.hybm[p[0] < 16_000] == 0).all()
    assert (levels.hybm[p[0] > 19_000] > 0).all()
    thickness = physics.layer_mass(ps)[0]
    assert 140 < thickness[-1] < 170  # about 15 hPa
    assert not levels.hyam.flags.writeable


def test_moisture_and_sun_formulas_meet_known_values():
    freezing, warm = np.array([273.15]), np.array([303.15])
    assert abs(physics.vapour_pressure_over_liquid(freezing)[0] - 611.2) < 0.1
    assert abs(physics.vapour_pressure_over_ice(freezing)[0] - 611.1) < 1.0
    assert abs(physics.vapour_pressure_over_liquid(warm)[0] - 4246) < 15  # Murphy and Koop 2005
    june, _ = physics.solar_position(172 * 86_400.0)
    assert abs(np.rad2deg(june) - 23.44) < 0.1
    _, nearness = physics.solar_position(2.5 * 86_400.0)
    assert abs(nearness - 1.0339) < 1e-3
    hours = np.arange(0, 86_400, 600.0) + 80.5 * 86_400
    mean = np.mean([physics.cos_zenith(t, np.zeros(1), np.zeros(1))[0] for t in hours])
    assert abs(mean - 1 / np.pi) < 2e-3  # the equator at equinox
    lapse = physics.moist_lapse(np.array([280.0]), np.array([8.5e4]))[0]
    assert 0.4 < lapse / (280.0 * physics.KAPPA) < 0.7


def test_files_hold_the_competition_columns(tmp_path):
    paths = write_dataset(tmp_path / "made", 5, 24, seed=3)
    assert list(paths) == ["train", "test", "sample_submission", "solution", "grid"]
    assert len(Grid.read(paths.pop("grid"))) == 24
    frames = {name: pl.read_parquet(path) for name, path in paths.items()}
    inputs, targets = SCHEMA.input_columns, SCHEMA.target_columns
    assert frames["train"].columns == ["sample_id", *inputs, *targets]
    assert frames["test"].columns == ["sample_id", *inputs]
    for name in ("sample_submission", "solution"):
        assert frames[name].columns == ["sample_id", *targets]
        assert len(frames[name]) == len(frames["test"]) == 24
    assert set(frames["train"].dtypes[1:]) == {pl.Float64}
    assert frames["train"]["sample_id"].to_list() == [f"train_{row}" for row in range(120)]
    assert frames["test"]["sample_id"].to_list() == [f"test_{row}" for row in range(24)]
    assert frames["solution"]["sample_id"].equals(frames["test"]["sample_id"])
    sample = frames["sample_submission"]
    assert sorted(sample["sample_id"]) == sorted(frames["test"]["sample_id"])
    assert not sample["sample_id"].equals(frames["test"]["sample_id"])
    np.testing.assert_array_equal(sample.row(5)[1:], SCHEMA.weights)
    assert not list(tmp_path.glob("made/.*"))


def test_files_hold_the_simulated_rows_and_the_test_rows_are_later_and_shuffled(tmp_path):
    paths = write_dataset(tmp_path, 5, 24, seed=3, test_timesteps=2)
    made = simulate(5, 24, seed=3)
    train = pl.read_parquet(paths["train"]).drop("sample_id").to_numpy()
    np.testing.assert_array_equal(train, np.concatenate([made.inputs, made.targets], axis=1))
    test = pl.read_parquet(paths["test"]).drop("sample_id").to_numpy()
    truth = pl.read_parquet(paths["solution"]).drop("sample_id").to_numpy()
    later = simulate(2, 24, seed=3, first_timestep=5 + 52)  # five days of 140 minutes
    place = {row.tobytes(): i for i, row in enumerate(later.inputs)}
    order = [place[row.tobytes()] for row in test]
    assert sorted(order) == list(range(48))
    assert order != sorted(order)
    np.testing.assert_array_equal(truth, later.targets[order])


def test_files_are_equal_to_the_byte(tmp_path):
    one, two = (write_dataset(tmp_path / name, 3, 8, seed=1) for name in "ab")
    assert all(one[name].read_bytes() == two[name].read_bytes() for name in one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_timesteps": 0}, "n_timesteps of at least 1, but got 0"),
        ({"n_columns": -2}, "n_columns of at least 1, but got -2"),
        ({"seed": -1}, "seed of at least 0, but got -1"),
        ({"test_timesteps": 0}, "test_timesteps of at least 1, but got 0"),
    ],
)
def test_bad_arguments_are_named(tmp_path, change, message):
    arguments = {"n_timesteps": 2, "n_columns": 2, "seed": 1} | change
    with pytest.raises(ClimstackError, match=message):
        write_dataset(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_twenty_thousand_rows_are_quick(tmp_path):
    start = time.perf_counter()
    write_dataset(tmp_path, 52, 384, seed=1, test_timesteps=1)
    assert time.perf_counter() - start < 30
