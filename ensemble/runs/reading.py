"""A finished run that only predicts: nothing in its folder is made, changed or deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ensemble.report.finished import Finished
from ensemble.runs.run import Run
from ensemble.runs.store import RunStore
from features.core.types import Progress
from features.folds.folded import FoldedStore
from features.store.store import Store
from models.member import Member, read_member


@dataclass(kw_only=True)
class ReadRun(Run):
    """A run whose folder may be another's and read-only; several read it at once.

    Attributes:
        scratch: folder for stores of rows that the run has no store of, the caller's.
    """

    scratch: Path

    @classmethod
    def of(cls, finished: Finished, scratch: Path, progress: Progress | None = None) -> ReadRun:
        """Open a run that has a leaderboard."""
        folder, experiment = finished.folder, finished.experiment
        return cls(folder=folder, experiment=experiment, scratch=scratch, progress=progress)

    @cached_property
    def data(self) -> FoldedStore:
        """The training rows and their folds, as they are there."""
        return Finished(self.folder.path).data

    @cached_property
    def members(self) -> list[Member]:
        """Every base learner; one that lacks a cell is an error."""
        return [read_member(self.data, spec, self.cells) for spec in self.experiment.models]

    def refits(self) -> dict[str, Member]:
        """Members with one fit on all rows; one that lacks a cell is an error."""
        whole = replace(self.data, plan=self.data.plan.refit())
        models = {name: self.experiment.model(name) for name in self.experiment.stack.refit}
        return {name: read_member(whole, spec, self.cells) for name, spec in models.items()}

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Nothing is noted."""
        yield {"stage": name}

    def _open(self, wanted: RunStore) -> Store:
        """The run's own store, or one that is gone at the end."""
        store = wanted.find(verify=True)
        return store or super()._open(replace(wanted, place=self.scratch / wanted.place.name))
