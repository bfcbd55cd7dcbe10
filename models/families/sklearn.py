"""Regressors of scikit-learn, by their dotted path; stored by skops, never pickled.

skops writes what an estimator holds as JSON and ``.npy`` files in one archive. Reading it back
makes objects of the types that it names, so only those are let through that skops trusts of itself
or that are classes of scikit-learn. Source: https://skops.readthedocs.io/en/stable/persistence.html
"""

from __future__ import annotations

import importlib
import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import isclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_regressor
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from features.core.errors import ClimstackError, closest
from features.core.settings import Bounded, check
from features.core.types import Array, Float32, Mask
from features.schemas.schema import Schema
from models.base import Family, FitContext, Fits, Fitted, FoldData, Sets, check_width

PACKAGE = "sklearn."
FILE = "model.skops"
NOTHING = "None"  # TOML has no word for it
FEWEST = 2  # rows that a target must have


@dataclass(frozen=True)
class SklearnParams(Bounded):
    """Which regressor, and how it is made.

    Attributes:
        estimator: dotted path of a class of scikit-learn.
        params: its parameters that differ from its defaults; ``"None"`` stands for None. Its
            ``random_state`` is the model's seed, its ``n_jobs`` 1, where they are not given.
    """

    estimator: str = "sklearn.ensemble.ExtraTreesRegressor"
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(
            self, "params", {k: NOTHING if v is None else v for k, v in self.params.items()}
        )
        known = self.estimator_class().get_params(deep=False)
        for name in self.params:
            check(
                name in known,
                f"params: {self.estimator} has no parameter '{name}': {closest(name, known)}",
            )
        try:
            self.make(0)._validate_params()
        except (TypeError, ValueError) as error:
            raise ClimstackError(f"params: {error}") from None

    @cached_property
    def estimator_class(self) -> type[Any]:
        """The class.

        Raises:
            ClimstackError: there is none of that name, or it is no regressor that stands alone.
        """
        where, _, name = self.estimator.rpartition(".")
        check(
            self.estimator.startswith(PACKAGE),
            f"estimator '{self.estimator}' is not of scikit-learn, so it could not be stored"
            " without pickle: give one as sklearn.linear_model.Ridge, or write a family",
        )
        try:
            found = getattr(importlib.import_module(where), name)
        except (ImportError, AttributeError):
            raise ClimstackError(
                f"estimator '{self.estimator}' is not there: look at its dotted path"
            ) from None
        check(
            isclass(found) and issubclass(found, BaseEstimator),
            f"estimator '{self.estimator}' is no estimator: name a class of a regressor",
        )
        try:
            alone = found()
        except TypeError:
            raise ClimstackError(
                f"estimator '{self.estimator}' is made of others: name the one that should learn"
            ) from None
        check(is_regressor(alone), f"estimator '{self.estimator}' is no regressor")
        made: type[Any] = found
        return made

    @property
    def takes_many(self) -> bool:
        """Whether one estimator learns several targets."""
        return bool(get_tags(self.estimator_class()).target_tags.multi_output)

    @property
    def weighs(self) -> bool:
        """Whether its fit takes weights of rows."""
        return bool(has_fit_parameter(self.estimator_class, "sample_weight"))

    def make(self, seed: int) -> Any:
        """An estimator that has seen nothing."""
        known = self.estimator_class().get_params(deep=False)
        own = {"random_state": seed, "n_jobs": 1}
        given: dict[str, Any] = {name: value for name, value in own.items() if name in known}
        given |= {k: None if v == NOTHING else v for k, v in self.params.items()}
        return self.estimator_class(**given)


@dataclass(frozen=True)
class Prepared:
    """Training rows of a fold: features, standardised targets (NaN where missing), weights."""

    features: Array
    targets: Array
    weights: Float32 | None


@dataclass(frozen=True)
class SklearnModel(Fitted):
    """Fitted estimators.

    Attributes:
        estimators: one of all targets, or one for each.
        n_targets: how many targets they serve.
        n_features: how many features they have learned from.
    """

    estimators: list[Any]
    n_targets: int
    n_features: int

    def predict(self, features: Float32) -> Array:
        """Standardised predictions, (n_samples, n_targets)."""
        check_width(features, self.n_features)
        x = features.astype(np.float64)
        shape = (len(x), self.n_targets // len(self.estimators))
        parts = [np.reshape(each.predict(x), shape) for each in self.estimators]
        return np.concatenate(parts, axis=1, dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write ``model.skops``, the same bytes for the same model.

        Raises:
            ClimstackError: it holds something that is not of scikit-learn.
        """
        from skops.io import dumps

        held = {"estimators": self.estimators, "n_targets": self.n_targets}
        try:
            data = dumps(held | {"n_features": self.n_features})
        except Exception as error:  # whatever skops finds to say of a type
            raise ClimstackError(
                f"{type(self.estimators[0]).__name__} can't be stored without pickle ({error}):"
                " take another estimator"
            ) from None
        _types(data, f"{type(self.estimators[0]).__name__} can't be stored without pickle, it")
        (folder / FILE).write_bytes(_canonical(data))


class Sklearn(Family):
    """The family; see :class:`models.base.Family`."""

    Params = SklearnParams
    package = "scikit-learn"
    view = "linear"

    def target_sets(
        self, schema: Schema, targets: NDArray[np.intp], params: SklearnParams
    ) -> list[list[int]]:
        """All targets in one cell where an estimator learns several, else one cell for each."""
        whole = list(range(len(targets)))
        return [whole] if params.takes_many else [[target] for target in whole]

    def prepare(self, data: FoldData, params: SklearnParams, folder: Path) -> Prepared:
        """Read the training rows.

        Raises:
            ClimstackError: rows have weights, which the estimator can't heed.
        """
        weights = data.weights(data.train_rows)
        check(
            weights is None or params.weighs or bool((weights == 1).all()),
            f"{params.estimator} can't weigh rows: give every row weight 1, or leave the model out",
        )
        features, targets = data.arrays(data.train_rows)
        return Prepared(features.astype(np.float64), targets, weights if params.weighs else None)

    def fit(
        self, prepared: Prepared, sets: Sets, params: SklearnParams, context: FitContext
    ) -> Fits:
        """Fit one estimator for a set of targets, or one for each where values are missing."""
        for targets in sets:
            wanted, n_features = prepared.targets[:, targets], prepared.features.shape[1]
            if params.takes_many and not np.isnan(wanted).any():
                found = [_fitted(prepared, np.ones(len(wanted), np.bool_), wanted, params, context)]
            else:
                found = [
                    _fitted(prepared, ~np.isnan(truth), truth, params, context)
                    for truth in wanted.T
                ]
            yield targets, SklearnModel(found, len(targets), n_features)

    def load(self, folder: Path) -> SklearnModel:
        """Read ``model.skops``.

        Raises:
            ClimstackError: it is no such file, or names a type that is not of scikit-learn.
        """
        from skops.io import loads

        file = folder / FILE
        broken = f"{file} is damaged: delete its cell and run again"
        try:
            data = file.read_bytes()
            held = loads(data, trusted=_types(data, f"{file} is not climstack's, it"))
            estimators = held["estimators"]
            n_targets, n_features = int(held["n_targets"]), int(held["n_features"])
            whole = len(estimators) in (1, n_targets) and all(map(is_regressor, estimators))
        except ClimstackError:
            raise
        except Exception:  # whatever a changed archive makes skops stumble over
            raise ClimstackError(broken) from None
        check(whole, broken)
        return SklearnModel(estimators, n_targets, n_features)


def _fitted(
    prepared: Prepared, rows: Mask, truth: Array, params: SklearnParams, context: FitContext
) -> Any:
    """An estimator that has learned from some rows; the mean where they are too few."""
    few = np.count_nonzero(rows) < FEWEST
    made = DummyRegressor(strategy="constant", constant=0.0) if few else params.make(context.seed)
    rows = np.ones_like(rows) if few else rows
    weights = {} if prepared.weights is None else {"sample_weight": prepared.weights[rows]}
    one = truth.ndim == 2 and truth.shape[1] == 1
    y = np.zeros(len(rows)) if few else (truth[:, 0] if one else truth)[rows]
    try:
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            return made.fit(prepared.features[rows], y, **weights)
    except (TypeError, ValueError) as error:
        raise ClimstackError(f"{params.estimator} could not be fitted: {error}") from None


def _types(data: bytes, what: str) -> list[str]:
    """The types in an archive that skops does not trust of itself.

    Raises:
        ClimstackError: one of them is no class of scikit-learn.
    """
    from skops.io import get_untrusted_types

    names: list[str] = get_untrusted_types(data=data)
    for name in names:
        check(_is_ours(name), f"{what} holds a {name}, which is no class of scikit-learn")
    return names


def _is_ours(name: str) -> bool:
    """Whether a type is a class that scikit-learn itself defines; nothing else is imported."""
    module, _, attribute = name.rpartition(".")
    parts = module.split(".")
    if parts[0] != "sklearn" or {"tests", "_testing", "externals"} & set(parts):
        return False
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return False
    return isclass(found) and found.__module__.startswith(PACKAGE)


def _canonical(data: bytes) -> bytes:
    """The same archive without what differs from process to process: addresses and dates."""
    with zipfile.ZipFile(io.BytesIO(data)) as held:
        files = {name: held.read(name) for name in held.namelist()}
    schema = json.loads(files.pop("schema.json"))
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}
    _renumber(schema, numbers, names)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for old, new in names.items():
            made.writestr(zipfile.ZipInfo(new), files[old])
        made.writestr(zipfile.ZipInfo("schema.json"), json.dumps(schema, indent=2))
    return out.getvalue()


def _renumber(node: Any, numbers: dict[int, int], names: dict[str, str]) -> None:
    """Give objects and files of a skops schema numbers in their order, in place."""
    if isinstance(node, list):
        for each in node:
            _renumber(each, numbers, names)
    if not isinstance(node, dict):
        return
    if isinstance(address := node.get("__id__"), int):
        node["__id__"] = numbers.setdefault(address, len(numbers))
    if isinstance(file := node.get("file"), str):
        node["file"] = names.setdefault(file, f"{len(names)}{Path(file).suffix}")
    for key, each in node.items():
        if key not in ("__id__", "file"):
            _renumber(each, numbers, names)


MODEL = Sklearn()
