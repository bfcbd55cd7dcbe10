"""A fold laid out for fitting: what a family prepared once, and the held-out rows to predict."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import ClimstackError
from features.files import scratch_array
from features.metrics import r2_score
from features.tabular import TabularView
from features.transforms import Scaler
from models.base import FoldData
from models.oof import Cell, CellKey, CellStore, TrainedModel
from models.process import give_back_memory, peak_memory_mb
from models.spec import ModelSpec, load_family

Job = tuple[list[int], CellKey]  # positions of the targets that one model serves, and its cell


@dataclass(frozen=True)
class OpenFold:
    """A fold laid out for fitting: small values and a scratch folder, no large arrays; picklable.

    Attributes:
        spec: what is fitted; another one that agrees on ``prepared_by`` may take its place.
        cells: where finished cells go.
        scratch: holds what was laid out.
        prepared: what the family made of the fold.
        view: encodes inputs.
        scaler: scales targets.
        extra: standardises predictions that are inputs.
        shared_seconds: share of each cell in the CPU seconds that laying out took.
        main_process: the process that opened it.
    """

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


@contextmanager
def open_fold(data: FoldData, spec: ModelSpec, cells: CellStore, n_jobs: int) -> Iterator[OpenFold]:
    """Lay a fold out; what was laid out is deleted at the end.

    Args:
        data: what may be seen of the fold.
        spec: what will be fitted.
        cells: where finished cells go.
        n_jobs: how many cells share what laying out costs.
    """
    cells.path.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".fold.", suffix=".tmp", dir=cells.path))
    try:
        start = time.process_time()
        give_back_memory()  # of the fold before
        prepared = load_family(spec.family).prepare(data, spec.parsed, scratch)
        shared_seconds = (time.process_time() - start) / n_jobs
        _write_valid(data, scratch)
        give_back_memory()
        yield OpenFold(
            spec, cells, scratch, prepared, data.view, data.scaler, data.extra, shared_seconds,
            os.getpid(),
        )  # fmt: skip
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
