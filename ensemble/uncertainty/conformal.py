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

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ensemble.evaluation.held_out import Block, HeldOut
from ensemble.inference.predict import members_used
from ensemble.stacking.graph import Graph
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

LEVEL = 0.9
N_BLOCKS = 40  # of time
TABLE = "uncertainty.parquet"


def fit_uncertainty(
    held_out: HeldOut, final: Graph, folder: Path, level: float = LEVEL
) -> pl.DataFrame:
    """Learn intervals; write ``uncertainty.npz`` and ``uncertainty.parquet`` into ``folder``.

    Every held-out row is read once, memory does not grow with their number.

    Args:
        held_out: held-out rows with the chosen blend's honest outputs.
        final: the graph that test rows get: members without a say in it don't count.
        folder: usually ``stack`` in the run.
        level: wanted coverage, between 0 and 1.

    Returns:
        One row per modelled target: target, group, action, level, rows (all), rows_later,
        coverage_in (on the rows that calibrated the saved intervals), coverage_later,
        coverage_fixed, coverage_lowest (of a later block), exact (share of later rows that the
        blend meets exactly: coverage can't be less), and in the target's unit mean_width and
        interval_score (later rows), mae of the blend and crps of all members (all rows).

    Raises:
        ClimstackError: the level is not between 0 and 1, or there are fewer than 3 timesteps.
    """
    if not 0 < level < 1:
        raise ClimstackError(f"the level of intervals must lie between 0 and 1, but got {level}")
    used = members_used(final)
    heads = [name for name in held_out.heads() if name in used]
    fit = _Fit(held_out, used, heads, level)
    # One BLAS thread: the rounding must not depend on the cores.
    with threadpool_limits(1, user_api="blas"):
        difficulty = fit.difficulty()
        table = fit.calibrate(difficulty)
    columns = final.schema.target_columns
    names = [columns[target] for target in final.targets]
    factor = fit.counts.quantile(level)
    Intervals(level, identity(final), used, heads, names, difficulty, factor).save(folder)
    groups = [final.schema.target_groups[target] for target in final.targets]
    facts = {"target": names, "group": groups, "action": final.action, "level": level}
    result = pl.DataFrame(facts).hstack(pl.DataFrame(table))
    with atomic_path(folder / TABLE) as made:
        result.write_parquet(made)
    return result


def load_uncertainty(folder: Path) -> pl.DataFrame:
    """Read ``uncertainty.parquet``; see :func:`fit_uncertainty`.

    Raises:
        ClimstackError: there is none.
    """
    if not (folder / TABLE).is_file():
        raise ClimstackError(f"no table {folder / TABLE}: run the stack again")
    return pl.read_parquet(folder / TABLE)


def time_blocks_of(held_out: HeldOut) -> tuple[NDArray[np.intp], int]:
    """Number of the block of time of each row, (n_samples,), -1 where no fold holds it out.

    Returns:
        The numbers, and how many blocks there are: at most N_BLOCKS.

    Raises:
        ClimstackError: fewer than 3 timesteps are held out.
    """
    time, held = held_out.store.time, held_out.plan.fold >= 0
    times, position = np.unique(time[held], return_inverse=True)
    if len(times) < 3:
        raise ClimstackError(
            f"intervals need at least 3 held-out timesteps, but there are {len(times)}: one to"
            " learn from, one to calibrate on, and one to see whether they hold"
        )
    n_blocks = min(N_BLOCKS, len(times))
    block = np.full(len(time), -1, dtype=np.intp)
    block[held] = position * n_blocks // len(times)
    return block, n_blocks


@dataclass
class _Fit:
    held_out: HeldOut
    used: list[str]
    heads: list[str]
    level: float
    block: NDArray[np.intp] = field(init=False)
    n_blocks: int = field(init=False)
    counts: ScoreCounts = field(init=False)
    sums: dict[str, Array] = field(init=False)
    rows: int = 0

    def __post_init__(self) -> None:
        self.block, self.n_blocks = time_blocks_of(self.held_out)
        n_targets = len(self.held_out.targets)
        self.counts = ScoreCounts.empty(n_targets)
        names = ("mae", "crps", "later", "fixed", "exact", "width", "score")
        self.sums = {name: np.zeros(n_targets) for name in names}

    @property
    def first_later(self) -> int:
        return max(2, self.n_blocks // 2)

    def difficulty(self) -> Difficulty:
        """Fit the expected error on every other block of the first half."""
        sums = DifficultySums.empty(len(self.held_out.targets))
        for number in range(0, self.first_later, 2):
            for block in self._rows_of(number):
                graph = self.held_out.honest[block.fold]
                residual = np.abs(block.truth - block.outputs)[:, graph.targets]
                sums.add(self._signs(graph, block), residual)
        return sums.solve()

    def calibrate(self, difficulty: Difficulty) -> dict[str, Array]:
        """Count scores block after block; columns of the table, (n_modelled,) each."""
        for number in range(1, self.first_later, 2):
            for block in self._rows_of(number):
                self.counts.add(self._judge(difficulty, block)[1])
        fixed, n_later = self.counts.quantile(self.level), 0
        lowest = np.ones_like(fixed)
        for number in range(self.first_later, self.n_blocks):
            factor = self.counts.quantile(self.level)
            before, n_here = self.sums["later"].copy(), 0
            for block in self._rows_of(number):
                expected, found = self._judge(difficulty, block)
                self._cover(block, expected, factor, fixed)
                self.counts.add(found)
                n_here += len(block.rows)
            lowest = np.minimum(lowest, (self.sums["later"] - before) / n_here)
            n_later += n_here
        n_targets = len(lowest)
        return {
            "rows": np.full(n_targets, self.rows),
            "rows_later": np.full(n_targets, n_later),
            "coverage_in": self.counts.share_within(self.counts.quantile(self.level)),
            "coverage_later": self.sums["later"] / n_later,
            "coverage_fixed": self.sums["fixed"] / n_later,
            "coverage_lowest": lowest,
            "exact": self.sums["exact"] / n_later,
            "mean_width": self.sums["width"] / n_later,
            "interval_score": self.sums["score"] / n_later,
            "mae": self.sums["mae"] / self.rows,
            "crps": self.sums["crps"] / self.rows,
        }

    def _rows_of(self, number: int) -> Iterator[Block]:
        """The rows of a block of time; what needs no interval is summed on the way."""
        for block in self.held_out.blocks(self.block == number, self.heads):
            graph = self.held_out.honest[block.fold]
            y = block.truth[:, graph.targets]
            members = np.stack(list(block.predictions.values()))
            within = np.clip(members, graph.low, graph.high)
            self.sums["crps"] += crps(y, within) * len(y)
            self.sums["mae"] += np.abs(y - block.outputs[:, graph.targets]).sum(0)
            self.rows += len(y)
            yield block

    def _signs(self, graph: Graph, block: Block) -> Array:
        return signs_of_difficulty(graph, block.outputs, block.predictions, block.heads, self.used)

    def _judge(self, difficulty: Difficulty, block: Block) -> tuple[Array, Array]:
        """Expected errors and scores of a block, (n, n_modelled) each."""
        graph = self.held_out.honest[block.fold]
        expected = difficulty.expected(self._signs(graph, block))
        return expected, scores(graph, block.outputs, expected, block.inputs, block.truth)

    def _cover(self, block: Block, expected: Array, factor: Array, fixed: Array) -> None:
        """Sum how intervals with the running and with the fixed factor did on a later block."""
        graph = self.held_out.honest[block.fold]
        y = block.truth[:, graph.targets]
        for name, by in (("later", factor), ("fixed", fixed)):
            half = half_width(expected, by)
            low, high = (
                ends[:, graph.targets]
                for ends in interval_ends(graph, block.outputs, half, block.inputs)
            )
            self.sums[name] += covered(low, high, y).sum(0)
            if name == "later":
                # Gneiting and Raftery (2007), J. Amer. Statist. Assoc. 102, equation 43.
                missed = np.maximum(low - y, 0) + np.maximum(y - high, 0)
                self.sums["width"] += (high - low).sum(0)
                self.sums["score"] += (high - low + 2 / (1 - self.level) * missed).sum(0)
        self.sums["exact"] += (y == block.outputs[:, graph.targets]).sum(0)
