"""LightGBM, one model per target: features binned once per fold, labels swapped.

Swapping the label of a built ``Dataset`` gives the same model to the bit as a fresh one. Workers
read the binned rows from LightGBM's own binary file and run one thread each, as OpenMP spins when
cores are shared.

With ``early_stopping_rounds`` a target stops early on inner blocks of the training rows, never on
the fold's validation rows, so that their score stays honest. It is off by default: on the real
sample the rows held out for it cost more than it gains (see the README's table).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.settings import require
from models.base import Array, Fitted, Float32, FoldData


@dataclass(frozen=True)
class LightGBMParams:
    """Parameters of the trees, named as in LightGBM.

    Attributes:
        n_rounds: boosting rounds at most.
        learning_rate: shrinkage of each tree.
        num_leaves: leaves of a tree.
        max_bin: bins of a feature.
        feature_fraction: share of the features that each tree sees.
        min_data_in_leaf: rows in a leaf at least.
        lambda_l2: penalty on leaf values.
        label_clip: standardised targets are clipped to +-label_clip while fitting; real tendencies
            reach 195 standard deviations, and a squared loss would spend its trees on those.
        early_stopping_rounds: rounds without gain on the inner blocks that end the fit; 0 never.
        inner_fraction: share of the training time in the inner blocks.
    """

    n_rounds: int = 200
    learning_rate: float = 0.06
    num_leaves: int = 31
    max_bin: int = 63
    feature_fraction: float = 0.2
    min_data_in_leaf: int = 20
    lambda_l2: float = 1.0
    label_clip: float = 10.0
    early_stopping_rounds: int = 0
    inner_fraction: float = 0.1

    def __post_init__(self) -> None:
        require(
            self,
            n_rounds="[1, inf)",
            learning_rate="(0, inf)",
            num_leaves="[2, 131072]",
            max_bin="[2, 65535]",
            feature_fraction="(0, 1]",
            min_data_in_leaf="[1, inf)",
            lambda_l2="[0, inf)",
            label_clip="(0, inf)",
            early_stopping_rounds="[0, inf)",
            inner_fraction="(0, 0.5)",
        )

    def engine(self, seed: int) -> dict[str, Any]:
        """The settings as LightGBM takes them."""
        own = {"n_rounds", "label_clip", "early_stopping_rounds", "inner_fraction"}
        return {key: value for key, value in asdict(self).items() if key not in own} | {
            "objective": "regression",
            "metric": "l2",
            "seed": seed,
            "num_threads": 1,
            "deterministic": True,
            "force_col_wise": True,  # left to itself, LightGBM would choose by a stopwatch
            "feature_pre_filter": False,  # it looks at the label, and labels are swapped
            "verbosity": -1,
        }


@dataclass(frozen=True)
class TreeModel:
    """One target's trees, as LightGBM's text."""

    text: str

    def predict(self, features: Float32) -> Array:
        """Standardised predictions, (n_samples, 1)."""
        from lightgbm import Booster

        predicted = Booster(model_str=self.text).predict(features, num_threads=1)
        return np.asarray(predicted, dtype=np.float64)[:, None]

    def save(self, folder: Path) -> None:
        """Write ``model.txt``, which LightGBM itself reads too."""
        (folder / "model.txt").write_text(self.text, encoding="utf-8")


class LightGBM:
    """The family; see :mod:`models.base`."""

    Params = LightGBMParams
    package = "lightgbm"
    per_target = True
    in_processes = True
    both = False

    def prepare(self, data: FoldData, params: LightGBMParams, folder: Path) -> Path:
        """Bin the fold's rows once and lay the result out for the workers."""
        import lightgbm as lgb

        fit, watch = data.inner_rows(params.early_stopping_rounds, params.inner_fraction)
        settings = params.engine(seed=0) | {"num_threads": 0}
        features, labels = data.arrays(fit)
        binned = lgb.Dataset(features, np.zeros(len(fit)), params=settings).construct()
        binned.save_binary(str(folder / "fit.bin"))
        clip = params.label_clip
        np.save(folder / "fit_labels.npy", np.clip(labels, -clip, clip).T.astype(np.float32))
        if len(watch):
            features, labels = data.arrays(watch)
            lgb.Dataset(
                features, np.zeros(len(watch)), reference=binned, params=settings
            ).construct().save_binary(str(folder / "watch.bin"))
            np.save(folder / "watch_labels.npy", np.clip(labels, -clip, clip).T.astype(np.float32))
        return folder

    def fit(
        self, prepared: Path, targets: Sequence[int], params: LightGBMParams, seed: int
    ) -> Iterator[tuple[list[int], Fitted]]:
        """Fit one target after the other on the binned rows."""
        import lightgbm as lgb

        settings = params.engine(seed)
        names = ("fit", "watch") if params.early_stopping_rounds else ("fit",)
        labels = [np.load(prepared / f"{name}_labels.npy", mmap_mode="r") for name in names]
        binned: list[lgb.Dataset] = []
        for name in names:
            reference = binned[0] if binned else None
            path = str(prepared / f"{name}.bin")
            binned.append(lgb.Dataset(path, reference=reference, params=settings).construct())
        for target in targets:
            for dataset, label in zip(binned, labels, strict=True):
                dataset.set_label(np.array(label[target]))
            callbacks: list[Callable[..., Any]] = []
            if params.early_stopping_rounds:
                callbacks = [lgb.early_stopping(params.early_stopping_rounds, verbose=False)]
            booster = lgb.train(
                settings,
                binned[0],
                params.n_rounds,
                valid_sets=binned[1:],
                callbacks=callbacks,
            )
            best = booster.best_iteration if params.early_stopping_rounds else params.n_rounds
            yield [target], TreeModel(booster.model_to_string(num_iteration=best))

    def load(self, folder: Path) -> TreeModel:
        """Read ``model.txt``."""
        return TreeModel((folder / "model.txt").read_text(encoding="utf-8"))


MODEL = LightGBM()
