"""A run from data to submission."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ensemble.evaluation.leaderboard import Row, load_leaderboard
from ensemble.experiment.experiment import Experiment, load_experiment
from ensemble.report import write_report
from ensemble.runs.planner import plan_run
from ensemble.runs.run import Run
from features.core.files import exclusive_lock, read_json, remove_leftovers
from features.core.types import Progress
from models.member import read_member
from models.process import run_apart


@contextmanager
def open_run(
    experiment: Experiment,
    folder: str | Path,
    progress: Progress | None = None,
    workers: dict[str, int] | None = None,
) -> Iterator[Run]:
    """Open an experiment's run folder for writing; one process at a time.

    Args:
        experiment: what is run.
        folder: the run's own folder; made when missing.
        progress: called with (what, done, total).
        workers: how many processes fit a model, by its name; None takes one per core.

    Raises:
        ClimstackError: another process is writing there.
    """
    path = Path(folder)
    busy = f"another process is running {path}: wait for it, or give the experiment another name"
    with exclusive_lock(path / ".lock", busy):
        remove_leftovers(path)
        remove_leftovers(path / "store")
        facts = read_json(path / "run.json") if (path / "run.json").is_file() else {}
        run = Run(experiment, path, progress, workers or {}, facts)
        run.cells.sweep()
        yield run


def run_experiment(
    experiment: Experiment,
    runs: str | Path = "runs",
    progress: Progress | None = None,
    memory_limit_mb: int | None = None,
) -> list[Row]:
    """Folds, all models, stack, leaderboard, report and, where there is test data, a submission.

    A rerun resumes: it computes only what is missing.

    Args:
        experiment: what to run.
        runs: the folder of runs; the run's own folder in it has the experiment's name.
        progress: called with (what, done, total).
        memory_limit_mb: how much memory the fits may take; a probe finds out first how many
            workers that allows.

    Returns:
        The leaderboard, best honest score first.

    Raises:
        ClimstackError: bad data or settings; nothing finished is lost.
    """
    workers = None
    if memory_limit_mb is not None:
        plans = run_apart(plan_run, experiment, runs, memory_limit_mb).models
        workers = {plan.model: plan.workers for plan in plans}
    with open_run(experiment, Path(runs) / experiment.name, progress, workers) as run:
        store = run.train_store()
        run.check_test()
        plan = run.plan(store)
        members = run.members(store, plan)
        rows = run.stack(store, plan, members)
        if experiment.data.test is not None:
            refits = run.refits(store, plan, fit=True)
            run.submit(members, refits, run.path / "submission.parquet")
        with run.stage("report"):
            write_report(run.path, progress=progress)
    return rows


def submit_run(
    folder: str | Path,
    out: str | Path,
    test: str | Path | None = None,
    sample_submission: str | Path | None = None,
    progress: Progress | None = None,
    intervals: str | Path | None = None,
) -> Path:
    """Write a finished run's submission for its test data, or for other rows of its schema.

    Args:
        folder: the run's folder; it may have been moved.
        out: ends in ``.csv`` or ``.parquet``.
        test: CSV, Parquet or store to predict; None takes the experiment's.
        sample_submission: file whose ids and row order to take; None takes the experiment's for
            its own test data, and the rows' own order for other data.
        progress: called with (what, done, total).
        intervals: ``.parquet`` file for the ends of each row's and target's interval, if wanted.

    Raises:
        ClimstackError: the run has no leaderboard, cells are missing or other than the blend's, or
            the test data is bad.
    """
    folder = Path(folder)
    load_leaderboard(folder)
    experiment = load_experiment(folder / "experiment.toml")
    with open_run(experiment, folder, progress) as run:
        store = run.train_store()
        plan = run.plan(store)
        members = [read_member(store, plan, spec, run.cells) for spec in experiment.models]
        ends = None if intervals is None else Path(intervals)
        refits = run.refits(store, plan, fit=False)
        return run.submit(members, refits, Path(out), test, sample_submission, ends)
