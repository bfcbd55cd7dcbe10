"""What a model family is: the protocol that every file in ``models/families`` fulfils.

A family file defines ``MODEL``, one object. climstack finds it by the file's name; no other edit is
needed. The fold loop (:mod:`models.cross_validation`) calls it in this order, for each fold:

1. ``prepare`` once, in the main process, with everything that may be seen of the fold: costly work
   that all targets share (binning, sums) happens here.
2. ``fit`` with some of the ``target_sets``, as often as needed and, when ``in_processes``, in
   several worker processes. It yields each finished model with the targets it serves, so that each
   is stored at once and an interrupted fold loses one model at most.
3. ``predict`` of the fitted model on the fold's validation features; the loop scales back to units.

A family never sees validation targets, and never scales: features and targets arrive standardised.
Rows of auxiliary sources have weights (:meth:`FoldData.weights`); a family that can't heed them
says so with ``weighted = False``, and is refused where they are not all 1.

A model may build on others (:class:`models.spec.ModelSpec`): learn what one left over, or take
their predictions as further inputs. For training rows those predictions are out-of-fold ones, for
the fold's held-out rows those of that fold's models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array, Float32, Rows
from features.folds.plan import FoldPlan
from features.schemas.schema import Axis, Schema
from features.store.store import Store
from features.views.tabular import VIEW_ROWS, Fill, Kind, TabularView
from features.views.transforms import Scaler


class Bases(Protocol):
    """The finished models that a model builds on, as a fold sees them.

    A training row shows the prediction of a model that did not train on it; a row that fold ``k``
    holds out shows that of fold ``k``'s model.
    """

    @property
    def n_extra(self) -> int:
        """How many models' predictions are inputs."""

    def extra(self, plan: FoldPlan, rows: Rows) -> Array:
        """Predictions taken as inputs, (n, n_extra * n_targets), physical units."""

    def extra_names(self, columns: Sequence[str]) -> list[str]:
        """Names of what :meth:`extra` gives, from the names of the targets."""

    def to_improve(self, plan: FoldPlan, rows: Rows) -> Array | None:
        """Predictions whose rest is learned, (n, n_targets), physical units; None without."""


@dataclass(frozen=True)
class FoldData:
    """What a family may see of one fold.

    Features are those of the view, then the predictions of the models it takes as inputs.

    Attributes:
        store: the data.
        plan: the split.
        fold: which fold.
        targets: indices of the modelled targets, in the store's target matrix.
        kind: which tabular view.
        bases: the models it builds on, if any.
        kept: where a long fit keeps what it needs to go on after a kill.
    """

    store: Store
    plan: FoldPlan
    fold: int
    targets: NDArray[np.intp]
    kind: Kind
    bases: Bases | None = None
    kept: Path | None = None

    @cached_property
    def train_rows(self) -> Rows:
        """All rows the fold may learn from."""
        rows = self.plan.train_rows(self.fold)
        if self.bases is None:
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
        if len(schema.imputed_inputs):  # a pass of its own over the training rows
            fill = Fill.fit(schema, inputs.blocks(self.scale_rows))
        blocks = inputs.blocks(self.scale_rows)
        return TabularView.fit(schema, blocks, self.kind, fill, self.store.levels)

    @cached_property
    def extra(self) -> Scaler | None:
        """Standardises the predictions taken as inputs; fitted on the training rows alone."""
        if self.bases is None or not self.bases.n_extra:
            return None
        parts = self._split(self.scale_rows)
        return Scaler.fit(self.bases.extra(self.plan, part) for part in parts)

    @cached_property
    def scaler(self) -> Scaler:
        """The targets' scaler, fitted on the training rows alone, over ``targets``."""
        return Scaler.fit(self._targets(part) for part in self._split(self.scale_rows))

    @cached_property
    def feature_names(self) -> list[str]:
        """Names of the features, (n_features,)."""
        names = [self.store.schema.target_columns[target] for target in self.targets]
        return [*self.view.feature_names, *(self.bases.extra_names(names) if self.bases else [])]

    @cached_property
    def feature_levels(self) -> NDArray[np.intp]:
        """Level of each feature, -1 for a scalar, (n_features,)."""
        n_extra = self.bases.n_extra if self.bases else 0
        return np.concatenate([self.view.levels, *[self.target_levels] * n_extra])

    @cached_property
    def feature_axes(self) -> list[Axis | None]:
        """Axis of which each feature is a component, length n_features."""
        n_extra = self.bases.n_extra if self.bases else 0
        return [*self.view.axes, *self.target_axes * n_extra]

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
        """Features (n, n_features) and standardised targets (n, len(targets)), block by block."""
        for part in self._split(rows):
            features = self.view.transform(self.store.inputs[part])
            if self.bases is not None and self.extra is not None:
                extra = self.extra.transform(self.bases.extra(self.plan, part))
                features = np.concatenate([features, extra], axis=1, dtype=np.float32)
            yield features, self.scaler.transform(self._targets(part))

    def arrays(self, rows: Rows) -> tuple[Float32, Array]:
        """Features and standardised targets of all ``rows`` at once."""
        blocks = list(self.blocks(rows))
        return np.concatenate([x for x, _ in blocks]), np.concatenate([z for _, z in blocks])

    def _targets(self, rows: Rows) -> Array:
        values: Array = self.store.require_targets()[rows][:, self.targets]
        known = self.bases.to_improve(self.plan, rows) if self.bases else None
        return values if known is None else values - known

    @staticmethod
    def _split(rows: Rows) -> Iterator[Rows]:
        for start in range(0, len(rows), VIEW_ROWS):
            yield rows[start : start + VIEW_ROWS]


class Fitted(Protocol):
    """A fitted model of one or more targets."""

    def predict(self, features: Float32) -> Array:
        """Standardised predictions, (n_samples, n_features) -> (n_samples, n_targets).

        A model that can also defines ``importance(n_features)``: the gain of each feature; and
        ``uncertainty(features)``: the expected absolute errors, of the predictions' shape, or None.
        """

    def save(self, folder: Path) -> None:
        """Write the model into an existing, empty folder; data only, nothing that runs code."""


class Family(Protocol):
    """A kind of model; see the module's docstring for when each method is called.

    Attributes:
        Params: frozen dataclass of its parameters; refuses bad values with a ClimstackError.
        package: the distribution that does the fitting; its version is part of a cell's key.
        in_processes: what ``prepare`` returns can be handed to worker processes. With a parameter
            ``device`` other than ``"cpu"`` it stays in the main process all the same.
        view: which tabular view it takes.
    """

    Params: ClassVar[type[Any]]
    package: ClassVar[str]
    in_processes: ClassVar[bool]
    view: ClassVar[Kind]

    def target_sets(
        self, schema: Schema, targets: NDArray[np.intp], params: Any
    ) -> list[list[int]]:
        """Which targets one model serves, as positions in ``targets``; each set is one cell."""

    def prepare(self, data: FoldData, params: Any, folder: Path) -> Any:
        """Work that the fold's targets share.

        Args:
            data: what may be seen of the fold.
            params: an instance of ``Params``.
            folder: scratch space for what workers need; deleted after the fold.

        Returns:
            A handle for ``fit``; with ``in_processes`` a picklable one: paths, no large arrays.
        """

    def fit(
        self, prepared: Any, sets: Sequence[list[int]], params: Any, seed: int
    ) -> Iterator[tuple[list[int], Fitted]]:
        """Fit some of the sets of targets; yield each with its model when that is done.

        Sets may come in any order; a model must not depend on the other sets given.
        """

    def load(self, folder: Path) -> Fitted:
        """Read back what :meth:`Fitted.save` wrote; predictions are equal to the bit.

        A family that can be tuned also defines ``search_space(trial)``, the parameters worth
        searching, each drawn with ``trial.suggest_float``, ``suggest_int`` or
        ``suggest_categorical``; and ``prepared_by``, names of the parameters that ``prepare``
        reads: what it returns serves every trial that agrees on them. One whose fit takes long
        defines ``probe(params)``: parameters that make a cheap fit, and how many times as long the
        whole one takes.
        """
