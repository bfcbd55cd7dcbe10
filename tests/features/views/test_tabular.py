import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import ClimstackError, Scaler, TabularView
from features.climate import derived, physics


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(-60, 3), st.integers(1, 6))
def test_scaler_inverts_and_streams(seed, exponent, n_blocks):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(60, 4)) + rng.normal(size=4)) * 10.0**exponent
    values[:, 3] = values[0, 3]
    scaler = Scaler.fit(np.array_split(values, n_blocks))
    scale = np.abs(values).max(0)
    np.testing.assert_allclose(
        scaler.inverse(scaler.transform(values)) / scale, values / scale, rtol=0, atol=1e-12
    )
    whole = Scaler.fit([values])
    np.testing.assert_allclose(scaler.std, whole.std, rtol=1e-9)
    assert scaler.constant.tolist() == [False, False, False, True]
    np.testing.assert_allclose(whole.std[:3], (values[:, :3] / scale[:3]).std(0) * scale[:3])
    assert (scaler.transform(values)[:, 3] == 0).all()


def test_view_is_fitted_on_training_rows_alone(store, plan):
    rows = plan.train_rows(0)
    view = TabularView.fit(store.schema, store.inputs.blocks(rows))
    features = view.transform(store.inputs[rows])
    assert features.dtype == np.float32
    assert features.shape == (len(rows), len(view.feature_names))
    np.testing.assert_allclose(features.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(features.std(0), 1, atol=0.05)


def test_constant_inputs_are_left_out_and_log_variables_encoded(store):
    trees = TabularView.fit(store.schema, store.inputs.blocks())
    linear = TabularView.fit(store.schema, store.inputs.blocks(), "linear")
    assert "pbuf_N2O_59" not in trees.feature_names
    assert "log10_state_q0001_59" in trees.feature_names
    assert "state_q0001_59" not in trees.feature_names
    assert {"state_q0001_59", "log10_state_q0001_59"} <= set(linear.feature_names)
    assert "log_saturation_ratio_50" in linear.feature_names
    assert "difference_u_50" in trees.feature_names
    assert "difference_u_50" not in linear.feature_names
    for view in (trees, linear):
        for name, level in zip(view.feature_names, view.levels, strict=True):
            assert level == -1 or name.endswith(f"_{level}")
    assert trees.levels[trees.feature_names.index("column_vapour")] == -1


def test_save_and_load_round_trip(store, tmp_path):
    view = TabularView.fit(store.schema, store.inputs.blocks())
    view.save(tmp_path / "view.npz")
    again = TabularView.load(tmp_path / "view.npz")
    inputs = store.inputs[:50]
    np.testing.assert_array_equal(again.transform(inputs), view.transform(inputs))
    assert again.feature_names == view.feature_names


@pytest.fixture
def other_levels():
    """ClimSim's pressures over 1000 hPa, but all of them follow the surface."""
    own = physics.hybrid_levels()
    zero = np.zeros_like
    return physics.HybridLevels(
        hyam=zero(own.hyam), hybm=own.hyam + own.hybm, hyai=zero(own.hyai), hybi=own.hyai + own.hybi
    )


@pytest.mark.parametrize("kind", ["trees", "networks"])
def test_features_know_the_levels_they_are_given(store, other_levels, kind, tmp_path):
    inputs, schema = store.inputs[:60], store.schema
    view = TabularView.fit(schema, [inputs], kind, hybrid=other_levels)
    values = {v.name: inputs[:, schema.slice_of(v.name)] for v in schema.inputs}
    p = other_levels.hybm * values["state_ps"]
    rh = values["state_q0001"] / physics.saturation_humidity(values["state_t"], p)
    vapour = (values["state_q0001"] * np.diff(other_levels.hybi * values["state_ps"])).sum(
        1
    ) / 9.80616
    expected = {f"relative_humidity_{k}": rh[:, k] for k in (20, 45)} | {"column_vapour": vapour}
    features = view.transform(inputs)
    plain = TabularView.fit(schema, [inputs], kind)
    for name, column in expected.items():
        at = view.feature_names.index(name)
        np.testing.assert_allclose(
            features[:, at], (column - column.mean()) / column.std(), rtol=1e-4, atol=1e-4
        )
        own = plain.transform(inputs)[:, plain.feature_names.index(name)]
        assert np.abs(own - features[:, at]).max() > 1e-3
    view.save(tmp_path / "view.npz")
    again = TabularView.load(tmp_path / "view.npz")
    np.testing.assert_array_equal(again.transform(inputs), features)
    plain.save(tmp_path / "plain.npz")
    with np.load(tmp_path / "plain.npz") as held:
        assert not {"hyam", "hybm", "hyai", "hybi"} & set(held)


def test_every_feature_of_pressure_follows_the_levels(store, other_levels):
    values = {
        v.name: store.inputs[:9][:, store.schema.slice_of(v.name)] for v in store.schema.inputs
    }
    own, other = derived.Column(values), derived.Column(values, other_levels)
    for feature in derived.DERIVED:
        same = np.array_equal(feature.compute(own), feature.compute(other))
        assert same == ("state_ps" not in feature.needs), feature.name


def test_bad_inputs_are_named(store):
    view = TabularView.fit(store.schema, store.inputs.blocks())
    inputs = store.inputs[:5]
    with pytest.raises(ClimstackError, match=r"\(n_samples, 556\).*got \(5, 555\)"):
        view.transform(inputs[:, 1:])
    inputs[3, 361] = np.inf
    with pytest.raises(ClimstackError, match="'pbuf_SOLIN' is inf in row 3"):
        view.transform(inputs)
