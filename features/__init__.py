"""The ground floor: what the data is, and how a model sees it. NumPy and Polars only."""

from typing import TYPE_CHECKING

from features.lazy import attach

if TYPE_CHECKING:
    from features.check import Finding, check_file
    from features.conversion import convert
    from features.enrichment import Extra, enrich
    from features.errors import ClimstackError, LeakageWarning
    from features.explore import Exploration, explore_store
    from features.explore_page import write_exploration
    from features.fold_schemes import (
        column_blocks,
        forward_chaining,
        groups,
        random_rows,
        regions,
        time_blocks,
    )
    from features.folds import FoldPlan
    from features.grid import Grid
    from features.metrics import bias, crps, leap_score, mae, r2_score, rmse
    from features.regimes import regime_masks
    from features.schema import Proportion, Schema, Variable, available_schemas, load_schema
    from features.store import Store
    from features.tabular import TabularView
    from features.transforms import Scaler

__all__ = [
    "ClimstackError",
    "Exploration",
    "Extra",
    "Finding",
    "FoldPlan",
    "Grid",
    "LeakageWarning",
    "Proportion",
    "Scaler",
    "Schema",
    "Store",
    "TabularView",
    "Variable",
    "available_schemas",
    "bias",
    "check_file",
    "column_blocks",
    "convert",
    "crps",
    "enrich",
    "explore_store",
    "forward_chaining",
    "groups",
    "leap_score",
    "load_schema",
    "mae",
    "r2_score",
    "random_rows",
    "regime_masks",
    "regions",
    "rmse",
    "time_blocks",
    "write_exploration",
]

__getattr__ = attach(__name__, __file__)
