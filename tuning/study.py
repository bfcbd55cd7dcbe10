"""A study of one model: trials over shared folds, best parameters, and what they are worth."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from joblib import cpu_count
from optuna.study import Study

from features.core.errors import ClimstackError
from features.core.files import content_hash, write_text
from features.core.folders import refuse_links
from features.core.sealed import seal, write_sealed
from features.core.settings import check, without_none
from features.core.types import Progress
from features.folds.folded import FoldedStore
from features.folds.plan import FoldPlan
from features.scoring.metric import load_metric
from features.store.store import Store
from models.base import TableShape
from models.oof import CellStore
from models.spec import ModelSpec, Variant
from tuning.clusters import Cluster, cluster_targets
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
from tuning.settings import TuneSettings
from tuning.space import Ranges, Space
from tuning.storage import (
    fill,
    hidden,
    n_ended,
    naming_damage,
    open_storage,
    open_study,
    release_dead,
)
from tuning.worker import Task, quiet_optuna, work

LOOK_EVERY = 0.3  # seconds between looks at workers
RESTARTS = 8  # killed workers that are replaced


def tune(
    data: FoldedStore,
    spec: ModelSpec,
    folder: str | Path,
    settings: TuneSettings | None = None,
    *,
    ranges: Ranges | None = None,
    metric: str | None = None,
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
        metric: name of what trials are scored by; None: the schema's.
        progress: called with (what, done, total).

    Returns:
        What was found, and what of it is adopted.

    Raises:
        ClimstackError: nothing to search, too few folds, a study of other data, folds or ranges in
            the storage, or the model fails with its own parameters.

    Example:
        >>> settings = TuneSettings(n_trials=2, n_clusters=1, n_representatives=1)
        >>> found = tune(data, members[1].spec, "runs/first", settings, ranges={"n_rounds": [4, 8]})
        >>> len(found.trials)
        2
    """
    settings, folder = settings or TuneSettings(), Path(folder)
    progress = progress or (lambda *_: None)
    _check_spec(spec)
    space = Space.of(spec, ranges, TableShape.of(data.store))
    folds = _folds(data.plan, settings.n_folds)
    clusters = _clusters(data, spec, settings)
    fitted = [target for cluster in clusters for target in cluster.representatives]
    steps = steps_of(data.store, spec, folds, fitted, settings.seed)
    url = settings.storage or f"sqlite:///{(folder / 'study.db').resolve()}"
    refuse_links(folder)
    own = folder / "tuning" / spec.name
    own.mkdir(parents=True, exist_ok=True)
    data.plan.save(own / "plan.parquet")
    with quiet_optuna(), naming_damage(url):
        study = open_study(
            open_storage(url),
            f"{folder.resolve().name}/{spec.name}",
            _fingerprint(data, spec, space, steps, settings.seed)
            | {"metric": metric or data.store.schema.metric},
            settings.new_study,
        )
        if (own / "study.json").is_file() and not study.trials and not settings.new_study:
            warnings.warn(
                f"{url} holds no trial of the study that {own / 'study.json'} tells of: it begins"
                " anew",
                stacklevel=2,
            )
        fill(study, settings.n_trials, space.defaults)
        task = Task(
            store=str(data.store.path),
            plan=str(own / "plan.parquet"),
            cells=str(folder / "cells"),
            spec=spec,
            ranges=dict(ranges or {}),
            steps=steps,
            url=url,
            study=study.study_name,
            settings=settings,
            metric=metric,
        )
        _finish_trials(task, study, own, progress)
        result = _conclude(data, task, study, clusters, progress)
    write_text(own / "best.toml", _best_toml(space, result))
    result = replace(result, best_file=str(own / "best.toml"))
    write_sealed(own / "study.json", result.to_table())
    return result


def _check_spec(spec: ModelSpec) -> None:
    check(
        not spec.inputs_from,
        f"model '{spec.name}' builds on other models, which can't be tuned yet: tune those",
    )
    check(not spec.variants, f"model '{spec.name}' has variants: tune it without them")


def _folds(plan: FoldPlan, n_wanted: int | None) -> list[int]:
    """Folds to score trials on: all but the last, which they don't see."""
    most = _unseen(plan)
    check(most >= 1, f"tuning needs at least 2 folds, but the plan has {plan.n_folds}")
    n_folds = most if n_wanted is None else n_wanted
    check(1 <= n_folds <= most, f"n_folds must be 1 to {most}, but got {n_folds}")
    return list(range(n_folds))


def _unseen(plan: FoldPlan) -> int:
    return plan.n_folds - 1


def _clusters(data: FoldedStore, spec: ModelSpec, settings: TuneSettings) -> list[Cluster]:
    modelled = spec.served(data.store.schema)
    if is_joint(data.store, spec):
        every = list(range(len(modelled)))
        return [Cluster(every, every)]
    return cluster_targets(
        data,
        modelled,
        n_clusters=settings.n_clusters,
        n_representatives=settings.n_representatives,
        unseen=_unseen(data.plan),
    )


def _fingerprint(
    data: FoldedStore, spec: ModelSpec, space: Space, steps: Sequence[Step], seed: int
) -> dict[str, str]:
    model = [spec.family, dict(spec.params), spec.seed]
    model += [list(spec.targets)] if spec.targets else []
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


def _finish_trials(task: Task, study: Study, own: Path, progress: Progress) -> None:
    """Work, here or in processes, until every place is done; elsewhere others may help."""
    n_trials = task.settings.n_trials
    progress(task.what, n_ended(study, n_trials), n_trials)
    while n_ended(study, n_trials) < n_trials:
        release_dead(study)
        if task.settings.workers == 1:
            work(task, progress)
        else:
            _work_in_processes(task, study, own, progress)
        if n_ended(study, n_trials) < n_trials:
            fill(study, n_trials, task.space.defaults)
            time.sleep(LOOK_EVERY)  # others still work on theirs


def _work_in_processes(task: Task, study: Study, own: Path, progress: Progress) -> None:
    """Run workers until none is left; one that was killed is replaced.

    Raises:
        ClimstackError: a worker fails, or too many are killed.
    """
    n_workers, n_trials = task.settings.workers, task.settings.n_trials
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
                        f"a worker of model '{task.spec.name}' failed: {said[-1] if said else ''}"
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
            progress(task.what, n_ended(study, n_trials), n_trials)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            with suppress(subprocess.TimeoutExpired):
                worker.wait(30)
            worker.kill()
        release_dead(study)


def _conclude(
    data: FoldedStore, task: Task, study: Study, clusters: Sequence[Cluster], progress: Progress
) -> TuneResult:
    """What the finished trials say, and what of it the unseen fold confirms."""
    store, spec, steps, settings = data.store, task.spec, task.steps, task.settings
    modelled, cells = spec.served(store.schema), CellStore(task.cells)
    trials = complete_trials(study, settings.n_trials)
    folds = sorted({step.fold for step in steps})
    n_raced = 0
    if settings.n_finalists == 1 or is_joint(store, spec):
        choices = choose(trials, steps, clusters)
    else:
        values = value_matrix(trials, len(steps))
        best = [trials[row] for row in finalists(values, settings.n_finalists)]
        specs = [with_params(spec, trial.params) for trial in best]
        winners, n_raced = race(
            data, specs, modelled, folds, cells, n_jobs=settings.workers, progress=progress
        )
        choices = choices_of(best, winners)
    served = dict.fromkeys(sorted(step.targets for step in steps))
    held_out = [Step(_unseen(data.plan), targets) for targets in served]
    with Objective(
        data, spec, task.space, steps=held_out, cells=cells, metric=task.metric
    ) as objective:
        worth = _worth(objective, spec, choices, held_out)
    rows = trial_rows(study, settings.n_trials, steps)
    n_sets = len(held_out) if is_joint(store, spec) else len(modelled)
    return TuneResult(
        spec=_chosen(spec, choices, store) if worth.gain >= 0 else spec,
        study=study.study_name,
        storage=hidden(task.url),
        claim=claimed(trials, steps, choices),
        unseen=worth,
        adopted="tuned" if worth.gain >= 0 else "defaults",
        choices=choices,
        trials=rows,
        importances=importances(study),
        cells_fitted=n_raced + sum(row["cells_fitted"] for row in rows),
        cells_full=settings.n_trials * n_sets * len(folds),
        minutes=minutes(study),
        best_file="",
        score=_score(task.metric or store.schema.metric),
    )


def _score(metric: str) -> str:
    """What a study's values are called."""
    return "mean R2" if load_metric(metric).is_r2 else f"mean skill by {metric}"


def _chosen(spec: ModelSpec, choices: Sequence[Choice], store: Store) -> ModelSpec:
    """The model with the parameters of the first choice, and variants with those of the others."""
    schema = store.schema
    names = [schema.target_columns[target] for target in spec.served(schema)]
    variants = tuple(
        Variant(tuple(names[i] for i in choice.targets), choice.params) for choice in choices[1:]
    )
    return replace(with_params(spec, choices[0].params), variants=variants)


def _worth(
    objective: Objective, spec: ModelSpec, choices: Sequence[Choice], steps: Sequence[Step]
) -> Gain:
    """Defaults and choices on held-out rows that no trial was scored on; interval over targets."""
    defaults, tuned = [], []
    for step in steps:
        chosen = choice_of(choices, step.targets)
        defaults.append(objective.values(spec, step))
        tuned.append(objective.values(with_params(spec, chosen.params), step))
    if len(steps) == 1:  # one model for all targets
        before, after = defaults[0], tuned[0]
    else:
        before, after = np.concatenate(defaults), np.concatenate(tuned)
    return gain_of(before, after, np.arange(len(before)))


def _best_toml(space: Space, result: TuneResult) -> str:
    """The file that an experiment's ``tuned`` names."""
    spec, unseen = result.spec, result.unseen
    facts: dict[str, Any] = {
        "model": spec.name,
        "family": spec.family,
        "adopted": result.adopted,
        "claimed": result.claim.tuned,
        "claimed_defaults": result.claim.defaults,
        "unseen": unseen.tuned,
        "unseen_defaults": unseen.defaults,
    }
    facts["params"] = {name: getattr(spec.parsed, name) for name in space.distributions}
    facts["variants"] = [vars(variant) for variant in spec.variants] or None
    head = f"# Written by climstack tune: {len(result.trials)} trials, study {result.study}.\n"
    return head + tomli_w.dumps(seal(without_none(facts)))
