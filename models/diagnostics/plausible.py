"""Whether predictions that were made elsewhere are out-of-fold: in-sample ones fit too well.

A model that has seen the rows it predicts shows it in two ways. One that remembers its rows meets
them nearly exactly. One that is held back by its settings, as boosted trees or forests with large
leaves, fits best where nobody else can, on the targets that are hard to predict, and yet keeps
short of the truth: a line through truth against prediction is steeper than 1 on target after
target. What such a model says of rows that it has not seen goes too far on hard targets, if
anything, so there the line is flatter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.core.types import Array
from models.member import Member

EXACT, FAR = 0.98, 0.9  # R2 of what is remembered; others reach less than this
STEEP, MOST = 1.05, 0.8  # slope of the truth on in-sample predictions, on so many hard targets
GAIN = 0.1  # in R2 over the best member that was fitted here


def implausible(members: Sequence[Member]) -> list[str]:
    """Sentences on external members that fit implausibly well, beside the members fitted here.

    What is compared are raw R2 per target, means over folds, with negatives as 0.

    Args:
        members: of a run; without any that was fitted here there is nothing to compare with.

    Returns:
        A sentence for each external member in doubt.

    Example:
        >>> implausible([])
        []
    """
    own = [member for member in members if member.spec.external is None]
    found = []
    for member in members:
        if member.spec.external is None:
            continue
        best, name = _best_of(own, member)
        known = np.isfinite(best) & np.isfinite(_r2(member))
        if not known.any():
            continue
        theirs, best, name = _r2(member)[known], best[known], name[known]
        slope = np.array(member.cells[0][0].score["slope"])[known]
        hard = best <= np.median(best)
        gain = theirs - best
        exact = (theirs > EXACT) & (best < FAR)
        steep = (slope[hard] > STEEP).mean() >= MOST and gain[hard].mean() > GAIN
        if exact.mean() > 0.5 or steep:
            names = sorted(set(name[hard]), key=lambda each: -np.count_nonzero(name == each))
            why = (
                f"on {exact.sum()} of {len(theirs)} targets its R2 is above {EXACT}"
                if exact.mean() > 0.5
                else "the truth goes further than its predictions on"
                f" {np.count_nonzero(slope[hard] > STEEP)} of these"
            )
            found.append(
                f"member '{member.spec.name}' fits implausibly well: its R2 is {theirs.mean():.3f}"
                f" where the best members fitted here ({', '.join(names)}) have {best.mean():.3f},"
                f" and on the {hard.sum()} targets that are hardest for them"
                f" {theirs[hard].mean():.3f}"
                f" and not {best[hard].mean():.3f} ({gain[hard].mean():+.3f}); {why}: did it see"
                f" the rows that {member.spec.external.oof} predicts?"
            )
    return found


def _r2(member: Member) -> Array:
    """R2 of each of a member's targets, mean over folds, negatives as 0."""
    folds = [
        member.in_order([np.array(cell.score["r2"], np.float64)[None] for cell in cells])[0]
        for cells in member.cells
    ]
    r2 = np.clip(folds, 0, None)  # NaN where no held-out row of a fold has the target
    known = ~np.isnan(r2)
    total = np.where(known, r2, 0.0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


def _best_of(own: Sequence[Member], theirs: Member) -> tuple[Array, np.ndarray]:
    """The best R2 of members on another's targets, -inf where none serves one; and whose."""
    best = np.full(len(theirs.targets), -np.inf)
    name = np.full(len(best), "", dtype=object)
    for member in own:
        _, at, of = np.intersect1d(theirs.targets, member.targets, return_indices=True)
        r2 = np.nan_to_num(_r2(member)[of], nan=-np.inf)
        name[at[r2 > best[at]]] = member.spec.name
        best[at] = np.maximum(best[at], r2)
    return best, name
