"""What a model's cells cost: measured on a few of them, in a process of its own.

A fresh process, because the peak memory of one that has done other things says nothing.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from joblib import cpu_count

from features.folds.folded import FoldedStore
from features.folds.plan import FoldPlan
from features.store.store import Store
from models.cross_validation import cross_validate
from models.member import target_sets
from models.oof import CellStore
from models.process import peak_memory_mb, run_apart
from models.spec import ModelSpec, load_family

N_TARGETS = 16
TRACKERS_MB = 50.0  # the small processes that look after workers' shared resources
MARGIN = 1.1  # a run holds a little more than a probe: all windows, all folds


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What was measured on one fold.

    Attributes:
        shared_seconds: wall seconds of a fold before its first cell.
        cell_seconds: CPU seconds of a cell, with all workers busy.
        alone_mb: peak memory of the main process when it fits by itself.
        together_mb: peak memory of the main process and one worker per core, summed.
        worker_mb: peak memory of a worker process; 0 for a family that has none.
        model_mb: size of a cell without its out-of-fold predictions.
    """

    shared_seconds: float
    cell_seconds: float
    alone_mb: float
    together_mb: float
    worker_mb: float
    model_mb: float

    def memory_mb(self, n_workers: int) -> float:
        """Peak memory of all processes with so many workers, at most one per core."""
        if n_workers == 1 or not self.worker_mb:
            measured = self.alone_mb
        else:
            measured = self.together_mb - float(cpu_count() - n_workers) * self.worker_mb
        return MARGIN * measured + TRACKERS_MB


def probe(spec: ModelSpec, data: FoldedStore, folder: Path) -> Cost:
    """Fit a few cells of a model on one fold.

    Args:
        spec: the model.
        data: a small store and its folds.
        folder: empty; the cells stay in it.
    """
    file = folder / "plan.parquet"
    data.plan.save(file)
    return run_apart(_measure, spec, data.store.path, file, folder / "cells")


def _measure(spec: ModelSpec, store_path: Path, plan_file: Path, cells: Path) -> Cost:
    store, held = Store(store_path), CellStore(cells)
    data = FoldedStore(store, FoldPlan.load(plan_file))
    family = load_family(spec.family)
    cheaper, times = family.probe(spec.parsed)
    spec = replace(spec, params=dict(spec.params) | cheaper)
    with suppress(ModuleNotFoundError):  # loading the library is no part of a fold's cost
        importlib.import_module(family.package)
    every = spec.served(store.schema)
    sets = target_sets(store, spec, every)
    n_workers = cpu_count() if spec.in_processes else 1
    if len(sets) == 1:
        samples = [(every, 1)]
    else:
        few = _sample(sets)
        samples = [(every[few[0]], 1), (every[np.concatenate(few[1:])], n_workers)]
    wanted = np.unique(np.concatenate([targets for targets, _ in samples]))
    for base in _bases_of(spec):
        whole = store.schema.modelled_targets
        of_bases = [whole] if spec.targets else [wanted, *[targets for targets, _ in samples]]
        for targets in of_bases:
            cross_validate(data, base, held, targets=targets)
    walls, members, together_mb = [], [], 0.0
    for targets, n_jobs in samples:
        start = time.perf_counter()
        with _Watch() as watch:
            members.append(
                cross_validate(data, spec, held, targets=targets, folds=[0], n_jobs=n_jobs)
            )
        walls.append(time.perf_counter() - start)
        if n_jobs == 1:
            alone_mb = float(peak_memory_mb())
        together_mb = watch.peak_mb
    last, n_last = members[-1], len(members[-1].sets)
    cell_seconds, shared = walls[0] * times, 0.0
    if n_last > 1:
        # Each cell's seconds hold its share of the fold's costs: take that out again.
        mean = last.seconds / n_last
        cell_seconds = max(mean - walls[0] / n_last, 0.0) / (1 - 1 / n_last)
        shared = max(walls[0] - cell_seconds, 0.0)
    found = [cell for member in members for cell in member.cells[0]]
    sizes = [
        sum(f.stat().st_size for f in cell.path.rglob("*") if f.name != "oof.npy") for cell in found
    ]
    worker_mb = last.peak_memory_mb if n_workers > 1 and len(samples) > 1 else 0
    return Cost(
        shared_seconds=shared,
        cell_seconds=cell_seconds,
        alone_mb=alone_mb,
        together_mb=together_mb,
        worker_mb=worker_mb,
        model_mb=float(np.mean(sizes)) / 2**20,
    )


class _Watch:
    """Looks at the memory of this process and its workers, ten times a second."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.1):
            self.peak_mb = max(self.peak_mb, tree_memory_mb(os.getpid()))


def tree_memory_mb(root: int) -> float:
    """Resident memory of a process and all below it, MB; pages they share count for each."""
    total, top = 0, psutil.Process(root)
    for process in (top, *top.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            total += process.memory_info().rss
    return total / 2**20


def _sample(sets: list[list[int]]) -> list[list[int]]:
    """Some sets: spread over all where each serves one target, neighbours where it serves more."""
    n_wanted = max(3, N_TARGETS // len(sets[-1]))
    if len(sets[-1]) == 1:
        return sets[:: max(1, len(sets) // n_wanted)]
    first = max(0, (len(sets) - n_wanted) // 2)
    return sets[first : first + n_wanted]


def _bases_of(spec: ModelSpec) -> list[ModelSpec]:
    return [each for base in spec.inputs_from for each in (*_bases_of(base), base)]
