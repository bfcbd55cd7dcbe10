"""What LightGBM writes is read back to the bit; anything else is a sentence before it is walked."""

import re

import lightgbm as lgb
import numpy as np
import pytest

from features import ClimstackError
from models.base import TableShape
from models.families.lightgbm import MODEL, LightGBMParams

N_FEATURES = 6
LEAP = TableShape(n_rows=10_000, n_inputs=556, has_levels=True)


def text_of(label=1.0, rows=300, **params):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, N_FEATURES)).astype(np.float32)
    y = label * (x[:, 0] * x[:, 1] + x[:, 2])
    settings = MODEL.settle(LightGBMParams(n_rounds=4, num_leaves=5, **params), LEAP).engine(0)
    return lgb.train(settings, lgb.Dataset(x, y, params=settings), 4).model_to_string()


def load(folder, text, columns=range(N_FEATURES)):
    (folder / "model.txt").write_text(text)
    np.save(folder / "columns.npy", np.array(columns, np.int32))
    return MODEL.load(folder)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("label", [1.0, 0.0])
def test_what_lightgbm_writes_is_read(linear, label, tmp_path):
    text = text_of(label, linear_tree=linear)
    model = load(tmp_path, text)
    x = np.random.default_rng(1).normal(size=(64, N_FEATURES)).astype(np.float32)
    whole = lgb.Booster(model_str=text)
    np.testing.assert_array_equal(model.predict(x)[:, 0], whole.predict(x))
    gain = whole.feature_importance("gain")
    np.testing.assert_array_equal(model.importance(N_FEATURES), gain)


def test_as_many_leaves_as_a_setting_allows_are_read(tmp_path):
    """A chain of leaves: nothing on the way may recurse."""
    n, text = 2**17, text_of(0.0, linear_tree=False)
    inner = np.arange(n - 1)
    lines = {
        "num_leaves": [n],
        "split_feature": 0 * inner,
        "split_gain": 0 * inner,
        "threshold": inner,
        "decision_type": 2 + 0 * inner,
        "left_child": ~inner,
        "right_child": [*(inner[:-1] + 1), ~(n - 1)],
        "leaf_value": np.arange(n),
        "leaf_weight": np.ones(n, int),
        "leaf_count": np.ones(n, int),
        **dict.fromkeys(("internal_value", "internal_weight", "internal_count"), 0 * inner),
    }
    head, _, rest = text.partition("Tree=0\n")
    tree, _, rest = rest.partition("\n\n\n")
    size = head.rpartition("tree_sizes=")[2].strip()
    made = {name: " ".join(map(str, values)) for name, values in lines.items()}
    tree = "".join(
        f"{name}={made.get(name, value)}\n"
        for name, _, value in (line.partition("=") for line in tree.splitlines())
    )
    tree = f"Tree=0\n{tree}\n\n"
    head = head.replace(f"tree_sizes={size}", f"tree_sizes={len(tree)}")
    model = load(tmp_path, head + tree + rest)
    x = np.full((2, N_FEATURES), n - 1.5, np.float32)
    np.testing.assert_array_equal(model.predict(x)[:, 0], [n - 1, n - 1])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("left_child=", "left_child=0 ", "other lines or another size"),
        ("left_child=1 ", "left_child=0 ", "is not a later node"),
        ("left_child=1 ", "left_child=9 ", "is not a later node"),
        ("left_child=1 ", "left_child=2 ", "no or two parents"),
        ("right_child=-2", "right_child=-1", "no or two parents"),
        ("right_child=-2", "right_child=-9", "is not a later node"),
        ("split_feature=0", "split_feature=6", r"split_feature is \[6\]"),
        ("decision_type=2", "decision_type=3", "other splits on words"),
        ("num_leaves=5", "num_leaves=4", "holds 4 numbers"),
        ("num_cat=0", "num_cat=1", "other splits on words"),
        ("objective=regression", "objective=binary", "begins otherwise"),
        ("max_feature_idx=5", "max_feature_idx=9", "features instead of 6"),
        ("shrinkage=1", "shrinkage=x", "no finite number"),
        ("leaf_count=", "leaf_count=a", "another size"),
    ],
)
def test_what_would_end_the_process_is_a_sentence(old, new, said, tmp_path):
    text = text_of(linear_tree=False)
    assert old in text
    with pytest.raises(ClimstackError, match=said):
        load(tmp_path, text.replace(old, new, 1))


def test_lines_of_leaves_are_checked_too(tmp_path):
    text = text_of()
    at = text.index("leaf_features=", text.index("Tree=1")) + len("leaf_features=")
    first = text[at : text.index(" ", at)]
    with pytest.raises(ClimstackError, match=r"leaf_features is \[9\]"):
        load(tmp_path, text[:at] + "9" * len(first) + text[at + len(first) :])
    at = text.index("leaf_coeff=", at) + len("leaf_coeff=")
    with pytest.raises(ClimstackError, match="no finite number"):
        load(tmp_path, text[:at] + "x" + text[at + 1 :])


def test_columns_that_the_view_lacks_are_a_sentence(tmp_path):
    model = load(tmp_path, text_of(), range(1, N_FEATURES + 1))
    with pytest.raises(ClimstackError, match=r"column of a tree model is \[6\]"):
        model.predict(np.zeros((2, N_FEATURES), np.float32))


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (r"cat_boundaries=0 1", "cat_boundaries=0 9", "the bounds|holds"),
        (r"cat_threshold=\d+", "cat_threshold=4294967296", "cat_threshold"),
        (r"cat_threshold=\d+", "cat_threshold=-1", "cat_threshold"),
        (r"(threshold=)\d+ ", r"\g<1>7 ", "names no set"),
        (r"num_cat=\d+", "num_cat=0", "other splits on words"),
    ],
)
def test_splits_on_words_and_on_gaps_are_read_and_checked(linear, old, new, said, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, N_FEATURES)).astype(np.float32)
    x[:, 0] = rng.integers(0, 9, 2000)
    x[rng.random(x.shape) < 0.2] = np.nan
    y = np.where(np.isnan(x[:, 1]), 2, 0) + np.isin(x[:, 0], [1, 4, 5]) * 3.0
    params = {"n_rounds": 4, "num_leaves": 5, "feature_fraction": 1.0}
    settings = MODEL.settle(LightGBMParams(**params, linear_tree=linear), LEAP).engine(0)
    data = lgb.Dataset(x, y, categorical_feature=[0], params=settings)
    text = lgb.train(settings, data, 4).model_to_string()
    assert re.search(r"threshold=[^\n]*\binf\b", text)
    whole = lgb.Booster(model_str=text)
    np.testing.assert_array_equal(load(tmp_path, text).predict(x)[:, 0], whole.predict(x))
    damaged, times = re.subn(old, new, text, count=1)
    assert times == 1
    head, size, rest = re.split(r"(?<=tree_sizes=)(\d+)", damaged, maxsplit=1)
    damaged = f"{head}{int(size) + len(damaged) - len(text)}{rest}"
    with pytest.raises(ClimstackError, match=said):
        load(tmp_path, damaged)
