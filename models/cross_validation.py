"""The fold loop: the only place where base learners meet folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray

from features.core.settings import check
from features.core.types import Progress
from features.folds.folded import FoldedStore
from models.base import FoldData
from models.external_cells import take_in
from models.fold import Job, open_fold
from models.member import Member, cell_keys, parts_of, read_upstream, target_sets
from models.oof import Cell, CellStore
from models.process import naming_a_dead_process
from models.spec import ModelSpec, load_family

CHUNKS_PER_WORKER = 8  # enough to even out the end of a fold, few enough to load data rarely


def cross_validate(
    data: FoldedStore,
    spec: ModelSpec,
    cells: CellStore,
    *,
    targets: NDArray[np.intp] | None = None,
    folds: Sequence[int] | None = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Member:
    """Fit a base learner on every fold, computing only the cells that are missing.

    What was fitted elsewhere is read from its file: see :mod:`models.external_cells`.

    Args:
        data: training rows and their shared folds.
        spec: the base learner.
        cells: where finished cells live.
        targets: indices of the targets to model, of which it is fitted for those that it serves;
            None takes the schema's modelled targets.
        folds: which folds; None takes all. A member with missing folds can't be stacked.
        n_jobs: worker processes of a per-target family; None takes one per core.
        progress: called with (what, done, total) after each cell.

    Returns:
        The member with its cells.

    Raises:
        ClimstackError: a model that this one builds on is not fitted yet, the family can't heed the
            plan's weights, or it fails on the data.

    Example:
        >>> from models import ModelSpec
        >>> member = cross_validate(data, ModelSpec(name="ridge", family="ridge"), cells)
        >>> member.oof(0).shape, member.computed  # the run has its cells
        ((52, 3), 0)
    """
    store, plan = data.store, data.plan
    if spec.external is not None:
        return take_in(data, spec, cells, targets)
    family = load_family(spec.family)
    if plan.weight is not None and (plan.weight != 1).any():
        check(
            family.weighted,
            f"model '{spec.name}' is of family {spec.family}, which can't weigh rows: give every"
            " auxiliary source weight = 1, or leave the model out",
        )
    targets = store.schema.modelled_targets if targets is None else np.asarray(targets)
    progress = progress or (lambda *_: None)
    sets = target_sets(store, spec, targets)
    served = spec.served(store.schema, targets)
    upstream = read_upstream(data, spec, cells, targets)
    computed = 0
    found: list[list[Cell]] = []
    chosen = range(plan.n_folds) if folds is None else folds
    for position, fold in enumerate(chosen):
        keys = cell_keys(data, spec, targets, fold)
        have = {key.hash: cells.find(key) for key in keys}
        n_done, n_all = sum(c is not None for c in have.values()), len(keys) * len(chosen)
        offset = position * len(keys)
        progress(spec.name, offset + n_done, n_all)
        missing = [i for i, key in enumerate(keys) if have[key.hash] is None]
        if missing:
            jobs = [(sets[i], keys[i]) for i in missing]
            seen = FoldData(
                data=data, fold=fold, targets=served, kind=family.view, upstream=upstream
            )
            for part in parts_of(store, spec, targets):
                own = [job for job in jobs if job[0] in part.sets]
                for cell in _fit_fold(seen, part.spec, own, cells, n_jobs or cpu_count()):
                    have[cell.path.name] = cell
                    n_done += 1
                    computed += 1
                    progress(spec.name, offset + n_done, n_all)
        found.append([done for key in keys if (done := have[key.hash]) is not None])
    return Member(spec=spec, targets=served, sets=sets, cells=found, computed=computed)


def _fit_fold(
    data: FoldData, spec: ModelSpec, jobs: list[Job], cells: CellStore, n_jobs: int
) -> Iterator[Cell]:
    """Fit the cells of one fold and yield each when it is done."""
    if not jobs:
        return
    with open_fold(data, spec, cells, len(jobs)) as fold:
        if not spec.in_processes or n_jobs == 1:
            yield from fold.fit(jobs)
            return
        chunks = _chunks(jobs, data.target_levels, n_jobs * CHUNKS_PER_WORKER)
        workers = Parallel(
            min(n_jobs, len(chunks)), backend="loky", return_as="generator_unordered"
        )
        with naming_a_dead_process(f"model '{spec.name}' on fold {data.fold}"):
            for finished in workers(delayed(fold.fit_all)(chunk) for chunk in chunks):
                yield from finished
        # Idle workers would keep their memory while the next fold is prepared.
        get_reusable_executor().shutdown(wait=True)


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
