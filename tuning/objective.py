"""What a trial is scored by: honest steps, one target on one fold each, in one shuffled order.

A step's value is the R2 of a cell's out-of-fold predictions, negatives as 0 because the stack
replaces such a target; for another metric, what that is worth beside the truth's mean
(:func:`features.scoring.metric.skill`), so that targets of any unit compare. All trials of a study
take the same steps in the same order, so that two trials can be compared step by step: a trial that
Wilcoxon's signed-rank test finds worse than the best one ends early. A family with one model for
all targets has few, long steps: there Hyperband looks at the epochs of the first fold, by R2.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import TrialPruned
from optuna.trial import Trial

from features.core.types import Array, Float32
from features.folds.folded import FoldedStore
from features.scoring.metric import aggregate, load_metric, skill
from features.store.store import Store
from models.base import FoldData, OnEpoch
from models.fold import OpenFold, open_fold
from models.member import cell_keys, target_sets
from models.oof import Cell, CellKey, CellStore
from models.spec import ModelSpec, load_family
from tuning.space import Space
from tuning.storage import DRAWN, PLACE

CELLS = "cells"  # user attribute: hashes of the cells that a trial read or fitted
FITTED = "cells_fitted"


@dataclass(frozen=True)
class Step:
    """A model to fit: on one fold, for some of the targets that it serves, given by position."""

    fold: int
    targets: tuple[int, ...]


def steps_of(
    store: Store, spec: ModelSpec, folds: Sequence[int], representatives: Sequence[int], seed: int
) -> list[Step]:
    """All steps of a trial, one cell each.

    Representatives x folds, shuffled; or folds x sets of targets for a joint family.
    """
    if is_joint(store, spec):
        sets = target_sets(store, spec, spec.served(store.schema))
        return [Step(fold, tuple(served)) for fold in folds for served in sets]
    steps = [Step(fold, (target,)) for fold in folds for target in representatives]
    order = np.random.default_rng(seed).permutation(len(steps))
    return [steps[i] for i in order]


def is_joint(store: Store, spec: ModelSpec) -> bool:
    """Whether the family's models serve several targets: then targets are not tuned apart."""
    served = spec.served(store.schema)
    return len(target_sets(store, spec, served)) < len(served)


class Objective:
    """Scores trials; keeps what folds share open from trial to trial.

    Args:
        data: training rows and their folds.
        spec: the model, with the experiment's own parameters.
        space: what is searched.
        steps: see :func:`steps_of`.
        cells: finished cells are read, new ones written here.
        metric: name of what steps are scored by; None: the schema's.
    """

    def __init__(
        self,
        data: FoldedStore,
        spec: ModelSpec,
        space: Space,
        steps: Sequence[Step],
        cells: CellStore,
        metric: str | None = None,
    ) -> None:
        self.metric = load_metric(metric or data.store.schema.metric)
        self._served = spec.served(data.store.schema)
        self._share = self.metric.share(data.store.schema)[self._served]
        self.data, self.spec, self.space = data, spec, space
        self.steps, self.cells = steps, cells
        self._open: dict[tuple[Any, ...], OpenFold] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Objective:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, trial: Trial) -> float:
        """Mean value over all steps.

        Raises:
            TrialPruned: the trial is worse than the best one. The defaults take all their steps:
                every gain is told beside them.
        """
        spec = with_params(self.spec, self.space.suggest(trial))
        trial.set_user_attr(DRAWN, True)
        values: list[float] = []
        used: list[str] = []
        fitted = 0
        n_epochs, may_end = spec.n_epochs, trial.user_attrs[PLACE] != 0
        try:
            for step in self.steps:
                key, cell = self.find(spec, step)
                if cell is None:
                    watched = trial if n_epochs and not values else None
                    cell = self._fit(spec, step, key, watched)
                    fitted += 1
                used.append(key.hash)
                values.append(self._mean(self._values(cell, step), step.targets))
                # The epochs of the first fold came before.
                trial.report(values[-1], n_epochs + len(values) - 1)
                if may_end and not n_epochs and len(values) < len(self.steps):
                    _prune(trial)
        finally:
            trial.set_user_attr(CELLS, used)
            trial.set_user_attr(FITTED, fitted)
        return float(np.mean(values))

    def values(self, spec: ModelSpec, step: Step) -> Array:
        """Value of each target of a step, negatives as 0; fitted if it is not there yet."""
        key, cell = self.find(spec, step)
        cell = cell or self._fit(spec, step, key, None)
        return self._values(cell, step)

    def _values(self, cell: Cell, step: Step) -> Array:
        if self.metric.is_r2:
            found = np.array(cell.score["r2"], dtype=np.float64)
        else:
            store, rows = self.data.store, self.data.plan.valid_rows(step.fold)
            targets = self._served[list(step.targets)]
            truth = store.require_targets()[rows][:, targets]
            found = skill(self.metric, truth, np.array(cell.oof(), dtype=np.float64))
        return np.nan_to_num(np.clip(found, 0, None))

    def _mean(self, values: Array, targets: Sequence[int]) -> float:
        """Mean over a step's targets, as they count in the score."""
        return float(aggregate(values, self._share[list(targets)]))

    def find(self, spec: ModelSpec, step: Step) -> tuple[CellKey, Cell | None]:
        """A step's key and, if it is finished, its cell."""
        targets = spec.served(self.data.store.schema)[list(step.targets)]
        (key,) = cell_keys(self.data, spec, targets, step.fold)  # a step is one cell
        return key, self.cells.find(key)

    def _fit(self, spec: ModelSpec, step: Step, key: CellKey, watched: Trial | None) -> Cell:
        fold = replace(self._fold(spec, step.fold), spec=spec)
        on_epoch = None if watched is None else _epoch_scorer(watched, fold)
        try:
            (cell,) = fold.fit([(list(step.targets), key)], on_epoch)
        except TrialPruned:
            shutil.rmtree(self.cells.unfinished([key]), ignore_errors=True)
            raise
        return cell

    def _fold(self, spec: ModelSpec, fold: int) -> OpenFold:
        family = load_family(spec.family)
        shared = tuple(getattr(spec.parsed, name) for name in family.prepared_by)
        if (fold, *shared) not in self._open:
            served = spec.served(self.data.store.schema)
            seen = FoldData(data=self.data, fold=fold, targets=served, kind=family.view)
            opened = self._stack.enter_context(open_fold(seen, spec, self.cells, 10**9))
            self._open[fold, *shared] = opened
        return self._open[fold, *shared]


def with_params(spec: ModelSpec, params: dict[str, Any]) -> ModelSpec:
    """The model with some parameters replaced."""
    return replace(spec, params=dict(spec.params) | params)


def _epoch_scorer(trial: Trial, fold: OpenFold) -> OnEpoch:
    """Tells the score on the held-out rows after each epoch, and ends a trial that falls back."""

    def on_epoch(epoch: int, predict: Callable[[Float32], NDArray[np.floating]]) -> None:
        features = fold.valid_blocks("features")
        found = (fold.scaler.inverse(predict(x).astype(np.float64)) for x in features)
        trial.report(float(np.nan_to_num(np.clip(fold.r2(found), 0, None)).mean()), epoch - 1)
        if trial.user_attrs[PLACE] != 0:
            _prune(trial)

    return on_epoch


def _prune(trial: Trial) -> None:
    if trial.should_prune():
        raise TrialPruned
