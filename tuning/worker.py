"""One process that takes trials until none waits; started by :func:`tuning.study.tune`.

``python -m tuning.worker TASK.json`` is how further processes are started: a fresh interpreter, so
that neither the caller's main module nor its threads come along.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import TrialState

from features.core.errors import ClimstackError
from features.core.files import read_json, write_text
from features.core.types import Progress
from features.folds.folded import FoldedStore
from features.folds.plan import FoldPlan
from features.store.store import Store
from models.base import TableShape
from models.oof import CellStore
from models.spec import ModelSpec
from tuning.objective import Objective, Step
from tuning.settings import TuneSettings
from tuning.space import Space
from tuning.storage import (
    PLACE,
    SEAL,
    heartbeat,
    n_ended,
    open_storage,
    release,
    seal_of,
    take,
)

log = logging.getLogger(__name__)

P_WORSE = 0.1  # a trial ends when it is worse than the best one with this probability of error
STARTUP_STEPS = 8  # steps before a trial may end
STARTUP_TRIALS = 10  # at most so many, and at most a third of all, are drawn at random


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything that a worker needs; JSON holds it.

    Attributes:
        store: path of the training store.
        plan: path of the fold plan.
        cells: path of the cells.
        spec: the model with its own parameters.
        ranges: search ranges instead of the family's own.
        steps: what a trial is scored by, in order.
        url: the study's database.
        study: the study's name.
        settings: how to tune.
        metric: name of what steps are scored by; None: the schema's.
    """

    store: str
    plan: str
    cells: str
    spec: ModelSpec
    ranges: Mapping[str, Any]
    steps: Sequence[Step]
    url: str
    study: str
    settings: TuneSettings
    metric: str | None = None

    @property
    def what(self) -> str:
        """How progress calls it."""
        return f"tune {self.spec.name}"

    @property
    def space(self) -> Space:
        """What is searched."""
        return Space.of(self.spec, self.ranges, TableShape.of(Store(self.store)))

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_text(path, json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Task:
        """Read what :meth:`save` wrote."""
        table = read_json(path)
        table["spec"] = ModelSpec(**table["spec"])
        table["steps"] = [Step(step["fold"], tuple(step["targets"])) for step in table["steps"]]
        table["settings"] = TuneSettings(**table["settings"])
        return cls(**table)

    def sampler(self, place: int) -> BaseSampler:
        """Draws a place's parameters: a function of the seed, the place and the trials so far."""
        seed = int(np.random.SeedSequence([self.settings.seed, place]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                multivariate=True,
                constant_liar=self.settings.workers > 1,
                n_startup_trials=min(STARTUP_TRIALS, max(2, self.settings.n_trials // 3)),
                seed=seed,
            )

    def pruner(self) -> BasePruner:
        """Ends bad trials: by epochs where a model has them, else step by step."""
        if epochs := self.spec.n_epochs:
            return HyperbandPruner(max(1, epochs // 9), epochs, 3) if epochs > 2 else NopPruner()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return WilcoxonPruner(p_threshold=P_WORSE, n_startup_steps=STARTUP_STEPS)


def work(task: Task, progress: Progress | None = None) -> None:
    """Take trials until none waits; an interrupted one is queued again.

    Args:
        task: what to do.
        progress: called with (what, done, total) after each trial.

    Raises:
        ClimstackError: the model fails with its own parameters.
    """
    with quiet_optuna():
        study = optuna.load_study(
            study_name=task.study, storage=open_storage(task.url), pruner=task.pruner()
        )
        data = FoldedStore(Store(task.store), FoldPlan.load(Path(task.plan)))
        cells, n_trials = CellStore(task.cells), task.settings.n_trials
        with Objective(
            data, task.spec, task.space, steps=task.steps, cells=cells, metric=task.metric
        ) as objective:
            parent = os.getppid()
            while (trial := take(study, n_trials, task.url, task.sampler)) is not None:
                with heartbeat(study, trial):
                    _run(study, trial, objective)
                if progress is not None:
                    progress(task.what, n_ended(study, n_trials), n_trials)
                if os.getppid() != parent:  # whoever started this is gone
                    return


def _run(study: Study, trial: optuna.Trial, objective: Objective) -> None:
    try:
        value = objective(trial)
        told = study._storage.get_trial(trial._trial_id)
        trial.set_user_attr(SEAL, seal_of(told, value))
    except optuna.TrialPruned:
        study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)
    except UpdateFinishedTrialError:
        # No sign of life for so long that others gave it up: they have queued its place again.
        log.warning("trial %d was given up meanwhile: another takes its place", trial.number)
    except ClimstackError as error:
        if trial.user_attrs[PLACE] == 0:
            release(study, trial.number)
            raise
        # Parameters that the model can't be fitted with are a bad trial, not the end of the study.
        trial.set_user_attr("error", str(error))
        study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)
    except BaseException:
        release(study, trial.number)
        raise
    else:
        study.tell(trial.number, value, skip_if_finished=True)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna announces every trial on its own logger: not in ours."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        work(Task.load(Path(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(130)
    except ClimstackError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
