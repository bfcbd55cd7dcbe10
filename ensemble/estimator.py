"""The stack as an estimator of scikit-learn, on the same run folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from ensemble.evaluation.leaderboard import Row
from ensemble.experiment.experiment import experiment_from_table
from ensemble.experiment.folder import RunFolder
from ensemble.kept import Kept, Place
from ensemble.runs.pipeline import open_run
from ensemble.runs.run import Run
from ensemble.stacking.blend import Blend
from features.core.errors import ClimstackError
from features.core.files import write_text
from features.core.settings import check
from features.core.types import Array
from features.folds.plan import FoldPlan
from features.schemas.schema import Schema
from features.schemas.variable import Variable
from features.sources.tables.values import common_step
from features.store.arrays import seconds_of
from features.store.store import Store

About = dict[str, NDArray[Any] | None]
FEWEST = 6  # rows: three folds that each train on four
OF_MODEL = ("name", "family", "seed", "inputs_from", "targets", "variants", "params", "tuned")


class StackedRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Base learners, cross-validated on shared folds and blended, as a regressor of scikit-learn.

    Args:
        models: base learners: names of families, or tables as ``[[models]]`` of an experiment has
            them; keys that are no settings of a model are parameters of its family.
        scheme: of the folds; None takes ``time_blocks`` where ``fit`` is told ``times``, else
            ``groups`` where it is told ``groups``, else ``kfold``.
        n_folds: number of folds, at most one for two rows, and one for a group.
        embargo: timesteps kept free around a validation block.
        blenders: which compete; None takes the experiment's default.
        pooling: what shares their weights; None takes the experiment's default.
        metric: what the blend is chosen by; None takes R2.
        run: folder of the run, for ``climstack report`` and others; None makes a temporary one,
            which is gone with the estimator.
        seed: of folds and models.
        n_jobs: worker processes of models that are fitted in some; None takes none.

    Attributes:
        leaderboard_: a row for each contender, best honest score first.
        n_features_in_: how many inputs there are.
        feature_names_in_: how a data frame called them.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 3))
        >>> stack = StackedRegressor(models=["ridge"]).fit(X, X @ [1.0, 2.0, 3.0])
        >>> stack.predict(X[:5]).shape, bool(stack.score(X, X @ [1.0, 2.0, 3.0]) > 0.9)
        ((5,), True)
    """

    def __init__(
        self,
        models: Sequence[str | Mapping[str, Any]] = ("ridge", "lightgbm"),
        *,
        scheme: str | None = None,
        n_folds: int = 5,
        embargo: int = 1,
        blenders: Sequence[str] | None = None,
        pooling: Sequence[str] | None = None,
        metric: str | None = None,
        run: str | Path | None = None,
        seed: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.models = models
        self.scheme = scheme
        self.n_folds = n_folds
        self.embargo = embargo
        self.blenders = blenders
        self.pooling = pooling
        self.metric = metric
        self.run = run
        self.seed = seed
        self.n_jobs = n_jobs

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit every base learner on every fold, and blend them.

        Args:
            X: array or data frame of numbers, (n_samples, n_features); NaN is a missing value.
            y: (n_samples,) or (n_samples, n_targets); NaN is left out.
            groups: which rows belong together, any labels, (n_samples,).
            times: numbers or dates, (n_samples,).
            sample_weight: of each row when models are fitted, (n_samples,); blends and scores take
                all rows alike. Rows of weight 0 are left out.

        Raises:
            ValueError: see :class:`features.core.errors.ClimstackError`; or what scikit-learn says.
        """
        if y is None:
            raise ValueError("StackedRegressor requires y to be passed, but the target y is None")
        names = _names_of(y)
        x: Array = validate_data(
            self, X, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=FEWEST
        )
        truth: Array = check_array(
            y, dtype=np.float64, ensure_2d=False, ensure_all_finite="allow-nan", input_name="y"
        )
        self._is_flat = truth.ndim == 1
        truth = truth.reshape(len(truth), -1)
        if np.isnan(truth).all(axis=0).any():
            raise ValueError("Input y contains NaN in every row of a target: leave that target out")
        about: About = {
            name: None if values is None else np.asarray(values)
            for name, values in (("groups", groups), ("times", times))
        }
        check_consistent_length(x, truth, *about.values())
        weight: Array | None = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, x, ensure_non_negative=True)
            kept = weight > 0
            x, truth, weight = x[kept], truth[kept], weight[kept]
            about = {k: None if v is None else v[kept] for k, v in about.items()}
            check(len(x) >= FEWEST, f"{len(x)} rows have a weight above 0: give at least {FEWEST}")
            weight = None if (weight == 1).all() else weight
        inputs = getattr(self, "feature_names_in_", None)
        schema = _schema((inputs, names), (x.shape[1], truth.shape[1]), about)
        place = Place(None if self.run is None else Path(self.run))
        folder = RunFolder(place.path)
        _store(folder, x, truth, schema, about)
        experiment = experiment_from_table(self._table(folder, len(x), about), folder.path)
        n_jobs = effective_n_jobs(self.n_jobs)
        workers = {spec.name: n_jobs for spec in experiment.models}
        with open_run(experiment, folder.path, workers=workers) as opened:
            own = _WeightedRun(
                experiment=opened.experiment,
                folder=opened.folder,
                workers=opened.workers,
                facts=opened.facts,
                weight=weight,
            )
            self.leaderboard_: list[Row] = own.stack()
            blend = Blend.load(folder.checked(folder.blend))
            self._fitted = Kept(place=place, members=own.members, blend=blend, schema=schema)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """The blend of all folds' models, (n_samples,) or (n_samples, n_targets) as ``y`` was."""
        check_is_fitted(self)
        x: Array = validate_data(
            self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False
        )
        predicted = self._fitted.predict(x, effective_n_jobs(self.n_jobs))
        return predicted[:, 0] if self._is_flat else predicted

    @property
    def run_(self) -> Path:
        """The run's folder; for one that was pickled, what predictions need of it."""
        check_is_fitted(self)
        return self._fitted.place.path

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _table(self, folder: RunFolder, n_rows: int, about: About) -> dict[str, Any]:
        """The experiment as TOML would give it."""
        most, groups = n_rows // 2, about["groups"]
        if groups is not None and (self.scheme or "groups") == "groups":
            most = min(most, len(np.unique(groups.astype(str))))
        folds = {"scheme": self.scheme, "n_folds": max(3, min(self.n_folds, most))}
        stack = {"blenders": self.blenders, "pooling": self.pooling}
        table: dict[str, Any] = {
            "name": folder.path.resolve().name,
            "seed": self.seed,
            "data": {"train": str(folder.train_store), "schema": str(folder.schema)},
            "folds": {k: v for k, v in folds.items() if v is not None} | {"embargo": self.embargo},
            "stack": {key: list(value) for key, value in stack.items() if value is not None},
            "models": [_model(each) for each in self.models],
        }
        if self.metric is not None:
            table["score"] = {"metric": self.metric}
        return table


@dataclass(kw_only=True)
class _WeightedRun(Run):
    """A run whose rows weigh in training.

    Attributes:
        weight: of each row, (n_samples,); None where all weigh 1.
    """

    weight: Array | None

    def plan_of(self, store: Store) -> FoldPlan:
        """The experiment's plan, with the rows' weights."""
        plan = super().plan_of(store)
        return plan if self.weight is None else replace(plan, weight=self.weight)


def _names_of(y: Any) -> list[str] | None:
    """Names of targets in a data frame or a series; None for an array."""
    names = getattr(y, "columns", None)
    if names is None:
        name = getattr(y, "name", None)
        names = None if not name else [name]
    return None if names is None else [str(name) for name in names]


def _schema(
    names: tuple[Sequence[str] | None, Sequence[str] | None],
    widths: tuple[int, int],
    about: About,
) -> Schema:
    """Scalars; any input may be missing later on.

    Args:
        names: of inputs and targets, where a data frame gives some.
        widths: how many inputs and targets there are.
        about: groups and times of the rows.
    """
    groups, times = about["groups"], about["times"]
    x = [f"x{at}" for at in range(widths[0])] if names[0] is None else list(map(str, names[0]))
    y = list(names[1] or [f"y{at}" for at in range(widths[1])])
    y = [f"target {name}" if name in set(x) else name for name in y]
    variables = [Variable(name=name, role="input", policy="impute") for name in x]
    variables += [Variable(name=name, role="target", policy="skip") for name in y]
    return Schema(
        name="arrays",
        variables=tuple(variables),
        time_column=None if times is None else "time",
        time_step=None if times is None else common_step(seconds_of(times)),
        independent=groups is None and times is None,
    )


def _store(folder: RunFolder, x: Array, y: Array, schema: Schema, about: About) -> None:
    """The run's training rows; a named run keeps those that it has."""
    fresh = folder.train_store.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    made = Store.from_arrays(fresh, x, y, schema, **about)
    if folder.train_store.is_dir():
        held = Store(folder.train_store)
        if (held.data_hash, held.schema.hash) != (made.data_hash, schema.hash):
            shutil.rmtree(fresh)
            raise ClimstackError(
                f"{folder.path} holds a run on other rows: name another folder, or delete it"
            )
        shutil.rmtree(folder.train_store)
    fresh.rename(folder.train_store)
    write_text(folder.schema, schema.to_toml())


def _model(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """A ``[[models]]`` table."""
    if isinstance(given, str):
        return {"family": given}
    if not isinstance(given, Mapping):
        raise ClimstackError(f"a model must be the name of a family or a table, but got {given!r}")
    own = {key: value for key, value in given.items() if key in OF_MODEL and key != "params"}
    more = {key: value for key, value in given.items() if key not in OF_MODEL}
    if own.get("family") == "sklearn" and "params" in given:
        return own | {"params": more | {"params": dict(given["params"])}}
    return own | {"params": more | dict(given.get("params", {}))}
