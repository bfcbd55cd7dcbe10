"""How a model is tuned: what an experiment or a command may say."""

from __future__ import annotations

from dataclasses import dataclass

from features.core.settings import require


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
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
    """

    n_trials: int = 25
    workers: int = 1
    storage: str | None = None
    new_study: bool = False
    n_clusters: int = 8
    n_representatives: int = 2
    n_folds: int | None = None
    seed: int = 0
    n_finalists: int = 1

    def __post_init__(self) -> None:
        require(
            self,
            n_trials="[2, inf)",
            workers="[1, inf)",
            n_clusters="[1, inf)",
            n_representatives="[1, inf)",
            n_finalists="[1, inf)",
        )
