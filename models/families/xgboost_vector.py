"""XGBoost with vector leaves: one set of trees for all targets of neighbouring levels.

Targets of a level share their splits, so one tree serves them all (``multi_output_tree``). A leaf
holds one value per target, and so does every bin of a histogram: a group is as many whole levels as
fit into ``histogram_mb``. On random features and a CPU it was slower per target than a model each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core.settings import require
from features.schemas.schema import Schema
from features.views.tabular import all_levels
from models.base import Family, FitContext, Fits, FoldData, Sets
from models.trees.boosting import PARTS_BY, SCALAR, Parts, seen_levels
from models.trees.xgboost_engine import XGBoostModel, XGBoostParams, bin_window, search_space

BYTES_PER_BIN = 16  # gradient and hessian of one target in double precision


@dataclass(frozen=True, kw_only=True)
class XGBoostVectorParams(XGBoostParams):
    """Parameters of the trees, named as in XGBoost; see :class:`models.trees.xgboost_engine`.

    Attributes:
        histogram_mb: memory that the histograms of a tree's widest level may take, MiB.
    """

    histogram_mb: float = 512.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, histogram_mb="(0, inf)")

    def engine(self, seed: int) -> dict[str, Any]:
        """The settings as XGBoost takes them."""
        settings = super().engine(seed) | {"multi_strategy": "multi_output_tree"}
        settings.pop("histogram_mb")
        return settings

    def histograms_mb(self, n_features: int, n_targets: int) -> float:
        """Memory of the histograms of all nodes at a tree's widest level, MiB."""
        n_nodes = 2 ** (self.max_depth - 1)
        return float(n_features * self.max_bin * n_targets * n_nodes * BYTES_PER_BIN) / 2**20


class XGBoostVector(Family):
    """The family; see :class:`models.base.Family`."""

    Params = XGBoostVectorParams
    package = "xgboost"
    view = "trees"
    prepared_by = PARTS_BY

    def in_processes(self, params: XGBoostVectorParams) -> bool:
        """On a CPU: several processes would share a GPU."""
        return params.device == "cpu"

    def target_sets(
        self, schema: Schema, targets: NDArray[np.intp], params: XGBoostVectorParams
    ) -> list[list[int]]:
        """Groups of whole neighbouring levels; scalar targets are a group of their own."""
        of_features, of_targets = all_levels(schema, self.view), schema.target_levels[targets]
        there = [int(level) for level in np.unique(of_features)]
        groups: list[list[int]] = []
        seen: set[int] = set()
        last = SCALAR
        for level in np.unique(of_targets).tolist():
            here = np.flatnonzero(of_targets == level).tolist()
            own = set(seen_levels(level, params.window, there))
            n_features = int(np.isin(of_features, list(seen | own)).sum())
            n_targets = len(here) + (len(groups[-1]) if groups else 0)
            if last == SCALAR or params.histograms_mb(n_features, n_targets) > params.histogram_mb:
                groups.append([])
                seen = set()
            groups[-1] += here
            seen |= own
            last = level
        return groups

    def prepare(self, data: FoldData, params: XGBoostVectorParams, folder: Path) -> Parts:
        """Lay the fold's rows out by level."""
        return Parts.write(data, params, folder)

    def fit(
        self, prepared: Parts, sets: Sets, params: XGBoostVectorParams, context: FitContext
    ) -> Fits:
        """Bin what a group sees, then fit its targets together."""
        for levels, together in prepared.windows(sets, params.window):
            columns = prepared.columns(levels)
            binned = bin_window(prepared, levels, params)
            for targets in together:
                for name, matrix in zip(prepared.names, binned, strict=True):
                    matrix.set_label(prepared.labels(name, targets).T)
                yield targets, XGBoostModel.train(binned, params, context.seed, columns)

    def search_space(self, trial: Any) -> dict[str, Any]:
        """Parameters worth searching."""
        return search_space(trial)

    def load(self, folder: Path) -> XGBoostModel:
        """Read ``model.ubj`` and ``columns.npy``."""
        return XGBoostModel.load(folder)


MODEL = XGBoostVector()
