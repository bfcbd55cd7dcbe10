"""Rows together with who validates whom: what is fitted, tuned and stacked."""

from __future__ import annotations

from dataclasses import dataclass

from features.core.errors import ClimstackError
from features.folds.plan import FoldPlan
from features.store.store import Store


@dataclass(frozen=True)
class FoldedStore:
    """A store and the fold plan of its rows.

    Attributes:
        store: training data, with targets.
        plan: the shared folds.

    Raises:
        ClimstackError: plan and store disagree on the rows.

    Example:
        >>> from features import time_blocks
        >>> folded = FoldedStore(store, time_blocks(store.time, n_folds=3))
        >>> folded.plan.n_folds
        3
    """

    store: Store
    plan: FoldPlan

    def __post_init__(self) -> None:
        if len(self.plan) != len(self.store):
            raise ClimstackError(
                f"the fold plan has {len(self.plan)} rows, the store {self.store.path} has"
                f" {len(self.store)}: make the plan from this store"
            )
