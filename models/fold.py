"""A fold laid out for fitting: what a family prepared once, and the held-out rows to predict."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.files import npy_rows
from features.core.folders import temporary_folder
from features.core.metrics import r2_from_sums
from features.core.types import Array
from features.store.matrix import Matrix
from features.views.tabular import TabularView
from features.views.transforms import Scaler
from models.base import FitContext, FoldData, OnEpoch, TableShape
from models.learnable import check_learnable
from models.oof import Cell, CellKey, CellStore, TrainedModel
from models.process import give_back_memory, peak_memory_mb
from models.spec import ModelSpec, load_family

VALID_ROWS = 8192  # as many are predicted and scored at once

Job = tuple[list[int], CellKey]  # positions of the targets that one model serves, and its cell


@dataclass(frozen=True, kw_only=True)
class OpenFold:
    """A fold laid out for fitting: small values and a scratch folder, no large arrays; picklable.

    Attributes:
        spec: what is fitted; another one that agrees on ``prepared_by`` may take its place.
        cells: where finished cells go.
        scratch: holds what was laid out.
        table: what parameters that are None follow.
        prepared: what the family made of the fold.
        view: encodes inputs.
        scaler: scales targets.
        upstream_scaler: standardises predictions that are inputs.
        shared_seconds: share of each cell in the CPU seconds that laying out took.
        main_process: the process that opened it.
    """

    spec: ModelSpec
    cells: CellStore
    scratch: Path
    table: TableShape
    prepared: Any
    view: TabularView
    scaler: Scaler
    upstream_scaler: Scaler | None
    shared_seconds: float
    main_process: int

    def fit(self, jobs: list[Job], on_epoch: OnEpoch | None = None) -> Iterator[Cell]:
        """Fit the cells one after the other and store each as soon as it is done.

        Checkpoints of a fit that was killed are found by its jobs, and deleted at the end.
        """
        checkpoints = self.cells.unfinished([key for _, key in jobs])
        context = FitContext(self.spec.seed, checkpoints, on_epoch)
        family = load_family(self.spec.family)
        key_of = {tuple(served): key for served, key in jobs}
        sets = [served for served, _ in jobs]
        start = time.process_time()
        params = family.settle(self.spec.parsed, self.table)
        for served, fitted in family.fit(self.prepared, sets, params, context):
            key = key_of[tuple(served)]
            model = TrainedModel(
                family=self.spec.family,
                fitted=fitted,
                view=self.view,
                scaler=self.scaler.take(np.array(served)),
                upstream_scaler=self.upstream_scaler,
            )
            predictions = self.scratch / key.hash
            predictions.mkdir(exist_ok=True)
            r2 = self.r2(self._predict(model, key, served, predictions), served)
            if np.isinf(r2).any():
                raise ClimstackError(
                    f"{key.targets[int(np.isinf(r2).argmax())]} has values"
                    " too large to square: look at it with 'climstack data check'"
                )
            score = {
                "seconds": round(time.process_time() - start + self.shared_seconds, 3),
                "peak_memory_mb": peak_memory_mb(),
                "r2": [None if np.isnan(each) else float(each) for each in r2],
            }
            yield self.cells.write(key, model, predictions, score)
            start = time.process_time()
        shutil.rmtree(checkpoints, ignore_errors=True)

    def fit_all(self, jobs: list[Job]) -> list[Cell]:
        """The same as a list, for a worker process, which ends when the main process is gone."""
        done = []
        for cell in self.fit(jobs):
            done.append(cell)
            if self.main_process not in (os.getppid(), os.getpid()):
                os._exit(1)
        return done

    def valid_blocks(self, what: str) -> Iterator[NDArray[Any]]:
        """What was laid out of the held-out rows, in blocks: features or truth."""
        return Matrix.of_npy(self.scratch / f"valid_{what}.npy").blocks(size=VALID_ROWS)

    def r2(self, predicted: Iterable[Array], served: list[int] | None = None) -> Array:
        """R2 of each target on the rows that have it; -inf where squares are not finite.

        NaN for a target that no held-out row has.

        Args:
            predicted: predictions of the held-out rows in blocks, physical units.
            served: positions of their targets; None for all.

        Raises:
            ClimstackError: a prediction is not finite.
        """
        here = slice(None) if served is None else served
        error: Any = 0.0
        for truth, values in zip(self.valid_blocks("truth"), predicted, strict=True):
            if not np.isfinite(values).all():
                raise ClimstackError(
                    f"model '{self.spec.name}' predicts a value that is not finite:"
                    " change its parameters"
                )
            error = error + _sums(truth[:, here] - values, squared=True)[0]
        deviation = np.load(self.scratch / "valid_deviation.npy")[here]
        r2 = np.where(np.isfinite(error), r2_from_sums(error, deviation), -np.inf)
        return np.where(np.isinf(deviation), -np.inf, np.where(np.isnan(deviation), np.nan, r2))

    def _predict(
        self, model: TrainedModel, key: CellKey, served: list[int], folder: Path
    ) -> Iterator[Array]:
        """Predict the held-out rows in blocks, which are left in the folder too."""
        n_valid = len(Matrix.of_npy(self.scratch / "valid_truth.npy"))
        with ExitStack() as files:
            add_of = {}
            for features in self.valid_blocks("features"):
                oof = model.predict_features(features)
                if not np.isfinite(oof).all():
                    raise ClimstackError(
                        f"model '{self.spec.name}' predicts a value that is not finite for"
                        f" {key.targets[0]} in fold {key.fold}: change its parameters"
                    )
                for name, values in (("oof", oof), ("uncertainty", model.uncertainty(features))):
                    if values is None:
                        continue
                    if name not in add_of:
                        rows = npy_rows(folder / f"{name}.npy", "<f8", (n_valid, len(served)))
                        add_of[name] = files.enter_context(rows)
                    add_of[name](values)
                yield oof


@contextmanager
def open_fold(data: FoldData, spec: ModelSpec, cells: CellStore, n_jobs: int) -> Iterator[OpenFold]:
    """Lay a fold out; what was laid out is deleted at the end.

    Args:
        data: what may be seen of the fold.
        spec: what will be fitted.
        cells: where finished cells go.
        n_jobs: how many cells share what laying out costs.

    Raises:
        ClimstackError: there is nothing to learn from it.
    """
    check_learnable(data)
    with temporary_folder(cells.path, "fold") as scratch:
        start = time.process_time()
        give_back_memory()  # of the fold before
        family = load_family(spec.family)
        table = TableShape.of(data.store)
        prepared = family.prepare(data, family.settle(spec.parsed, table), scratch)
        shared_seconds = (time.process_time() - start) / n_jobs
        _write_valid(data, scratch)
        give_back_memory()
        yield OpenFold(
            spec=spec,
            cells=cells,
            scratch=scratch,
            table=table,
            prepared=prepared,
            view=data.view,
            scaler=data.scaler,
            upstream_scaler=data.upstream_scaler,
            shared_seconds=shared_seconds,
            main_process=os.getpid(),
        )


def _write_valid(data: FoldData, scratch: Path) -> None:
    """Lay out what workers need of the held-out rows."""
    valid = data.plan.valid_rows(data.fold)
    parts = [valid[start : start + VALID_ROWS] for start in range(0, len(valid), VALID_ROWS)]
    shape = (len(valid), len(data.feature_names))
    with npy_rows(scratch / "valid_features.npy", "<f4", shape) as add:
        for block, _ in data.blocks(valid):
            add(block)
    shape = (len(valid), len(data.targets))
    first = np.full(len(data.targets), np.nan)  # a constant is exactly 0 away from it
    total, count, deviation = np.zeros((3, len(data.targets)))
    with npy_rows(scratch / "valid_truth.npy", "<f8", shape) as add:
        for part in parts:
            truth = data.store.require_targets()[part][:, data.targets]
            at = (~np.isnan(truth)).argmax(0)[None]
            first = np.where(np.isnan(first), np.take_along_axis(truth, at, axis=0)[0], first)
            sums, there = _sums(truth - first)
            total, count = total + sums, count + there
            add(truth)
    for truth in Matrix.of_npy(scratch / "valid_truth.npy").blocks():
        deviation += _sums(truth - first - total / np.maximum(count, 1), squared=True)[0]
    np.save(scratch / "valid_deviation.npy", np.where(count > 0, deviation, np.nan))


def _sums(values: Array, squared: bool = False) -> tuple[Array, Array]:
    """Sum of each column, or of its squares, over what is there; and how many values that are."""
    there = np.full(values.shape[1], len(values))
    if np.isnan(values.sum(0)).any():
        there = (~np.isnan(values)).sum(0)
        values = np.where(np.isnan(values), 0.0, values)
    with np.errstate(over="ignore"):  # whoever asks looks whether they are finite
        return (values**2 if squared else values).sum(0), there
