"""What trees take where nobody names it: the rule that docs/defaults.md tells."""

from dataclasses import asdict, replace

import lightgbm as lgb
import numpy as np
import pytest

from features import load_schema
from models import CellStore, ModelSpec, cross_validate, load_family
from models.base import TableShape
from models.trees.defaults import (
    LIGHTGBM_PLAIN,
    LIGHTGBM_PROFILES,
    XGBOOST_PLAIN,
    XGBOOST_PROFILES,
    fill,
    has_many_profiles,
    lightgbm_defaults,
    xgboost_defaults,
)
from tests.models.tables import make_folded, numbers, robot

FAMILIES = ("lightgbm", "xgboost")
FOLLOW = {"lightgbm": lightgbm_defaults, "xgboost": xgboost_defaults}
BEFORE = {  # what every table got when the defaults were numbers
    "lightgbm": {
        "n_rounds": 100, "learning_rate": 0.1, "num_leaves": 31, "max_bin": 63,
        "feature_fraction": 0.3, "min_data_in_leaf": 20, "lambda_l2": 1.0, "linear_tree": True,
        "linear_lambda": 1.0, "window": 3, "label_clip": 10.0, "early_stopping_rounds": 0,
        "inner_fraction": 0.1,
    },
    "xgboost": {
        "n_rounds": 100, "learning_rate": 0.1, "max_depth": 6, "max_bin": 64,
        "colsample_bytree": 0.5, "min_child_weight": 5.0, "reg_lambda": 1.0, "window": 3,
        "label_clip": 10.0, "early_stopping_rounds": 0, "inner_fraction": 0.1, "device": "cpu",
    },
}  # fmt: skip
PLAIN = TableShape(n_rows=2000, n_inputs=12, has_levels=False)


def settled(family, table, **params):
    family = load_family(family)
    return family.settle(family.Params(**params), table)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_rows", [100, 15_360, 10_091_520])
@pytest.mark.parametrize("name", ["leap", "v1", "v2_rh_mc"])
def test_climsims_sets_get_what_they_had(family, name, n_rows):
    schema = load_schema(name)
    table = TableShape(
        n_rows=n_rows,
        n_inputs=len(schema.input_columns),
        has_levels=any(variable.n_levels > 1 for variable in schema.variables),
    )
    assert asdict(settled(family, table)) == BEFORE[family]


def test_a_plain_table_shows_a_tree_all_inputs_and_bends_less():
    few, some, many = (replace(PLAIN, n_rows=n) for n in (299, 300, 10_000))
    assert lightgbm_defaults(some) == LIGHTGBM_PLAIN == {
        "feature_fraction": 1.0, "max_bin": 255, "min_data_in_leaf": 40, "linear_lambda": 30.0,
        "num_leaves": 15, "n_rounds": 200, "learning_rate": 0.05,
    }  # fmt: skip
    assert lightgbm_defaults(few) == LIGHTGBM_PLAIN | {"min_data_in_leaf": 20}
    assert lightgbm_defaults(replace(many, n_rows=9_999)) == LIGHTGBM_PLAIN
    assert lightgbm_defaults(many) == LIGHTGBM_PLAIN | {"num_leaves": 31}
    for table in (few, some, many):
        assert xgboost_defaults(table) == XGBOOST_PLAIN == {
            "colsample_bytree": 1.0, "max_bin": 256, "min_child_weight": 10.0, "max_depth": 5,
            "n_rounds": 150, "learning_rate": 0.07,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("n_inputs", "has_levels", "many"),
    [(99, True, False), (100, True, True), (556, True, True), (556, False, False)],
)
def test_profiles_are_many_from_a_hundred_inputs_on(n_inputs, has_levels, many):
    table = TableShape(n_rows=2000, n_inputs=n_inputs, has_levels=has_levels)
    assert has_many_profiles(table) == many
    assert (lightgbm_defaults(table) is LIGHTGBM_PROFILES) == many
    assert (xgboost_defaults(table) is XGBOOST_PROFILES) == many


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rule_fills_every_none_and_nothing_else(family):
    before = asdict(load_family(family).Params())
    values = FOLLOW[family](PLAIN)
    assert {name for name, value in before.items() if value is None} == set(values)
    assert asdict(settled(family, PLAIN)) == before | values
    again = settled(family, PLAIN)
    assert load_family(family).settle(again, replace(PLAIN, has_levels=True, n_inputs=556)) == again


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_model_names_wins(family):
    named = {"n_rounds": 7, "max_bin": 31, "learning_rate": 0.3}
    for table in (PLAIN, TableShape(n_rows=15_360, n_inputs=556, has_levels=True)):
        made = asdict(settled(family, table, **named))
        assert made == BEFORE[family] | FOLLOW[family](table) | named


def test_fill_leaves_zeros_and_false_as_they_are():
    params = load_family("lightgbm").Params(lambda_l2=0.0, linear_tree=False)
    assert fill(params, {"lambda_l2": 5.0, "linear_tree": True, "max_bin": 9}) == replace(
        params, max_bin=9
    )


@pytest.mark.parametrize("named", [{}, {"num_leaves": 4}])
def test_trees_are_fitted_with_what_the_rule_says(tmp_path, named):
    x, y = robot(n_rows=400)
    data = make_folded(tmp_path / "rows", [*numbers(12), *numbers(5, "target")], x, y)
    spec = ModelSpec(name="trees", family="lightgbm", params={"n_rounds": 3, **named})
    member = cross_validate(data, spec, CellStore(tmp_path / "cells"), targets=np.array([0]))
    texts = [file.read_text() for file in (tmp_path / "cells").rglob("model.txt")]
    assert member.computed == len(texts) == 2
    for text in texts:
        engine = lgb.Booster(model_str=text).params
        assert engine["num_leaves"] == named.get("num_leaves", 15)
        assert (engine["feature_fraction"], engine["max_bin"]) == (1.0, 255)
        assert (engine["min_data_in_leaf"], engine["linear_lambda"]) == (40, 30.0)
