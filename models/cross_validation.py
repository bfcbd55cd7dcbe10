"""The fold loop: the only place where base learners meet folds."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray

from features.errors import ClimstackError
from features.files import scratch_array
from features.folds import FoldPlan
from features.metrics import r2_score
from features.store import Store
from features.tabular import TabularView
from features.transforms import Scaler
from models.base import FoldData, ModelSpec, load_family
from models.member import Member, MemberBases, cell_keys, target_sets
from models.oof import Cell, CellKey, CellStore, TrainedModel
from models.process import give_back_memory

CHUNKS_PER_WORKER = 8  # enough to even out the end of a fold, few enough to load data rarely

Progress = Callable[[str, int, int], None]


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
        ClimstackError: plan and store disagree on the rows, a model that this one builds on is not
            fitted yet, or a family fails on the data.
    """
    if len(plan) != len(store):
        raise ClimstackError(
            f"the fold plan has {len(plan)} rows, the store {store.path} has {len(store)}:"
            " make the plan from this store"
        )
    targets = store.schema.modelled_targets if targets is None else np.asarray(targets)
    report = progress or (lambda *_: None)
    view = load_family(spec.family).view
    sets = target_sets(store, spec, targets)
    bases = MemberBases.read(store, plan, spec, cells, targets)
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
            jobs = [(sets[i], keys[i]) for i in missing]
            kept = cells.unfinished([key for _, key in jobs])
            data = FoldData(store, plan, fold, targets, view, bases, kept)
            for cell in _fit_fold(data, spec, jobs, cells, n_jobs or cpu_count()):
                have[cell.path.name] = cell
                n_done += 1
                computed += 1
                report(spec.name, offset + n_done, n_all)
            shutil.rmtree(kept, ignore_errors=True)
        found.append([done for key in keys if (done := have[key.hash]) is not None])
    return Member(spec, targets, sets, found, computed)


Job = tuple[list[int], CellKey]  # positions of the targets that one model serves, and its cell


@dataclass(frozen=True)
class _Fold:
    """What a worker needs of a fold: small values and a scratch folder, no large arrays."""

    spec: ModelSpec
    cells: CellStore
    scratch: Path
    prepared: Any
    view: TabularView
    scaler: Scaler
    extra: Scaler | None
    shared_seconds: float
    main_process: int

    def fit(self, jobs: list[Job]) -> Iterator[Cell]:
        """Fit the cells one after the other and store each as soon as it is done."""
        family = load_family(self.spec.family)
        residual = self.spec.residual_of is not None
        features, truth = (
            np.load(self.scratch / f"valid_{what}.npy", mmap_mode="r")
            for what in ("features", "truth")
        )
        known = np.load(self.scratch / "valid_known.npy", mmap_mode="r") if residual else None
        key_of = {tuple(served): key for served, key in jobs}
        sets = [served for served, _ in jobs]
        start = time.process_time()
        for served, fitted in family.fit(self.prepared, sets, self.spec.parsed, self.spec.seed):
            key = key_of[tuple(served)]
            here = self.scaler.take(np.array(served))
            model = TrainedModel(self.spec.family, fitted, self.view, here, self.extra, residual)
            oof = model.predict_features(features, None if known is None else known[:, served])
            if not np.isfinite(oof).all():
                raise ClimstackError(
                    f"model '{self.spec.name}' predicts a value that is not finite for"
                    f" {key.targets[0]} in fold {key.fold}: change its parameters"
                )
            r2 = r2_score(np.asarray(truth[:, served]), oof)
            if not np.isfinite(r2).all():
                raise ClimstackError(
                    f"{key.targets[int(np.isfinite(r2).argmin())]} has values"
                    " too large to square: look at it with 'climstack data check'"
                )
            score = {
                "seconds": round(time.process_time() - start + self.shared_seconds, 3),
                "peak_memory_mb": peak_memory_mb(),
                "r2": r2.tolist(),
            }
            yield self.cells.write(key, model, oof, score, model.uncertainty(features))
            start = time.process_time()

    def fit_all(self, jobs: list[Job]) -> list[Cell]:
        """The same as a list, for a worker process, which ends when the main process is gone."""
        done = []
        for cell in self.fit(jobs):
            done.append(cell)
            if self.main_process not in (os.getppid(), os.getpid()):
                os._exit(1)
        return done


def _fit_fold(
    data: FoldData, spec: ModelSpec, jobs: list[Job], cells: CellStore, n_jobs: int
) -> Iterator[Cell]:
    """Fit the cells of one fold and yield each when it is done."""
    family = load_family(spec.family)
    cells.path.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".fold.", suffix=".tmp", dir=cells.path))
    try:
        start = time.process_time()
        give_back_memory()  # of the fold before
        prepared = family.prepare(data, spec.parsed, scratch)
        shared_seconds = (time.process_time() - start) / len(jobs)
        _write_valid(data, scratch)
        give_back_memory()
        fold = _Fold(
            spec, cells, scratch, prepared, data.view, data.scaler, data.extra, shared_seconds,
            os.getpid(),
        )  # fmt: skip
        if not spec.in_processes or n_jobs == 1:
            yield from fold.fit(jobs)
            return
        chunks = _chunks(jobs, data.target_levels, n_jobs * CHUNKS_PER_WORKER)
        workers = Parallel(
            min(n_jobs, len(chunks)), backend="loky", return_as="generator_unordered"
        )
        for finished in workers(delayed(fold.fit_all)(chunk) for chunk in chunks):
            yield from finished
        # Idle workers would keep their memory while the next fold is prepared.
        get_reusable_executor().shutdown(wait=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_valid(data: FoldData, scratch: Path) -> None:
    """Lay out what workers need of the held-out rows."""
    valid = data.plan.valid_rows(data.fold)
    shape = (len(valid), len(data.feature_names))
    features = scratch_array(scratch / "valid_features.npy", "<f4", shape)
    start = 0
    for block, _ in data.blocks(valid):
        features[start : start + len(block)] = block
        start += len(block)
    truth = data.store.require_targets()[valid][:, data.targets]
    np.save(scratch / "valid_truth.npy", truth)
    if data.bases is not None and (known := data.bases.to_improve(data.plan, valid)) is not None:
        np.save(scratch / "valid_known.npy", known)


def _chunks(jobs: list[Job], levels: NDArray[np.intp], n_chunks: int) -> list[list[Job]]:
    """Cut jobs for the workers; the targets of a level see the same inputs and stay together."""
    by_level: dict[int, list[Job]] = {}
    for job in jobs:
        by_level.setdefault(int(levels[job[0][0]]), []).append(job)
    size = max(1, -(-len(jobs) // n_chunks))
    chunks: list[list[Job]] = [[]]
    for level in sorted(by_level):
        if len(chunks[-1]) >= size:
            chunks.append([])
        chunks[-1] += by_level[level]
    return chunks


def peak_memory_mb() -> int:
    """Largest resident memory of this process so far, MB.

    ``getrusage`` would not do: a worker's figure there starts at the memory of the process that it
    was forked from.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024
