"""What a model family is, and what it may see of a fold.

Every file in ``models/families`` defines ``MODEL``, one :class:`Family`, and every network is one;
what it fits is a :class:`Fitted`. Both say what is done where a family has nothing to add.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array, Float32, Mask, Rows
from features.folds.folded import FoldedStore
from features.folds.plan import FoldPlan
from features.schemas.schema import Schema
from features.schemas.variable import Axis
from features.store.store import Store
from features.views.encoding import Kind
from features.views.fill import Fill
from features.views.tabular import VIEW_ROWS, TabularView
from features.views.transforms import Scaler

FEW_ROWS = 16  # below it R2 of a fold is off by some tenths, whatever the model


@dataclass(frozen=True, kw_only=True)
class TableShape:
    """What defaults may follow: see :meth:`Family.settle`.

    Attributes:
        n_rows: training rows in all.
        n_inputs: input columns.
        has_levels: whether an input or a target is a profile.

    Example:
        >>> TableShape(n_rows=2000, n_inputs=12, has_levels=False).n_inputs
        12
    """

    n_rows: int
    n_inputs: int
    has_levels: bool

    @classmethod
    def of(cls, store: Store) -> TableShape:
        """The shape of a store's table."""
        schema = store.schema
        return cls(
            n_rows=len(store),
            n_inputs=len(schema.input_columns),
            has_levels=any(variable.n_levels > 1 for variable in schema.variables),
        )


OutOfFold = Callable[[Rows], Array]
"""Predictions of rows by the models that held them out, (n, n_targets), physical units."""


@dataclass(frozen=True, kw_only=True)
class FoldData:
    """What a family may see of one fold.

    Features are those of the view, then the predictions of the models it takes as inputs.

    Attributes:
        data: rows and their folds.
        fold: which fold.
        targets: indices of the modelled targets, in the store's target matrix.
        kind: which tabular view.
        upstream: name and predictions of each finished model whose predictions are inputs: a
            training row shows that of a model that did not train on it, a row that fold ``k``
            holds out that of fold ``k``'s model.

    Example:
        >>> fold = FoldData(data=data, fold=0, targets=np.array([1, 2, 3]), kind="trees")
        >>> features, targets = next(fold.blocks(fold.train_rows))
        >>> features.shape[1], targets.shape[1]
        (4, 3)
    """

    data: FoldedStore
    fold: int
    targets: NDArray[np.intp]
    kind: Kind
    upstream: Sequence[tuple[str, OutOfFold]] = ()

    @property
    def store(self) -> Store:
        """The data."""
        return self.data.store

    @property
    def plan(self) -> FoldPlan:
        """The split."""
        return self.data.plan

    @cached_property
    def train_rows(self) -> Rows:
        """All rows the fold may learn from."""
        rows = self.plan.train_rows(self.fold)
        if not self.upstream:
            return rows
        predicted = rows[self.plan.fold[rows] >= 0]  # other rows have no out-of-fold prediction
        if not len(predicted):
            raise ClimstackError(
                f"no training row of fold {self.fold} has an out-of-fold prediction to build on:"
                " use a scheme that validates every row, as time_blocks"
            )
        return predicted

    @cached_property
    def scale_rows(self) -> Rows:
        """The training rows that scales are fitted on: those of no auxiliary source."""
        return self.train_rows[self.plan.main[self.train_rows]]

    @cached_property
    def view(self) -> TabularView:
        """The tabular view, fitted on the training rows alone."""
        schema, inputs = self.store.schema, self.store.inputs
        fill = None
        if (
            len(schema.imputed_inputs) or schema.categories
        ):  # a pass of its own over the training rows
            fill = Fill.fit(schema, inputs.blocks(self.scale_rows))
        blocks = inputs.blocks(self.scale_rows)
        return TabularView.fit(schema, blocks, self.kind, fill, self.store.levels)

    @cached_property
    def upstream_scaler(self) -> Scaler | None:
        """Standardises the predictions taken as inputs; fitted on the training rows alone."""
        if not self.upstream:
            return None
        return Scaler.fit(self._upstream(part) for part in self._split(self.scale_rows))

    @cached_property
    def scaler(self) -> Scaler:
        """The targets' scaler, fitted on the training rows alone, over ``targets``.

        Each by the rows that have it. One that too few have (:attr:`too_few`) counts as constant.
        """
        scaler = Scaler.fit(self._targets(part) for part in self._split(self.scale_rows))
        return replace(scaler, constant=scaler.constant | self.too_few)

    @cached_property
    def _counted(self) -> tuple[NDArray[np.intp], Mask]:
        """Rows of no auxiliary source that have each target; whether any training row lacks it."""
        rows, own = self.train_rows, np.zeros(len(self.targets), dtype=np.intp)
        if not np.isin(self.targets, self.store.schema.skipped_targets).any():
            return own + len(self.scale_rows), own > 0
        lacking = own > 0
        for part, there in zip(self._split(rows), self.there(rows), strict=True):
            own += there[self.plan.main[part]].sum(0)
            lacking |= ~there.all(0)
        return own, lacking

    @property
    def own_rows(self) -> NDArray[np.intp]:
        """How many training rows have each target, those of auxiliary sources not counted."""
        return self._counted[0]

    @property
    def misses(self) -> Mask:
        """Whether a training row lacks the target, (n_targets,)."""
        return self._counted[1]

    @property
    def too_few(self) -> Mask:
        """Targets that some rows lack and fewer than ``FEW_ROWS`` have, (n_targets,).

        No model learns them: what is predicted is the mean of those rows.
        """
        return self.misses & (self.own_rows < FEW_ROWS)

    @cached_property
    def feature_names(self) -> list[str]:
        """Names of the features, (n_features,)."""
        columns = [self.store.schema.target_columns[target] for target in self.targets]
        upstream = [f"{name}.{column}" for name, _ in self.upstream for column in columns]
        return [*self.view.feature_names, *upstream]

    @cached_property
    def feature_levels(self) -> NDArray[np.intp]:
        """Level of each feature, -1 for a scalar, (n_features,)."""
        upstream = [self.target_levels] * len(self.upstream)
        return np.concatenate([self.view.levels, *upstream])

    @property
    def feature_categories(self) -> Mask:
        """Whether each feature is the code of a category, (n_features,)."""
        added = np.zeros(len(self.target_levels) * len(self.upstream), dtype=bool)
        return np.concatenate([self.view.categories, added])

    @cached_property
    def feature_axes(self) -> list[Axis | None]:
        """Axis of which each feature is a component, length n_features."""
        return [*self.view.axes, *self.target_axes * len(self.upstream)]

    @cached_property
    def target_axes(self) -> list[Axis | None]:
        """Axis of which each modelled target is a component, length n_targets."""
        return [self.store.schema.target_axes[target] for target in self.targets]

    @cached_property
    def target_levels(self) -> NDArray[np.intp]:
        """Level of each modelled target, -1 for a scalar, (n_targets,)."""
        return self.store.schema.target_levels[self.targets]

    def inner_rows(self, fraction: float) -> tuple[Rows, Rows]:
        """Rows to fit on and rows to watch, ``fraction`` of the time; with 0 all rows and none."""
        if not fraction:
            return self.train_rows, self.train_rows[:0]
        fit, watch = self.plan.inner_rows(self.fold, fraction)
        return np.intersect1d(fit, self.train_rows), np.intersect1d(watch, self.train_rows)

    def weights(self, rows: Rows) -> Float32 | None:
        """Weight of each of ``rows`` in training, (n,); None where all weigh 1."""
        weight = self.plan.weight
        return None if weight is None else weight[rows].astype(np.float32)

    def blocks(self, rows: Rows) -> Iterator[tuple[Float32, Array]]:
        """Features (n, n_features) and standardised targets (n, len(targets)), block by block.

        A target is NaN where it is missing, and in all rows where too few have it.
        """
        for part in self._split(rows):
            features = self.view.transform(self.store.inputs[part])
            if self.upstream_scaler is not None:
                upstream = self.upstream_scaler.transform(self._upstream(part))
                features = np.concatenate([features, upstream], axis=1, dtype=np.float32)
            targets = self.scaler.transform(self._targets(part))
            if self.too_few.any():
                targets[:, self.too_few] = np.nan
            yield features, targets

    def there(self, rows: Rows) -> Iterator[NDArray[np.bool_]]:
        """Whether each of ``rows`` has each target, (n, len(targets)), block by block."""
        for part in self._split(rows):
            yield ~np.isnan(self._targets(part))

    def arrays(self, rows: Rows) -> tuple[Float32, Array]:
        """Features and standardised targets of all ``rows`` at once."""
        blocks = list(self.blocks(rows))
        return np.concatenate([x for x, _ in blocks]), np.concatenate([z for _, z in blocks])

    def _targets(self, rows: Rows) -> Array:
        values: Array = self.store.require_targets()[rows][:, self.targets]
        return values

    def _upstream(self, rows: Rows) -> Array:
        """Predictions taken as inputs, (n, n_upstream * n_targets), physical units."""
        return np.concatenate([predict(rows) for _, predict in self.upstream], axis=1)

    @staticmethod
    def _split(rows: Rows) -> Iterator[Rows]:
        for start in range(0, len(rows), VIEW_ROWS):
            yield rows[start : start + VIEW_ROWS]


OnEpoch = Callable[[int, Callable[[Float32], NDArray[np.floating]]], None]
"""Called with an epoch's number, from 1, and a function from features to predictions so far."""


Sets = Sequence[list[int]]
"""Which targets each model serves, as positions in the modelled targets."""


@dataclass(frozen=True)
class FitContext:
    """What a fit is told besides its parameters.

    Attributes:
        seed: of everything random in it.
        checkpoints: where a long fit may leave what it needs to go on after a kill.
        on_epoch: called after each of a fit's epochs, see :meth:`Family.n_epochs`; what it raises
            ends the fit.

    Example:
        >>> FitContext(seed=3).seed
        3
    """

    seed: int = 0
    checkpoints: Path | None = None
    on_epoch: OnEpoch | None = None


def check_width(features: Float32, wanted: int) -> None:
    """See that a model is shown as many features as it has learned from.

    Raises:
        ClimstackError: it is not; model and view don't belong together.
    """
    if features.shape[1] != wanted:
        raise ClimstackError(
            f"a model of {wanted} features was shown {features.shape[1]}: its cell is damaged,"
            " delete it and run again"
        )


class Fitted(ABC):
    """A fitted model of one or more targets.

    Example:
        >>> fitted = members[0].models(0)[0].fitted
        >>> isinstance(fitted, Fitted)
        True
    """

    @abstractmethod
    def predict(self, features: Float32) -> Array:
        """Standardised predictions, (n_samples, n_features) -> (n_samples, n_targets)."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model into an existing, empty folder; data only, nothing that runs code."""

    def uncertainty(self, features: Float32) -> Array | None:
        """Expected absolute errors, standardised, (n_samples, n_targets); None where unknown."""
        return None

    def importance(self, n_features: int) -> Array | None:
        """Gain of each feature, (n_features,); None for a model without splits."""
        return None


Fits = Iterator[tuple[list[int], Fitted]]
"""A finished model with the targets that it serves, one after the other."""


class Family(ABC):
    """A kind of model: how it is laid out, fitted, read back, searched and probed.

    climstack finds it by the name of its file; no other edit is needed. For each fold the fold loop
    (:mod:`models.cross_validation`) calls

    1. ``target_sets``, to see which cells there are, and which are missing;
    2. ``prepare`` once, in the main process, with everything that may be seen of the fold: costly
       work that all targets share (binning, sums) happens here;
    3. ``fit`` with some of the sets, as often as needed and, where ``in_processes`` says so, in
       several worker processes. It yields each finished model with the targets it serves, so that
       each is stored at once and an interrupted fold loses one model at most;
    4. ``predict`` and ``save`` of what it yields, on the fold's validation features; the loop
       scales back to units. ``load`` reads a model back, for test rows.

    A study (:mod:`tuning`) asks for the ``search_space``, drawn with ``trial.suggest_float``,
    ``suggest_int`` or ``suggest_categorical``; one prepared fold serves all trials that agree on
    the parameters named in ``prepared_by``. A dry run fits what ``probe`` says.

    A family never sees validation targets, and never scales: features and targets arrive
    standardised.

    Attributes:
        Params: frozen dataclass of its parameters; refuses bad values with a ClimstackError.
        package: the distribution that does the fitting; its version is part of a cell's key.
        view: which tabular view it takes.
        weighted: whether it heeds the weights of rows (:meth:`FoldData.weights`); one that can't is
            refused where they are not all 1.
        prepared_by: names of the parameters that ``prepare`` reads.
        of_levels: names of the parameters that change nothing on a table without levels: there a
            study leaves them out.

    Example:
        >>> from models import load_family
        >>> ridge = load_family("ridge")
        >>> ridge.view, ridge.in_processes(ridge.Params())
        ('linear', False)
    """

    Params: type[Any]
    package: str
    view: Kind
    weighted: bool = True
    prepared_by: tuple[str, ...] = ()
    of_levels: tuple[str, ...] = ()

    def settle(self, params: Any, table: TableShape) -> Any:
        """The parameters with those that are None by default as they suit a table: the same.

        A cell's key holds what this gives, and ``prepare`` and ``fit`` are given it.
        """
        return params

    def in_processes(self, params: Any) -> bool:
        """Whether worker processes fit it: then ``prepare`` gives paths, no large arrays."""
        return False

    def target_sets(
        self, schema: Schema, targets: NDArray[np.intp], params: Any
    ) -> list[list[int]]:
        """Which targets, as positions in ``targets``, share a model and a cell: all of them."""
        return [list(range(len(targets)))]

    @abstractmethod
    def prepare(self, data: FoldData, params: Any, folder: Path) -> Any:
        """Work that the fold's targets share.

        Args:
            data: what may be seen of the fold.
            params: an instance of ``Params``.
            folder: scratch space for what workers need; deleted after the fold.

        Returns:
            A handle for ``fit``; picklable, if worker processes fit.
        """

    @abstractmethod
    def fit(self, prepared: Any, sets: Sets, params: Any, context: FitContext) -> Fits:
        """Fit some of the sets of targets; yield each with its model when that is done.

        Sets may come in any order; a model must not depend on the other sets given.
        """

    @abstractmethod
    def load(self, folder: Path) -> Fitted:
        """Read back what :meth:`Fitted.save` wrote; predictions are equal to the bit."""

    def search_space(self, trial: Any) -> dict[str, Any]:
        """Parameters worth searching, each drawn with one of ``trial``'s methods: none."""
        return {}

    def n_epochs(self, params: Any) -> int:
        """How often a fit calls ``on_epoch``: a study may end it then; 0 where it never does."""
        return 0

    def probe(self, params: Any) -> tuple[dict[str, Any], float]:
        """Parameters of a cheap fit, and how many times as long the whole one takes: the same."""
        return {}, 1.0
