"""Who validates whom: the one place where rows are split.

Neighbouring timesteps are nearly equal, so a random split flatters every score. The default is
contiguous blocks of time with an embargo: rows near a validation block leave that fold's training
set. A plan is computed once, stored with its content hash, and everything downstream refuses
another hash.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.files import atomic_path
from features.core.types import Array, Mask, Rows

WITHOUT_ORDER = ("groups", "kfold", "stratified", "column", "file")  # units are no neighbours
OPTIONAL = ("last", "weight", "auxiliary", "original")


@dataclass(frozen=True, kw_only=True)
class FoldPlan:
    """An assignment of rows to folds.

    Attributes:
        scheme: name of the scheme that made it.
        embargo: units (timesteps, columns) kept free around a validation block; around a region
            mean spacings of the grid.
        fold: (n_samples,) int16, the fold that validates the row, -1 for none.
        excluded: (n_folds, n_samples) bool, rows that neither train nor validate in a fold.
        unit: (n_samples,) int64, what the blocks are cut from: timestep, column or group number;
            of regions the column's place in an order that goes from neighbour to neighbour; of
            independent rows a number of each, at random.
        last: (n_samples,) int64, of a row whose place is known to be from ``unit`` to ``last``
            only, as an auxiliary source's may be; None where every unit is exact.
        weight: (n_samples,) float64, of each row in training; None where all weigh 1.
        auxiliary: (n_samples,) bool, rows of auxiliary sources, which train and are never held
            out; None where there are none. See :mod:`features.folds.enrichment`.
        original: (n_samples,) int64, the first row that is equal to each in all inputs; None where
            every row is alone. No copy of a held-out row trains.
        hash: SHA-256 of all of it.

    Example:
        >>> from features import time_blocks
        >>> plan = time_blocks(np.arange(9), n_folds=3, embargo=1)
        >>> plan.valid_rows(1).tolist(), plan.train_rows(1).tolist()
        ([3, 4, 5], [0, 1, 7, 8])
    """

    scheme: str
    embargo: int
    fold: NDArray[np.int16]
    excluded: Mask
    unit: NDArray[np.int64]
    last: NDArray[np.int64] | None = None
    weight: Array | None = None
    auxiliary: Mask | None = None
    original: Rows | None = None
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(f"{self.scheme} {self.n_folds} {self.embargo}".encode())
        for name in ("fold", "excluded", "unit", *OPTIONAL):
            if (array := getattr(self, name)) is not None:
                digest.update(np.ascontiguousarray(array).data)
        object.__setattr__(self, "hash", digest.hexdigest())
        for k, held in enumerate(self._held):
            n_train = len(self) - np.count_nonzero((self.fold == k) | self.excluded[k])
            if not len(held) or not n_train:
                raise ClimstackError(
                    f"fold {k} of {self.n_folds} has {n_train} training rows and {len(held)}"
                    f" validation rows ({self.scheme}, embargo {self.embargo}): use fewer folds or"
                    " a smaller embargo"
                )

    def __len__(self) -> int:
        return len(self.fold)

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.excluded)

    @property
    def main(self) -> Mask:
        """Rows of the training data itself, no auxiliary source's, (n_samples,) bool."""
        return np.ones(len(self), np.bool_) if self.auxiliary is None else ~self.auxiliary

    @cached_property
    def _held(self) -> list[Rows]:
        """The rows that each fold holds out, found in one pass over all rows."""
        order = np.argsort(self.fold, kind="stable")
        order.flags.writeable = False  # what everybody asks for is handed out again and again
        edges = np.searchsorted(self.fold[order], np.arange(self.n_folds + 1))
        return [order[start:stop] for start, stop in pairwise(edges)]

    def valid_rows(self, k: int) -> Rows:
        """Rows that fold ``k`` holds out, ascending; read-only."""
        return self._held[k]

    def train_rows(self, k: int) -> Rows:
        """Rows that fold ``k`` may learn from, ascending."""
        return np.flatnonzero((self.fold != k) & ~self.excluded[k])

    def inner_rows(self, k: int, fraction: float, n_blocks: int = 3) -> tuple[Rows, Rows]:
        """Split fold ``k``'s training rows once more, for early stopping and the like.

        The inner validation rows are ``n_blocks`` blocks of units spread over the training units,
        with the plan's own embargo around them. The fold's validation rows play no part.

        Args:
            k: the fold.
            fraction: share of the training units to hold out.
            n_blocks: in how many blocks.

        Returns:
            Rows to fit on and rows to watch, both ascending.

        Raises:
            ClimstackError: too few units are left to fit on.
        """
        train = self.train_rows(k)
        ours = self.main[train]
        units = np.unique(self.unit[train[ours]])
        n_held = max(1, round(fraction * len(units)))
        n_blocks = min(n_blocks, n_held)
        held = np.zeros(len(units), dtype=bool)
        for block in range(n_blocks):
            size = n_held // n_blocks + (block < n_held % n_blocks)
            centre = (block + 0.5) * len(units) / n_blocks
            start = int(np.clip(round(centre - size / 2), 0, len(units) - size))
            held[start : start + size] = True
        unit = self.unit[train]
        is_held = np.isin(unit, units[held]) & ours
        last = unit if self.last is None else self.last[train]
        near = within(unit, last, units[held], self.embargo)
        near |= self._copies(train[is_held], self.original)[train]
        fit, watch = train[~is_held & ~near], train[is_held]
        if not (~is_held & ~near & ours).any():
            raise ClimstackError(
                f"fold {k} has {len(units)} training units, too few to hold {n_held} out with an"
                f" embargo of {self.embargo}: use fewer folds or a smaller embargo"
            )
        return fit, watch

    def without_copies(self, original: Rows) -> FoldPlan:
        """The same plan where no copy of a row that a fold holds out trains in it.

        Args:
            original: the first row that is equal to each, (n_samples,): see
                :attr:`features.store.store.Store.original`.

        Raises:
            ClimstackError: a fold has nothing else to train on.
        """
        if (original == np.arange(len(self))).all():
            return self
        held = [self._copies(self.valid_rows(k), original) for k in range(self.n_folds)]
        elsewhere = self.fold != np.arange(self.n_folds)[:, None]
        excluded = self.excluded | (np.stack(held) & elsewhere)
        return replace(self, excluded=excluded, original=original)

    def _copies(self, rows: Rows, original: Rows | None) -> Mask:
        """Which rows are equal to one of some in all inputs, (n_samples,); nobody where unknown."""
        is_copied = np.zeros(len(self), np.bool_)
        if original is None:
            return is_copied
        is_copied[original[rows]] = True
        return is_copied[original]

    def refit(self) -> FoldPlan:
        """A plan of one fold that trains on all rows but those of the last units.

        For the fit that predicts new rows. What it holds out, as few units as have 2 rows, only
        shows that the fit went well. Where units are no neighbours, as groups, it is the last 2
        rows.
        """
        ours = self.main
        if self.scheme in WITHOUT_ORDER:
            fold = np.full(len(self), -1, np.int16)
            fold[np.flatnonzero(ours)[-2:]] = 0
            copies = (fold < 0) & self._copies(np.flatnonzero(fold == 0), self.original)
            return replace(self, scheme="refit", fold=fold, excluded=copies[None])
        units, counts = np.unique(self.unit[ours], return_counts=True)
        n_held = 1 + int(np.argmax(np.cumsum(counts[::-1]) >= 2))
        held = np.isin(self.unit, units[-n_held:]) & ours
        fold = np.where(held, 0, -1).astype(np.int16)
        exact = ~ours & (True if self.last is None else self.unit == self.last)
        copies = np.isin(self.unit, units[-n_held:]) & exact
        copies |= ~held & self._copies(np.flatnonzero(held), self.original)
        return replace(self, scheme="refit", fold=fold, excluded=copies[None])

    def save(self, path: Path) -> None:
        """Write ``folds.parquet``: row, fold, unit, and one excluded flag per fold."""
        flags = {f"excluded_{k}": self.excluded[k] for k in range(self.n_folds)}
        more = {name: getattr(self, name) for name in OPTIONAL if getattr(self, name) is not None}
        table = pl.DataFrame({"fold": self.fold, "unit": self.unit, **more, **flags})
        facts = {"scheme": self.scheme, "embargo": str(self.embargo), "hash": self.hash}
        with atomic_path(path) as made:
            table.with_row_index("row").write_parquet(made, metadata=facts)

    @classmethod
    def load(cls, path: Path) -> FoldPlan:
        """Read a plan back.

        Raises:
            ClimstackError: missing, unreadable, or its hash does not match its rows.
        """
        if not path.is_file():
            raise ClimstackError(f"no fold plan {path}: run the experiment first")
        try:
            facts = pl.read_parquet_metadata(path)
            table = pl.read_parquet(path)
        except Exception:
            raise ClimstackError(f"{path} is not readable as a fold plan: delete the run") from None
        flags = [name for name in table.columns if name.startswith("excluded_")]
        names = ("fold", "unit", *(name for name in OPTIONAL if name in table.columns))
        try:
            plan = cls(
                scheme=facts.get("scheme", ""),
                embargo=int(facts.get("embargo", -1)),
                excluded=np.stack([table[name].to_numpy() for name in flags]),
                **{name: table[name].to_numpy().copy() for name in names},
            )
            whole = plan.hash == facts.get("hash")
        except (ValueError, pl.exceptions.PolarsError):  # a column is gone, or a fold is empty
            whole = False
        if not whole:
            raise ClimstackError(f"{path} was changed (its hash does not match): delete the run")
        return plan


def within(
    first: NDArray[np.int64], last: NDArray[np.int64], held: NDArray[np.int64], distance: int
) -> Mask:
    """Which stretches from ``first`` to ``last`` come within a distance of a held unit, (n,)."""
    held = np.sort(held)
    return np.searchsorted(held, last + distance, "right") > np.searchsorted(
        held, first - distance, "left"
    )
