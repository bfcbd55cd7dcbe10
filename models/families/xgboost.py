"""XGBoost, one model per target: features binned once per fold, labels swapped.

A ``QuantileDMatrix`` can't be handed to another process, so targets are fitted one after the other
in this one, each on all cores.
XGBoost silently learns nothing from targets of small scale, so it only ever sees standardised ones.
A target stops early on inner blocks of the training rows, as in :mod:`models.families.lightgbm`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from features.settings import require
from models.base import Array, Fitted, Float32, FoldData


@dataclass(frozen=True)
class XGBoostParams:
    """Parameters of the trees, named as in XGBoost.

    Attributes:
        n_rounds: boosting rounds at most.
        learning_rate: shrinkage of each tree.
        max_depth: depth of a tree at most.
        max_bin: bins of a feature.
        colsample_bytree: share of the features that each tree sees.
        min_child_weight: rows in a leaf at least.
        reg_lambda: penalty on leaf values.
        label_clip: standardised targets are clipped to +-label_clip while fitting.
        early_stopping_rounds: rounds without gain on the inner blocks that end the fit; 0 never.
        inner_fraction: share of the training time in the inner blocks.
        device: ``"cpu"`` or ``"cuda"``.
    """

    n_rounds: int = 160
    learning_rate: float = 0.08
    max_depth: int = 6
    max_bin: int = 64
    colsample_bytree: float = 0.2
    min_child_weight: float = 5.0
    reg_lambda: float = 1.0
    label_clip: float = 10.0
    early_stopping_rounds: int = 25
    inner_fraction: float = 0.1
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        require(
            self,
            n_rounds="[1, inf)",
            learning_rate="(0, inf)",
            max_depth="[1, 20]",
            max_bin="[2, 65535]",
            colsample_bytree="(0, 1]",
            min_child_weight="[0, inf)",
            reg_lambda="[0, inf)",
            label_clip="(0, inf)",
            early_stopping_rounds="[0, inf)",
            inner_fraction="(0, 0.5)",
        )

    def engine(self, seed: int) -> dict[str, Any]:
        """The settings as XGBoost takes them."""
        own = {"n_rounds", "label_clip", "early_stopping_rounds", "inner_fraction"}
        return {key: value for key, value in asdict(self).items() if key not in own} | {
            "tree_method": "hist",
            "objective": "reg:squarederror",
            "base_score": 0.0,  # standardised labels; XGBoost's own guess would differ per target
            "seed": seed,
            "verbosity": 1,
        }


@dataclass(frozen=True)
class Prepared:
    """A fold's binned rows and its labels, (n_rows, n_targets) each; ``watch`` may be empty."""

    fit: Any
    fit_labels: Float32
    watch: Any
    watch_labels: Float32


@dataclass(frozen=True)
class BoosterModel:
    """One target's trees, as XGBoost's UBJSON."""

    raw: bytes

    def predict(self, features: Float32) -> Array:
        """Standardised predictions, (n_samples, 1)."""
        from xgboost import Booster

        booster = Booster({"nthread": 1})
        booster.load_model(bytearray(self.raw))
        predicted = booster.inplace_predict(features)
        return np.asarray(predicted, dtype=np.float64)[:, None]

    def save(self, folder: Path) -> None:
        """Write ``model.ubj``, which XGBoost itself reads too."""
        (folder / "model.ubj").write_bytes(self.raw)


class XGBoost:
    """The family; see :mod:`models.base`."""

    Params = XGBoostParams
    package = "xgboost"
    per_target = True
    in_processes = False
    both = False

    def prepare(self, data: FoldData, params: XGBoostParams, folder: Path) -> Prepared:
        """Bin the fold's rows once; the watched rows take the same edges."""
        import xgboost as xgb

        fit, watch = data.inner_rows(params.early_stopping_rounds, params.inner_fraction)
        features, labels = data.arrays(fit)
        binned = xgb.QuantileDMatrix(features, max_bin=params.max_bin)
        clip = params.label_clip
        fit_labels = np.clip(labels, -clip, clip).astype(np.float32)
        if not len(watch):
            return Prepared(binned, fit_labels, None, fit_labels[:0])
        features, labels = data.arrays(watch)
        watched = xgb.QuantileDMatrix(features, max_bin=params.max_bin, ref=binned)
        return Prepared(
            binned, fit_labels, watched, np.clip(labels, -clip, clip).astype(np.float32)
        )

    def fit(
        self, prepared: Prepared, targets: Sequence[int], params: XGBoostParams, seed: int
    ) -> Iterator[tuple[list[int], Fitted]]:
        """Fit one target after the other on the binned rows."""
        import xgboost as xgb

        for target in targets:
            prepared.fit.set_label(prepared.fit_labels[:, target])
            stopping: dict[str, Any] = {}
            if prepared.watch is not None:
                prepared.watch.set_label(prepared.watch_labels[:, target])
                stopping = {
                    "evals": [(prepared.watch, "watch")],
                    "early_stopping_rounds": params.early_stopping_rounds,
                    "verbose_eval": False,
                }
            booster = xgb.train(params.engine(seed), prepared.fit, params.n_rounds, **stopping)
            if prepared.watch is not None:
                booster = booster[: booster.best_iteration + 1]
            yield [target], BoosterModel(bytes(booster.save_raw("ubj")))

    def load(self, folder: Path) -> BoosterModel:
        """Read ``model.ubj``."""
        return BoosterModel((folder / "model.ubj").read_bytes())


MODEL = XGBoost()
