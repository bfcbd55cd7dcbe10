"""What a model's cells cost: measured on a few of them, in a process of its own.

A fresh process, because the peak memory of one that has done other things says nothing.
"""

from __future__ import annotations

import importlib
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from joblib import cpu_count
from joblib.externals.loky import get_reusable_executor

from features.folds import FoldPlan
from features.store import Store
from models.base import ModelSpec, load_family
from models.cross_validation import cross_validate, peak_memory_mb
from models.member import target_sets
from models.oof import CellStore

N_TARGETS = 16


@dataclass(frozen=True)
class Cost:
    """What was measured on one fold.

    Attributes:
        shared_seconds: wall seconds of a fold before its first cell.
        cell_seconds: CPU seconds of a cell, with all workers busy.
        start_mb: memory of a process that has imported what it needs.
        main_mb: peak memory of the main process when it fits by itself.
        worker_mb: peak memory of a worker process; 0 for a family that has none.
        model_mb: size of a cell without its out-of-fold predictions.
    """

    shared_seconds: float
    cell_seconds: float
    start_mb: float
    main_mb: float
    worker_mb: float
    model_mb: float


def probe(spec: ModelSpec, store: Store, plan: FoldPlan, folder: Path) -> Cost:
    """Fit a few cells of a model on one fold.

    Args:
        spec: the model.
        store: a small store.
        plan: its folds.
        folder: empty; the cells stay in it.
    """
    file = folder / "folds.parquet"
    plan.save(file)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_probe, spec, store.path, file, folder / "cells").result()


def _probe(spec: ModelSpec, store_path: Path, plan_file: Path, cells: Path) -> Cost:
    try:
        return _measure(spec, store_path, plan_file, cells)
    finally:
        get_reusable_executor().shutdown(wait=True)  # this process can't end before its workers


def _measure(spec: ModelSpec, store_path: Path, plan_file: Path, cells: Path) -> Cost:
    store, plan, held = Store(store_path), FoldPlan.load(plan_file), CellStore(cells)
    with suppress(ModuleNotFoundError):  # loading the library is no part of a fold's cost
        importlib.import_module(load_family(spec.family).package)
    every = store.schema.modelled_targets
    sets = target_sets(store, spec, every)
    n_workers = cpu_count() if spec.in_processes else 1
    if len(sets) == 1:
        samples = [(every, 1)]
    else:
        few = _sample(sets)
        samples = [(every[few[0]], 1), (every[np.concatenate(few[1:])], n_workers)]
    wanted = np.unique(np.concatenate([targets for targets, _ in samples]))
    for base in _bases_of(spec):
        for targets in [wanted, *[targets for targets, _ in samples]]:
            cross_validate(store, plan, base, held, targets=targets)
    start_mb = peak_memory_mb()
    walls, members = [], []
    for targets, n_jobs in samples:
        start = time.perf_counter()
        members.append(
            cross_validate(store, plan, spec, held, targets=targets, folds=[0], n_jobs=n_jobs)
        )
        walls.append(time.perf_counter() - start)
        if n_jobs == 1:
            main_mb = peak_memory_mb()
    last, n_last = members[-1], len(members[-1].sets)
    cell_seconds, shared = walls[0], 0.0
    if len(samples) > 1:
        # Each cell's seconds hold its share of the fold's costs: take that out again.
        mean = last.seconds / n_last
        cell_seconds = max(mean - walls[0] / n_last, 0.0) / (1 - 1 / n_last)
        shared = max(walls[0] - cell_seconds, 0.0)
    found = [cell for member in members for cell in member.cells[0]]
    sizes = [
        sum(f.stat().st_size for f in cell.path.rglob("*") if f.name != "oof.npy") for cell in found
    ]
    worker_mb = last.peak_memory_mb if n_workers > 1 and len(samples) > 1 else 0
    return Cost(shared, cell_seconds, start_mb, main_mb, worker_mb, float(np.mean(sizes)) / 2**20)


def _sample(sets: list[list[int]]) -> list[list[int]]:
    """Some sets: spread over all where each serves one target, neighbours where it serves more."""
    n_wanted = max(2, N_TARGETS // len(sets[-1]))
    if len(sets[-1]) == 1:
        return sets[:: max(1, len(sets) // n_wanted)]
    first = max(0, (len(sets) - n_wanted) // 2)
    return sets[first : first + n_wanted]


def _bases_of(spec: ModelSpec) -> list[ModelSpec]:
    return [each for base in spec.bases for each in (*_bases_of(base), base)]
