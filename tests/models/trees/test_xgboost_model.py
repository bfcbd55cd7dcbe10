"""What XGBoost writes is read back; anything else is a sentence before it is walked."""

import numpy as np
import pytest
import xgboost as xgb

from features import ClimstackError
from models.base import TableShape
from models.families.xgboost import MODEL, XGBoostParams

N_FEATURES = 6
LEAP = TableShape(n_rows=10_000, n_inputs=556, has_levels=True)


def raw_of(label=1.0, stopping=0, n_rounds=20, **params):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, N_FEATURES)).astype(np.float32)
    matrix = xgb.QuantileDMatrix(x, label * (x[:, 0] * x[:, 1] + x[:, 2]), max_bin=64)
    settings = MODEL.settle(XGBoostParams(max_depth=3, **params), LEAP).engine(0)
    watched = {"evals": [(matrix, "watch")], "verbose_eval": False} if stopping else {}
    booster = xgb.train(
        settings, matrix, n_rounds, early_stopping_rounds=stopping or None, **watched
    )
    return bytes(booster.save_raw("ubj"))


def load(folder, raw):
    (folder / "model.ubj").write_bytes(raw)
    np.save(folder / "columns.npy", np.arange(N_FEATURES, dtype=np.int32))
    return MODEL.load(folder)


@pytest.mark.parametrize(
    "params", [{}, {"stopping": 2}, {"n_rounds": 300}, {"label": 0.0}, {"min_child_weight": 1e9}]
)
def test_what_xgboost_writes_is_read(params, tmp_path):
    raw = raw_of(**params)
    x = np.random.default_rng(1).normal(size=(64, N_FEATURES)).astype(np.float32)
    whole = xgb.Booster(model_file=bytearray(raw))
    np.testing.assert_array_equal(load(tmp_path, raw).predict(x)[:, 0], whole.inplace_predict(x))


def changed(raw, name, node, value):
    """The first tree with another value of a node, as a whole number of four bytes."""
    at = raw.index(name.encode() + b"[$l#L") + len(name) + 5 + 8 + 4 * node
    return raw[:at] + int(value).to_bytes(4, "big", signed=True) + raw[at + 4 :]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("left_children", 0, "is not a later node"),
        ("left_children", 2**31 - 1, "is not a later node"),
        ("left_children", -7, "is not a later node"),
        ("left_children", 2, "no or two parents"),
        ("split_indices", 6, r"split_index is \[6\]"),
        ("split_indices", -1, "split_index"),
        ("parents", 0, "another node as its parent"),
    ],
)
def test_what_would_end_the_process_is_a_sentence(name, value, said, tmp_path):
    with pytest.raises(ClimstackError, match=said):
        load(tmp_path, changed(raw_of(), name, 0, value))


def test_other_kinds_of_model_are_a_sentence(tmp_path):
    raw = raw_of()
    key = (1 << 62).to_bytes(8, "big")
    for other, said in (
        (raw.replace(b"reg:squarederror", b"reg:absoluteerro"), "another kind"),
        (
            raw.replace(b"num_featureSL\0\0\0\0\0\0\0\x016", b"num_featureSL\0\0\0\0\0\0\0\x019"),
            "9",
        ),
        (raw[:-1], "has written"),
        (raw + b"}", "follow its end"),
        (b"[#L" + key, "longer than the file"),
        (b"[$l#L" + key, "longer than the file"),
        (b"[#L\0\0\0\0\0\0\0\x01" * 100_000, "nests too deep"),
        (b"{L\0\0\0\0\0\0\0\x01a" * 100_000, "has written"),
        (b"", "has written"),
    ):
        with pytest.raises(ClimstackError, match=said):
            load(tmp_path, other)


def test_splits_on_words_are_read_and_checked(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    x[:, 0] = rng.integers(0, 9, 400)
    x[rng.random(x.shape) < 0.2] = np.nan
    y = np.isin(x[:, 0], [1, 4, 5]) * 3.0 + np.isnan(x[:, 1])
    kinds = ["c", *["q"] * 5]
    data = xgb.QuantileDMatrix(x, y, max_bin=64, feature_types=kinds, enable_categorical=True)
    raw = bytes(xgb.train(MODEL.settle(XGBoostParams(), LEAP).engine(0), data, 3).save_raw("ubj"))
    model = load(tmp_path, raw)
    x[:3, 0] = [8, 20, np.nan]  # words that no row had end nothing
    assert np.isfinite(model.predict(x)).all()
    at = raw.index(b"split_type[$U#L") + len(b"split_type[$U#L") + 8  # of the root
    with pytest.raises(ClimstackError, match="other splits on words"):
        load(tmp_path, raw[:at] + bytes([1 - raw[at]]) + raw[at + 1 :])
