"""Sufficient statistics of the members' out-of-fold predictions: one pass, then no rows any more.

For each part of the rows (a fold's share of a block of time) and each target: the number of rows,
the means and the centred second moments of (members, truth), in float64. Every linear blend is
solved and scored from them, for any subset of folds, blocks and members.
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
NAMES = ("fold", "block", "count", "mean", "comoment", "low", "high")


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Moments of ``n_members`` predictions and the truth (the last place), per part and target.

    Attributes:
        fold: (n_parts,), the fold that held the part's rows out.
        block: (n_parts,), the block of time they lie in.
        count: (n_parts,), rows.
        mean: (n_parts, n_targets, n_members + 1).
        comoment: (n_parts, n_targets, n_members + 1, n_members + 1), sums of products of
            deviations from the part's mean.
        low: (n_parts, n_targets), smallest truth.
        high: (n_parts, n_targets), largest truth.
    """

    fold: NDArray[np.intp]
    block: NDArray[np.intp]
    count: Array
    mean: Array
    comoment: Array
    low: Array
    high: Array

    @classmethod
    def of_blocks(cls, blocks: Iterable[Block], known: Moments | None = None) -> Moments:
        """One pass over rows.

        Args:
            blocks: of rows: fold, block of time, each member's predictions and the truth, all
                (n_samples, n_targets). Blocks may be of any size and come in any order.
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
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in NAMES})

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
        return Moments(**{name: getattr(self, name)[parts] for name in NAMES})

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
            self, mean=self.mean[:, :, at], comoment=self.comoment[:, :, at[:, None], at]
        )

    def merged(self) -> Moments:
        """All parts as one, by the update of Chan, Golub and LeVeque (1979)."""
        total = self.count.sum()
        mean = mean_of_parts(self.mean, self.count)
        shift = self.mean - mean
        between = np.einsum("f,fti,ftj->tij", self.count, shift, shift)
        return Moments(
            fold=self.fold[:1],
            block=self.block[:1],
            count=np.array([total]),
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
        error: Array = np.maximum(spread, 0) + self.count[:, None] * offset**2
        return error

    def constant_error(self, value: Array) -> Array:
        """Sum of squared errors of a constant (broadcast to (n_parts, n_targets))."""
        error: Array = (
            self.comoment[..., -1, -1] + self.count[:, None] * (self.mean[..., -1] - value) ** 2
        )
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

    def add_rows(self, fold: int, block: int, predictions: Sequence[Array], truth: Array) -> None:
        """Add rows of a part: each member's predictions and the truth, (n_samples, n_targets)."""
        left = slice(self._n_known, len(predictions) if self._n_known else None)
        n_samples, n_targets = truth.shape
        values = np.empty((n_targets, len(predictions) + 1, n_samples))
        shift = np.empty((n_targets, len(predictions) + 1))
        for place, each in enumerate((*predictions, truth)):
            # Less the first row, while it is copied: near enough to the mean for a stable sum
            # of squares, and a constant becomes zeros to the bit.
            shift[:, place] = each[0]
            np.subtract(each.T, each[0][:, None], out=values[:, place])
        mean = values.mean(-1)
        products = values[:, left] @ np.swapaxes(values, 1, 2)
        products -= n_samples * mean[:, left, None] * mean[:, None, :]
        columns = np.ascontiguousarray(truth.T)  # along which the extremes are found faster
        here = _Sums(
            count=float(n_samples),
            mean=shift + mean,
            comoment=products,
            low=columns.min(-1),
            high=columns.max(-1),
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
        if not self._sums:
            raise ClimstackError("there are no rows to take moments of")
        keys = sorted(self._sums)
        fold, block = np.array(keys, dtype=np.intp).T
        sums = {
            name: np.stack([getattr(self._sums[key], name) for key in keys]) for name in NAMES[2:]
        }
        found = Moments(fold=fold, block=block, **sums)
        return found if self._known is None else _grown(self._known, found)


@dataclass(kw_only=True)
class _Sums:
    count: float
    mean: Array  # (n_targets, n_members + 1)
    comoment: Array  # (n_targets, n_left, n_members + 1)
    low: Array
    high: Array

    def merge(self, other: _Sums, left: slice) -> None:
        total = self.count + other.count
        shift = other.mean - self.mean
        between = shift[:, left, None] * shift[:, None, :] * (self.count * other.count / total)
        self.comoment += other.comoment + between
        self.mean += shift * (other.count / total)
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
    return replace(known, mean=mean, comoment=comoment)
