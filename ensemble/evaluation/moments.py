"""Moments of the members' out-of-fold predictions: the pass that every blend is solved from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ensemble.evaluation.held_out import Block, HeldOut, check_members
from ensemble.stacking.moments import Moments, MomentSums
from features.core.types import Progress, Rows


def collect_moments(
    held_out: HeldOut, cache: Path | None = None, progress: Progress | None = None
) -> Moments:
    """One pass over the out-of-fold predictions: their moments by fold and block of units.

    Args:
        held_out: rows and members.
        cache: file of moments. Members found in it are not read again if no other is new, and of a
            new member only its own rows and columns are computed.
        progress: called with (what, rows done, rows in all).

    Raises:
        ClimstackError: the members don't belong together.

    Example:
        >>> collect_moments(held_out).fold_names
        [0, 1, 2]
    """
    members = held_out.members
    check_members(held_out.data, members, held_out.targets if members else None)
    hashes = [member.hash for member in members]
    found = None if cache is None else Moments.load(cache)
    known, order = None, hashes
    if found is not None:
        moments, have = found
        order = [own for own in have if own in hashes]
        known = moments.members([have.index(own) for own in order]) if order else None
        order += [own for own in hashes if own not in order]
    if known is None or len(order) > known.n_members:
        sums = MomentsOfBlocks(held_out.targets, known)
        in_order = replace(
            held_out,
            members=[members[hashes.index(own)] for own in order],
            modelled=held_out.targets,
        )
        in_order.walk(sums, what="moments", progress=progress)
        known = sums.moments()
    if cache is not None and (found is None or found[1] != order):
        known.save(cache, order)
    return known.members([order.index(own) for own in hashes])


class MomentsOfBlocks(MomentSums):
    """Takes the blocks of a walk into moments.

    Args:
        targets: indices of the modelled targets, (n_modelled,).
        known: see :class:`ensemble.stacking.moments.MomentSums`.
    """

    def __init__(self, targets: Rows, known: Moments | None = None) -> None:
        super().__init__(known)
        self._targets = targets

    def add(self, block: Block) -> None:
        """Add the rows of a block to their parts."""
        truth, predictions = block.truth[:, self._targets], block.predictions.values()
        for part, at in block.parts():
            self.add_rows(block.fold, part, [values[at] for values in predictions], truth[at])
