"""The roof: blending, scoring, submission, the pipeline and the command line."""

from ensemble.evaluation.held_out import HeldOut
from ensemble.evaluation.leaderboard import leaderboard, load_leaderboard
from ensemble.evaluation.out_of_fold import collect_moments
from ensemble.evaluation.regime_errors import write_errors
from ensemble.experiment.experiment import (
    DataSettings,
    Experiment,
    FoldSettings,
    StackSettings,
    load_experiment,
)
from ensemble.inference.predict import predict
from ensemble.inference.submission import read_weights, score_files, write_submission
from ensemble.runs.pipeline import open_run, run_experiment, submit_run
from ensemble.runs.planner import plan_run
from ensemble.runs.run import Run
from ensemble.runs.tune import tune_model
from ensemble.stacking.blending import Candidate, available_blenders, candidates
from ensemble.stacking.graph import Graph
from ensemble.stacking.stack import choose, evaluate, fit_contenders
from ensemble.uncertainty.conformal import fit_uncertainty, load_uncertainty
from ensemble.uncertainty.intervals import Intervals

__all__ = [
    "Candidate",
    "DataSettings",
    "Experiment",
    "FoldSettings",
    "Graph",
    "HeldOut",
    "Intervals",
    "Run",
    "StackSettings",
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
    "write_submission",
]
