"""Settings of trees that fit a table: what a parameter is where nobody names it (docs/defaults.md).

Profiles of many levels have hundreds of inputs that say much the same: there each tree may look at
a part of them, and coarse bins lose little. A plain table has some ten inputs that each say their
own, and fewer rows: a tree must see them all, and the lines in its leaves need a strong penalty and
more rows. Both are measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

from models.base import TableShape

P = TypeVar("P", bound=Any)

MANY_INPUTS = 100  # from so many on, profiles are taken as ClimSim's are; its sets have 124 to 557
FEW, MANY = 300, 10_000  # rows

LIGHTGBM_PROFILES: dict[str, Any] = {
    "feature_fraction": 0.3,
    "max_bin": 63,
    "min_data_in_leaf": 20,
    "linear_lambda": 1.0,
    "num_leaves": 31,
    "n_rounds": 100,
    "learning_rate": 0.1,
}
LIGHTGBM_PLAIN: dict[str, Any] = {
    "feature_fraction": 1.0,
    "max_bin": 255,
    "min_data_in_leaf": 40,
    "linear_lambda": 30.0,
    "num_leaves": 15,
    "n_rounds": 200,
    "learning_rate": 0.05,
}
LIGHTGBM_FEW: dict[str, Any] = {"min_data_in_leaf": 20}  # 40 in a leaf would leave nothing to split
LIGHTGBM_MANY: dict[str, Any] = {"num_leaves": 31}
XGBOOST_PROFILES: dict[str, Any] = {
    "colsample_bytree": 0.5,
    "max_bin": 64,
    "min_child_weight": 5.0,
    "max_depth": 6,
    "n_rounds": 100,
    "learning_rate": 0.1,
}
XGBOOST_PLAIN: dict[str, Any] = {
    "colsample_bytree": 1.0,
    "max_bin": 256,
    "min_child_weight": 10.0,
    "max_depth": 5,
    "n_rounds": 150,
    "learning_rate": 0.07,
}


def has_many_profiles(table: TableShape) -> bool:
    """Whether a table is like ClimSim's: it has levels, and a hundred inputs or more.

    Example:
        >>> has_many_profiles(TableShape(n_rows=10_000, n_inputs=556, has_levels=True))
        True
        >>> has_many_profiles(TableShape(n_rows=10_000, n_inputs=556, has_levels=False))
        False
    """
    return table.has_levels and table.n_inputs >= MANY_INPUTS


def lightgbm_defaults(table: TableShape) -> dict[str, Any]:
    """What LightGBM's parameters are where they are None.

    Example:
        >>> lightgbm_defaults(TableShape(n_rows=2000, n_inputs=12, has_levels=False))["num_leaves"]
        15
    """
    if has_many_profiles(table):
        return LIGHTGBM_PROFILES
    few, many = table.n_rows < FEW, table.n_rows >= MANY
    return LIGHTGBM_PLAIN | (LIGHTGBM_FEW if few else {}) | (LIGHTGBM_MANY if many else {})


def xgboost_defaults(table: TableShape) -> dict[str, Any]:
    """What XGBoost's parameters are where they are None.

    Example:
        >>> xgboost_defaults(TableShape(n_rows=2000, n_inputs=12, has_levels=False))["max_depth"]
        5
    """
    return XGBOOST_PROFILES if has_many_profiles(table) else XGBOOST_PLAIN


def fill(params: P, values: Mapping[str, Any]) -> P:
    """The parameters, with ``values`` in place of those that are None."""
    return replace(params, **{k: v for k, v in values.items() if getattr(params, k) is None})


def settled(params: Any) -> dict[str, Any]:
    """All parameters by name.

    Raises:
        ValueError: one still follows the table: :func:`fill` them first.
    """
    values = asdict(params)
    for name, value in values.items():
        if value is None:
            raise ValueError(f"{name} follows the table: settle the parameters first")
    return values
