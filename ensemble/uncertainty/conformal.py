"""Intervals learned from a stack's held-out rows, and how often they hold on later blocks of time.

Split-conformal calibration (Lei et al. 2018, J. Amer. Statist. Assoc. 113, 1094-1111) of residuals
scaled by their expected size (Papadopoulos et al. 2008, Normalized nonconformity measures). Rows of
one timestep depend on each other, so roles are given to whole blocks of time:

1. In the first half of the blocks, every other one fits the expected error; the rest calibrate the
   factor.
2. Each later block in turn is first covered by a factor from all calibrating blocks before it, then
   joins them. ``coverage_later`` counts these; ``coverage_fixed`` keeps the first half's factor.

The saved intervals have the same expected errors, and the factor of all blocks that calibrated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from ensemble.evaluation.held_out import Block, HeldOut
from ensemble.experiment.folder import RunFolder
from ensemble.stacking.blend import Blend
from ensemble.uncertainty.calibration import ScoreCounts
from ensemble.uncertainty.difficulty import Difficulty, DifficultySums, signs_of_difficulty
from ensemble.uncertainty.intervals import (
    Intervals,
    covered,
    half_width,
    identity,
    interval_ends,
    scores,
)
from features.core.errors import ClimstackError
from features.core.files import atomic_path
from features.core.metrics import crps
from features.core.types import Array

CONFIDENCE = 0.9


class Conformal:
    """Learns intervals from the blocks of a walk; memory does not grow with the rows.

    Args:
        held_out: rows and the chosen honest blends.
        final: the blend that test rows get: members without a say in it don't count.
        confidence: wanted coverage, between 0 and 1.

    Raises:
        ClimstackError: the confidence is not between 0 and 1, or there are fewer than 3 timesteps.
    """

    def __init__(self, held_out: HeldOut, final: Blend, confidence: float = CONFIDENCE) -> None:
        if not 0 < confidence < 1:
            raise ClimstackError(
                f"the confidence of intervals must lie between 0 and 1, but got {confidence}"
            )
        if held_out.n_blocks < 3:
            raise ClimstackError(
                f"intervals need at least 3 held-out timesteps, but there are {held_out.n_blocks}:"
                " one to learn from, one to calibrate on, and one to see whether they hold"
            )
        self.final, self.confidence = final, confidence
        self.honest, self.first_later = held_out.honest, held_out.first_later
        self.used = final.members_used
        self.heads = [name for name in held_out.heads if name in self.used]
        n_targets = len(final.targets)
        self.difficulty: Difficulty | None = None
        self._learned = DifficultySums.empty(n_targets)
        self._counts = ScoreCounts.empty(n_targets)
        names = ("mae", "crps", "later", "fixed", "exact", "width", "score", "here")
        self._sums = {name: np.zeros(n_targets) for name in names}
        self._lowest = np.ones(n_targets)
        self._number = 0
        self._rows, self._rows_later, self._rows_here = np.zeros((3, n_targets))
        self._factor = self._fixed = np.zeros(n_targets)

    def add(self, block: Block) -> None:
        """Take a block in its role; blocks of time come in the order of the walk."""
        blend = self.honest[block.fold]
        if block.number != self._number:
            self._turn(block.number)
        y, predictions = block.truth[:, blend.targets], block.predictions
        within = np.clip(
            np.stack([predictions[name] for name in predictions]), blend.low, blend.high
        )
        known = (~np.isnan(y)).sum(0)
        self._sums["crps"] += np.where(known > 0, _crps(y, within) * known, 0.0)
        self._sums["mae"] += _total(np.abs(y - block.outputs[:, blend.targets]), y)
        self._rows += known
        heads = {name: values for name, values in block.heads.items() if name in self.heads}
        signs = signs_of_difficulty(blend, block.outputs, predictions, heads, self.used)
        if self.difficulty is None:
            self._learned.add(signs, np.abs(block.truth - block.outputs)[:, blend.targets])
            return
        expected = self.difficulty.expected(signs)
        if block.number >= self.first_later:
            self._cover(block, blend, expected)
        self._counts.add(scores(blend, block.outputs, expected, block.inputs, block.truth))

    def _turn(self, number: int) -> None:
        """What is known once all rows of a block of time have come, before those of ``number``."""
        if self.difficulty is None and number % 2:
            self.difficulty = self._learned.solve()
        some = self._rows_here > 0
        share = self._sums["here"] / np.where(some, self._rows_here, 1)
        self._lowest = np.where(some, np.minimum(self._lowest, share), self._lowest)
        self._sums["here"], self._rows_here = np.zeros((2, len(self._lowest)))
        if number >= self.first_later:
            self._factor = self._counts.quantile(self.confidence)
            if self._number < self.first_later:
                self._fixed = self._factor
        self._number = number

    def _cover(self, block: Block, blend: Blend, expected: Array) -> None:
        """Sum how intervals with the running and with the fixed factor did on a later block."""
        y, outputs = block.truth[:, blend.targets], block.outputs
        for name, by in (("later", self._factor), ("fixed", self._fixed)):
            half = half_width(expected, by)
            low, high = (
                ends[:, blend.targets] for ends in interval_ends(blend, outputs, half, block.inputs)
            )
            hits = covered(low, high, y).sum(0)  # no interval covers NaN
            self._sums[name] += hits
            if name == "later":
                self._sums["here"] += hits
                # Gneiting and Raftery (2007), J. Amer. Statist. Assoc. 102, equation 43.
                missed = np.maximum(low - y, 0) + np.maximum(y - high, 0)
                self._sums["width"] += _total(high - low, y)
                score = high - low + 2 / (1 - self.confidence) * missed
                self._sums["score"] += _total(score, y)
        self._sums["exact"] += (y == outputs[:, blend.targets]).sum(0)
        self._rows_later += (~np.isnan(y)).sum(0)
        self._rows_here += (~np.isnan(y)).sum(0)

    @property
    def intervals(self) -> Intervals:
        """What turns the final blend's predictions into intervals."""
        assert self.difficulty is not None
        columns = self.final.schema.target_columns
        return Intervals(
            confidence=self.confidence,
            blend=identity(self.final),
            members=self.used,
            heads=self.heads,
            targets=[columns[target] for target in self.final.targets],
            difficulty=self.difficulty,
            factor=self._counts.quantile(self.confidence),
        )

    def table(self) -> pl.DataFrame:
        """How often intervals hold, by target.

        Returns:
            One row per modelled target: target, group, action, confidence, rows (all that have the
            truth), rows_later,
            coverage_in (on the rows that calibrated the saved intervals), coverage_later,
            coverage_fixed, coverage_lowest (of a later block), exact (share of later rows that the
            blend meets exactly: coverage can't be less), and in the target's unit mean_width and
            interval_score (later rows), mae of the blend and crps of all members that serve
            the target (all rows). Null where there are no such rows or members.
        """
        self._turn(self._number)
        sums, rows = self._sums, np.where(self._rows > 0, self._rows, np.nan)
        n_later = np.where(self._rows_later > 0, self._rows_later, np.nan)
        groups = [self.final.schema.target_groups[target] for target in self.final.targets]
        return pl.DataFrame(
            {
                "target": self.intervals.targets,
                "group": groups,
                "action": self.final.action,
                "confidence": self.confidence,
                "rows": self._rows.astype(np.int64),
                "rows_later": self._rows_later.astype(np.int64),
                "coverage_in": self._counts.share_within(self.intervals.factor),
                "coverage_later": sums["later"] / n_later,
                "coverage_fixed": sums["fixed"] / n_later,
                "coverage_lowest": np.where(self._rows_later > 0, self._lowest, np.nan),
                "exact": sums["exact"] / n_later,
                "mean_width": sums["width"] / n_later,
                "interval_score": sums["score"] / n_later,
                "mae": sums["mae"] / rows,
                "crps": sums["crps"] / rows,
            }
        ).fill_nan(None)

    def save(self, intervals: Path, table: Path) -> None:
        """Write both, the intervals as ``.npz``, the table as Parquet."""
        self.intervals.save(intervals)
        with atomic_path(table) as made:
            self.table().write_parquet(made)


def _total(values: Array, y: Array) -> Array:
    """Sum over the rows that have the truth, (n_targets,)."""
    missing = np.isnan(y)
    total: Array = (np.where(missing, 0.0, values) if missing.any() else values).sum(0)
    return total


def _crps(y: Array, ensemble: Array) -> Array:
    """Of the members that serve a target; NaN where none does."""
    served = ~np.isnan(ensemble[:, 0])
    if served.all():
        return crps(y, ensemble)
    found = np.full(y.shape[1], np.nan)
    for target in np.flatnonzero(served.any(0)):
        here = slice(target, target + 1)
        found[here] = crps(y[:, here], ensemble[served[:, target], :, here])
    return found


def fit_uncertainty(held_out: HeldOut, final: Blend, confidence: float = CONFIDENCE) -> Conformal:
    """Learn intervals in a walk of their own; see :class:`Conformal`.

    Example:
        >>> from dataclasses import replace
        >>> chosen = contenders[-1]
        >>> seen = replace(held_out, honest=chosen.honest)
        >>> fit_uncertainty(seen, chosen.final).intervals.confidence
        0.9
    """
    conformal = Conformal(held_out, final, confidence)
    held_out.walk(conformal, what="intervals")
    return conformal


def load_uncertainty(run: str | Path) -> pl.DataFrame:
    """How often a run's intervals hold; see :meth:`Conformal.table`.

    Raises:
        ClimstackError: the run has no such table.

    Example:
        >>> load_uncertainty("runs/first").columns[:3]
        ['target', 'group', 'action']
    """
    folder = RunFolder(Path(run))
    folder.read_facts()  # refuses a run of an earlier version
    if not folder.uncertainty.is_file():
        raise ClimstackError(f"no table {folder.uncertainty}: run the stack again")
    return pl.read_parquet(folder.checked(folder.uncertainty))
