"""What the two XGBoost families share: parameters, binning a window of levels, fitted models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.core.settings import require
from features.core.types import Array, Float32
from models.base import Fitted
from models.trees.boosting import INTERVALS, OWN, Parts, spread_gain


@dataclass(frozen=True, kw_only=True)
class XGBoostParams:
    """Parameters of the trees, named as in XGBoost.

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

    n_rounds: int = 100
    learning_rate: float = 0.1
    max_depth: int = 6
    max_bin: int = 64
    colsample_bytree: float = 0.5
    min_child_weight: float = 5.0
    reg_lambda: float = 1.0
    window: int = 3
    label_clip: float = 10.0
    early_stopping_rounds: int = 0
    inner_fraction: float = 0.1
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        require(
            self,
            **INTERVALS,
            max_depth="[1, 20]",
            colsample_bytree="(0, 1]",
            min_child_weight="[0, inf)",
            reg_lambda="[0, inf)",
        )

    def engine(self, seed: int) -> dict[str, Any]:
        """The settings as XGBoost takes them."""
        return {key: value for key, value in asdict(self).items() if key not in OWN} | {
            "tree_method": "hist",
            "objective": "reg:squarederror",
            "base_score": 0.0,  # standardised labels; XGBoost's own guess would differ per target
            "seed": seed,
            "nthread": 1,
            "verbosity": 1,
        }


def search_space(trial: Any) -> dict[str, Any]:
    """Parameters worth searching, of both families."""
    return {
        "n_rounds": trial.suggest_int("n_rounds", 40, 240, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
        "max_depth": trial.suggest_int("max_depth", 3, 8),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.1, 1.0),
        "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 60.0, log=True),
        "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 30.0, log=True),
        "window": trial.suggest_int("window", 1, 6),
    }


def bin_window(parts: Parts, levels: Sequence[int], params: Any) -> list[Any]:
    """Matrices of some levels: rows to fit on and, against their edges, rows to watch if any."""
    import xgboost as xgb

    binned: list[Any] = []
    for name in parts.names:
        reference = binned[0] if binned else None
        values = parts.features(name, levels)
        matrix = xgb.QuantileDMatrix(
            values, weight=parts.weights(name), max_bin=params.max_bin, ref=reference, nthread=1
        )
        binned.append(matrix)
    return binned


@dataclass(frozen=True)
class XGBoostModel(Fitted):
    """Trees of one target, or of several.

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
        predicted = self._booster.inplace_predict(features[:, self.columns])
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
        columns = np.load(folder / "columns.npy", allow_pickle=False).astype(np.intp)
        return cls((folder / "model.ubj").read_bytes(), columns)

    @cached_property
    def _booster(self) -> Any:
        from xgboost import Booster

        booster = Booster({"nthread": 1})
        booster.load_model(bytearray(self.raw))
        return booster
