"""Missing inputs, categories and dates: native in trees, filled and spread out elsewhere."""

import warnings

import numpy as np
import pytest

from features import TabularView, r2_score
from features.schemas.variable import Variable
from features.views.fill import Fill
from models import CellStore, ModelSpec, available_families, cross_validate
from tests.models.tables import make_folded, numbers, robot

NET = {"preset": "tiny", "epochs": 2, "device": "cpu", "batch_size": 64}
PARAMS = {
    "ridge": {},
    "lightgbm": {"n_rounds": 30, "feature_fraction": 1.0},
    "xgboost": {"n_rounds": 30, "colsample_bytree": 1.0, "min_child_weight": 1.0},
    "sklearn": {"params": {"n_estimators": 20}},
}
WORDS = tuple(f"w{i}" for i in range(12))


def variables(n_words=12):
    return [
        *numbers(2, policy="impute"),
        Variable(name="a kind, of°", role="input", kind="category",
                 categories=tuple(f"w{i}" for i in range(n_words))),
        Variable(name="day", role="input", kind="date"),
        *numbers(2, "target"),
    ]  # fmt: skip


def table(n_rows=900, n_words=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, 4))
    x[:, 2] = rng.integers(0, n_words, n_rows)
    x[:, 3] = rng.integers(10_000, 12_000, n_rows) + rng.random(n_rows)
    effect = rng.normal(size=n_words) * 3
    y = effect[x[:, 2].astype(int)] + x[:, 0] + np.sin(2 * np.pi * x[:, 3])
    gaps = rng.random((n_rows, 2)) < 0.2
    y = y + 3 * gaps[:, 1]
    x[:, :2] = np.where(gaps, np.nan, x[:, :2])
    x[:, 2] = np.where(rng.random(n_rows) < 0.05, np.nan, x[:, 2])
    return x, np.stack([y, -y], axis=1)


@pytest.mark.parametrize("n_words", [12, 100])
@pytest.mark.parametrize("family", available_families())
def test_every_family_takes_gaps_words_and_dates(family, n_words, tmp_path):
    x, y = table(n_words=n_words)
    folded = make_folded(tmp_path, variables(n_words), x, y)
    spec = ModelSpec(name="m", family=family, params=PARAMS.get(family, NET))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        member = cross_validate(
            folded, spec, CellStore(tmp_path / "c"), targets=np.arange(2), n_jobs=1
        )
    oof = np.concatenate([member.oof(0), member.oof(1)])
    assert np.isfinite(oof).all()
    if family in PARAMS and n_words == 12:
        valid = np.concatenate([folded.plan.valid_rows(fold) for fold in (0, 1)])
        assert r2_score(y[valid], oof).min() > 0.6
    model = member.models(0)[0]  # read back, strictly
    valid = folded.plan.valid_rows(0)
    again = np.stack([each.predict(x[valid])[:, 0] for each in member.models(0)], axis=1)
    if again.shape == member.oof(0).shape:
        np.testing.assert_allclose(again, member.oof(0), rtol=1e-6)
    new, gone = x[valid][:9].copy(), x[valid][:9].copy()
    new[:, 2], gone[:, 2] = 1000.0, np.nan
    np.testing.assert_array_equal(model.predict(new), model.predict(gone))


@pytest.mark.parametrize("kind", ["linear", "trees", "networks"])
def test_views_round_trip_and_name_what_they_show(kind, tmp_path):
    x, y = table()
    x[x[:, 2] == 3, 2] = np.nan  # a word that training lacks
    folded = make_folded(tmp_path, variables(), x, y)
    schema = folded.store.schema
    view = TabularView.fit(schema, [x], kind, Fill.fit(schema, [x]))
    features = view.transform(x)
    view.save(tmp_path / "view.npz")
    again = TabularView.load(tmp_path / "view.npz")
    np.testing.assert_array_equal(again.transform(x), features)
    names = view.feature_names
    assert names == again.feature_names
    assert {"day", "day.day_sine", "day.year_cosine"} <= set(names)
    gaps = np.isnan(x[:, 0])
    first = features[:, names.index("x0")]
    if kind == "trees":
        assert view.categories.tolist() == [name == "a kind, of°" for name in names]
        np.testing.assert_array_equal(features[:, names.index("a kind, of°")], x[:, 2])
        np.testing.assert_array_equal(np.isnan(first), gaps)
    else:
        assert "a kind, of°=w3" not in names
        assert len([name for name in names if "=" in name]) == 11
        assert np.isfinite(features).all()
        np.testing.assert_allclose(first[gaps], 0, atol=1e-6)
        assert len(np.unique(features[:, names.index("missing_x0")])) == 2
    unseen = x[:2].copy()
    unseen[0, 2], unseen[1, 2] = 3, np.nan
    unseen[1, [0, 1, 3]] = unseen[0, [0, 1, 3]]
    one, other = view.transform(unseen)
    np.testing.assert_array_equal(one, other)


def test_whole_days_have_no_time_of_day(tmp_path):
    x, y = table()
    x[:, 3] = np.floor(x[:, 3])
    folded = make_folded(tmp_path, variables(), x, y)
    names = TabularView.fit(folded.store.schema, [x], "linear").feature_names
    assert [name for name in names if name.startswith("day")] == [
        "day", "day.year_sine", "day.year_cosine",
    ]  # fmt: skip


@pytest.mark.parametrize("family", available_families())
def test_twelve_scalars_to_five_targets_without_a_warning(family, tmp_path):
    x, y = robot()
    folded = make_folded(tmp_path, [*numbers(12), *numbers(5, "target")], x, y)
    spec = ModelSpec(name="m", family=family, params=PARAMS.get(family, NET))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        member = cross_validate(
            folded, spec, CellStore(tmp_path / "c"), targets=np.arange(5), n_jobs=1
        )
    assert np.isfinite(member.oof(0)).all()
