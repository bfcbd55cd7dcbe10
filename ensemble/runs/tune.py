"""Tuning from an experiment: its data, its folds, its run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.experiment.experiment import Experiment
from ensemble.runs.pipeline import open_run
from features.core.types import Progress

if TYPE_CHECKING:
    from tuning import TuneResult, TuneSettings


def tune_model(
    experiment: Experiment,
    model: str,
    settings: TuneSettings | None = None,
    runs: str | Path = "runs",
    progress: Progress | None = None,
) -> TuneResult:
    """Tune one base learner of an experiment on its own folds; see :func:`tuning.tune`.

    Args:
        experiment: as :func:`load_experiment` reads it with ``tuned=False``.
        model: the base learner's name.
        settings: how to tune; None takes the defaults with the experiment's seed.
        runs: the folder of runs; cells and study lie in the run's own.
        progress: called with (what, done, total).

    Raises:
        ClimstackError: see :func:`tuning.tune`, or bad data or settings.

    Example:
        >>> from ensemble import load_experiment
        >>> from tuning import TuneSettings
        >>> settings = TuneSettings(n_trials=2, n_clusters=1, n_representatives=1, new_study=True)
        >>> experiment = load_experiment("first.toml")
        >>> len(tune_model(experiment, "trees", settings, "runs").trials)
        2
    """
    from tuning import TuneSettings, tune

    settings = settings or TuneSettings(seed=experiment.seed)
    spec = experiment.model(model)
    folder = Path(runs) / experiment.name
    with open_run(experiment, folder, progress) as run:
        data, ranges = run.data, experiment.search.get(model)
        with run.stage(f"tune {model}"):
            return tune(
                data,
                spec,
                folder,
                settings,
                ranges=ranges,
                metric=experiment.score.metric,
                progress=progress,
            )
