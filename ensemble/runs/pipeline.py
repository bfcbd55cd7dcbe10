"""A run from data to submission."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ensemble.evaluation.leaderboard import Row, load_leaderboard
from ensemble.experiment.experiment import Experiment
from ensemble.experiment.folder import RunFolder
from ensemble.inference.member_files import check_suffix, write_oof, write_predictions
from ensemble.inference.predict import mean_predictions
from ensemble.report.finished import Finished
from ensemble.runs.planner import plan_run
from ensemble.runs.reading import ReadRun
from ensemble.runs.run import Request, Run
from features.core.errors import ClimstackError, closest
from features.core.files import exclusive_lock
from features.core.folders import refuse_links, temporary_folder
from features.core.types import Progress
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
        ClimstackError: another process is writing there, climstack 0.1 filled it, or something in
            it is a link.

    Example:
        >>> from ensemble import load_experiment
        >>> with open_run(load_experiment("first.toml"), "runs/first") as run:
        ...     rows = run.stack()
        >>> len(rows) > 2
        True
    """
    own = RunFolder(Path(folder))
    busy = f"another process is running {folder}: wait for it, or give the experiment another name"
    refuse_links(own.path)  # before anything is written
    with exclusive_lock(own.lock, busy):
        facts = own.read_facts(anew=True)
        own.sweep()
        yield Run(
            experiment=experiment, folder=own, progress=progress, workers=workers or {}, facts=facts
        )


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

    Example:
        >>> from ensemble import load_experiment
        >>> rows = run_experiment(load_experiment("first.toml"), "runs")  # again: nothing is fitted
        >>> rows[-1]["model"]
        'trees'
    """
    workers = None
    if memory_limit_mb is not None:
        plans = run_apart(plan_run, experiment, runs, memory_limit_mb).models
        workers = {plan.model: plan.workers for plan in plans}
    with open_run(experiment, Path(runs) / experiment.name, progress, workers) as run:
        return run.all_stages()


def submit_run(
    folder: str | Path,
    out: str | Path,
    *,
    test: str | Path | None = None,
    sample_submission: str | Path | None = None,
    intervals: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a finished run's submission for its test data, or for other rows of its schema.

    Nothing is written into the run's folder, and temporary values lie beside ``out``: so it may be
    read-only, and several may submit from it at once.

    Args:
        folder: the run's folder; it may have been moved.
        out: ends in ``.csv`` or ``.parquet``.
        test: CSV, Parquet or store to predict; None takes the experiment's.
        sample_submission: file whose ids and row order to take; None takes the experiment's for
            its own test data, and the rows' own order for other data.
        intervals: ``.parquet`` file for the ends of each row's and target's interval, if wanted.
        progress: called with (what, done, total).

    Raises:
        ClimstackError: the run has no leaderboard, something in it is damaged, cells are missing or
            other than the blend's, or the test data is bad.

    Example:
        >>> submit_run("runs/first", "again.parquet", test="test.parquet").name
        'again.parquet'
    """
    finished = Finished(Path(folder))
    load_leaderboard(finished.path)  # a folder without one is no run
    request = Request(
        out=Path(out),
        test=test,
        sample_submission=sample_submission,
        intervals=None if intervals is None else Path(intervals),
    )
    with temporary_folder(request.out.parent, "submit") as scratch:
        ReadRun.of(finished, scratch, progress).submit(request)
    return request.out


def write_members(
    folder: str | Path,
    out: str | Path,
    *,
    test: str | Path | None = None,
    names: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Write the out-of-fold predictions of a finished run's members, to blend them elsewhere.

    The file has the id, ``fold`` and, of one member, a column per target: what a model of family
    ``external`` reads. Of several members the columns are called ``MEMBER/TARGET``.

    Args:
        folder: the run's folder; nothing in it is changed.
        out: ends in ``.csv`` or ``.parquet``.
        test: file for the members' predictions of the experiment's test rows, in the same columns.
        names: which members; none for all.
        progress: called with (what, done, total).

    Raises:
        ClimstackError: no such member, another suffix, or the run is not finished or damaged.

    Example:
        >>> write_members("runs/demo", "oof.txt", names=["ridge"])
        Traceback (most recent call last):
        ...
        features.core.errors.ClimstackError: oof.txt ends in '.txt': give a .csv or .parquet file
    """
    finished, files = Finished(Path(folder)), [check_suffix(each) for each in (out, test) if each]
    load_leaderboard(finished.path)  # a folder without one is no run
    with temporary_folder(files[0].parent, "members") as scratch:
        run = ReadRun.of(finished, scratch, progress)
        known = {member.spec.name: member for member in run.members}
        for name in names:
            if name not in known:
                raise ClimstackError(f"{folder} has no member '{name}': {closest(name, known)}")
        members = [known[name] for name in dict.fromkeys(names or known)]
        if test is not None:
            store = run.test_store()
            with mean_predictions(
                [member.spec.name for member in members],
                run.members,
                store,
                scratch=scratch,
                refits=run.refits(),
                progress=progress,
            ) as (predicted, _):
                write_predictions(test, store, members, predicted)
        write_oof(files[0], run.data, members)
    return files[0]
