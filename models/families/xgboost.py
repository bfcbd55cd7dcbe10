"""XGBoost, one model per target: each window of levels binned once per fold, labels swapped.

A ``QuantileDMatrix`` can't be handed to another process or joined from parts, so a worker bins the
window of levels that its targets share, once, and swaps labels; that gives the same model to the
bit as a fresh matrix. With ``window = -1`` there is one matrix for the fold.
XGBoost silently learns nothing from targets of small scale, so it only ever sees standardised ones.
With ``early_stopping_rounds`` a target stops early on inner blocks of the training rows, as in
:mod:`models.families.lightgbm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import NDArray

from features.core.settings import Bounded, Count, InnerShare, Natural, NotNegative, Positive
from features.core.types import Array, Float32
from features.schemas.schema import Schema
from models.base import Family, FitContext, Fits, Fitted, FoldData, Sets, TableShape
from models.trees.boosting import OWN, PARTS_BY, Parts, spread_gain
from models.trees.defaults import fill, settled, xgboost_defaults
from models.trees.forest import read_columns, seen_features, unreadable
from models.trees.xgboost_model import read_model


@dataclass(frozen=True, kw_only=True)
class XGBoostParams(Bounded):
    """Parameters of the trees, named as in XGBoost.

    What is None follows the table (:mod:`models.trees.defaults`).

    Attributes:
        n_rounds: boosting rounds at most; XGBoost calls them ``num_boost_round``.
        learning_rate: shrinkage of each tree.
        max_depth: depth of a tree at most.
        max_bin: bins of a feature.
        colsample_bytree: share of the features that each tree sees.
        min_child_weight: rows in a leaf at least.
        reg_lambda: penalty on leaf values.
        window: levels that a target sees, as in :mod:`models.families.lightgbm`.
        label_clip: standardised targets are clipped to +-label_clip while fitting.
        early_stopping_rounds: rounds without gain on the inner blocks that end the fit; 0 never.
        inner_fraction: share of the training time in the inner blocks.
        device: ``"cpu"`` or ``"cuda"``.
    """

    n_rounds: Count | None = None
    learning_rate: Positive | None = None
    max_depth: Annotated[int, Interval(ge=1, le=20)] | None = None
    max_bin: Annotated[int, Interval(ge=2, le=65535)] | None = None
    colsample_bytree: Annotated[float, Interval(gt=0, le=1)] | None = None
    min_child_weight: NotNegative | None = None
    reg_lambda: NotNegative = 1.0
    window: Annotated[int, Ge(-1)] = 3
    label_clip: Positive = 10.0
    early_stopping_rounds: Natural = 0
    inner_fraction: InnerShare = 0.1
    device: Literal["cpu", "cuda"] = "cpu"

    def engine(self, seed: int) -> dict[str, Any]:
        """The settings as XGBoost takes them, once what follows the table is settled."""
        return {key: value for key, value in settled(self).items() if key not in OWN} | {
            "tree_method": "hist",
            "objective": "reg:squarederror",
            "base_score": 0.0,  # standardised labels; XGBoost's own guess would differ per target
            "seed": seed,
            "nthread": 1,
            "verbosity": 1,
        }


@dataclass(frozen=True)
class XGBoostModel(Fitted):
    """Trees of one target.

    Attributes:
        raw: as XGBoost's UBJSON.
        columns: which features of the view they see, in their order.
    """

    raw: bytes
    columns: NDArray[np.intp]

    @classmethod
    def train(
        cls, binned: Sequence[Any], params: Any, seed: int, columns: NDArray[np.intp]
    ) -> XGBoostModel:
        """Fit on labelled matrices: rows to fit on and, for early stopping, rows to watch."""
        import xgboost as xgb

        stopping: dict[str, Any] = {}
        if len(binned) > 1:
            stopping = {
                "evals": [(binned[1], "watch")],
                "early_stopping_rounds": params.early_stopping_rounds,
                "verbose_eval": False,
            }
        booster = xgb.train(params.engine(seed), binned[0], params.n_rounds, **stopping)
        if stopping:
            booster = booster[: booster.best_iteration + 1]
        return cls(bytes(booster.save_raw("ubj")), columns)

    def predict(self, features: Float32) -> Array:
        """Standardised predictions, (n_samples, n_targets)."""
        predicted = self._booster.inplace_predict(seen_features(features, self.columns))
        return np.asarray(predicted, dtype=np.float64).reshape(len(features), -1)

    def importance(self, n_features: int) -> Array:
        """Gain of each feature, summed over splits, in squared standard deviations x rows."""
        gain = self._booster.get_score(importance_type="total_gain")
        found = {int(name[1:]): float(value) for name, value in gain.items()}
        return spread_gain(found, self.columns, n_features)

    def save(self, folder: Path) -> None:
        """Write ``model.ubj``, which XGBoost itself reads too, and ``columns.npy``."""
        (folder / "model.ubj").write_bytes(self.raw)
        np.save(folder / "columns.npy", self.columns.astype(np.int32))

    @classmethod
    def load(cls, folder: Path) -> XGBoostModel:
        """Read what :meth:`save` wrote."""
        columns = read_columns(folder)
        return cls(read_model(folder / "model.ubj", len(columns)), columns)

    @cached_property
    def _booster(self) -> Any:
        from xgboost import Booster
        from xgboost.core import XGBoostError

        booster = Booster({"nthread": 1})
        try:
            booster.load_model(bytearray(self.raw))
        except XGBoostError as error:
            raise unreadable("XGBoost", error) from None
        return booster


class XGBoost(Family):
    """The family; see :class:`models.base.Family`."""

    Params = XGBoostParams
    package = "xgboost"
    view = "trees"
    prepared_by = PARTS_BY
    of_levels = ("window",)

    def settle(self, params: XGBoostParams, table: TableShape) -> XGBoostParams:
        """With what is None as it suits the table."""
        return fill(params, xgboost_defaults(table))

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
            binned = _bin_window(prepared, levels, params)
            for targets in together:
                labelled = _labelled(prepared, targets[0], binned)
                used = params if labelled else replace(params, n_rounds=1)  # without any row
                yield (
                    targets,
                    XGBoostModel.train(labelled or binned[:1], used, context.seed, columns),
                )

    def search_space(self, trial: Any) -> dict[str, Any]:
        """Parameters worth searching."""
        return {
            "n_rounds": trial.suggest_int("n_rounds", 40, 240, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
            "max_depth": trial.suggest_int("max_depth", 3, 8),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.1, 1.0),
            "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 60.0, log=True),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 30.0, log=True),
            "window": trial.suggest_int("window", 1, 6),
        }

    def load(self, folder: Path) -> XGBoostModel:
        """Read ``model.ubj`` and ``columns.npy``."""
        return XGBoostModel.load(folder)


def _bin_window(parts: Parts, levels: Sequence[int], params: Any) -> list[Any]:
    """Matrices of some levels: rows to fit on and, against their edges, rows to watch if any."""
    import xgboost as xgb

    binned: list[Any] = []
    for name in parts.names:
        reference = binned[0] if binned else None
        values, words = parts.features(name, levels), parts.categories[parts.columns(levels)]
        native: dict[str, Any] = {}
        if words.any():
            kinds = ["c" if word else "q" for word in words]
            native = {"feature_types": kinds, "enable_categorical": True}
        matrix = xgb.QuantileDMatrix(
            values,
            weight=parts.weights(name),
            max_bin=params.max_bin,
            ref=reference,
            nthread=1,
            **native,
        )
        binned.append(matrix)
    return binned


def _labelled(parts: Parts, target: int, binned: list[Any]) -> list[Any]:
    """Matrices with a target's labels: rows to fit on and, if any, to watch; else nothing.

    A row that lacks it weighs 0, which is as if it were not there: its gradient and its share of
    ``min_child_weight`` are 0, and edges of bins were found before. Without any row labels are 0.
    """
    found = []
    for name, matrix in zip(parts.names, binned, strict=True):
        labels = parts.labels(name, target)
        there = ~np.isnan(labels)
        if parts.misses:  # weights of the target before are still set
            weights = parts.weights(name)
            weights = np.ones_like(labels) if weights is None else weights
            matrix.set_weight(weights * there if there.any() else weights)
        matrix.set_label(np.where(there, labels, 0.0))
        if not there.any():
            break
        found.append(matrix)
    return found


MODEL = XGBoost()
