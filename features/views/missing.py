"""Missing and extreme values: what a schema's policy does with them, counted.

A variable's values are *missing* where they are empty, NaN or masked, and *extreme* where they are
infinite or outside the variable's limits. ``refuse`` stops at the first of either. ``clip`` moves
extreme ones to the limit and refuses missing ones. ``impute`` stores both as NaN; whoever trains
replaces them by the mean of the training fold, level by level
(:class:`features.views.tabular.Fill`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from features.core.types import Array
from features.schemas.schema import Variable

Counts = dict[str, dict[str, int]]


@dataclass
class Repair:
    """Applies the policies of some variables, side by side, to blocks of their columns.

    Attributes:
        variables: whose columns the blocks hold, in order.
        counts: ``{"clipped": {column: n}, "imputed": {column: n}}`` so far, zeros left out.
    """

    variables: Sequence[Variable]
    counts: Counts = field(default_factory=dict)

    def __post_init__(self) -> None:
        lows, highs, policies = [], [], []
        for variable in self.variables:
            low, high = variable.limits or (-np.inf, np.inf)
            lows += [low] * variable.n_levels
            highs += [high] * variable.n_levels
            policies += [variable.policy] * variable.n_levels
        self._low, self._high = np.array(lows), np.array(highs)
        self._policy = np.array(policies)
        self._limited = bool(np.isfinite([*lows, *highs]).any())
        self._columns = [column for v in self.variables for column in v.columns]

    def apply(self, values: Array) -> tuple[int, int] | None:
        """Repair (n, n_columns) in place.

        Returns:
            Row and column of the first value that is refused, in row order; None when all passed.
        """
        bad = ~np.isfinite(values)
        if self._limited:
            bad |= (values < self._low) | (values > self._high)
        if not bad.any():
            return None
        refused = bad & (self._policy == "refuse")
        refused |= np.isnan(values) & (self._policy == "clip")
        if refused.any():
            row = int(refused.any(axis=1).argmax())
            return row, int(refused[row].argmax())
        clipped, imputed = bad & (self._policy == "clip"), bad & (self._policy == "impute")
        np.copyto(values, np.clip(values, self._low, self._high), where=clipped)
        values[imputed] = np.nan
        for what, where in (("clipped", clipped), ("imputed", imputed)):
            of_what = self.counts.setdefault(what, {})
            for column in np.flatnonzero(where.any(axis=0)):
                name = self._columns[column]
                of_what[name] = of_what.get(name, 0) + int(where[:, column].sum())
        return None

    def why(self, value: float, position: int) -> str | None:
        """What is wrong with a finite value that was refused; None when it is within its limits."""
        low, high = float(self._low[position]), float(self._high[position])
        if np.isfinite(value) and not low <= value <= high:
            return f"outside its limits {low:g} to {high:g}"
        return None
