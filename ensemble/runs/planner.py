"""What a run will take, before it starts: cells, workers, minutes, memory and disk.

A probe fits a few cells of each base learner on a small part of the data. Time grows in proportion
to the rows; where there are many more rows than the probe has, memory is measured at two sizes.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from joblib import cpu_count

from ensemble.experiment.experiment import Experiment
from ensemble.runs.store import RunStore, is_store
from features.core.errors import ClimstackError
from features.core.files import atomic_path
from features.folds.enrichment import plan_store
from features.folds.plan import FoldPlan
from features.folds.schemes import make_plan, time_blocks
from features.schemas.schema import Schema, load_schema
from features.sources.grid import Grid
from features.sources.netcdf import find_pairs
from features.sources.readers import CSV_BLOCK_BYTES, TableFile, find_columns
from features.sources.source import open_source
from features.store.conversion import convert
from features.store.store import Store
from models.diagnostics.probe import Cost, probe
from models.member import cell_keys, target_sets
from models.spec import ModelSpec

PROBE_ROWS = 16_384
PROBE_TIMESTEPS = 12  # at least
MUCH_LARGER = 1.5  # training rows over those of the probe: then memory is measured at two sizes


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
    """Estimate a run; fits nothing into the run's folder.

    Args:
        experiment: what would be run.
        runs: the folder of runs.
        memory_limit_mb: how much memory all processes of a fit may take together; fewer workers
            are planned where all cores would take more.

    Raises:
        ClimstackError: the data can't be read, the folds can't be made, or a model takes more
            memory than allowed even with one process.
    """
    data = experiment.data
    schema = load_schema(data.schema)
    run = Path(runs) / experiment.name
    stored = RunStore.training(data, run).find()
    settings, grid = experiment.folds, data.grid_columns or schema.n_grid_columns
    n_rows = len(stored) if stored is not None else _count_rows(Path(data.train), schema, grid)
    if data.test is not None and not is_store(Path(data.test)):
        find_columns(TableFile.open(data.test), schema)
    if stored is not None:
        plan = plan_store(
            stored,
            settings.scheme,
            n_folds=settings.n_folds,
            embargo=settings.embargo,
            seed=experiment.seed,
            auxiliaries=data.auxiliary,
        )
    else:
        time_of, column_of = np.divmod(np.arange(n_rows - n_rows % grid), grid)
        known = None if data.grid is None else Grid.read(data.grid)
        plan = make_plan(
            settings.scheme,
            time_of,
            column_of,
            n_folds=settings.n_folds,
            embargo=settings.embargo,
            seed=experiment.seed,
            grid=known,
        )
        n_rows += sum(_count_rows(Path(each.source), schema, grid) for each in data.auxiliary)
    n_train = n_rows * (settings.n_folds - 1) / settings.n_folds
    models = []
    with tempfile.TemporaryDirectory(prefix="climstack-probe-") as folder:
        probes = _Probes(experiment, schema, Path(folder), stored, n_train)
        for spec in experiment.models:
            cost = probes.cost(spec)
            workers, memory_mb = _choose_workers(spec, cost, memory_limit_mb)
            done = None if stored is None else _count_done(stored, plan, spec, run)
            n_sets = len(target_sets(probes.store, spec, schema.modelled_targets))
            n_cells = n_sets * settings.n_folds
            seconds = (n_cells - (done or 0)) * (
                cost.cell_seconds / workers + cost.shared_seconds / n_sets
            )
            oof_mb = n_rows * len(schema.modelled_targets) * 8 / 2**20
            disk_mb = n_cells * cost.model_mb + oof_mb
            models.append(
                ModelPlan(
                    spec.name, n_cells, done, workers, seconds / 60, int(memory_mb), int(disk_mb)
                )
            )
    width = len(schema.input_columns) + len(schema.target_columns)
    store_mb = 0 if stored is not None else n_rows * width * 8 // 2**20
    return RunPlan(n_rows, settings.n_folds, len(schema.modelled_targets), store_mb, models)


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


class _Probes:
    """Probes of the models of an experiment, scaled to all its rows."""

    def __init__(
        self,
        experiment: Experiment,
        schema: Schema,
        folder: Path,
        stored: Store | None,
        n_train: float,
    ) -> None:
        self.folder = folder
        self.n_train = n_train
        self.store, self.plan = _probe_store(experiment, schema, folder / "whole", stored)
        self.n_probe = len(self.plan.train_rows(0))
        self.half: tuple[Store, FoldPlan] | None = None
        if n_train > MUCH_LARGER * self.n_probe:
            n_times = len(np.unique(self.store.time)) // 2
            self.half = _probe_store(experiment, schema, folder / "half", stored, n_times)

    def cost(self, spec: ModelSpec) -> Cost:
        """What a fold of all rows would have cost."""
        whole = self._probe(spec, self.store, self.plan, "whole")
        times = self.n_train / self.n_probe
        memory = {name: getattr(whole, name) for name in ("alone_mb", "together_mb", "worker_mb")}
        if self.half is not None:
            less = self._probe(spec, *self.half, "half")
            more_rows = self.n_probe - len(self.half[1].train_rows(0))
            for name, value in memory.items():
                per_row = max(value - getattr(less, name), 0.0) / more_rows
                memory[name] = value + per_row * (self.n_train - self.n_probe)
        return Cost(
            whole.shared_seconds * times,
            whole.cell_seconds * times,
            memory["alone_mb"],
            memory["together_mb"],
            memory["worker_mb"],
            whole.model_mb,
        )

    def _probe(self, spec: ModelSpec, store: Store, plan: FoldPlan, size: str) -> Cost:
        folder = self.folder / f"{spec.name}-{size}"
        folder.mkdir()
        return probe(spec, store, plan, folder)


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


def _count_done(store: Store, plan: FoldPlan, spec: ModelSpec, run: Path) -> int:
    targets = store.schema.modelled_targets
    keys = [key for f in range(plan.n_folds) for key in cell_keys(store, plan, spec, targets, f)]
    return sum((run / "cells" / key.hash / "score.json").is_file() for key in keys)


def _probe_store(
    experiment: Experiment,
    schema: Schema,
    folder: Path,
    stored: Store | None,
    n_times: int | None = None,
) -> tuple[Store, FoldPlan]:
    """The first rows as a small store, and a split of them."""
    folder.mkdir()
    grid = experiment.data.grid_columns or schema.n_grid_columns
    if stored is not None:
        grid = stored.n_grid_columns
    n_wanted = (n_times or max(PROBE_ROWS // grid, PROBE_TIMESTEPS)) * grid
    values = pl.concat(_head(experiment, schema, stored, n_wanted))
    ids = [f"train_{row}" for row in range(len(values))]  # sources would name theirs differently
    with atomic_path(folder / "probe.parquet") as made:
        values.select(pl.Series(schema.id_column, ids), pl.all()).write_parquet(made)
    store = convert(folder / "probe.parquet", folder / "store", schema, grid)
    n_folds = min(experiment.folds.n_folds, len(np.unique(store.time)) // 2)
    return store, time_blocks(store.time, n_folds, 0)


def _head(
    experiment: Experiment, schema: Schema, stored: Store | None, n_rows: int
) -> Iterator[pl.DataFrame]:
    """Inputs and targets of the first rows."""
    columns = [*schema.input_columns, *schema.target_columns]
    if stored is not None:
        rows = slice(0, min(n_rows, len(stored)))
        values = [*stored.inputs[rows].T, *stored.require_targets()[rows].T]
        yield pl.DataFrame(dict(zip(columns, values, strict=True)))
        return
    path, width = Path(experiment.data.train), experiment.data.grid_columns
    found = 0
    for batch in open_source(path, schema, width).batches({}, 0, CSV_BLOCK_BYTES):
        if batch.targets is None:
            raise ClimstackError(f"{path} holds no targets: training needs a train file")
        taken = min(len(batch), n_rows - found)
        values = [*batch.inputs[:taken].T, *batch.targets[:taken].T]
        yield pl.DataFrame(dict(zip(columns, values, strict=True)))
        found += taken
        if found == n_rows:
            return


def _count_rows(path: Path, schema: Schema, n_grid_columns: int) -> int:
    if path.is_dir():
        return len(find_pairs(path)) * n_grid_columns
    file = TableFile.open(path)
    if path.suffix == ".parquet":
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    block = next(iter(file.blocks([schema.id_column])), None)
    if block is None or not len(block.frame):
        raise ClimstackError(f"{path} has no rows")
    size, n_rows = path.stat().st_size, len(block.frame)
    if path.suffix == ".csv":
        return round((size - block.offset) * n_rows / block.ends[-1])
    return round(size * n_rows / block.bytes_read)  # packed: as densely as its beginning
