"""Scores in float64: R2 per target, the LEAP score, RMSE, MAE and bias.

R2 follows scikit-learn's ``r2_score(..., multioutput="raw_values")``, also for a constant truth:
1 when it is met exactly, else 0. A constant deviates from its mean by exactly 0, here and in sums
over blocks (:class:`Deviation`), however its mean is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array


def r2_score(y: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """R2 of each target.

    Args:
        y: truth, (n_samples, n_targets).
        y_pred: prediction, same shape.
        weights: (n_targets,), multiplied into truth and prediction first; None means 1.

    Returns:
        (n_targets,), at most 1; -inf where a prediction is too far off for a number.

    Raises:
        ClimstackError: shapes differ, fewer than 2 rows, or a value is not finite.
    """
    y, y_pred = _checked(y, y_pred)
    # By powers of two, which change no digit: else squares of 1e-170 are 0 and of 1e170 infinite.
    exponent = np.frexp(np.abs(y).max(0))[1]
    with np.errstate(over="ignore"):
        y, y_pred = np.ldexp(y, -exponent), np.ldexp(y_pred, -exponent)
        if weights is not None:
            y, y_pred = y * np.frexp(weights)[0], y_pred * np.frexp(weights)[0]
        squared_error = ((y - y_pred) ** 2).sum(0)
    deviation = np.where(is_constant(y), 0.0, ((y - y.mean(0)) ** 2).sum(0))
    return r2_from_sums(squared_error, deviation)


def is_constant(y: Array) -> NDArray[np.bool_]:
    """Whether all rows of a target are equal, (n_targets,)."""
    same: NDArray[np.bool_] = (y == y[:1]).all(0)
    return same


def r2_from_sums(squared_error: Array, squared_deviation: Array) -> Array:
    """R2 from the sums of squared errors and of squared deviations of the truth from its mean."""
    met = (squared_error == 0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        r2 = 1 - squared_error / squared_deviation
    return np.where(squared_deviation > 0, np.where(squared_error > 0, r2, 1.0), met)


@dataclass
class Deviation:
    """Squared deviations of a truth from its mean, while its rows come in; of a constant exactly 0.

    The update is that of Chan, Golub and LeVeque (1979).

    Attributes:
        rows: how many came.
        mean: (n_targets,), of the truth.
        squared: (n_targets,), sum of squared deviations from that mean.
    """

    rows: int
    mean: Array
    squared: Array

    @classmethod
    def empty(cls, n_targets: int) -> Deviation:
        """No rows yet."""
        return cls(0, np.zeros(n_targets), np.zeros(n_targets))

    def add(self, y: Array) -> None:
        """Add rows of the truth, (n_samples, n_targets)."""
        away = y - y[:1]  # a constant is exactly 0 away, its mean may round to something else
        offset, total = away.mean(0), self.rows + len(y)
        mean = y[0] + offset
        shift = mean - (self.mean if self.rows else mean)
        self.squared += ((away - offset) ** 2).sum(0)
        self.squared += shift**2 * (self.rows * len(y) / total)
        self.mean = self.mean + shift * (len(y) / total) if self.rows else mean
        self.rows = total


def mean_of_parts(means: Array, rows: Array) -> Array:
    """Mean over parts of the rows, (...); where all parts have the same mean, exactly that.

    Args:
        means: of each part, (n_parts, ...).
        rows: of each part, (n_parts,).
    """
    mean: Array = means[0] + np.tensordot(rows, means - means[0], axes=1) / rows.sum()
    return mean


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

    The fair estimator: members are taken for draws from a distribution, and the mean score is that
    of the distribution, however many were drawn. So ensembles of other sizes compare. One member
    has no spread to estimate: its score is the mean absolute error, and compares with no other.
    Lower is better; the score of a few members that lie on both sides of the truth may be negative.

    Source: Ferro (2014), Q. J. R. Meteorol. Soc. 140, 1917-1923; Zamo and Naveau (2018), Math.
    Geosci. 50, 209-234, equation 7 (PWM). The mean over all pairs comes from the sorted members.

    Args:
        y: truth, (n_samples, n_targets).
        ensemble: predictions, (n_members, n_samples, n_targets).

    Returns:
        (n_targets,), mean over the samples.
    """
    n_members = len(ensemble)
    ranked = np.sort(ensemble, axis=0)
    rank = 2.0 * np.arange(n_members) - (n_members - 1)
    # Half the mean |x_i - x_j| over pairs of two different members.
    pairs = np.tensordot(rank, ranked, axes=1) / max(n_members * (n_members - 1), 1)
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
