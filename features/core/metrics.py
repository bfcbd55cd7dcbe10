"""Scores in float64: R2 per target, the LEAP score, RMSE, MAE and bias.

R2 follows scikit-learn's ``r2_score(..., multioutput="raw_values")``, also for a constant truth:
1 when it is met exactly, else 0.
"""

from __future__ import annotations

import numpy as np

from features.core.errors import ClimstackError
from features.core.types import Array


def r2_score(y: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """R2 of each target.

    Args:
        y: truth, (n_samples, n_targets).
        y_pred: prediction, same shape.
        weights: (n_targets,), multiplied into truth and prediction first; None means 1.

    Returns:
        (n_targets,), at most 1.

    Raises:
        ClimstackError: shapes differ, fewer than 2 rows, or a value is not finite or has no finite
            square.
    """
    y, y_pred = _checked(y, y_pred)
    if weights is not None:
        y, y_pred = y * weights, y_pred * weights
    with np.errstate(over="ignore", invalid="ignore"):
        sums = ((y - y_pred) ** 2).sum(0), ((y - y.mean(0)) ** 2).sum(0)
    finite = np.isfinite(sums).all(0)
    if not finite.all():
        target = int(finite.argmin())
        raise ClimstackError(
            f"target {target} holds {np.abs([y, y_pred])[:, :, target].max():.3g}, which is too"
            " large to square: look for a damaged value"
        )
    return r2_from_sums(*sums)


def r2_from_sums(squared_error: Array, squared_deviation: Array) -> Array:
    """R2 from the sums of squared errors and of squared deviations of the truth from its mean."""
    met = (squared_error == 0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        r2 = 1 - squared_error / squared_deviation
    return np.where(squared_deviation > 0, np.where(squared_error > 0, r2, 1.0), met)


def leap_score(y: Array, y_pred: Array, weights: Array | None = None) -> float:
    """The competition's score: plain mean over all targets of R2 on weighted values.

    Args:
        y: truth, (n_samples, n_targets).
        y_pred: prediction, same shape.
        weights: submission weights, (n_targets,); a target of weight 0 scores 1.

    Source: evaluation page of the Kaggle competition LEAP - Atmospheric Physics using AI.
    """
    return float(r2_score(y, y_pred, weights).mean())


def rmse(y: Array, y_pred: Array) -> Array:
    """Root mean squared error of each target, in its unit, (n_targets,)."""
    y, y_pred = _checked(y, y_pred)
    root: Array = np.sqrt(((y - y_pred) ** 2).mean(0))
    return root


def mae(y: Array, y_pred: Array) -> Array:
    """Mean absolute error of each target, in its unit, (n_targets,)."""
    y, y_pred = _checked(y, y_pred)
    mean: Array = np.abs(y - y_pred).mean(0)
    return mean


def bias(y: Array, y_pred: Array) -> Array:
    """Mean of prediction minus truth of each target, in its unit, (n_targets,)."""
    y, y_pred = _checked(y, y_pred)
    mean: Array = (y_pred - y).mean(0)
    return mean


def crps(y: Array, ensemble: Array) -> Array:
    """Continuous ranked probability score of an ensemble for each target, in its unit.

    The members stand for a distribution of n_members equal steps. Lower is better; with one member
    it is the mean absolute error.

    Source: Gneiting and Raftery (2007), J. Amer. Statist. Assoc. 102, 359-378, equation 21, with
    the mean over all pairs of members from the sorted members.

    Args:
        y: truth, (n_samples, n_targets).
        ensemble: predictions, (n_members, n_samples, n_targets).

    Returns:
        (n_targets,), mean over the samples.
    """
    n_members = len(ensemble)
    ranked = np.sort(ensemble, axis=0)
    rank = 2.0 * np.arange(n_members) - (n_members - 1)
    pairs = np.tensordot(rank, ranked, axes=1) / n_members**2  # half the mean |x_i - x_j|
    score: Array = (np.abs(ensemble - y).mean(0) - pairs).mean(0)
    return score


def _checked(y: Array, y_pred: Array) -> tuple[Array, Array]:
    y, y_pred = np.asarray(y, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    if y.ndim != 2 or y.shape != y_pred.shape:
        raise ClimstackError(
            f"truth and prediction must be 2-D and alike, but got {y.shape} and {y_pred.shape}"
        )
    if len(y) < 2:
        raise ClimstackError(f"a score needs at least 2 rows, but got {len(y)}")
    for name, values in (("truth", y), ("prediction", y_pred)):
        if not np.isfinite(values).all():
            row, target = np.argwhere(~np.isfinite(values))[0]
            raise ClimstackError(
                f"the {name} is {values[row, target]} at row {row}, target {target}:"
                " scores need finite values"
            )
    return y, y_pred
