"""What a run would take: its stages, walked dry, with each model probed on the first rows."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from joblib import cpu_count

from ensemble.evaluation.leaderboard import Row
from ensemble.experiment.experiment import Experiment
from ensemble.experiment.folder import RunFolder
from ensemble.runs.run import Request, Run
from ensemble.runs.store import RunStore
from features.core.errors import ClimstackError
from features.folds.folded import FoldedStore
from features.folds.making import NEED_COLUMN, NEED_TIME, blocks_plan
from features.folds.schemes import time_blocks
from features.schemas.known import load_schema
from features.sources.grid import Grid
from features.sources.readers import TableFile, find_columns
from features.store.store import Store
from features.store.stored import is_store
from models.base import TableShape
from models.diagnostics.probe import Cost, probe
from models.member import cell_keys, target_sets
from models.spec import ModelSpec

PROBE_ROWS = 16_384
PROBE_TIMESTEPS = 12  # at least
MUCH_LARGER = 1.5  # training rows over those of the probe: then memory is measured at two sizes


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """What one base learner will take.

    Attributes:
        model: its name.
        cells: how many cells it has on all folds.
        done: how many of them are finished; None where the data is not converted yet
            or has changed since.
        workers: how many processes fit it.
        minutes: wall minutes for the cells that are missing.
        memory_mb: peak memory over all its processes.
        disk_mb: size of its cells.
    """

    model: str
    cells: int
    done: int | None
    workers: int
    minutes: float
    memory_mb: int
    disk_mb: int


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run will take.

    Attributes:
        rows: training rows (estimated for a CSV).
        folds: number of folds.
        targets: number of modelled targets.
        store_mb: size of the training store that will be made; 0 when there is one.
        models: one entry per base learner.
    """

    rows: int
    folds: int
    targets: int
    store_mb: int
    models: list[ModelPlan]


def plan_run(
    experiment: Experiment, runs: str | Path = "runs", memory_limit_mb: int | None = None
) -> RunPlan:
    """Estimate a run by its own stages, none of which does more than it must to know its cost.

    Args:
        experiment: what would be run.
        runs: the folder of runs.
        memory_limit_mb: how much memory all processes of a fit may take together; fewer workers
            are planned where all cores would take more.

    Raises:
        ClimstackError: the data can't be read, the folds can't be made, or a model takes more
            memory than allowed even with one process.

    Example:
        >>> from ensemble import load_experiment
        >>> plan = plan_run(load_experiment("first.toml"), "runs")
        >>> [(model.model, model.cells, model.done) for model in plan.models]
        [('ridge', 3, 3), ('trees', 9, 9)]
    """
    folder = RunFolder(Path(runs) / experiment.name)
    folder.read_facts(anew=True)  # refuses a run of an earlier version
    with tempfile.TemporaryDirectory(prefix="climstack-probe-") as scratch:
        run = DryRun(
            experiment=experiment,
            folder=folder,
            scratch=Path(scratch),
            memory_limit_mb=memory_limit_mb,
        )
        run.all_stages()
        return run.outlook


def parse_memory(text: str) -> int:
    """Memory as people write it, ``2GB`` or ``800 MB``, in MB (2^20 bytes).

    Raises:
        ClimstackError: not a positive number with the unit MB or GB.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB)", text.strip().upper())
    size = 0 if found is None else int(float(found[1]) * (1024 if found[2] == "GB" else 1))
    if size < 1:
        raise ClimstackError(f"memory must be given as 2GB or 800MB, but got '{text}'")
    return size


@dataclass(kw_only=True)
class DryRun(Run):
    """A run whose stages only find out what they would take; its folder stays as it is.

    Attributes:
        scratch: empty folder for probes, the caller's.
        memory_limit_mb: how much memory all processes of a fit may take together.
    """

    scratch: Path
    memory_limit_mb: int | None = None

    @cached_property
    def train_store(self) -> Store:
        """The first training rows, which models are probed on."""
        return self._head(PROBE_ROWS, PROBE_TIMESTEPS, "whole")

    @cached_property
    def data(self) -> FoldedStore:
        """The first rows, split."""
        return self._split(self.train_store)

    def check_test(self) -> None:
        """Look at the columns of test rows."""
        data = self.experiment.data
        if data.test is not None and not is_store(Path(data.test)):
            find_columns(TableFile.open(data.test), load_schema(data.schema), data.ignore)

    def without_predictions(self) -> list[str]:
        """Nobody: what has a say is not known yet."""
        return []

    def stack(self, *, report: bool = False) -> list[Row]:
        """Nothing beside the fits, which it needs."""
        self.outlook  # noqa: B018 - a model that takes more than is allowed raises here
        return []

    def submit(self, request: Request) -> None:
        """Nothing beside the fits."""

    def write_report(self) -> None:
        """Nothing beside the fits."""

    @cached_property
    def outlook(self) -> RunPlan:
        """What the run would take."""
        store = self._stored
        targets = self.experiment.schema.modelled_targets
        schema = self.train_store.schema
        width = len(schema.input_columns) + len(schema.target_columns)
        return RunPlan(
            rows=self._n_rows,
            folds=self._n_folds,
            targets=len(targets),
            store_mb=0 if store is not None else self._n_rows * width * 8 // 2**20,
            models=[self._plan_model(spec) for spec in self.experiment.models],
        )

    @cached_property
    def _source(self) -> RunStore:
        return RunStore.training(self.experiment.data, self.folder)

    @cached_property
    def _stored(self) -> FoldedStore | None:
        """All training rows and their folds; None where they are not converted yet."""
        store = self._source.find()
        return None if store is None else FoldedStore(store, self.plan_of(store))

    @cached_property
    def _n_rows(self) -> int:
        """Training rows in all; sees that rows that are not converted yet can be split."""
        if self._stored is not None:
            return len(self._stored.store)
        counts, grid = self._source.count_rows(), self._source.n_grid_columns
        wanted = self.experiment.folds.wanted(self.experiment.seed)
        by_place = wanted.scheme in (None, *NEED_TIME, *NEED_COLUMN)
        if by_place and self.experiment.schema.n_grid_columns is not None:
            known = self.experiment.data.grid
            time, column = np.divmod(np.arange(counts[0] - counts[0] % grid), grid)
            blocks_plan(wanted, time, column, None if known is None else Grid.read(known))
        return sum(counts)

    @property
    def _n_folds(self) -> int:
        """How many folds there are; people's own are counted once rows are converted."""
        return self._stored.plan.n_folds if self._stored else self.experiment.folds.n_folds

    def _head(self, n_rows: int, n_timesteps: int, name: str) -> Store:
        """The first rows as a small store: so many, at least so many timesteps."""
        grid = self._source.n_grid_columns
        if self._stored is not None:
            grid = self._stored.store.n_grid_columns
        return self._source.head(max(n_rows // grid, n_timesteps) * grid, self.scratch / name)

    def _split(self, store: Store) -> FoldedStore:
        time = store.time if store.time.min() >= 0 else np.arange(len(store))
        n_folds = min(self._n_folds, len(np.unique(time)) // 2)
        return FoldedStore(store, time_blocks(time, n_folds, 0))

    @cached_property
    def _half(self) -> FoldedStore | None:
        """Half of the first rows; None where they tell enough of memory by themselves."""
        if self._n_train <= MUCH_LARGER * len(self.data.plan.train_rows(0)):
            return None
        time = self.train_store.time
        half = len(np.unique(time)) // 2 if time.min() >= 0 else len(time) // 2
        return self._split(self._head(0, half, "half"))

    @property
    def _n_train(self) -> float:
        return self._n_rows * (self._n_folds - 1) / self._n_folds

    def _plan_model(self, spec: ModelSpec) -> ModelPlan:
        targets, n_folds = spec.served(self.experiment.schema), self._n_folds
        if spec.external is not None:  # nothing is fitted: its predictions are read
            return ModelPlan(
                model=spec.name,
                cells=n_folds,
                done=self._count_done(spec),
                workers=1,
                minutes=0.0,
                memory_mb=0,
                disk_mb=int(self._n_rows * len(targets) * 8 / 2**20),
            )
        cost = self._cost(spec)
        workers, memory_mb = _choose_workers(spec, cost, self.memory_limit_mb)
        n_sets = len(target_sets(self.data.store, spec, targets))
        done, n_cells = self._count_done(spec), n_sets * n_folds
        seconds = (n_cells - (done or 0)) * (
            cost.cell_seconds / workers + cost.shared_seconds / n_sets
        )
        oof_mb = self._n_rows * len(targets) * 8 / 2**20
        return ModelPlan(
            model=spec.name,
            cells=n_cells,
            done=done,
            workers=workers,
            minutes=seconds / 60,
            memory_mb=int(memory_mb),
            disk_mb=int(n_cells * cost.model_mb + oof_mb),
        )

    def _cost(self, spec: ModelSpec) -> Cost:
        """What a fold of all rows would have cost."""
        whole, n_probe = self._probe(spec, self.data), len(self.data.plan.train_rows(0))
        times, more = self._n_train / n_probe, self._n_train - n_probe
        seconds = {
            name: getattr(whole, name) * times for name in ("shared_seconds", "cell_seconds")
        }
        if self._half is None:
            return replace(whole, **seconds)
        less, n_less = self._probe(spec, self._half), len(self._half.plan.train_rows(0))
        memory = {}
        for name in ("alone_mb", "together_mb", "worker_mb"):
            value = getattr(whole, name)
            per_row = max(value - getattr(less, name), 0.0) / (n_probe - n_less)
            memory[name] = value + per_row * more
        return replace(whole, **seconds, **memory)

    def _probe(self, spec: ModelSpec, data: FoldedStore) -> Cost:
        # A base that was fitted elsewhere has no predictions of these rows: any model will do.
        bases = [
            base if base.external is None else ModelSpec(name=base.name, family="ridge")
            for base in spec.inputs_from
        ]
        spec = replace(spec, inputs_from=tuple(bases))
        whole = replace(TableShape.of(data.store), n_rows=self._n_rows)  # defaults follow all rows
        return probe(spec.settled(whole), data, Path(tempfile.mkdtemp(dir=self.scratch)))

    def _count_done(self, spec: ModelSpec) -> int | None:
        if self._stored is None:
            return None
        targets, n_folds = self._stored.store.schema.modelled_targets, self._stored.plan.n_folds
        keys = [k for f in range(n_folds) for k in cell_keys(self._stored, spec, targets, f)]
        return sum(self.cells.holds(key) for key in keys)


def _choose_workers(spec: ModelSpec, cost: Cost, limit_mb: int | None) -> tuple[int, float]:
    """How many processes fit a model, and the memory they take together, MB.

    Raises:
        ClimstackError: even one takes more than the limit.
    """
    n_most = cpu_count() if spec.in_processes else 1
    together = {n: cost.memory_mb(n) for n in range(1, n_most + 1)}
    allowed = [n for n, mb in together.items() if limit_mb is None or mb <= limit_mb]
    if not allowed:
        raise ClimstackError(
            f"model '{spec.name}' needs about {together[1]:.0f} MB in one process, more than the"
            f" limit of {limit_mb} MB: allow more, or use fewer rows"
        )
    return allowed[-1], together[allowed[-1]]
