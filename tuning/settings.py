"""How a model is tuned: what an experiment or a command may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from features.core.settings import Bounded, Count


@dataclass(frozen=True, kw_only=True)
class TuneSettings(Bounded):
    """How a model is tuned.

    Attributes:
        n_trials: trials in all; the first has the model's own parameters.
        workers: processes on this machine; with one the same seed gives the same trials.
        storage: URL of the study's database; None takes ``study.db`` in the run's folder.
        new_study: start another study where data, folds or search space have changed.
        n_clusters: clusters of targets that may get parameters of their own.
        n_representatives: targets of each cluster that trials are fitted for.
        n_folds: folds that trials are scored on; None takes all but the unseen one.
        seed: of clusters' steps and of the sampler.
        n_finalists: trials that are fitted for every target in the end, each target keeping its
            best; with 1 clusters may keep their own.

    Example:
        >>> TuneSettings(n_trials=40).workers
        1
    """

    n_trials: Annotated[int, Ge(2)] = 25
    workers: Count = 1
    storage: str | None = None
    new_study: bool = False
    n_clusters: Count = 8
    n_representatives: Count = 2
    n_folds: int | None = None
    seed: int = 0
    n_finalists: Count = 1
