"""Every metric found, and what each one promises."""

import numpy as np
import pytest

from features import ClimstackError, mae, r2_score, rmse
from features.schemas.schema import Schema
from features.schemas.variable import Variable
from features.scoring.metric import (
    Sums,
    aggregate,
    available_metrics,
    load_metric,
    skill,
    values_of,
)


def schema_of(*targets, **settings):
    return Schema(name="s", variables=(Variable(name="x", role="input"), *targets), **settings)


SCHEMA = schema_of(
    Variable(name="a", role="target", unit="m"),
    Variable(name="b", role="target", unit="m", weight=3.0),
    Variable(name="c", role="target", unit="m", weight=0.0),
)


def rows(missing=0.0):
    rng = np.random.default_rng(1)
    y = rng.normal(size=(200, 3)) * [1, 5, 9]
    y_pred = y + rng.normal(size=y.shape)
    y[rng.random(y.shape) < missing] = np.nan
    return y, y_pred


@pytest.mark.parametrize("name", available_metrics())
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_contract(name, missing):
    metric, (y, y_pred) = load_metric(name), rows(missing)
    sums = Sums.of_rows(y, y_pred)
    values = values_of(metric, sums)
    assert values.shape == metric.share(SCHEMA).shape == (3,)
    assert isinstance(metric.title(SCHEMA), str)
    worse = values_of(metric, Sums.of_rows(y, y_pred + 3))
    assert ((worse < values) == metric.greater_is_better).all()
    assert (skill(metric, y, y_pred) > skill(metric, y, y_pred + 3)).all()
    np.testing.assert_allclose(skill(metric, y, np.where(np.isnan(y), 0.0, y)), 1)
    mean = np.broadcast_to(np.nanmean(y, 0), y.shape)
    np.testing.assert_allclose(skill(metric, y, mean), 0, atol=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_values_are_those_of_rows(missing):
    y, y_pred = rows(missing)
    by_rows = {"r2": r2_score, "leap": r2_score, "weighted_r2": r2_score, "rmse": rmse, "mae": mae}
    for name, function in by_rows.items():
        values = values_of(load_metric(name), Sums.of_rows(y, y_pred))
        np.testing.assert_allclose(values, function(y, y_pred), rtol=1e-12)


def test_who_counts():
    values = np.array([0.5, 0.9, 1.0])
    by = {name: aggregate(values, load_metric(name).share(SCHEMA)) for name in available_metrics()}
    assert by["r2"] == pytest.approx(0.7)
    assert by["leap"] == pytest.approx(0.8)
    assert by["weighted_r2"] == pytest.approx(0.8)
    assert by["rmse"] == by["mae"] == pytest.approx(0.8)


def test_units_are_named_where_all_targets_share_one():
    assert load_metric("rmse").title(SCHEMA) == "mean RMSE over 2 targets, weighted, m"
    mixed = schema_of(
        Variable(name="a", role="target", unit="m"), Variable(name="b", role="target")
    )
    assert load_metric("mae").title(mixed) == "mean MAE over 2 targets"
    assert load_metric("r2").title(SCHEMA) == "mean R2 over 2 targets"
    assert load_metric("leap").title(SCHEMA) == "LEAP score"


def test_no_rows_no_value():
    y, y_pred = rows()
    y[:, 1] = np.nan
    values = values_of(load_metric("r2"), Sums.of_rows(y, y_pred))
    assert np.isnan(values).tolist() == [False, True, False]
    assert np.isfinite(aggregate(values, np.ones(3)))


def test_an_unknown_metric_is_refused():
    with pytest.raises(ClimstackError, match=r"no metric 'rmsee'.*rmse"):
        load_metric("rmsee")
