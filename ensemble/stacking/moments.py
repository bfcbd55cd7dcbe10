"""Sufficient statistics of the members' out-of-fold predictions: one pass, then no rows any more.

For each part of the rows (a fold's share of a block of time) and each target: the number of rows,
the means and the centred second moments of (members, truth), in float64. Every linear blend is
solved and scored from them, for any subset of folds, blocks and members.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from features.core.errors import ClimstackError
from features.core.files import atomic_path
from features.core.types import Array, Mask

Block = tuple[int, int, Sequence[Array], Array]  # fold, block of time, predictions, truth
NAMES = ("fold", "block", "count", "mean", "comoment", "low", "high")


@dataclass(frozen=True)
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
    def of_blocks(cls, blocks: Iterable[Block]) -> Moments:
        """One pass over rows.

        Args:
            blocks: of rows: fold, block of time, each member's predictions and the truth, all
                (n_samples, n_targets). Blocks may be of any size and come in any order.

        Raises:
            ClimstackError: there are no rows.
        """
        sums = _accumulate(blocks, 0)
        if not sums:
            raise ClimstackError("there are no rows to take moments of")
        keys = sorted(sums)
        fold, block = np.array(keys, dtype=np.intp).T
        stacked = (
            np.stack([getattr(sums[key], name) for key in keys])
            for name in ("count", "mean", "comoment", "low", "high")
        )
        return cls(fold, block, *stacked)

    @classmethod
    def of_block(cls, predictions: Sequence[Array], truth: Array, fold: int = 0) -> Moments:
        """Moments of one block of rows: each array is (n_samples, n_targets)."""
        return cls.of_blocks([(fold, 0, predictions, truth)])

    @classmethod
    def concatenate(cls, parts: Sequence[Moments]) -> Moments:
        """Put parts one after the other."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in NAMES))

    def grown(self, blocks: Iterable[Block]) -> Moments:
        """With further members: only their rows and columns are computed.

        Args:
            blocks: the same rows as before with all members, the new ones last.

        Raises:
            ClimstackError: the rows are not those of these moments.
        """
        n_old = self.n_members
        sums = _accumulate(blocks, n_old)
        keys = list(zip(self.fold.tolist(), self.block.tolist(), strict=True))
        if {key: sums[key].count for key in sums} != dict(
            zip(keys, self.count.tolist(), strict=True)
        ):
            raise ClimstackError("a member to add was predicted on other rows than the ones before")
        fresh = np.stack([sums[key].comoment for key in keys])  # (n_parts, n_targets, n_new, n_all)
        n_all = fresh.shape[-1]
        new = np.arange(n_old, n_all - 1)
        old = np.append(np.arange(n_old), n_all - 1)
        comoment = np.empty((*fresh.shape[:2], n_all, n_all))
        comoment[..., old[:, None], old] = self.comoment
        comoment[..., new, :] = fresh
        comoment[..., :, new] = np.swapaxes(fresh, -1, -2)
        mean = np.stack([sums[key].mean for key in keys])
        mean[..., old] = self.mean
        return Moments(self.fold, self.block, self.count, mean, comoment, self.low, self.high)

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
        return Moments(*(getattr(self, name)[parts] for name in NAMES))

    def folds(self, chosen: Sequence[int]) -> Moments:
        """Only the parts of these folds."""
        return self.take(np.isin(self.fold, chosen))

    def without(self, fold: int) -> Moments:
        """Only the parts of the other folds."""
        return self.take(self.fold != fold)

    def members(self, chosen: Sequence[int]) -> Moments:
        """Only these members, in this order, and the truth."""
        at = np.append(np.asarray(chosen, dtype=np.intp), self.n_members)
        return Moments(
            self.fold,
            self.block,
            self.count,
            self.mean[:, :, at],
            self.comoment[:, :, at[:, None], at],
            self.low,
            self.high,
        )

    def merged(self) -> Moments:
        """All parts as one, by the update of Chan, Golub and LeVeque (1979)."""
        total = self.count.sum()
        mean = np.tensordot(self.count, self.mean, axes=1) / total
        shift = self.mean - mean
        between = np.einsum("f,fti,ftj->tij", self.count, shift, shift)
        return Moments(
            self.fold[:1],
            self.block[:1],
            np.array([total]),
            mean[None],
            (self.comoment.sum(0) + between)[None],
            self.low.min(0)[None],
            self.high.max(0)[None],
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
                return cls(*(held[name] for name in NAMES)), held["hashes"].tolist()
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


@dataclass
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


def _accumulate(blocks: Iterable[Block], n_old: int) -> dict[tuple[int, int], _Sums]:
    """Sums of each part; of the second moments only the members from ``n_old`` on, when not 0."""
    found: dict[tuple[int, int], _Sums] = {}
    # One BLAS thread: the rounding, and so the weights, must not depend on the cores.
    with threadpool_limits(1, user_api="blas"):
        for fold, block, predictions, truth in blocks:
            left = slice(n_old, len(predictions) if n_old else None)
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
            here = _Sums(float(n_samples), shift + mean, products, columns.min(-1), columns.max(-1))
            if (fold, block) in found:
                found[fold, block].merge(here, left)
            else:
                found[fold, block] = here
    return found
