"""A study of one model: trials over shared folds, best parameters, and what they are worth."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count
from optuna.study import Study

from features.core.errors import ClimstackError
from features.core.files import content_hash, write_json, write_text
from features.core.settings import check, require
from features.core.toml import assignments
from features.core.types import Progress
from features.folds.folded import FoldedStore
from features.folds.plan import FoldPlan
from models.oof import CellStore
from models.spec import ModelSpec, Variant
from tuning.clusters import Cluster, cluster_targets, spread_over
from tuning.objective import Objective, Step, is_joint, steps_of, with_params
from tuning.race import finalists, race
from tuning.result import (
    Choice,
    Gain,
    TuneResult,
    choice_of,
    choices_of,
    choose,
    claimed,
    complete_trials,
    gain_of,
    importances,
    minutes,
    trial_rows,
    value_matrix,
)
from tuning.space import Ranges, Space
from tuning.storage import fill, hidden, n_ended, open_storage, open_study, release_dead
from tuning.worker import Task, quiet_optuna, work

LOOK_EVERY = 0.3  # seconds between looks at workers
RESTARTS = 8  # killed workers that are replaced


@dataclass(frozen=True)
class TuneSettings:
    """How a model is tuned.

    Attributes:
        n_trials: trials in all; the first has the model's own parameters.
        workers: processes on this machine; with one the same seed gives the same trials.
        storage: URL of the study's database; None takes ``study.db`` in the run's folder.
        new_study: start another study where data, folds or search space have changed.
        n_clusters: clusters of targets that may get parameters of their own.
        n_representatives: targets of each cluster that trials are fitted for.
        n_folds: folds that trials are scored on; None takes all but the unseen one.
        seed: of clusters' steps and of the sampler.
        n_finalists: trials that are fitted for every target in the end, each target keeping its
            best; with 1 clusters may keep their own.
    """

    n_trials: int = 25
    workers: int = 1
    storage: str | None = None
    new_study: bool = False
    n_clusters: int = 8
    n_representatives: int = 2
    n_folds: int | None = None
    seed: int = 0
    n_finalists: int = 1

    def __post_init__(self) -> None:
        require(
            self,
            n_trials="[2, inf)",
            workers="[1, inf)",
            n_clusters="[1, inf)",
            n_representatives="[1, inf)",
            n_finalists="[1, inf)",
        )


def tune(
    data: FoldedStore,
    spec: ModelSpec,
    folder: str | Path,
    settings: TuneSettings | None = None,
    *,
    ranges: Ranges | None = None,
    progress: Progress | None = None,
) -> TuneResult:
    """Search a model's parameters; the same call again goes on where it stopped.

    Trials are scored on the plan's folds but the last, which tells afterwards what the found
    parameters are worth: no trial was scored on it.

    Args:
        data: training rows and their shared folds.
        spec: the model; its own parameters are the first trial.
        folder: a run's folder: ``cells`` are shared with the run, ``tuning/MODEL`` gets
            ``best.toml``, which an experiment reads, and ``study.json``.
        settings: how to tune.
        ranges: search ranges by parameter, instead of the family's own.
        progress: called with (what, done, total).

    Returns:
        What was found, and what of it is adopted.

    Raises:
        ClimstackError: nothing to search, too few folds, a study of other data, folds or ranges in
            the storage, or the model fails with its own parameters.
    """
    settings = settings or TuneSettings()
    _check_spec(spec)
    space = Space.of(spec, ranges)
    folder = Path(folder)
    folds, unseen = _folds(data.plan, settings.n_folds)
    clusters = _clusters(data, spec, settings, unseen)
    steps = steps_of(data.store, spec, folds, spread_over(clusters), settings.seed)
    url = settings.storage or f"sqlite:///{(folder / 'study.db').resolve()}"
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / "tuning" / spec.name
    own.mkdir(parents=True, exist_ok=True)
    data.plan.save(own / "folds.parquet")
    report = progress or (lambda *_: None)
    with quiet_optuna():
        study = open_study(
            open_storage(url),
            f"{folder.resolve().name}/{spec.name}",
            _fingerprint(data, spec, space, steps, settings.seed),
            settings.new_study,
        )
        fill(study, settings.n_trials, space.defaults)
        task = Task(
            str(data.store.path), str(own / "folds.parquet"), str(folder / "cells"), spec.name,
            spec.family, dict(spec.params), spec.seed, dict(ranges or {}),
            [[step.fold, list(step.targets)] for step in steps], url, study.study_name,
            settings.n_trials, settings.seed, settings.workers > 1,
        )  # fmt: skip
        _finish_trials(task, study, settings, own, report)
        cells = CellStore(folder / "cells")
        result = _conclude(
            data, spec, space, steps, clusters, study, settings, cells, own, unseen, url, report,
        )  # fmt: skip
    write_json(own / "study.json", result.to_table())
    return result


def _check_spec(spec: ModelSpec) -> None:
    check(
        not spec.bases,
        f"model '{spec.name}' builds on other models, which can't be tuned yet: tune those",
    )
    check(not spec.variants, f"model '{spec.name}' has variants: tune it without them")


def _folds(plan: FoldPlan, n_wanted: int | None) -> tuple[list[int], int]:
    """Folds to score trials on, and the one that they don't see: the last."""
    most = plan.n_folds - 1
    check(most >= 1, f"tuning needs at least 2 folds, but the plan has {plan.n_folds}")
    n_folds = most if n_wanted is None else n_wanted
    check(1 <= n_folds <= most, f"n_folds must be 1 to {most}, but got {n_folds}")
    return list(range(n_folds)), most


def _clusters(
    data: FoldedStore, spec: ModelSpec, settings: TuneSettings, unseen: int
) -> list[Cluster]:
    modelled = data.store.schema.modelled_targets
    if is_joint(data.store, spec):
        every = list(range(len(modelled)))
        return [Cluster(every, every)]
    return cluster_targets(data, modelled, settings.n_clusters, settings.n_representatives, unseen)


def _fingerprint(
    data: FoldedStore, spec: ModelSpec, space: Space, steps: Sequence[Step], seed: int
) -> dict[str, str]:
    model = [spec.family, dict(spec.params), spec.seed]
    taken = [[step.fold, list(step.targets)] for step in steps]
    levels, rows = data.store.levels_hash, data.store.data_hash
    parts: dict[str, Any] = {
        "data": rows if levels is None else [rows, levels],
        "folds": data.plan.hash,
        "parameters": model,
        "search space": space.to_table(),
        "targets or folds to score": taken,
        "seed": seed,
    }
    return {name: content_hash(part)[:16] for name, part in parts.items()}


def _finish_trials(
    task: Task, study: Study, settings: TuneSettings, own: Path, report: Progress
) -> None:
    """Work, here or in processes, until every place is done; elsewhere others may help."""
    what = f"tune {task.name}"

    def told(n_done: int) -> None:
        report(what, n_done, task.n_trials)

    told(n_ended(study, task.n_trials))
    while n_ended(study, task.n_trials) < task.n_trials:
        release_dead(study)
        if settings.workers == 1:
            work(task, told)
        else:
            _work_in_processes(task, study, settings.workers, own, told)
        if n_ended(study, task.n_trials) < task.n_trials:
            fill(study, task.n_trials, task.space.defaults)
            time.sleep(LOOK_EVERY)  # others still work on theirs


def _work_in_processes(
    task: Task, study: Study, n_workers: int, own: Path, told: Callable[[int], None]
) -> None:
    """Run workers until none is left; one that was killed is replaced.

    Raises:
        ClimstackError: a worker fails, or too many are killed.
    """
    file = own / "task.json"
    task.save(file)
    threads = str(max(1, cpu_count() // n_workers))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tuning.worker", str(file)],
            env=environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    workers = [start() for _ in range(n_workers)]
    killed = 0
    try:
        while workers:
            time.sleep(LOOK_EVERY)
            for worker in [w for w in workers if w.poll() is not None]:
                workers.remove(worker)
                if worker.returncode > 0 and worker.returncode != 128 + signal.SIGINT:
                    said = (worker.stderr.read() if worker.stderr else "").strip().splitlines()
                    raise ClimstackError(
                        f"a worker of model '{task.name}' failed: {said[-1] if said else ''}"
                    )
                if worker.returncode < 0:
                    killed += 1
                    release_dead(study)
                    check(
                        killed <= RESTARTS,
                        f"{killed} workers were killed (is there enough memory?): start the same"
                        " command with fewer --workers",
                    )
                    workers.append(start())
            told(n_ended(study, task.n_trials))
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            with suppress(subprocess.TimeoutExpired):
                worker.wait(30)
            worker.kill()
        release_dead(study)


def _conclude(
    data: FoldedStore,
    spec: ModelSpec,
    space: Space,
    steps: Sequence[Step],
    clusters: Sequence[Cluster],
    study: Study,
    settings: TuneSettings,
    cells: CellStore,
    own: Path,
    unseen: int,
    url: str,
    report: Progress,
) -> TuneResult:
    store = data.store
    trials = complete_trials(study, settings.n_trials)
    n_raced = 0
    if settings.n_finalists == 1 or is_joint(store, spec):
        choices = choose(trials, steps, clusters)
    else:
        values = value_matrix(trials, len(steps))
        best = [trials[row] for row in finalists(values, settings.n_finalists)]
        specs = [with_params(spec, trial.params) for trial in best]
        folds = sorted({step.fold for step in steps})
        targets = store.schema.modelled_targets
        winners, n_raced = race(data, specs, targets, folds, cells, settings.workers, report)
        choices = choices_of(best, winners)
    claim = claimed(trials, steps, choices)
    held_out = [
        Step(unseen, targets)
        for targets in dict.fromkeys(step.targets for step in sorted(steps, key=_targets_of))
    ]
    with Objective(data, spec, space, held_out, cells) as objective:
        worth = _worth(objective, spec, choices, held_out)
    adopted = "tuned" if worth.gain >= 0 else "defaults"
    rows = trial_rows(study, settings.n_trials, steps)
    n_sets = len(held_out) if is_joint(store, spec) else len(store.schema.modelled_targets)
    columns = store.schema.target_columns
    names = [columns[target] for target in store.schema.modelled_targets]
    found = spec
    if adopted == "tuned":
        found = replace(
            with_params(spec, choices[0].params),
            variants=tuple(
                Variant(tuple(names[i] for i in choice.targets), choice.params)
                for choice in choices[1:]
            ),
        )
    result = TuneResult(
        found, study.study_name, hidden(url), claim, worth, adopted, choices, rows,
        importances(study), n_raced + sum(row["cells_fitted"] for row in rows),
        settings.n_trials * n_sets * len({step.fold for step in steps}), minutes(study),
        str(own / "best.toml"),
    )  # fmt: skip
    write_text(own / "best.toml", _best_toml(space, result))
    return result


def _targets_of(step: Step) -> tuple[int, ...]:
    return step.targets


def _worth(
    objective: Objective, spec: ModelSpec, choices: Sequence[Choice], steps: Sequence[Step]
) -> Gain:
    """Defaults and choices on held-out rows that no trial was scored on; interval over targets."""
    defaults, tuned = [], []
    for step in steps:
        chosen = choice_of(choices, step.targets)
        defaults.append(objective.r2(spec, step))
        tuned.append(objective.r2(with_params(spec, chosen.params), step))
    if len(steps) == 1:  # one model for all targets
        before, after = defaults[0], tuned[0]
    else:
        before, after = np.concatenate(defaults), np.concatenate(tuned)
    return gain_of(before, after, np.arange(len(before)))


def _best_toml(space: Space, result: TuneResult) -> str:
    """The file that an experiment's ``tuned`` names."""
    spec, unseen = result.spec, result.unseen
    facts = {
        "model": spec.name,
        "family": spec.family,
        "adopted": result.adopted,
        "claimed": result.claim.tuned,
        "claimed_defaults": result.claim.defaults,
        "unseen": unseen.tuned,
        "unseen_defaults": unseen.defaults,
    }
    params = {name: getattr(spec.parsed, name) for name in space.distributions}
    lines = [
        f"# Written by climstack tune: {len(result.trials)} trials, study {result.study}.",
        *assignments(facts),
        "",
        "[params]",
        *assignments(params),
    ]
    for variant in spec.variants:
        lines += ["", "[[variants]]", *assignments({"targets": variant.targets})]
        lines += ["", "[variants.params]", *assignments(variant.params)]
    return "\n".join(lines) + "\n"
