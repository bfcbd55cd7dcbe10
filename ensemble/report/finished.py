"""What a finished run's folder holds, read where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ensemble.evaluation.leaderboard import Row, load_leaderboard
from ensemble.experiment.experiment import Experiment, load_experiment
from ensemble.stacking.graph import Graph
from features.climate.physics import REFERENCE_PRESSURE, HybridLevels, hybrid_levels
from features.core.errors import ClimstackError
from features.core.files import read_json
from features.core.metrics import r2_from_sums
from features.core.types import Array
from features.folds.plan import FoldPlan
from features.schemas.schema import Schema
from features.store.matrix import BLOCK_ROWS
from features.store.store import Store

SURFACE = "surface outputs"  # the name of all scalar targets together


@dataclass(frozen=True)
class Block:
    """Some validation rows of one fold.

    Attributes:
        fold: which fold.
        rows: their numbers in the store, (n,).
        inputs: (n, n_inputs).
        truth: (n, n_targets).
        predicted: the chosen blend's honest final outputs, (n, n_targets).
    """

    fold: int
    rows: NDArray[np.intp]
    inputs: Array
    truth: Array
    predicted: Array


@dataclass(frozen=True)
class Sums:
    """One contender's sums over blocks of time; every R2 comes from them.

    Attributes:
        squared_error: with weights learned from other folds, (n_blocks, n_targets).
        in_sample: with weights learned from all folds, (n_blocks, n_targets).
    """

    squared_error: Array
    in_sample: Array


@dataclass(frozen=True)
class Scores:
    """``stack/scores.parquet`` as arrays.

    Attributes:
        fold: of each block, (n_blocks,).
        block: number of each block of time, (n_blocks,); one that straddles folds stands twice.
        rows: (n_blocks,).
        deviation: squared deviations of the truth from its mean over all, (n_blocks, n_targets).
        of: every contender's sums by its name.
    """

    fold: NDArray[np.intp]
    block: NDArray[np.intp]
    rows: Array
    deviation: Array
    of: dict[str, Sums]

    def r2(self, model: str) -> Array:
        """Honest R2 of each target over all rows, (n_targets,)."""
        return r2_from_sums(self.of[model].squared_error.sum(0), self.deviation.sum(0))

    @property
    def variance(self) -> Array:
        """Variance of each target over all rows, (n_targets,)."""
        found: Array = self.deviation.sum(0) / self.rows.sum()
        return found


@dataclass(frozen=True)
class Finished:
    """A run that has a leaderboard.

    Attributes:
        path: its folder.
    """

    path: Path

    @cached_property
    def experiment(self) -> Experiment:
        """The resolved experiment."""
        return load_experiment(self.path / "experiment.toml")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """``run.json``: versions, hashes, seeds, hardware, stages."""
        facts: dict[str, Any] = read_json(self.path / "run.json")
        return facts

    @cached_property
    def board(self) -> list[Row]:
        """The leaderboard, best honest score first; rows of other runs have a ``run``."""
        return load_leaderboard(self.path)

    @cached_property
    def chosen(self) -> Row:
        """The leaderboard's row that the submission uses."""
        for row in self.board:
            if row["chosen"]:
                return row
        raise ClimstackError(f"{self.path}/leaderboard.json marks no row as chosen: run it again")

    @property
    def members(self) -> list[str]:
        """Names of the base learners, best first."""
        return [row["model"] for row in self._own if not row["blend"]]

    @cached_property
    def best_blend(self) -> Row | None:
        """The chosen row if it blends several members, else the best that does."""
        blends = [row for row in self._own if row["blend"]]
        return self.chosen if self.chosen["blend"] else next(iter(blends), None)

    @property
    def _own(self) -> list[Row]:
        return [row for row in self.board if "run" not in row]

    @cached_property
    def store(self) -> Store:
        """The training rows."""
        own = self.path / "store" / "train"
        return Store(own if own.is_dir() else self.experiment.data.train)

    @property
    def schema(self) -> Schema:
        """What the columns mean."""
        return self.store.schema

    @cached_property
    def plan(self) -> FoldPlan:
        """The folds."""
        return FoldPlan.load(self.path / "folds.parquet")

    @cached_property
    def graph(self) -> Graph:
        """The blend that test rows get."""
        return Graph.load(self.path / "stack" / "graph.json")

    def table(self, name: str) -> pl.DataFrame | None:
        """A Parquet file of the run; None where there is none."""
        file = self.path / name
        return pl.read_parquet(file) if file.is_file() else None

    @cached_property
    def scores(self) -> Scores | None:
        """Sums by block of time; None in a run that kept none."""
        table = self.table("stack/scores.parquet")
        return None if table is None else _scores(table, self.schema.target_columns)

    @cached_property
    def latitude(self) -> Array | None:
        """Degrees north of each grid column, (n_grid_columns,); None where unknown."""
        return None if self.store.grid is None else self.store.grid.lat

    @cached_property
    def levels(self) -> HybridLevels | None:
        """The store's hybrid levels, else those of ClimSim; None for another number of levels."""
        grid = self.store.grid
        found = hybrid_levels() if grid is None else grid.levels
        return found if len(found.hyam) == self.n_levels else None

    @property
    def blocks_of(self) -> str:
        """What the blocks that intervals draw from are, as their folds' scheme cuts them."""
        scheme = self.experiment.folds.scheme
        other = {
            "column_blocks": "blocks of grid columns",
            "regions": "patches of columns",
            "random_rows": "blocks of rows",
        }
        return other.get(scheme, "blocks of time")

    @property
    def n_levels(self) -> int:
        """Levels of the targets' profiles; 1 when all targets are scalars."""
        return max(variable.n_levels for variable in self.schema.targets)

    def pressure(self, level: int) -> float | None:
        """Of a level over a surface of 1000 hPa, hPa; None for a scalar or where unknown."""
        if self.levels is None or level < 0:
            return None
        return float(self.levels.hyam[level] + self.levels.hybm[level]) * REFERENCE_PRESSURE / 100

    def level_axis(self, first: int = 0) -> dict[str, Any]:
        """A vertical axis of level numbers, from the level ``first`` down, named by pressure."""
        ticks = np.unique(np.linspace(first, self.n_levels - 1, 10).astype(int)).tolist()
        names = [self.pressure(level) for level in ticks]
        known = None not in names
        return {
            "title": {"text": "pressure, hPa" if known else "level"},
            "range": [self.n_levels - 0.5, first - 0.5],
            "tickvals": ticks,
            "ticktext": [
                f"{name:.3g}" if name else str(t) for name, t in zip(names, ticks, strict=True)
            ],
        }

    @property
    def has_outputs(self) -> bool:
        """Whether the chosen blend's honest outputs are there for every fold."""
        return all(self._outputs(fold).is_file() for fold in range(self.plan.n_folds))

    def blocks(self) -> Iterator[Block]:
        """Every validation row once, by blocks of bounded size.

        Raises:
            ClimstackError: a file of outputs has another shape than the fold's rows.
        """
        truth = self.store.require_targets()
        for fold in range(self.plan.n_folds):
            rows = self.plan.valid_rows(fold)
            file = self._outputs(fold)
            shape = (len(rows), truth.shape[1])
            if np.load(file, mmap_mode="r").shape != shape:
                raise ClimstackError(f"{file} does not hold {shape} outputs: run the stack again")
            for start in range(0, len(rows), BLOCK_ROWS):
                here = rows[start : start + BLOCK_ROWS]
                # Opened anew for each block: pages of an older map would count as this process's.
                outputs = np.load(file, mmap_mode="r")[start : start + len(here)]
                yield Block(fold, here, self.store.inputs[here], truth[here], np.array(outputs))

    def _outputs(self, fold: int) -> Path:
        return self.path / "stack" / "oof" / f"fold-{fold}.npy"


def kind_of(schema: Schema) -> list[str]:
    """What each target is drawn with, length n_targets: its profile, or all scalars together."""
    return [v.name if v.n_levels > 1 else SURFACE for v in schema.targets for _ in v.columns]


def _scores(table: pl.DataFrame, targets: list[str]) -> Scores:
    order = {name: place for place, name in enumerate(targets)}
    table = table.with_columns(place=pl.col("target").replace_strict(order, return_dtype=pl.Int64))
    of: dict[str, Sums] = {}
    for (model,), own in table.group_by("model", maintain_order=True):
        own = own.sort("fold", "block", "place")
        sums = {
            name: own[name].to_numpy().reshape(-1, len(targets))
            for name in ("squared_error", "in_sample", "deviation", "rows", "fold", "block")
        }
        of[str(model)] = Sums(sums["squared_error"], sums["in_sample"])
    return Scores(
        sums["fold"][:, 0].astype(np.intp),
        sums["block"][:, 0].astype(np.intp),
        sums["rows"][:, 0].astype(np.float64),
        sums["deviation"],
        of,
    )
