"""What a study found: parameters per cluster, the gain that it claims, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.importance import get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from features.core.errors import ClimstackError
from features.core.types import Array
from models.spec import ModelSpec
from tuning.clusters import Cluster
from tuning.objective import CELLS, FITTED, Step
from tuning.storage import ENDED, PLACE, SEAL, place_of, seal_of

LEVEL = 0.95
CLUSTER_P = 0.025  # how unlikely a cluster's own trial must be no better than the best of all


@dataclass(frozen=True)
class Choice:
    """Parameters for some targets.

    Attributes:
        targets: positions in the targets that the model serves.
        params: values of the searched parameters.
        place: the trial that had them.

    Example:
        >>> Choice(targets=[0, 1], params={"num_leaves": 7}, place=3).place
        3
    """

    targets: list[int]
    params: dict[str, Any]
    place: int


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A score beside that of the defaults.

    Attributes:
        defaults: mean value with the model's own parameters, negatives as 0.
        tuned: the same with those that were chosen.
        low: lower end of the 95 % interval of the difference, over folds or, on one fold, over
            targets; None where there is nothing to tell it from.
        high: its upper end.

    Example:
        >>> round(Gain(defaults=0.5, tuned=0.53, low=0.01, high=0.05).gain, 4)
        0.03
    """

    defaults: float
    tuned: float
    low: float | None
    high: float | None

    @property
    def gain(self) -> float:
        """What tuning gives."""
        return self.tuned - self.defaults


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """What ``tune`` returns and ``tuning.json`` holds.

    Attributes:
        spec: the model with the parameters to use.
        study: the study's name in its storage.
        storage: its URL, without a password.
        claim: on the steps that trials were scored on; the best of many, so a little lucky.
        unseen: on the fold that no trial was scored on.
        adopted: ``"tuned"`` or, where the unseen fold knows better, ``"defaults"``.
        choices: chosen parameters; the first are for all targets that no other names.
        trials: one row each: place, state, value, params, seconds, cells fitted.
        importances: share of each parameter in the variance of the value.
        cells_fitted: cell fits of the study.
        cells_full: cell fits that tuning every target on every fold without pruning would take.
        minutes: wall minutes between the first trial's start and the last one's end.
        best_file: the ``best.toml`` that was written.
        score: what the values are called.

    Example:
        >>> from models import ModelSpec
        >>> from tuning import TuneSettings, tune
        >>> settings = TuneSettings(n_trials=2, n_clusters=1, n_representatives=1)
        >>> tune(data, members[1].spec, "runs/first", settings, ranges={"n_rounds": [4, 8]}).adopted
        'tuned'
    """

    spec: ModelSpec
    study: str
    storage: str
    claim: Gain
    unseen: Gain
    adopted: str
    choices: list[Choice]
    trials: list[dict[str, Any]]
    importances: dict[str, float]
    cells_fitted: int
    cells_full: int
    minutes: float
    best_file: str
    score: str = "mean R2"

    def to_table(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)


def value_matrix(trials: Sequence[FrozenTrial], n_steps: int) -> Array:
    """Values of complete trials, (n_trials, n_steps): the last ``n_steps`` that each reported."""
    found = [[v for _, v in sorted(t.intermediate_values.items())][-n_steps:] for t in trials]
    return np.array(found, dtype=np.float64).reshape(len(trials), n_steps)


def complete_trials(study: Study, n_trials: int) -> list[FrozenTrial]:
    """Finished trials that took all steps, by place.

    Raises:
        ClimstackError: one is not what it was when it ended.
    """
    found = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ours = sorted((trial for trial in found if place_of(trial) < n_trials), key=place_of)
    for trial in ours:
        if trial.value is None or trial.user_attrs.get(SEAL) != seal_of(trial, trial.value):
            raise ClimstackError(
                f"trial {trial.number} of study '{study.study_name}' was changed in its storage, or"
                " made by an earlier version: name another with --storage, or delete it"
            )
    return ours


def choose(
    trials: Sequence[FrozenTrial], steps: Sequence[Step], clusters: Sequence[Cluster]
) -> list[Choice]:
    """The best trial for all targets, and another for a cluster that is clearly better with it.

    A cluster has few steps, and the best of many trials on few steps is mostly luck: it takes
    another trial only where a paired t-test over its steps says so.
    """
    values = value_matrix(trials, len(steps))
    best = int(values.mean(1).argmax())
    choices = [_choice(trials[best], [])]
    for cluster in clusters:
        own = np.array([set(step.targets) <= set(cluster.targets) for step in steps])
        if len(clusters) == 1 or own.sum() < 3:
            continue
        gains = values[:, own] - values[best, own]
        favourite = int(gains.mean(1).argmax())
        if favourite != best and _is_better(gains[favourite], len(trials)):
            choices.append(_choice(trials[favourite], cluster.targets))
    return choices


def choices_of(finalists: Sequence[FrozenTrial], winners: NDArray[np.intp]) -> list[Choice]:
    """The first finalist for all targets, and the others for those that chose them."""
    targets = [np.flatnonzero(winners == number).tolist() for number in range(len(finalists))]
    others = zip(finalists[1:], targets[1:], strict=True)
    return [_choice(finalists[0], []), *(_choice(trial, own) for trial, own in others if own)]


def claimed(
    trials: Sequence[FrozenTrial], steps: Sequence[Step], choices: Sequence[Choice]
) -> Gain:
    """The score of the choices on the study's own steps; the interval is over folds."""
    values = value_matrix(trials, len(steps))
    row_of = {trial.user_attrs[PLACE]: row for row, trial in enumerate(trials)}
    tuned = np.array(
        [
            values[row_of[choice_of(choices, step.targets).place], column]
            for column, step in enumerate(steps)
        ]
    )
    folds = np.array([step.fold for step in steps])
    return gain_of(values[row_of[0]], tuned, folds)


def choice_of(choices: Sequence[Choice], targets: Sequence[int]) -> Choice:
    """The choice that holds for some targets."""
    for choice in choices[1:]:
        if set(targets) <= set(choice.targets):
            return choice
    return choices[0]


def gain_of(defaults: Array, tuned: Array, units: NDArray[np.intp]) -> Gain:
    """Means of step values and the interval of their difference over ``units`` of steps."""
    names = np.unique(units)
    differences = [float((tuned - defaults)[units == unit].mean()) for unit in names]
    low = high = None
    if len(names) > 1:
        half = stats.sem(differences) * stats.t.ppf((1 + LEVEL) / 2, len(names) - 1)
        low, high = (float(np.mean(differences) + sign * half) for sign in (-1, 1))
    return Gain(defaults=float(defaults.mean()), tuned=float(tuned.mean()), low=low, high=high)


def trial_rows(study: Study, n_trials: int, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Every trial that ended, by place; complete ones beside the defaults, over folds."""
    rows = []
    complete = complete_trials(study, n_trials)
    values = value_matrix(complete, len(steps))
    folds = np.array([step.fold for step in steps])
    change = {
        trial.number: gain_of(values[0], own, folds)
        for trial, own in zip(complete, values, strict=True)
    }
    for trial in study.get_trials(deepcopy=False):
        place = place_of(trial)
        if trial.state not in ENDED or place >= n_trials:
            continue
        duration, beside = trial.duration, change.get(trial.number)
        rows.append(
            {
                "place": place,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "change": None if beside is None else beside.gain,
                "change_low": None if beside is None else beside.low,
                "change_high": None if beside is None else beside.high,
                "steps": len(trial.intermediate_values),
                "params": trial.params,
                "seconds": None if duration is None else round(duration.total_seconds(), 2),
                "cells_fitted": trial.user_attrs.get(FITTED, 0),
                "cells": len(trial.user_attrs.get(CELLS, [])),
                "error": trial.user_attrs.get("error"),
            }
        )
    return sorted(rows, key=lambda row: row["place"])


def importances(study: Study) -> dict[str, float]:
    """Share of each parameter in the variance of the value; empty with too few trials."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 4 or len({trial.value for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found: Mapping[str, float] = get_param_importances(study, evaluator=evaluator)
    return {name: round(float(share), 4) for name, share in found.items()}


def minutes(study: Study) -> float:
    """Wall minutes from the first trial's start to the last one's end."""
    spans = [
        (trial.datetime_start, trial.datetime_complete)
        for trial in study.get_trials(deepcopy=False)
        if trial.datetime_start is not None and trial.datetime_complete is not None
    ]
    if not spans:
        return 0.0
    starts, ends = zip(*spans, strict=True)
    seconds: float = (max(ends) - min(starts)).total_seconds()
    return seconds / 60


def _choice(trial: FrozenTrial, targets: list[int]) -> Choice:
    return Choice(targets, dict(trial.params), trial.user_attrs[PLACE])


def _is_better(gains: Array, n_trials: int) -> bool:
    """One-sided paired t-test, the level shared by all the trials that were looked at."""
    if np.ptp(gains) == 0:
        return bool(gains[0] > 0)
    p = float(stats.ttest_1samp(gains, 0.0, alternative="greater").pvalue)
    return p * n_trials < CLUSTER_P
