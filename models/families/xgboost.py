"""XGBoost, one model per target: each window of levels binned once per fold, labels swapped.

A ``QuantileDMatrix`` can't be handed to another process or joined from parts, so a worker bins the
window of levels that its targets share, once, and swaps labels; that gives the same model to the
bit as a fresh matrix. With ``window = -1`` there is one matrix for the fold.
XGBoost silently learns nothing from targets of small scale, so it only ever sees standardised ones.
With ``early_stopping_rounds`` a target stops early on inner blocks of the training rows, as in
:mod:`models.families.lightgbm`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.schemas.schema import Schema
from models.base import Family, FitContext, Fits, FoldData, Sets
from models.trees.boosting import PARTS_BY, Parts
from models.trees.xgboost_engine import XGBoostModel, XGBoostParams, bin_window, search_space


class XGBoost(Family):
    """The family; see :class:`models.base.Family`."""

    Params = XGBoostParams
    package = "xgboost"
    view = "trees"
    prepared_by = PARTS_BY

    def in_processes(self, params: XGBoostParams) -> bool:
        """On a CPU: several processes would share a GPU."""
        return params.device == "cpu"

    def target_sets(
        self, schema: Schema, targets: NDArray[np.intp], params: XGBoostParams
    ) -> list[list[int]]:
        """One model per target."""
        return [[position] for position in range(len(targets))]

    def prepare(self, data: FoldData, params: XGBoostParams, folder: Path) -> Parts:
        """Lay the fold's rows out by level."""
        return Parts.write(data, params, folder)

    def fit(self, prepared: Parts, sets: Sets, params: XGBoostParams, context: FitContext) -> Fits:
        """Bin each window once and fit its targets one after the other."""
        for levels, together in prepared.windows(sets, params.window):
            columns = prepared.columns(levels)
            binned = bin_window(prepared, levels, params)
            for targets in together:
                for name, matrix in zip(prepared.names, binned, strict=True):
                    matrix.set_label(prepared.labels(name, targets)[0])
                yield targets, XGBoostModel.train(binned, params, context.seed, columns)

    def search_space(self, trial: Any) -> dict[str, Any]:
        """Parameters worth searching."""
        return search_space(trial)

    def load(self, folder: Path) -> XGBoostModel:
        """Read ``model.ubj`` and ``columns.npy``."""
        return XGBoostModel.load(folder)


MODEL = XGBoost()
