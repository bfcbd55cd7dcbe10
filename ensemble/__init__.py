"""The roof: blending, scoring, submission, the pipeline and the command line."""

from ensemble.blending import Candidate, available_blenders, candidates
from ensemble.experiment import (
    DataSettings,
    Experiment,
    FoldSettings,
    StackSettings,
    load_experiment,
)
from ensemble.graph import Graph
from ensemble.held_out import HeldOut
from ensemble.intervals import Intervals
from ensemble.leaderboard import leaderboard, load_leaderboard
from ensemble.out_of_fold import collect_moments
from ensemble.pipeline import open_run, run_experiment, submit_run
from ensemble.planner import plan_run
from ensemble.predict import predict
from ensemble.regime_errors import write_errors
from ensemble.run import Run
from ensemble.stack import choose, evaluate, fit_contenders
from ensemble.submission import read_weights, score_files, write_submission
from ensemble.tune import tune_model
from ensemble.uncertainty import fit_uncertainty, load_uncertainty

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
