"""The ground floor: what the data is, and how a model sees it. NumPy and Polars only."""

from typing import TYPE_CHECKING

from features.core.lazy import attach

if TYPE_CHECKING:
    from features.climate.regimes import regime_masks
    from features.core.errors import ClimstackError, DataWarning, LeakageWarning
    from features.core.metrics import bias, crps, leap_score, mae, r2_score, rmse
    from features.explore.description import describe
    from features.explore.exploration import Exploration, explore_store
    from features.explore.page import write_exploration
    from features.folds.enrichment import Auxiliary, enrich
    from features.folds.folded import FoldedStore
    from features.folds.labelled import groups, kfold, own_folds, random_rows, stratified
    from features.folds.plan import FoldPlan
    from features.folds.schemes import column_blocks, forward_chaining, regions, time_blocks
    from features.schemas.known import available_schemas, load_schema
    from features.schemas.schema import Schema
    from features.schemas.variable import Proportion, Variable
    from features.sources.findings import Finding
    from features.sources.frames import as_frame
    from features.sources.grid import Grid
    from features.store.check import check_data
    from features.store.conversion import convert
    from features.store.store import Store
    from features.views.tabular import TabularView
    from features.views.transforms import Scaler

__all__ = [
    "Auxiliary",
    "ClimstackError",
    "DataWarning",
    "Exploration",
    "Finding",
    "FoldPlan",
    "FoldedStore",
    "Grid",
    "LeakageWarning",
    "Proportion",
    "Scaler",
    "Schema",
    "Store",
    "TabularView",
    "Variable",
    "as_frame",
    "available_schemas",
    "bias",
    "check_data",
    "column_blocks",
    "convert",
    "crps",
    "describe",
    "enrich",
    "explore_store",
    "forward_chaining",
    "groups",
    "kfold",
    "leap_score",
    "load_schema",
    "mae",
    "own_folds",
    "r2_score",
    "random_rows",
    "regime_masks",
    "regions",
    "rmse",
    "stratified",
    "time_blocks",
    "write_exploration",
]

__getattr__, __dir__ = attach(__name__, __file__)
