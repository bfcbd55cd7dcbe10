"""What a run will take, before it starts: cells, minutes, memory and disk.

A probe fits each base learner on a small part of the data; costs grow in proportion to the rows.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from joblib import cpu_count

from ensemble.experiment import Experiment
from features.errors import ClimstackError
from features.files import atomic_path
from features.folds import FoldPlan, make_plan, time_blocks
from features.readers import TableFile, convert, find_columns
from features.schema import Schema, load_schema
from features.store import Store
from models.base import load_family
from models.cross_validate import cell_keys, cross_validate, peak_memory_mb
from models.oof import CellStore

PROBE_ROWS = 16_384
PROBE_TIMESTEPS = 12  # at least
PROBE_TARGETS = 16


@dataclass(frozen=True)
class ModelPlan:
    """What one base learner will take.

    Attributes:
        model: its name.
        cells: how many cells it has on all folds.
        done: how many of them are finished; None when the data is not converted yet.
        minutes: wall minutes for the cells that are missing.
        memory_mb: peak memory over all its processes.
        disk_mb: size of its cells.
    """

    model: str
    cells: int
    done: int | None
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


def plan_run(experiment: Experiment, runs: str | Path = "runs") -> RunPlan:
    """Estimate a run; fits nothing into the run's folder.

    Raises:
        ClimstackError: the data can't be read, or the folds can't be made.
    """
    data = experiment.data
    schema = load_schema(data.schema)
    run = Path(runs) / experiment.name
    stored = next(
        (Store(p) for p in (Path(data.train), run / "store" / "train") if _is_store(p)), None
    )
    n_rows = len(stored) if stored is not None else _count_rows(Path(data.train), schema)
    n_targets = len(schema.modelled_targets)
    settings = experiment.folds
    if data.test is not None and not _is_store(Path(data.test)):
        find_columns(TableFile.open(data.test), schema)
    if stored is not None:
        time_of, column_of = stored.time, stored.column
    else:
        grid = data.grid_columns or schema.n_grid_columns
        time_of, column_of = np.divmod(np.arange(n_rows - n_rows % grid), grid)
    plan = make_plan(
        settings.scheme, time_of, column_of, settings.n_folds, settings.embargo, experiment.seed
    )
    with tempfile.TemporaryDirectory(prefix="climstack-probe-") as folder:
        store, probe = _probe_store(experiment, schema, Path(folder), stored)
        ratio = n_rows * (settings.n_folds - 1) / settings.n_folds / len(probe.train_rows(0))
        models = [
            _probe_model(experiment, name, store, probe, ratio, stored, plan, run, Path(folder))
            for name in (spec.name for spec in experiment.models)
        ]
    width = len(schema.input_columns) + len(schema.target_columns)
    store_mb = 0 if stored is not None else n_rows * width * 8 // 2**20
    return RunPlan(n_rows, settings.n_folds, n_targets, store_mb, models)


def _probe_model(
    experiment: Experiment,
    name: str,
    store: Store,
    probe: FoldPlan,
    ratio: float,
    stored: Store | None,
    plan: FoldPlan,
    run: Path,
    folder: Path,
) -> ModelPlan:
    spec = experiment.model(name)
    family = load_family(spec.family)
    targets = store.schema.modelled_targets
    n_workers = cpu_count() if family.in_processes else 1
    before = peak_memory_mb()
    spread = targets[:: max(1, len(targets) // PROBE_TARGETS)]
    # One target shows what a fold costs before its first; the others, fitted by all workers at
    # once because those slow each other down, show what each one adds.
    samples = [(spread[:1], 1), (spread[1:], n_workers)] if family.per_target else [(targets, 1)]
    walls, cells, worker_mb = [], [], 0
    for sample, n_jobs in samples:
        start = time.perf_counter()
        member = cross_validate(
            store,
            probe,
            spec,
            CellStore(folder / "cells"),
            targets=sample,
            folds=[0],
            n_jobs=n_jobs,
        )
        walls.append(time.perf_counter() - start)
        cells += member.cells[0]
        worker_mb = member.peak_memory_mb if n_jobs > 1 else 0
    per_cell, shared = walls[0], 0.0
    if family.per_target:
        # Each cell's seconds hold its share of the fold's costs: take that out again.
        n_sample = len(spread) - 1
        mean = member.seconds / n_sample
        per_cell = max(mean - walls[0] / n_sample, 0.0) / (1 - 1 / n_sample)
        shared = max(walls[0] - per_cell, 0.0)
    n_folds, n_cells = experiment.folds.n_folds, len(targets) if family.per_target else 1
    done = None
    if stored is not None:
        keys = [k for f in range(n_folds) for k in cell_keys(stored, plan, spec, targets, f)]
        done = sum((run / "cells" / key.hash / "score.json").is_file() for key in keys)
    missing = n_cells * n_folds - (done or 0)
    seconds = ratio * missing * (per_cell / n_workers + shared / n_cells)
    grown = max(peak_memory_mb() - before, 1) * ratio
    model_bytes = sum(f.stat().st_size for c in cells for f in c.path.rglob("*")) / len(cells)
    oof_bytes = sum((c.path / "oof.npy").stat().st_size for c in cells) / len(cells)
    n_rows = ratio * len(probe.train_rows(0)) / max(n_folds - 1, 1)
    disk = (model_bytes - oof_bytes + n_rows * 8 * len(targets) / n_cells) * n_cells * n_folds
    return ModelPlan(
        name,
        n_cells * n_folds,
        done,
        seconds / 60,
        int(before + grown + n_workers * worker_mb * max(ratio, 1.0)),
        int(disk / 2**20),
    )


def _probe_store(
    experiment: Experiment, schema: Schema, folder: Path, stored: Store | None
) -> tuple[Store, FoldPlan]:
    """The first rows as a small store, and a split of them."""
    grid = experiment.data.grid_columns or schema.n_grid_columns
    if stored is not None:
        grid = stored.n_grid_columns
    n_wanted = max(PROBE_ROWS // grid, PROBE_TIMESTEPS) * grid
    columns = [schema.id_column, *schema.input_columns, *schema.target_columns]
    with atomic_path(folder / "probe.parquet") as made:
        pl.concat(_head(experiment, schema, columns, stored, n_wanted)).write_parquet(made)
    store = convert(folder / "probe.parquet", folder / "store", schema, grid)
    n_folds = min(experiment.folds.n_folds, PROBE_TIMESTEPS // 2)
    return store, time_blocks(store.time, n_folds, 0)


def _head(
    experiment: Experiment, schema: Schema, columns: list[str], stored: Store | None, n_rows: int
) -> Iterator[pl.DataFrame]:
    if stored is not None:
        n_rows = min(n_rows, len(stored))
        rows = slice(0, n_rows)
        ids = stored.sample_ids.head(n_rows)
        values = [*stored.inputs[rows].T, *stored.require_targets()[rows].T]
        yield pl.DataFrame(dict(zip(columns, [ids, *values], strict=True)))
        return
    file = TableFile.open(experiment.data.train)
    if not find_columns(file, schema):
        raise ClimstackError(f"{file.path} holds no targets: training needs a train file")
    for first_row, frame in file.frames(columns):
        yield frame.head(n_rows - first_row)
        if first_row + len(frame) >= n_rows:
            return


def _count_rows(path: Path, schema: Schema) -> int:
    file = TableFile.open(path)
    if path.suffix == ".parquet":
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    _, frame = next(iter(file.frames([schema.id_column])), (0, pl.DataFrame()))
    if not len(frame):
        raise ClimstackError(f"{path} has no rows")
    with path.open("rb") as lines:
        header = len(lines.readline())
        block = sum(len(line) for line, _ in zip(lines, range(len(frame)), strict=False))
    return round((path.stat().st_size - header) / (block / len(frame)))


def _is_store(path: Path) -> bool:
    return (path / "manifest.json").is_file()
