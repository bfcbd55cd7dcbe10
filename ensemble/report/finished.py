"""What a finished run's folder holds, read where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ensemble.evaluation.held_out import HeldOut
from ensemble.evaluation.leaderboard import Row, load_leaderboard
from ensemble.evaluation.score_sums import ScoreSums
from ensemble.experiment.experiment import Experiment, load_experiment
from ensemble.experiment.folder import RunFolder
from ensemble.stacking.blend import Blend
from features.climate.physics import REFERENCE_PRESSURE, HybridLevels, hybrid_levels
from features.core.errors import ClimstackError
from features.core.types import Array
from features.folds.folded import FoldedStore
from features.folds.plan import FoldPlan
from features.pages import plot
from features.schemas.schema import Schema
from features.store.store import Store

SURFACE = "surface outputs"  # the name of all scalar targets of columns of air together
MOST_GROUPS = 8  # of scalar targets that are drawn apart


@dataclass(frozen=True)
class Finished:
    """A run that has a leaderboard.

    Attributes:
        path: its folder.
    """

    path: Path

    @property
    def folder(self) -> RunFolder:
        """Where its files lie."""
        return RunFolder(self.path)

    @cached_property
    def experiment(self) -> Experiment:
        """The resolved experiment."""
        return load_experiment(self.folder.checked(self.folder.experiment))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """``run.json``: versions, hashes, seeds, hardware, stages."""
        if found := self.folder.read_facts():
            return found
        raise ClimstackError(f"{self.folder.facts} is missing: run the experiment again")

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
    def data(self) -> FoldedStore:
        """The training rows and their folds."""
        own = self.folder.train_store
        store = Store(own if own.is_dir() else self.experiment.data.train)
        return FoldedStore(store, FoldPlan.load(self.folder.folds))

    @property
    def store(self) -> Store:
        """The training rows."""
        return self.data.store

    @property
    def score_title(self) -> str:
        """What the leaderboard's score is called."""
        return self.experiment.metric.title(self.schema)

    @property
    def plan(self) -> FoldPlan:
        """The folds."""
        return self.data.plan

    @cached_property
    def held_out(self) -> HeldOut | None:
        """Held-out rows with the chosen blend's outputs; None where those are not kept."""
        files = self.folder.outputs(self.plan.n_folds)
        if not all(file.is_file() for file in files):
            return None
        return HeldOut(data=self.data, outputs=list(map(self.folder.checked, files)))

    @property
    def schema(self) -> Schema:
        """What the columns mean."""
        return self.store.schema

    def table(self, file: Path) -> pl.DataFrame | None:
        """A Parquet file of the run; None where there is none."""
        return pl.read_parquet(self.folder.checked(file)) if file.is_file() else None

    @cached_property
    def blend(self) -> Blend:
        """The blend that test rows get."""
        return Blend.load(self.folder.checked(self.folder.blend))

    @cached_property
    def scores(self) -> ScoreSums | None:
        """Sums by block of time; None in a run that kept none."""
        file = self.folder.scores
        if not file.is_file():
            return None
        return ScoreSums.load(self.folder.checked(file), self.schema, self.experiment.score.metric)

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
        other = {
            "column_blocks": "blocks of grid columns",
            "regions": "patches of columns",
            "random_rows": "blocks of rows",
            "groups": "groups",
            "kfold": "rows",
            "stratified": "rows",
            "column": "rows",
            "file": "rows",
        }
        return other.get(self.plan.scheme, "blocks of time")

    @property
    def n_levels(self) -> int:
        """Levels of the targets' profiles; 1 when all targets are scalars."""
        return max(variable.n_levels for variable in self.schema.targets)

    def pressure(self, level: int) -> float | None:
        """Of a level over a surface of 1000 hPa, hPa; None for a scalar or where unknown."""
        if self.levels is None or level < 0:
            return None
        return float(self.levels.hyam[level] + self.levels.hybm[level]) * REFERENCE_PRESSURE / 100

    def level_axis(self, first: int = 0) -> plot.Piece:
        """A vertical axis of level numbers, from the level ``first`` down, named by pressure."""
        ticks = np.unique(np.linspace(first, self.n_levels - 1, 10).astype(int)).tolist()
        names = {level: self.pressure(level) for level in ticks}
        return plot.axis(
            "level" if None in names.values() else "pressure, hPa",
            range=[self.n_levels - 0.5, first - 0.5],
            tickvals=ticks,
            ticktext=[f"{name:.3g}" if name else str(level) for level, name in names.items()],
        )


def kind_of(schema: Schema) -> list[str]:
    """What each target is drawn with, length n_targets.

    Its profile; its group, where the schema names few; else all scalars together.
    """
    named = {v.group for v in schema.targets if v.n_levels == 1 and v.group is not None}
    together = SURFACE if schema.n_grid_columns is not None else "targets"
    of = {v.name: v.group if v.group and len(named) <= MOST_GROUPS else together
          for v in schema.targets}  # fmt: skip
    return [v.name if v.n_levels > 1 else of[v.name] for v in schema.targets for _ in v.columns]
