"""Missing and extreme values: what a schema's policy does with them, counted.

A variable's values are *missing* where they are empty, NaN or masked, and *extreme* where they are
infinite or outside the variable's limits. ``refuse`` stops at the first of either. ``clip`` moves
extreme ones to the limit and refuses missing ones. ``impute`` stores both as NaN; whoever trains
replaces them by the mean of the training fold, level by level
(:class:`features.views.tabular.Fill`). ``skip`` stores both as NaN in a target, which is then
learned and scored on the rows that have it. A category is NaN where it is missing or no word of
the schema, whatever its policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from features.core.types import Array, Mask
from features.schemas.variable import Variable

SEEN_ROWS = 256  # rows whose least and greatest values are taken while they lie in the cache
FINITE = (-float(np.finfo(np.float64).max), float(np.finfo(np.float64).max))

Counts = dict[str, dict[str, int]]


@dataclass
class Repair:
    """Applies the policies of some variables, side by side, to blocks of their columns.

    Attributes:
        variables: whose columns the blocks hold, in order.
        counts: ``{"clipped": {column: n}, "imputed": ..., "skipped": ...}`` so far, zeros left out.

    Example:
        >>> import numpy as np
        >>> from features.schemas.variable import Variable
        >>> repair = Repair([Variable(name="yield", role="target", policy="skip")])
        >>> repair.apply(np.array([[1.0], [np.nan]]))  # no value is refused
        >>> repair.counts
        {'skipped': {'yield': 1}}
    """

    variables: Sequence[Variable]
    counts: Counts = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._of = [variable for variable in self.variables for _ in range(variable.n_levels)]
        limits = np.array([variable.limits or FINITE for variable in self._of])
        self._low, self._high = limits.reshape(-1, 2).T
        self._policy = np.array(
            ["impute" if v.kind == "category" else v.policy for v in self._of], dtype="U6"
        )
        self._columns = [column for v in self.variables for column in v.columns]

    def refused(self, values: Array) -> Mask | None:
        """Where a value of (n, n_columns) is refused, same shape; None when nowhere.

        Nothing is changed or counted.
        """
        bad = self._bad(values)
        return None if bad is None else self._refused_of(bad, values)

    def apply(self, values: Array) -> tuple[int, int] | None:
        """Repair (n, n_columns) in place.

        Returns:
            Row and column of the first value that is refused, in row order; None when all passed.
        """
        bad = self._bad(values)
        if bad is None:
            return None
        refused = self._refused_of(bad, values)
        if refused is not None:
            return first_place(refused)
        clipped, imputed = bad & (self._policy == "clip"), bad & (self._policy == "impute")
        skipped = bad & (self._policy == "skip")
        np.copyto(values, np.clip(values, self._low, self._high), where=clipped)
        values[imputed | skipped] = np.nan
        repaired = {"clipped": clipped, "imputed": imputed, "skipped": skipped}
        for what, where in repaired.items():
            if not where.any():
                continue
            of_what = self.counts.setdefault(what, {})
            for column in np.flatnonzero(where.any(axis=0)):
                name = self._columns[column]
                of_what[name] = of_what.get(name, 0) + int(where[:, column].sum())
        return None

    def why(self, value: float, position: int) -> str | None:
        """What is wrong with a finite value that was refused; None when it is within its limits."""
        variable, low, high = self._of[position], self._low[position], self._high[position]
        if not np.isfinite(value) or low <= value <= high:
            return None
        unit = "" if variable.unit == "1" else f" {variable.unit}"
        return f"outside the limits of {variable.name}, {low:g} to {high:g}{unit}"

    def _bad(self, values: Array) -> Mask | None:
        """Where values are missing or extreme; None when nowhere, which is seen fast."""
        if all(self._are_fine(values[i : i + SEEN_ROWS]) for i in range(0, len(values), SEEN_ROWS)):
            return None
        return ~((values >= self._low) & (values <= self._high))

    def _are_fine(self, rows: Array) -> bool:
        # The least and the greatest are NaN where any is, and NaN compares false.
        least, greatest = rows.min(axis=0), rows.max(axis=0)
        return bool(((least >= self._low) & (greatest <= self._high)).all())

    def _refused_of(self, bad: Mask, values: Array) -> Mask | None:
        refused = bad & (self._policy == "refuse")
        refused |= np.isnan(values) & (self._policy == "clip")
        return refused if refused.any() else None


def never_there(repair: Repair, n_rows: int) -> list[str]:
    """Sentences on targets that no row has, of which nothing can be learned."""
    return [
        f"target column '{column}' has no value in any of {n_rows} rows: take it out of the schema"
        for column, n in repair.counts.get("skipped", {}).items()
        if n == n_rows
    ]


def first_place(where: Mask) -> tuple[int, int]:
    """Row and column of the first true value in row order."""
    row, column = divmod(int(where.argmax()), where.shape[1])
    return row, column
