"""The fold loop: the only place where base learners meet folds."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from numpy.typing import NDArray

from features.errors import ClimstackError
from features.files import content_hash
from features.folds import FoldPlan
from features.metrics import r2_score
from features.store import Store
from features.tabular import TabularView
from features.transforms import Array, Scaler
from models.base import FoldData, ModelSpec, load_family
from models.oof import Cell, CellKey, CellStore, TrainedModel

CHUNKS_PER_WORKER = 8  # enough to even out the end of a fold, few enough to load data rarely

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Member:
    """A base learner with all its finished cells: what the stack blends.

    Attributes:
        spec: family, parameters, seed.
        targets: indices of its targets in the store's target matrix.
        cells: for each fold, its cells in order of targets.
        computed: number of cells that had to be fitted; the others were there.
    """

    spec: ModelSpec
    targets: NDArray[np.intp]
    cells: list[list[Cell]]
    computed: int

    def oof(self, fold: int) -> Array:
        """Out-of-fold predictions of a fold's validation rows, (n_valid, len(targets))."""
        return np.concatenate([cell.oof() for cell in self.cells[fold]], axis=1)

    def models(self, fold: int) -> list[TrainedModel]:
        """The fold's models, in order of targets."""
        return [cell.model() for cell in self.cells[fold]]

    @property
    def hash(self) -> str:
        """Which cells it has: another fit, fold plan or data gives another hash."""
        return content_hash([[cell.path.name for cell in fold] for fold in self.cells])

    @property
    def seconds(self) -> float:
        """CPU seconds that the fits took, summed over cells."""
        return float(sum(cell.score["seconds"] for fold in self.cells for cell in fold))

    @property
    def peak_memory_mb(self) -> int:
        """Largest resident memory of a process that fitted a cell."""
        return max(int(cell.score["peak_memory_mb"]) for fold in self.cells for cell in fold)


def cell_keys(
    store: Store, plan: FoldPlan, spec: ModelSpec, targets: NDArray[np.intp], fold: int
) -> list[CellKey]:
    """Keys of a model's cells on one fold: one per target, or one for all together."""
    names = [store.schema.target_columns[target] for target in targets]
    per_target = load_family(spec.family).per_target
    sets = [[name] for name in names] if per_target else [names]
    return [CellKey.of(store.data_hash, plan.hash, spec, fold, names) for names in sets]


def cross_validate(
    store: Store,
    plan: FoldPlan,
    spec: ModelSpec,
    cells: CellStore,
    *,
    targets: NDArray[np.intp] | None = None,
    folds: Sequence[int] | None = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Member:
    """Fit a base learner on every fold, computing only the cells that are missing.

    Args:
        store: training data.
        plan: the shared folds.
        spec: the base learner.
        cells: where finished cells live.
        targets: indices of the targets to model; None takes the schema's modelled targets.
        folds: which folds; None takes all. A member with missing folds can't be stacked.
        n_jobs: worker processes of a per-target family; None takes one per core.
        progress: called with (what, done, total) after each cell.

    Returns:
        The member with its cells.

    Raises:
        ClimstackError: plan and store disagree on the rows, or a family fails on the data.
    """
    if len(plan) != len(store):
        raise ClimstackError(
            f"the fold plan has {len(plan)} rows, the store {store.path} has {len(store)}:"
            " make the plan from this store"
        )
    targets = store.schema.modelled_targets if targets is None else np.asarray(targets)
    report = progress or (lambda *_: None)
    family = load_family(spec.family)
    computed = 0
    found: list[list[Cell]] = []
    chosen = range(plan.n_folds) if folds is None else folds
    for position, fold in enumerate(chosen):
        keys = cell_keys(store, plan, spec, targets, fold)
        have = {key.hash: cells.find(key) for key in keys}
        n_done, n_all = sum(c is not None for c in have.values()), len(keys) * len(chosen)
        offset = position * len(keys)
        report(spec.name, offset + n_done, n_all)
        missing = [i for i, key in enumerate(keys) if have[key.hash] is None]
        if missing:
            data = FoldData(store, plan, fold, targets, family.both)
            here = [keys[i] for i in missing]
            served = [[i] for i in missing] if family.per_target else [list(range(len(targets)))]
            for cell in _fit_fold(data, spec, here, served, cells, n_jobs or cpu_count()):
                have[cell.path.name] = cell
                n_done += 1
                computed += 1
                report(spec.name, offset + n_done, n_all)
        found.append([done for key in keys if (done := have[key.hash]) is not None])
    return Member(spec, targets, found, computed)


@dataclass(frozen=True)
class _Fold:
    """What a worker needs of a fold: small values and a scratch folder, no large arrays."""

    spec: ModelSpec
    cells: CellStore
    scratch: Path
    prepared: Any
    view: TabularView
    scaler: Scaler
    shared_seconds: float
    main_process: int

    def fit(self, keys: list[CellKey], positions: list[list[int]]) -> Iterator[Cell]:
        """Fit the cells one after the other and store each as soon as it is done."""
        family = load_family(self.spec.family)
        features = np.load(self.scratch / "valid_features.npy", mmap_mode="r")
        truth = np.load(self.scratch / "valid_truth.npy", mmap_mode="r")
        key_of = dict(zip((tuple(p) for p in positions), keys, strict=True))
        wanted = [position for together in positions for position in together]
        start = time.process_time()
        for served, fitted in family.fit(self.prepared, wanted, self.spec.parsed, self.spec.seed):
            here = self.scaler.take(np.array(served))
            model = TrainedModel(self.spec.family, fitted, self.view, here)
            oof = model.predict_features(features)
            if not np.isfinite(oof).all():
                names = key_of[tuple(served)].targets
                raise ClimstackError(
                    f"model '{self.spec.name}' predicts a value that is not finite for"
                    f" {names[0]} in fold {key_of[tuple(served)].fold}: change its parameters"
                )
            r2 = r2_score(np.asarray(truth[:, served]), oof)
            if not np.isfinite(r2).all():
                raise ClimstackError(
                    f"{key_of[tuple(served)].targets[int(np.isfinite(r2).argmin())]} has values"
                    " too large to square: look at it with 'climstack data check'"
                )
            seconds = time.process_time() - start + self.shared_seconds
            score = {
                "seconds": round(seconds, 3),
                "peak_memory_mb": peak_memory_mb(),
                "r2": r2.tolist(),
            }
            yield self.cells.write(key_of[tuple(served)], model, oof, score)
            start = time.process_time()

    def fit_all(self, keys: list[CellKey], positions: list[list[int]]) -> list[Cell]:
        """The same as a list, for a worker process, which ends when the main process is gone."""
        done = []
        for cell in self.fit(keys, positions):
            done.append(cell)
            if self.main_process not in (os.getppid(), os.getpid()):
                os._exit(1)
        return done


def read_member(
    store: Store,
    plan: FoldPlan,
    spec: ModelSpec,
    cells: CellStore,
    targets: NDArray[np.intp] | None = None,
) -> Member:
    """A base learner whose cells are all finished; fits nothing.

    Raises:
        ClimstackError: a cell is missing.
    """
    targets = store.schema.modelled_targets if targets is None else targets
    found: list[list[Cell]] = []
    for fold in range(plan.n_folds):
        keys = cell_keys(store, plan, spec, targets, fold)
        have = [cell for key in keys if (cell := cells.find(key)) is not None]
        if len(have) < len(keys):
            raise ClimstackError(
                f"member '{spec.name}' lacks {len(keys) - len(have)} of {len(keys)} cells in fold"
                f" {fold}: run the experiment first"
            )
        found.append(have)
    return Member(spec, targets, found, 0)


def _fit_fold(
    data: FoldData,
    spec: ModelSpec,
    keys: list[CellKey],
    positions: list[list[int]],
    cells: CellStore,
    n_jobs: int,
) -> Iterator[Cell]:
    """Fit the cells of ``keys``, which serve the targets at ``positions``; yield them when done."""
    family = load_family(spec.family)
    cells.path.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".fold.", suffix=".tmp", dir=cells.path))
    try:
        start = time.process_time()
        prepared = family.prepare(data, spec.parsed, scratch)
        shared_seconds = (time.process_time() - start) / len(keys)
        valid = data.plan.valid_rows(data.fold)
        np.save(scratch / "valid_features.npy", data.arrays(valid)[0])
        truth = data.store.require_targets()[valid][:, data.targets]
        np.save(scratch / "valid_truth.npy", truth)
        fold = _Fold(
            spec, cells, scratch, prepared, data.view, data.scaler, shared_seconds, os.getpid()
        )
        if not family.in_processes:
            yield from fold.fit(keys, positions)
            return
        size = max(1, -(-len(keys) // (n_jobs * CHUNKS_PER_WORKER)))
        chunks = [slice(i, i + size) for i in range(0, len(keys), size)]
        jobs = (delayed(fold.fit_all)(keys[chunk], positions[chunk]) for chunk in chunks)
        workers = Parallel(
            min(n_jobs, len(chunks)), backend="loky", return_as="generator_unordered"
        )
        for finished in workers(jobs):
            yield from finished
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def peak_memory_mb() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
