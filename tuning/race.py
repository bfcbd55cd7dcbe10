"""A race of a study's best trials over all targets: each keeps the one that serves it best.

A study tells which parameters are good for its representatives. Some targets want others, above all
those that a model hardly learns, or blows up on; a paired test on two representatives does not see
them. So the finalists are fitted for every target, on one fold after the other, as long as it
matters which of them a target gets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from features.core.types import Array, Progress
from features.folds.folded import FoldedStore
from models.cross_validation import cross_validate
from models.oof import CellStore
from models.spec import ModelSpec

STAKE = 0.02  # R2 between a target's best and worst finalist that another fold is worth


def finalists(values: Array, n_wanted: int) -> list[int]:
    """Trials that together serve all steps best, the best one first.

    Args:
        values: of each complete trial and step, (n_trials, n_steps).
        n_wanted: how many at most.
    """
    found = [int(values.mean(1).argmax())]
    while len(found) < min(n_wanted, len(values)):
        together = np.maximum(values[found].max(0), values).mean(1)
        together[found] = -np.inf
        found.append(int(together.argmax()))
    return found


def race(
    data: FoldedStore,
    specs: Sequence[ModelSpec],
    targets: NDArray[np.intp],
    folds: Sequence[int],
    cells: CellStore,
    *,
    n_jobs: int,
    progress: Progress,
) -> tuple[NDArray[np.intp], int]:
    """Fit every finalist for every target that still has something at stake, fold by fold.

    Args:
        data: training rows and their folds.
        specs: the finalists, the best for all targets first.
        targets: indices of the targets in the store's target matrix.
        folds: which folds, in order.
        cells: finished cells are read, new ones written here.
        n_jobs: worker processes.
        progress: called with (what, done, total).

    Returns:
        The finalist that each target does best with, (n_targets,), and how many cells were fitted.
    """
    total, seen = np.zeros((len(specs), len(targets))), np.zeros(len(targets))
    at_stake, fitted = np.arange(len(targets)), 0
    for number, fold in enumerate(folds):
        for position, spec in enumerate(specs):
            progress(f"race {spec.name}", number * len(specs) + position, len(folds) * len(specs))
            member = cross_validate(
                data, spec, cells, targets=targets[at_stake], folds=[fold], n_jobs=n_jobs
            )
            fitted += member.computed
            for served, cell in zip(member.sets, member.cells[0], strict=True):
                total[position, at_stake[served]] += np.nan_to_num(
                    np.clip(np.array(cell.score["r2"], dtype=np.float64), 0, None)
                )
        seen[at_stake] += 1
        mean = total / seen
        at_stake = at_stake[np.ptp(mean[:, at_stake], axis=0) > STAKE]
        if not len(at_stake):
            break
    progress(f"race {specs[0].name}", len(folds) * len(specs), len(folds) * len(specs))
    return (total / seen).argmax(0), fitted
