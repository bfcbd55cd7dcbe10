"""The roof: blending, scoring, submission, the pipeline and the command line."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from features.core.lazy import attach

if TYPE_CHECKING:
    from ensemble.estimator import StackedRegressor
    from ensemble.evaluation.held_out import HeldOut
    from ensemble.evaluation.leaderboard import leaderboard, load_leaderboard
    from ensemble.evaluation.moments import collect_moments
    from ensemble.evaluation.regime_errors import write_errors
    from ensemble.evaluation.score_sums import ScoreSums
    from ensemble.evaluation.scores import choose, evaluate
    from ensemble.experiment.experiment import (
        DataSettings,
        Experiment,
        FoldSettings,
        StackSettings,
        load_experiment,
    )
    from ensemble.experiment.folder import RunFolder
    from ensemble.inference.predict import predict
    from ensemble.inference.sample import read_weights
    from ensemble.inference.submission import score_files, write_submission
    from ensemble.runs.pipeline import open_run, run_experiment, submit_run, write_members
    from ensemble.runs.planner import plan_run
    from ensemble.runs.run import Run
    from ensemble.runs.tune import tune_model
    from ensemble.stacking.blend import Blend
    from ensemble.stacking.candidate import Candidate, available_blenders, candidates
    from ensemble.stacking.contender import Contender, fit_contenders
    from ensemble.uncertainty.conformal import fit_uncertainty, load_uncertainty
    from ensemble.uncertainty.intervals import Intervals

_public_name, __dir__ = attach(__name__, __file__)


def __getattr__(name: str) -> Any:
    """A public name, or ``__version__``: that of the installed climstack."""
    return version("climstack") if name == "__version__" else _public_name(name)


__all__ = [
    "Blend",
    "Candidate",
    "Contender",
    "DataSettings",
    "Experiment",
    "FoldSettings",
    "HeldOut",
    "Intervals",
    "Run",
    "RunFolder",
    "ScoreSums",
    "StackSettings",
    "StackedRegressor",
    "available_blenders",
    "candidates",
    "choose",
    "collect_moments",
    "evaluate",
    "fit_contenders",
    "fit_uncertainty",
    "leaderboard",
    "load_experiment",
    "load_leaderboard",
    "load_uncertainty",
    "open_run",
    "plan_run",
    "predict",
    "read_weights",
    "run_experiment",
    "score_files",
    "submit_run",
    "tune_model",
    "write_errors",
    "write_members",
    "write_submission",
]
