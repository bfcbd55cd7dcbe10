"""A run's stages; each can be stopped and run again."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ensemble.evaluation.held_out import HeldOut
from ensemble.evaluation.leaderboard import Row, compared
from ensemble.experiment.changes import changes
from ensemble.experiment.experiment import Experiment
from ensemble.experiment.folder import RunFolder
from ensemble.inference.given import look_up
from ensemble.inference.interval_file import interval_file
from ensemble.inference.predict import predict_blocks, with_bases
from ensemble.inference.sample import check_sample
from ensemble.inference.submission import write_submission
from ensemble.report import Report
from ensemble.runs.stack import fit_stack
from ensemble.runs.store import RunStore
from ensemble.stacking.blend import Blend
from ensemble.uncertainty.intervals import Intervals
from features.core.errors import ClimstackError, DataWarning, LeakageWarning
from features.core.files import atomic_path, content_hash, write_json, write_text
from features.core.sealed import write_sealed
from features.core.types import Progress
from features.folds.enrichment import main_rows, plan_store
from features.folds.folded import FoldedStore
from features.folds.making import default_scheme
from features.folds.plan import FoldPlan
from features.sources.findings import compress
from features.store.odd.oddities import oddities, said_shared
from features.store.store import Store
from models.cross_validation import cross_validate
from models.diagnostics.importance import importance
from models.diagnostics.plausible import implausible
from models.member import Member
from models.oof import CellStore
from models.process import peak_memory_mb

LATER = (
    "all test rows are later than the training rows, but the honest score of time_blocks speaks"
    " of periods between the training blocks: for a score of later periods, run the experiment"
    ' under another name with [folds] scheme = "forward_chaining", and name the folder of that run'
    " in [stack] compare to see both side by side"
)
NO_PREDICTIONS = (
    "there is no submission, for '{}' was fitted elsewhere and has a say, but comes without"
    " predictions of test rows: name their file in its [[models]] as test, and run again"
)
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


@dataclass(kw_only=True)
class Run:
    """An experiment and the folder that it fills, stage by stage.

    What a stage needs of those before it is made when it is first asked for.

    Attributes:
        experiment: what is run.
        folder: where its files lie.
        progress: called with (what, done, total).
        workers: how many processes fit a model, by its name; one per core where it is not named.
        facts: what ``run.json`` says: versions, hashes, seeds, hardware, and every stage that was
            ever done here.

    Example:
        >>> from ensemble import load_experiment, open_run
        >>> with open_run(load_experiment("first.toml"), "runs/first") as run:
        ...     len(run.members)
        2
    """

    experiment: Experiment
    folder: RunFolder
    progress: Progress | None = None
    workers: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> CellStore:
        """The run's cells."""
        return CellStore(self.folder.cells)

    @cached_property
    def train_store(self) -> Store:
        """The training data as a store, converted into the run's folder the first time."""
        store = self._open(RunStore.training(self.experiment.data, self.folder))
        store.require_targets()
        return store

    def all_stages(self) -> list[Row]:
        """From data to submission and report; the leaderboard, best honest score first."""
        self.train_store.require_targets()
        self.check_test()
        rows = self.stack(report=True)
        if self.experiment.data.test is not None:
            if lacking := self.without_predictions():
                warnings.warn(
                    NO_PREDICTIONS.format("', '".join(lacking)), DataWarning, stacklevel=2
                )
            else:
                self.submit(Request(out=self.folder.submission))
        self.write_report()
        return rows

    def test_store(self, source: str | Path | None = None) -> Store:
        """The rows to predict as a store: those of the experiment, or another source's."""
        if source is None:
            return self._own_test_store
        place = self.folder.test_store(content_hash(os.path.realpath(source))[:12])
        return self._open(RunStore(paths=(Path(source),), place=place, data=self.experiment.data))

    @cached_property
    def _own_test_store(self) -> Store:
        """The experiment's rows to predict: verified and told of once."""
        data = self.experiment.data
        if data.test is None:
            raise ClimstackError(
                f"experiment {self.experiment.name} names no test data: add [data] test = ..."
            )
        place = self.folder.test_store()
        return self._open(RunStore(paths=(Path(data.test),), place=place, data=data))

    def check_test(self) -> None:
        """Look at test rows and sample submission before hours of fitting, not after.

        Raises:
            ClimstackError: whatever would stop the submission at the end.
        """
        data = self.experiment.data
        if data.test is not None:
            test = self.test_store()
            for sentence in said_shared(self.train_store, test):
                warnings.warn(sentence, DataWarning, stacklevel=2)
            scheme = self.experiment.folds.scheme or default_scheme(self.train_store)
            if is_later(self.train_store, test) and scheme == "time_blocks":
                warnings.warn(LATER, LeakageWarning, stacklevel=2)
            if data.sample_submission is not None:
                check_sample(data.sample_submission, test.schema, test.sample_ids)
            for spec in self.experiment.models:
                if spec.external is not None and spec.external.test is not None:
                    look_up(spec, test, spec.served(test.schema))

    @cached_property
    def data(self) -> FoldedStore:
        """The training rows with the run's fold plan: made once, then only read.

        Raises:
            ClimstackError: the plan on disk was made from other data or settings.
        """
        store, auxiliary = self.train_store, self.experiment.data.auxiliary
        made = self.plan_of(store)
        file = self.folder.folds
        if not file.is_file():
            made.save(file)
        elif FoldPlan.load(file).hash != made.hash:
            raise ClimstackError(
                f"{file} holds other folds than the experiment asks for: give the experiment"
                " another name, or delete the run"
            )
        ours = main_rows(store, auxiliary)
        self.facts |= {"data_hash": store.data_hash, "rows_hash": store.hash_of(ours)}
        self.facts |= {"folds_hash": made.hash, "scheme": made.scheme} | _circumstances()
        self.facts["seeds"] = {spec.name: spec.seed for spec in self.experiment.models}
        return FoldedStore(store, made)

    def plan_of(self, store: Store) -> FoldPlan:
        """The fold plan that the experiment asks for on a store."""
        auxiliaries, seed = self.experiment.data.auxiliary, self.experiment.seed
        folds = asdict(self.experiment.folds)
        plan = plan_store(store, **folds, seed=seed, auxiliaries=auxiliaries)
        if plan.n_folds < 3:  # people's own
            raise ClimstackError(
                f"scheme {plan.scheme} finds {plan.n_folds} folds named, but stacking needs at"
                " least 3: name more"
            )
        return plan

    @cached_property
    def members(self) -> list[Member]:
        """Every base learner, fitted on every fold."""
        return self.fit()

    def fit(self, model: str | None = None, fold: int | None = None) -> list[Member]:
        """Fit every base learner (or one) on every fold (or one); finished cells are read."""
        specs = [self.experiment.model(model)] if model else list(self.experiment.models)
        n_folds = self.data.plan.n_folds
        if fold is not None and not 0 <= fold < n_folds:
            raise ClimstackError(f"fold must be 0 to {n_folds - 1}, but got {fold}")
        members = []
        # What was fitted elsewhere comes first: a file that is wrong is known before hours of fits.
        for spec in sorted(specs, key=lambda spec: spec.external is None):
            with self.stage(f"fit {spec.name}") as facts:
                member = cross_validate(
                    self.data,
                    spec,
                    self.cells,
                    folds=None if fold is None else [fold],
                    n_jobs=self.workers.get(spec.name),
                    progress=self.progress,
                )
                n_cells = sum(map(len, member.cells))
                facts["cells_computed"] = member.computed
                facts["cells_read"] = n_cells - member.computed
                facts["cells_cpu_seconds"] = round(member.seconds, 2)
                facts["cells_peak_memory_mb"] = member.peak_memory_mb
                members.append(member)
                table = importance(member, self.train_store.schema) if fold is None else None
                if table is not None:
                    file = self.folder.importance(spec.name)
                    with atomic_path(file) as made:
                        table.write_parquet(made)
                    self.folder.seal(file)
        members.sort(key=lambda member: specs.index(member.spec))
        if model is None and fold is None:
            for sentence in implausible(members):
                warnings.warn(sentence, LeakageWarning, stacklevel=2)
        return members

    def without_predictions(self) -> list[str]:
        """Members with a say that were fitted elsewhere and don't predict the test rows."""
        silent = [
            spec.name
            for spec in self.experiment.models
            if spec.external is not None and spec.external.test is None
        ]
        if not silent:
            return []
        blend = Blend.load(self.folder.checked(self.folder.blend))
        used = with_bases(blend.members_used, {m.spec.name: m for m in self.members})
        return [name for name in silent if name in used]

    def stack(self, *, report: bool = False) -> list[Row]:
        """Fit, score and choose blends; write the stack and the leaderboard.

        Args:
            report: collect the report's data, too; :meth:`write_report` writes it.
        """
        folder, settings = self.folder, self.experiment.stack
        data = self.data
        self._tell_changes()
        held_out = HeldOut(
            data=data, members=self.members, modelled=data.store.schema.modelled_targets
        )
        self._tell_unserved()
        with self.stage("stack"):
            if not folder.is_whole(folder.moments):
                folder.moments.unlink(missing_ok=True)
            metric = self.experiment.score.metric
            stacked = fit_stack(
                held_out, settings.candidates, folder.moments, self.progress, metric=metric
            )
            rows = compared(stacked.leaderboard(), self.facts, settings.compare)
            stacked.save(folder)
            write_json(folder.leaderboard, rows)
            write_text(folder.schema, self.experiment.schema.to_toml())
            write_text(folder.experiment, self.experiment.to_toml())
            folder.seal(folder.leaderboard, folder.schema, folder.experiment)
        with self.stage("errors"):
            self._report = Report(folder) if report else None
            more = self._report.collectors if self._report is not None else ()
            stacked.look_closer(folder, more, self.progress)
        return rows

    def write_report(self) -> None:
        """Write the report of what :meth:`stack` collected."""
        with self.stage("report"):
            assert self._report is not None
            self._report.write()

    def refits(self) -> dict[str, Member]:
        """The members that predict test rows with one fit on all rows, by name."""
        whole, found = replace(self.data, plan=self.data.plan.refit()), {}
        for name in self.experiment.stack.refit:
            spec = self.experiment.model(name)
            with self.stage(f"refit {name}"):
                n_jobs, progress = self.workers.get(name), self.progress
                found[name] = cross_validate(
                    whole, spec, self.cells, n_jobs=n_jobs, progress=progress
                )
        return found

    def submit(self, request: Request) -> None:
        """Predict rows with the stored blend; write the submission and, if wanted, intervals."""
        folder, members, refits = self.folder, self.members, self.refits()
        with self.stage("submit"):
            test = self.test_store(request.test)
            blend = Blend.load(folder.checked(folder.blend))
            own = self.experiment.data.sample_submission if request.test is None else None
            sample = request.sample_submission or own
            wanted = request.intervals is not None
            learned = Intervals.load(folder.checked(folder.intervals)) if wanted else None
            blocks = predict_blocks(
                blend,
                members,
                test,
                scratch=request.out.parent,
                heads=learned.heads if learned else (),
                refits=refits,
                n_jobs=min(self.workers.values(), default=None),
                progress=self.progress,
            )
            with (
                interval_file(
                    request.intervals,
                    learned,
                    blend=blend,
                    test=test,
                    blocks=blocks,
                    sample_submission=sample,
                )
                if request.intervals is not None and learned is not None
                else nullcontext(block.outputs for block in blocks)
            ) as outputs:
                write_submission(request.out, test.schema, test.sample_ids, outputs, sample)

    def _tell_unserved(self) -> None:
        """Say which targets no model serves."""
        schema = self.data.store.schema
        served = np.unique(np.concatenate([member.targets for member in self.members]))
        lacking = np.setdiff1d(schema.modelled_targets, served)
        if len(lacking):
            names = compress([schema.target_columns[target] for target in lacking])
            warnings.warn(
                f"no model serves {len(lacking)} of {len(schema.modelled_targets)} targets, which"
                f" get their training mean: {names}",
                DataWarning,
                stacklevel=2,
            )

    def _tell_changes(self) -> None:
        """Say what is other than in the experiment whose results lie here."""
        file = self.folder.experiment
        if not self.folder.is_whole(file):
            return
        before, after = (tomllib.loads(t) for t in (file.read_text(), self.experiment.to_toml()))
        if found := changes(before, after):
            warnings.warn(
                f"{self.folder.path} holds results of another experiment of this name: {found};"
                " they will be replaced, so give one of the two another name to keep both",
                stacklevel=2,
            )

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Add a stage to ``run.json``: when it began, wall and CPU seconds and peak memory.

        The figures are this process's; worker processes report theirs in the cells they write.
        """
        wall, cpu = time.perf_counter(), time.process_time()
        began = datetime.now(UTC).isoformat(timespec="seconds")
        facts: dict[str, Any] = {"stage": name, "began": began}
        yield facts
        facts["wall_seconds"] = round(time.perf_counter() - wall, 2)
        facts["cpu_seconds"] = round(time.process_time() - cpu, 2)
        facts["peak_memory_mb"] = peak_memory_mb()
        self.facts.setdefault("stages", []).append(facts)
        write_sealed(self.folder.facts, self.facts)

    def _open(self, wanted: RunStore) -> Store:
        """A store, made first where it must be."""
        store = wanted.find(verify=True)
        if store is not None:
            return self._said(store)
        what = f"convert {wanted.place.name}"
        progress = self.progress or (lambda *_: None)
        with self.stage(what):
            progress(what, 0, 1)
            store = wanted.make()
            progress(what, 1, 1)
        return self._said(store)

    def _said(self, store: Store) -> Store:
        for sentence in oddities(store):
            warnings.warn(sentence, DataWarning, stacklevel=2)
        return store


@dataclass(frozen=True, kw_only=True)
class Request:
    """Rows to predict, and the files to write: see :func:`ensemble.submit_run`."""

    out: Path
    test: str | Path | None = None
    sample_submission: str | Path | None = None
    intervals: Path | None = None


def is_later(train: Store, test: Store) -> bool:
    """Whether all test rows are known to be later than all training rows: on one clock of both."""
    clocks = {source["clock"] for store in (train, test) for source in store.sources}
    shared = clocks in ({"model"}, {"dates"}, {"numbers"})
    return shared and int(test.time.min()) > int(train.time.max())


def _circumstances() -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    memory = psutil.virtual_memory().total // 2**20
    return {
        "versions": versions | {"python": platform.python_version()},
        "hardware": {"cores": os.cpu_count(), "machine": platform.machine(), "memory_mb": memory},
    }
