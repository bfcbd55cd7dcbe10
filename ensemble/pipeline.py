"""A run from data to submission: every stage can be stopped and run again."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensemble.experiment import Experiment
from ensemble.graph import Graph
from ensemble.leaderboard import Row, leaderboard, load_leaderboard, save_leaderboard
from ensemble.predict import predict
from ensemble.stack import (
    choose,
    collect_moments,
    evaluate,
    fit_contenders,
    save_stack,
)
from ensemble.submission import write_submission
from features.errors import ClimstackError
from features.files import (
    content_hash,
    exclusive_lock,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
)
from features.folds import FoldPlan, make_plan
from features.readers import convert
from features.schema import load_schema
from features.store import Store
from models.cross_validate import Member, Progress, cross_validate, peak_memory_mb
from models.oof import CellStore

PACKAGES = ("climstack", "numpy", "polars", "lightgbm", "xgboost", "torch", "scikit-learn")


@dataclass
class Run:
    """A run's folder and what is in it.

    Attributes:
        experiment: what is run.
        path: ``runs/NAME``.
        progress: called with (what, done, total).
        stages: wall and CPU seconds and peak memory of each stage done here.
    """

    experiment: Experiment
    path: Path
    progress: Progress | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def cells(self) -> CellStore:
        """The run's cells."""
        return CellStore(self.path / "cells")

    def train_store(self) -> Store:
        """The training data as a store, converted into the run's folder the first time."""
        store = self._store(self.experiment.data.train, "train")
        store.require_targets()
        return store

    def test_store(self, source: str | Path | None = None) -> Store:
        """The rows to predict as a store: those of the experiment, or another source's."""
        wanted = source or self.experiment.data.test
        if wanted is None:
            raise ClimstackError(
                f"experiment {self.experiment.name} names no test data: add [data] test = ..."
            )
        own = content_hash(str(Path(wanted).resolve()))[:12]
        return self._store(str(wanted), "test" if source is None else f"test-{own}")

    def plan(self, store: Store) -> FoldPlan:
        """The run's fold plan: made once, then only read.

        Raises:
            ClimstackError: the plan on disk was made from other data or settings.
        """
        settings = self.experiment.folds
        made = make_plan(
            settings.scheme,
            store.time,
            store.column,
            settings.n_folds,
            settings.embargo,
            self.experiment.seed,
        )
        file = self.path / "folds.parquet"
        if not file.is_file():
            made.save(file)
        elif FoldPlan.load(file).hash != made.hash:
            raise ClimstackError(
                f"{file} holds other folds than the experiment asks for: give the experiment"
                " another name, or delete the run"
            )
        return made

    def members(
        self, store: Store, plan: FoldPlan, model: str | None = None, fold: int | None = None
    ) -> list[Member]:
        """Fit every base learner (or one) on every fold (or one); finished cells are read."""
        specs = [self.experiment.model(model)] if model else self.experiment.models
        if fold is not None and not 0 <= fold < plan.n_folds:
            raise ClimstackError(f"fold must be 0 to {plan.n_folds - 1}, but got {fold}")
        folds = None if fold is None else [fold]
        members = []
        for spec in specs:
            with self.stage(f"fit {spec.name}") as facts:
                member = cross_validate(
                    store, plan, spec, self.cells, folds=folds, progress=self.progress
                )
                n_cells = sum(map(len, member.cells))
                facts["cells_computed"] = member.computed
                facts["cells_read"] = n_cells - member.computed
                facts["cells_cpu_seconds"] = round(member.seconds, 2)
                facts["cells_peak_memory_mb"] = member.peak_memory_mb
                members.append(member)
        return members

    def stack(self, store: Store, plan: FoldPlan, members: list[Member]) -> list[Row]:
        """Fit, score and choose blends; write the stack and the leaderboard."""
        with self.stage("stack"):
            moments = collect_moments(store, plan, members)
            blends = self.experiment.stack.candidates
            contenders = fit_contenders(store, members, moments, blends)
            errors = evaluate(store, plan, members, contenders)
            chosen = choose(contenders, errors)
            rows = leaderboard(store.schema, members, contenders, errors, chosen)
            save_stack(self.path / "stack", chosen)
            save_leaderboard(self.path, rows)
        return rows

    def submit(
        self,
        members: list[Member],
        out: Path,
        source: str | Path | None = None,
        sample_submission: str | Path | None = None,
    ) -> Path:
        """Predict the test rows with the stored graph and write the submission."""
        with self.stage("submit"):
            test = self.test_store(source)
            graph = Graph.load(self.path / "stack" / "graph.json")
            order = sample_submission or self.experiment.data.sample_submission
            blocks = predict(graph, members, test, scratch=self.path, progress=self.progress)
            write_submission(out, test.schema, test.sample_ids, blocks, order)
        return out

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Note wall and CPU seconds and peak memory of a stage, of this process.

        Worker processes report their own share in the cells they write.
        """
        wall, cpu = time.perf_counter(), time.process_time()
        facts: dict[str, Any] = {"stage": name}
        yield facts
        facts["wall_seconds"] = round(time.perf_counter() - wall, 2)
        facts["cpu_seconds"] = round(time.process_time() - cpu, 2)
        facts["peak_memory_mb"] = peak_memory_mb()
        self.stages.append(facts)

    def save_facts(self, store: Store, plan: FoldPlan) -> None:
        """Write ``run.json``: versions, hashes, seeds, hardware, stages."""
        write_json(
            self.path / "run.json",
            {
                "name": self.experiment.name,
                "versions": {name: importlib.metadata.version(name) for name in PACKAGES}
                | {"python": platform.python_version()},
                "data_hash": store.data_hash,
                "folds_hash": plan.hash,
                "seeds": {spec.name: spec.seed for spec in self.experiment.models},
                "hardware": {
                    "cores": os.cpu_count(),
                    "machine": platform.machine(),
                    "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
                },
                "stages": self.stages,
            },
        )

    def _store(self, source: str, name: str) -> Store:
        path = Path(source)
        if (path / "manifest.json").is_file():
            store = Store(path)
            store.verify()
            return store
        if not path.is_file():
            raise ClimstackError(f"no data at {path}: give a CSV or Parquet file, or a store")
        facts = path.stat()
        now = {"source": str(path), "bytes": facts.st_size, "modified_ns": facts.st_mtime_ns}
        note, place = self.path / "store" / f"{name}.json", self.path / "store" / name
        if note.is_file() and place.is_dir():
            if read_json(note) != now:
                raise ClimstackError(
                    f"{path} is not the file that {place} was made from (or has changed since):"
                    " give the experiment another name, or delete the run"
                )
            store = Store(place)
            store.verify()
            return store
        if place.is_dir():
            raise ClimstackError(f"{place} has no note of its source: delete it")
        with self.stage(f"convert {name}"):
            if self.progress is not None:
                self.progress(f"convert {name}", 0, 1)
            write_json(note, now)
            data = self.experiment.data
            store = convert(path, place, load_schema(data.schema), data.grid_columns)
            if self.progress is not None:
                self.progress(f"convert {name}", 1, 1)
        return store


@contextmanager
def open_run(
    experiment: Experiment, runs: str | Path = "runs", progress: Progress | None = None
) -> Iterator[Run]:
    """Open an experiment's run folder for writing; one process at a time.

    Raises:
        ClimstackError: another process is writing there.
    """
    path = Path(runs) / experiment.name
    busy = f"another process is running {path}: wait for it, or give the experiment another name"
    with exclusive_lock(path / ".lock", busy):
        remove_leftovers(path)
        remove_leftovers(path / "store")
        run = Run(experiment, path, progress)
        run.cells.sweep()
        write_text(path / "experiment.toml", experiment.to_toml())
        yield run


def run_experiment(
    experiment: Experiment, runs: str | Path = "runs", progress: Progress | None = None
) -> list[Row]:
    """Folds, all models, stack, leaderboard and, where there is test data, the submission.

    A rerun resumes: it computes only what is missing.

    Args:
        experiment: what to run.
        runs: the folder of runs.
        progress: called with (what, done, total).

    Returns:
        The leaderboard, best honest score first.

    Raises:
        ClimstackError: bad data or settings; nothing finished is lost.
    """
    with open_run(experiment, runs, progress) as run:
        store = run.train_store()
        plan = run.plan(store)
        members = run.members(store, plan)
        rows = run.stack(store, plan, members)
        if experiment.data.test is not None:
            run.submit(members, run.path / "submission.parquet")
        run.save_facts(store, plan)
    return rows


def submit_run(
    folder: str | Path,
    out: str | Path,
    test: str | Path | None = None,
    sample_submission: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a finished run's submission for its test data, or for other rows of its schema.

    Args:
        folder: the run's folder.
        out: ends in ``.csv`` or ``.parquet``.
        test: CSV, Parquet or store to predict; None takes the experiment's.
        sample_submission: file whose ids and row order to take.
        progress: called with (what, done, total).

    Raises:
        ClimstackError: the run has no leaderboard, cells are missing, or the test data is bad.
    """
    from ensemble.experiment import load_experiment

    folder = Path(folder)
    load_leaderboard(folder)
    experiment = load_experiment(folder / "experiment.toml")
    with open_run(experiment, folder.parent, progress) as run:
        store = run.train_store()
        members = run.members(store, run.plan(store))
        return run.submit(members, Path(out), test, sample_submission)
