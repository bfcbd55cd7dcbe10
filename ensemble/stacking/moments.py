"""Sufficient statistics of the members' out-of-fold predictions: one pass, then no rows any more.

For each part of the rows (a fold's share of a block of time) and each target: the number of rows,
the means and the centred second moments of (members, truth), in float64. Every linear blend is
solved and scored from them, for any subset of folds, blocks and members.

A truth that is NaN is missing: its row is not among the target's. A member that is NaN for a target
does not serve it: its moments there are 0, and the pair is not in ``served``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from features.core.errors import ClimstackError
from features.core.files import atomic_path
from features.core.metrics import mean_of_parts
from features.core.types import Array, Mask

Block = tuple[int, int, Sequence[Array], Array]  # fold, block of time, predictions, truth
PARTS = ("fold", "block", "count", "mean", "comoment", "low", "high")  # one entry per part
NAMES = (*PARTS, "served")


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Moments of ``n_members`` predictions and the truth (the last place), per part and target.

    Attributes:
        fold: (n_parts,), the fold that held the part's rows out.
        block: (n_parts,), the block of time they lie in.
        count: (n_parts, n_targets), rows that have the truth.
        mean: (n_parts, n_targets, n_members + 1).
        comoment: (n_parts, n_targets, n_members + 1, n_members + 1), sums of products of
            deviations from the part's mean.
        low: (n_parts, n_targets), smallest truth; infinite where there is none.
        high: (n_parts, n_targets), largest truth; minus infinity where there is none.
        served: (n_targets, n_members), whether the member predicts the target.
    """

    fold: NDArray[np.intp]
    block: NDArray[np.intp]
    count: Array
    mean: Array
    comoment: Array
    low: Array
    high: Array
    served: Mask

    @classmethod
    def of_blocks(cls, blocks: Iterable[Block], known: Moments | None = None) -> Moments:
        """One pass over rows.

        Args:
            blocks: of rows: fold, block of time, each member's predictions and the truth, all
                (n_samples, n_targets), NaN where a truth is missing or a member does not serve a
                target. Blocks may be of any size and come in any order.
            known: see :class:`MomentSums`.

        Raises:
            ClimstackError: there are no rows, or other rows than those of the known moments.
        """
        sums = MomentSums(known)
        # One BLAS thread: the rounding, and so the weights, must not depend on the cores.
        with threadpool_limits(1, user_api="blas"):
            for block in blocks:
                sums.add_rows(*block)
        return sums.moments()

    @classmethod
    def concatenate(cls, parts: Sequence[Moments]) -> Moments:
        """Put parts one after the other."""
        return replace(
            parts[0],
            **{name: np.concatenate([getattr(p, name) for p in parts]) for name in PARTS},
        )

    @property
    def n_members(self) -> int:
        """Number of members."""
        return int(self.mean.shape[-1]) - 1

    @property
    def fold_names(self) -> list[int]:
        """The folds, ascending."""
        return [int(fold) for fold in np.unique(self.fold)]

    def take(self, parts: NDArray[np.intp] | Mask) -> Moments:
        """Only these parts; one named twice counts twice, as a bootstrap wants it."""
        return replace(self, **{name: getattr(self, name)[parts] for name in PARTS})

    def folds(self, chosen: Sequence[int]) -> Moments:
        """Only the parts of these folds."""
        return self.take(np.isin(self.fold, chosen))

    def without(self, fold: int) -> Moments:
        """Only the parts of the other folds."""
        return self.take(self.fold != fold)

    def members(self, chosen: Sequence[int]) -> Moments:
        """Only these members, in this order, and the truth."""
        at = np.append(np.asarray(chosen, dtype=np.intp), self.n_members)
        return replace(
            self,
            mean=self.mean[:, :, at],
            comoment=self.comoment[:, :, at[:, None], at],
            served=self.served[:, at[:-1]],
        )

    def targets(self, chosen: NDArray[np.intp]) -> Moments:
        """Only these targets, in this order."""
        own = {name: getattr(self, name)[:, chosen] for name in PARTS[2:]}
        return replace(self, **own, served=self.served[chosen])

    def merged(self) -> Moments:
        """All parts as one, by the update of Chan, Golub and LeVeque (1979)."""
        mean = mean_of_parts(self.mean, self.count)
        shift = self.mean - mean
        if (self.count == self.count[:, :1]).all():
            between = np.einsum("f,fti,ftj->tij", self.count[:, 0], shift, shift)
        else:
            between = np.einsum("ft,fti,ftj->tij", self.count, shift, shift)
        return replace(
            self,
            fold=self.fold[:1],
            block=self.block[:1],
            count=self.count.sum(0)[None],
            mean=mean[None],
            comoment=(self.comoment.sum(0) + between)[None],
            low=self.low.min(0)[None],
            high=self.high.max(0)[None],
        )

    def by_fold(self) -> Moments:
        """One part per fold."""
        return Moments.concatenate([self.folds([fold]).merged() for fold in self.fold_names])

    def squared_error(self, weights: Array, intercept: Array) -> Array:
        """Sum of squared errors of a linear blend on each part and target, (n_parts, n_targets).

        Args:
            weights: (n_members, n_targets).
            intercept: (n_targets,).
        """
        n_targets = weights.shape[1]
        signed = np.concatenate([weights.T, -np.ones((n_targets, 1))], axis=1)
        spread = ((self.comoment @ signed[:, :, None])[..., 0] * signed).sum(-1)
        offset = np.einsum("fti,ti->ft", self.mean, signed) + intercept
        error: Array = np.maximum(spread, 0) + self.count * offset**2
        return error

    def constant_error(self, value: Array) -> Array:
        """Sum of squared errors of a constant (broadcast to (n_parts, n_targets))."""
        error: Array = self.comoment[..., -1, -1] + self.count * (self.mean[..., -1] - value) ** 2
        return error

    def save(self, path: Path, member_hashes: Sequence[str]) -> None:
        """Write an ``.npz`` file with the hashes of the members, atomically."""
        arrays = {name: getattr(self, name) for name in NAMES}
        with atomic_path(path) as made, made.open("wb") as file:
            np.savez(file, allow_pickle=False, hashes=np.array(member_hashes), **arrays)

    @classmethod
    def load(cls, path: Path) -> tuple[Moments, list[str]] | None:
        """Moments and the hashes of their members; None where there is no such file."""
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                return cls(**{name: held[name] for name in NAMES}), held["hashes"].tolist()
        except (ValueError, KeyError, OSError, EOFError, BadZipFile):
            return None  # damaged: the pass is made again


def error_moments(gram: Array, cross: Array, truth: Array) -> Array:
    """Second moments of the members' errors, (n, n_members, n_members).

    Args:
        gram: (n, n_members, n_members), moments among members.
        cross: (n, n_members), of each member with the truth.
        truth: (n,), of the truth.
    """
    return gram - cross[:, :, None] - cross[:, None, :] + truth[:, None, None]


class MomentSums:
    """Moments while rows come in.

    Args:
        known: moments of the first members on the same rows: only rows and columns of the members
            after them are computed.
    """

    def __init__(self, known: Moments | None = None) -> None:
        self._known = known
        self._n_known = 0 if known is None else known.n_members
        self._sums: dict[tuple[int, int], _Sums] = {}
        self._served: Mask | None = None

    def add_rows(self, fold: int, block: int, predictions: Sequence[Array], truth: Array) -> None:
        """Add rows of a part: each member's predictions and the truth, (n_samples, n_targets).

        Raises:
            ClimstackError: a member serves a target on some rows only.
        """
        served = np.stack([~np.isnan(each[0]) for each in predictions], axis=1)
        if self._served is None:
            self._served = served
        missing = np.isnan(truth)
        some = missing.any(0)
        left = slice(self._n_known, len(predictions) if self._n_known else None)
        n_samples, n_targets = truth.shape
        values = np.empty((n_targets, len(predictions) + 1, n_samples))
        shift = np.empty((n_targets, len(predictions) + 1))
        for place, each in enumerate((*predictions, truth)):
            # Less the first row, while it is copied: near enough to the mean for a stable sum
            # of squares, and a constant becomes zeros to the bit.
            shift[:, place] = each[0]
            np.subtract(each.T, each[0][:, None], out=values[:, place])
        count = np.full(n_targets, float(n_samples))
        columns = np.ascontiguousarray(truth.T)  # along which the extremes are found faster
        low, high = columns.min(-1), columns.max(-1)
        absent = np.nonzero(~served)
        values[absent] = shift[absent] = 0.0
        if some.any():
            first = missing.argmin(0)  # a row that has the truth, if there is one
            for target in np.flatnonzero(some).tolist():
                own, gone = values[target], missing[:, target]
                own[-1] = truth[:, target] - truth[first[target], target]
                own[:-1] -= own[:-1, first[target]][:, None]
                row = np.array([*(each[first[target], target] for each in predictions), 0.0])
                row[-1] = truth[first[target], target]
                shift[target] = np.where(np.append(served[target], True), row, 0.0)
                own[:, gone] = 0.0  # it adds nothing to the sums
                if gone.all():
                    shift[target] = 0.0
            count = (~missing).sum(0).astype(np.float64)
            low, high = np.fmin.reduce(truth), np.fmax.reduce(truth)
            low, high = np.where(count > 0, low, np.inf), np.where(count > 0, high, -np.inf)
            mean = values.sum(-1) / np.maximum(count, 1)[:, None]
        else:
            mean = values.mean(-1)
        products = values[:, left] @ np.swapaxes(values, 1, 2)
        products -= count[:, None, None] * mean[:, left, None] * mean[:, None, :]
        here = _Sums(count=count, mean=shift + mean, comoment=products, low=low, high=high)
        if (served != self._served).any() or np.isnan(here.mean).any():
            target = int(((served != self._served) | np.isnan(here.mean[:, :-1])).any(1).argmax())
            raise ClimstackError(
                f"a member has no number in some rows of modelled target {target} (fold {fold}): it"
                " must predict all rows of a target, or none"
            )
        if (fold, block) in self._sums:
            self._sums[fold, block].merge(here, left)
        else:
            self._sums[fold, block] = here

    def moments(self) -> Moments:
        """What came in, part by part.

        Raises:
            ClimstackError: no rows came, or other rows than those of the known moments.
        """
        if not self._sums or self._served is None:
            raise ClimstackError("there are no rows to take moments of")
        keys = sorted(self._sums)
        fold, block = np.array(keys, dtype=np.intp).T
        sums = {
            name: np.stack([getattr(self._sums[key], name) for key in keys]) for name in PARTS[2:]
        }
        found = Moments(fold=fold, block=block, served=self._served, **sums)
        return found if self._known is None else _grown(self._known, found)


@dataclass(kw_only=True)
class _Sums:
    count: Array  # (n_targets,)
    mean: Array  # (n_targets, n_members + 1)
    comoment: Array  # (n_targets, n_left, n_members + 1)
    low: Array
    high: Array

    def merge(self, other: _Sums, left: slice) -> None:
        total = self.count + other.count
        share = np.maximum(total, 1)  # where no row came, all is 0
        shift = other.mean - self.mean
        both = (self.count * other.count / share)[:, None, None]
        self.comoment += other.comoment + shift[:, left, None] * shift[:, None, :] * both
        self.mean += shift * (other.count / share)[:, None]
        self.count = total
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)


def _grown(known: Moments, found: Moments) -> Moments:
    """Known moments with the rows and columns of further members: (..., n_new, n_all)."""
    if not all(np.array_equal(getattr(known, name), getattr(found, name)) for name in NAMES[:3]):
        raise ClimstackError("a member to add was predicted on other rows than the ones before")
    n_old, n_all = known.n_members, found.comoment.shape[-1]
    new, old = np.arange(n_old, n_all - 1), np.append(np.arange(n_old), n_all - 1)
    comoment = np.empty((*found.comoment.shape[:2], n_all, n_all))
    comoment[..., old[:, None], old] = known.comoment
    comoment[..., new, :] = found.comoment
    comoment[..., :, new] = np.swapaxes(found.comoment, -1, -2)
    mean = found.mean.copy()
    mean[..., old] = known.mean
    return replace(known, mean=mean, comoment=comoment, served=found.served)
