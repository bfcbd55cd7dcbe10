"""LightGBM, one model per target: features binned once per fold, labels swapped.

Each level's features are binned once and laid out as LightGBM's own binary file. A worker joins the
levels that a target sees (``Dataset.add_features_from`` copies bins, it does not bin again) and
swaps labels: both give the same model to the bit as a fresh ``Dataset`` of those columns, if sparse
features are not bundled (bundles of joined levels get mixed up). Workers run one thread each, as
OpenMP spins when cores are shared.

With ``early_stopping_rounds`` a target stops early on inner blocks of the training rows, never on
the fold's validation rows, so that their score stays honest. It is off by default: on the real
sample the rows held out for it cost more than it gains (see the guide's table).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import NDArray

from features.core.settings import Bounded, Count, InnerShare, Natural, NotNegative, Positive
from features.core.types import Array, Float32
from features.schemas.schema import Schema
from models.base import Family, FitContext, Fits, Fitted, FoldData, Sets, TableShape
from models.trees.boosting import OWN, PARTS_BY, Parts, spread_gain
from models.trees.defaults import fill, lightgbm_defaults, settled
from models.trees.forest import read_columns, seen_features, unreadable
from models.trees.lightgbm_text import read_trees


@dataclass(frozen=True, kw_only=True)
class LightGBMParams(Bounded):
    """Parameters of the trees, named as in LightGBM.

    What is None follows the table (:mod:`models.trees.defaults`).

    Attributes:
        n_rounds: boosting rounds at most; LightGBM calls them ``num_iterations``.
        learning_rate: shrinkage of each tree.
        num_leaves: leaves of a tree.
        max_bin: bins of a feature.
        feature_fraction: share of the features that each tree sees.
        min_data_in_leaf: rows in a leaf at least.
        lambda_l2: penalty on leaf values.
        linear_tree: a leaf holds a line in the features that lead to it, not a constant.
        linear_lambda: penalty on its slopes.
        window: a profile target sees this many levels on each side of its own, and scalars; a
            scalar target every fourth level. -1 shows all levels to all targets.
        label_clip: standardised targets are clipped to +-label_clip while fitting; real tendencies
            reach 195 standard deviations, and a squared loss would spend its trees on those.
        early_stopping_rounds: rounds without gain on the inner blocks that end the fit; 0 never.
        inner_fraction: share of the training time in the inner blocks.
    """

    n_rounds: Count | None = None
    learning_rate: Positive | None = None
    num_leaves: Annotated[int, Interval(ge=2, le=131072)] | None = None
    max_bin: Annotated[int, Interval(ge=2, le=65535)] | None = None
    feature_fraction: Annotated[float, Interval(gt=0, le=1)] | None = None
    min_data_in_leaf: Count | None = None
    lambda_l2: NotNegative = 1.0
    linear_tree: bool = True
    linear_lambda: NotNegative | None = None
    window: Annotated[int, Ge(-1)] = 3
    label_clip: Positive = 10.0
    early_stopping_rounds: Natural = 0
    inner_fraction: InnerShare = 0.1

    def engine(self, seed: int) -> dict[str, Any]:
        """The settings as LightGBM takes them, once what follows the table is settled."""
        return {key: value for key, value in settled(self).items() if key not in OWN} | {
            "objective": "regression",
            "metric": "l2",
            "seed": seed,
            "num_threads": 1,
            "deterministic": True,
            "enable_bundle": False,  # joined levels would mix up their bundles of sparse features
            "force_col_wise": True,  # left to itself, LightGBM would choose by a stopwatch
            "feature_pre_filter": False,  # it looks at the label, and labels are swapped
            "verbosity": -1,
        }


@dataclass(frozen=True)
class TreeModel(Fitted):
    """One target's trees.

    Attributes:
        text: as LightGBM writes them.
        columns: which features of the view they see, in their order.
    """

    text: str
    columns: NDArray[np.intp]

    def predict(self, features: Float32) -> Array:
        """Standardised predictions, (n_samples, 1)."""
        seen = seen_features(features, self.columns)
        predicted = self._booster.predict(seen, num_threads=1)
        return np.asarray(predicted, dtype=np.float64)[:, None]

    def importance(self, n_features: int) -> Array:
        """Gain of each feature, summed over splits, in squared standard deviations x rows."""
        gain = self._booster.feature_importance("gain")
        return spread_gain(dict(enumerate(gain)), self.columns, n_features)

    def save(self, folder: Path) -> None:
        """Write ``model.txt``, which LightGBM itself reads too, and ``columns.npy``."""
        (folder / "model.txt").write_text(self.text, encoding="utf-8")
        np.save(folder / "columns.npy", self.columns.astype(np.int32))

    @cached_property
    def _booster(self) -> Any:
        from lightgbm import Booster
        from lightgbm.basic import LightGBMError

        try:
            return Booster(model_str=self.text)
        except LightGBMError as error:
            raise unreadable("LightGBM", error) from None


class LightGBM(Family):
    """The family; see :class:`models.base.Family`."""

    Params = LightGBMParams
    package = "lightgbm"
    view = "trees"
    prepared_by = (*PARTS_BY, "max_bin", "linear_tree")
    of_levels = ("window",)

    def settle(self, params: LightGBMParams, table: TableShape) -> LightGBMParams:
        """With what is None as it suits the table."""
        return fill(params, lightgbm_defaults(table))

    def in_processes(self, params: LightGBMParams) -> bool:
        """Always."""
        return True

    def target_sets(
        self, schema: Schema, targets: NDArray[np.intp], params: LightGBMParams
    ) -> list[list[int]]:
        """One model per target."""
        return [[position] for position in range(len(targets))]

    def prepare(self, data: FoldData, params: LightGBMParams, folder: Path) -> Parts:
        """Bin the fold's rows once, level by level, and lay the result out for the workers."""
        import lightgbm as lgb

        parts = Parts.write(data, params, folder)
        settings = params.engine(seed=0) | {"num_threads": 0}
        all_names = _plain(data.feature_names)
        for level in parts.levels:
            columns = parts.columns([level])
            names = [all_names[i] for i in columns]
            words = np.flatnonzero(parts.categories[columns]).tolist()
            reference = None
            for name in parts.names:
                values = parts.features(name, [level])
                binned = lgb.Dataset(
                    values,
                    np.zeros(len(values)),
                    reference,
                    feature_name=names,
                    categorical_feature=words,
                    params=settings,
                ).construct()
                binned.save_binary(str(parts.path(name, level, "bin")))
                parts.path(name, level).unlink()
                reference = binned
        return parts

    def fit(self, prepared: Parts, sets: Sets, params: LightGBMParams, context: FitContext) -> Fits:
        """Fit one target after the other on the binned levels that it sees."""
        import lightgbm as lgb

        settings, n_rounds = params.engine(context.seed), params.n_rounds or 0
        for levels, together in prepared.windows(sets, params.window):
            columns = prepared.columns(levels)
            binned = _join(prepared, levels, settings)
            for name, dataset in zip(prepared.names, binned, strict=True):
                dataset.set_weight(prepared.weights(name))
            for targets in together:
                labelled = _labelled(prepared, targets[0], binned, settings)
                rounds = n_rounds if labelled else 1  # of a target without any row: a stump
                train, *watch = labelled or binned[:1]
                callbacks: list[Callable[..., Any]] = []
                if watch:
                    callbacks = [lgb.early_stopping(params.early_stopping_rounds, verbose=False)]
                booster = lgb.train(
                    settings,
                    train,
                    rounds,
                    valid_sets=watch,
                    callbacks=callbacks,
                    keep_training_booster=True,  # else it is written and read back once more
                )
                best = booster.best_iteration if watch else rounds
                model = TreeModel(booster.model_to_string(num_iteration=best), columns)
                vars(model)["_booster"] = booster  # spares reading the text back
                yield targets, model
                del vars(model)["_booster"], booster  # whoever keeps the model keeps no rows
                del labelled, train, watch
            del binned, dataset  # before the next window is joined

    def search_space(self, trial: Any) -> dict[str, Any]:
        """Parameters worth searching; bins stay, so that trials share them."""
        return {
            "n_rounds": trial.suggest_int("n_rounds", 40, 240, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 7, 63, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.1, 1.0),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 80, log=True),
            "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 30.0, log=True),
            "linear_lambda": trial.suggest_float("linear_lambda", 0.01, 100.0, log=True),
            "window": trial.suggest_int("window", 1, 6),
        }

    def load(self, folder: Path) -> TreeModel:
        """Read ``model.txt`` and ``columns.npy``."""
        columns = read_columns(folder)
        return TreeModel(read_trees(folder / "model.txt", len(columns)), columns)


def _join(parts: Parts, levels: Sequence[int], settings: dict[str, Any]) -> list[Any]:
    """Binned rows of some levels side by side: those to fit on and, if any, those to watch."""
    import lightgbm as lgb

    def load(name: str, level: int, reference: Any = None) -> Any:
        file = str(parts.path(name, level, "bin"))
        return lgb.Dataset(file, reference=reference, params=settings).construct()

    joined: list[Any] = []
    for name in parts.names:
        whole = load(name, levels[0], joined[0] if joined else None)
        for level in levels[1:]:
            with warnings.catch_warnings():
                # There are no raw values to join, and the bins know which are categories.
                warnings.filterwarnings("ignore", message="Cannot add features from")
                warnings.filterwarnings("ignore", message="Resetting categorical features")
                whole.add_features_from(load(name, level))
        joined.append(whole)
    return joined


def _plain(names: list[str]) -> list[str]:
    """Names of features that LightGBM takes and its text holds: numbers, where one is not plain."""
    if all(re.fullmatch(r"[\w.+=-]+", name, re.ASCII) for name in names):
        return names
    return [f"feature_{position}" for position in range(len(names))]


def _labelled(parts: Parts, target: int, binned: list[Any], settings: dict[str, Any]) -> list[Any]:
    """Rows that have a target, with its labels: to fit on and, if any, to watch; else nothing.

    A row that lacks it is left out of a copy of the bins, not weighed 0: it would count as one of
    the ``min_data_in_leaf``. Without any row all labels are 0.
    """
    found = []
    for name, dataset in zip(parts.names, binned, strict=True):
        labels = parts.labels(name, target)
        own = np.flatnonzero(~np.isnan(labels))
        if not len(own):
            dataset.set_label(np.zeros_like(labels))
            break
        if len(own) < len(labels):
            dataset = dataset.subset(own, params=settings).construct()
        dataset.set_label(labels[own])
        found.append(dataset)
    return found


MODEL = LightGBM()
