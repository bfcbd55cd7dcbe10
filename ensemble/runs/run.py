"""A run's folder and its stages; each can be stopped and run again."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ensemble.evaluation.held_out import HeldOut
from ensemble.evaluation.leaderboard import Row, compared, leaderboard, save_leaderboard
from ensemble.evaluation.out_of_fold import collect_moments
from ensemble.evaluation.regime_errors import write_errors
from ensemble.experiment.experiment import Experiment
from ensemble.inference.interval_file import interval_file
from ensemble.inference.predict import predict_blocks
from ensemble.inference.submission import check_ids, write_submission
from ensemble.runs.store import RunStore
from ensemble.stacking.graph import Graph
from ensemble.stacking.stack import (
    choose,
    evaluate,
    fit_contenders,
    save_stack,
)
from ensemble.uncertainty.conformal import fit_uncertainty
from ensemble.uncertainty.intervals import Intervals
from features.core.errors import ClimstackError
from features.core.files import (
    atomic_path,
    content_hash,
    write_json,
    write_text,
)
from features.core.types import Progress
from features.folds.enrichment import main_rows, plan_store
from features.folds.plan import FoldPlan
from features.store.store import Store
from models.cross_validation import cross_validate
from models.diagnostics.importance import importance
from models.member import Member, read_member
from models.oof import CellStore
from models.process import peak_memory_mb

PACKAGES = (
    "climstack",
    "numpy",
    "polars",
    "lightgbm",
    "xgboost",
    "torch",
    "optuna",
    "scikit-learn",
)


@dataclass
class Run:
    """A run's folder and what is in it.

    Attributes:
        experiment: what is run.
        path: ``runs/NAME``.
        progress: called with (what, done, total).
        workers: how many processes fit a model, by its name; one per core where it is not named.
        facts: what ``run.json`` says: versions, hashes, seeds, hardware, and every stage that was
            ever done here.
    """

    experiment: Experiment
    path: Path
    progress: Progress | None = None
    workers: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> CellStore:
        """The run's cells."""
        return CellStore(self.path / "cells")

    def train_store(self) -> Store:
        """The training data as a store, converted into the run's folder the first time."""
        store = self._open(RunStore.training(self.experiment.data, self.path))
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
        place = self.path / "store" / ("test" if source is None else f"test-{own}")
        return self._open(RunStore((Path(wanted),), place, self.experiment.data))

    def check_test(self) -> None:
        """Look at test rows and sample submission before hours of fitting, not after.

        Raises:
            ClimstackError: whatever would stop the submission at the end.
        """
        data = self.experiment.data
        if data.test is not None:
            test = self.test_store()
            if data.sample_submission is not None:
                check_ids(data.sample_submission, test.schema, test.sample_ids)

    def plan(self, store: Store) -> FoldPlan:
        """The run's fold plan: made once, then only read. Writes the resolved experiment too.

        Raises:
            ClimstackError: the plan on disk was made from other data or settings.
        """
        settings = self.experiment.folds
        made = plan_store(
            store,
            settings.scheme,
            n_folds=settings.n_folds,
            embargo=settings.embargo,
            seed=self.experiment.seed,
            auxiliaries=self.experiment.data.auxiliary,
        )
        file = self.path / "folds.parquet"
        if not file.is_file():
            made.save(file)
        elif FoldPlan.load(file).hash != made.hash:
            raise ClimstackError(
                f"{file} holds other folds than the experiment asks for: give the experiment"
                " another name, or delete the run"
            )
        write_text(self.path / "experiment.toml", self.experiment.to_toml())
        ours = main_rows(store, self.experiment.data.auxiliary)
        self.facts |= {"data_hash": store.data_hash, "rows_hash": store.hash_of(ours)}
        self.facts |= {"folds_hash": made.hash} | _circumstances()
        self.facts["seeds"] = {spec.name: spec.seed for spec in self.experiment.models}
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
                    store,
                    plan,
                    spec,
                    self.cells,
                    folds=folds,
                    n_jobs=self.workers.get(spec.name),
                    progress=self.progress,
                )
                n_cells = sum(map(len, member.cells))
                facts["cells_computed"] = member.computed
                facts["cells_read"] = n_cells - member.computed
                facts["cells_cpu_seconds"] = round(member.seconds, 2)
                facts["cells_peak_memory_mb"] = member.peak_memory_mb
                members.append(member)
                if fold is None and (table := importance(member, store.schema)) is not None:
                    with atomic_path(self.path / "importance" / f"{spec.name}.parquet") as made:
                        table.write_parquet(made)
        return members

    def stack(self, store: Store, plan: FoldPlan, members: list[Member]) -> list[Row]:
        """Fit, score and choose blends; write the stack and the leaderboard.

        Submission and report of an older blend are deleted: they would not be what the leaderboard
        describes.
        """
        graph = self.path / "stack" / "graph.json"
        before = graph.read_bytes() if graph.is_file() else None
        with self.stage("stack"):
            moments = collect_moments(store, plan, members, self.path / "stack" / "moments.npz")
            contenders = fit_contenders(
                store,
                plan,
                members,
                moments,
                self.experiment.stack.candidates,
                seed=self.experiment.seed,
                progress=self.progress,
            )
            errors = evaluate(store, plan, members, contenders)
            chosen = choose(contenders, errors)
            rows = leaderboard(store.schema, members, contenders, errors, chosen)
            save_stack(self.path / "stack", store, plan, chosen, members, errors)
            rows = compared(rows, self.facts, self.experiment.stack.compare)
            save_leaderboard(self.path, rows)
        if graph.read_bytes() != before:
            for name in ("submission.parquet", "report.html"):
                (self.path / name).unlink(missing_ok=True)
        with self.stage("errors"):
            held_out = HeldOut.read(store, plan, members, self.path / "stack")
            fit_uncertainty(held_out, chosen.final, self.path / "stack")
            latitude = None if store.grid is None else store.grid.lat
            write_errors(held_out, self.path / "stack" / "errors.parquet", latitude)
        return rows

    def refits(self, store: Store, plan: FoldPlan, *, fit: bool) -> dict[str, Member]:
        """The members that predict test rows with one fit on all rows, by name.

        Args:
            store: training rows.
            plan: the run's folds.
            fit: fit what is missing; without, that is an error.
        """
        whole, found = plan.refit(), {}
        for name in self.experiment.stack.refit:
            spec = self.experiment.model(name)
            if fit:
                with self.stage(f"refit {name}"):
                    n_jobs = self.workers.get(name)
                    report = self.progress
                    found[name] = cross_validate(
                        store, whole, spec, self.cells, n_jobs=n_jobs, progress=report
                    )
            else:
                found[name] = read_member(store, whole, spec, self.cells)
        return found

    def submit(
        self,
        members: list[Member],
        refits: dict[str, Member],
        out: Path,
        source: str | Path | None = None,
        sample_submission: str | Path | None = None,
        intervals: Path | None = None,
    ) -> Path:
        """Predict the test rows with the stored graph; write the submission, and intervals."""
        with self.stage("submit"):
            test = self.test_store(source)
            graph = Graph.load(self.path / "stack" / "graph.json")
            own = self.experiment.data.sample_submission if source is None else None
            n_jobs = min(self.workers.values(), default=None)
            sample = sample_submission or own
            learned = None if intervals is None else Intervals.load(self.path / "stack")
            blocks = predict_blocks(
                graph,
                members,
                test,
                scratch=self.path,
                heads=learned.heads if learned else (),
                refits=refits,
                n_jobs=n_jobs,
                progress=self.progress,
            )
            with (
                interval_file(intervals, learned, graph, test, blocks, sample)
                if intervals is not None and learned is not None
                else nullcontext(block.outputs for block in blocks)
            ) as outputs:
                write_submission(out, test.schema, test.sample_ids, outputs, sample)
        return out

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Add a stage to ``run.json``: when it began, wall and CPU seconds and peak memory.

        The figures are this process's; worker processes report theirs in the cells they write.
        """
        wall, cpu = time.perf_counter(), time.process_time()
        facts: dict[str, Any] = {
            "stage": name,
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        yield facts
        facts["wall_seconds"] = round(time.perf_counter() - wall, 2)
        facts["cpu_seconds"] = round(time.process_time() - cpu, 2)
        facts["peak_memory_mb"] = peak_memory_mb()
        self.facts.setdefault("stages", []).append(facts)
        write_json(self.path / "run.json", self.facts)

    def _open(self, wanted: RunStore) -> Store:
        """A store, made first where it must be."""
        store = wanted.find()
        if store is not None:
            store.verify()
            return store
        what = f"convert {wanted.place.name}"
        report = self.progress or (lambda *_: None)
        with self.stage(what):
            report(what, 0, 1)
            store = wanted.make()
            report(what, 1, 1)
        return store


def _circumstances() -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return {
        "versions": versions | {"python": platform.python_version()},
        "hardware": {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "memory_mb": memory,
        },
    }
