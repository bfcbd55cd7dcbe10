"""Scores in float64: R2 per target, the LEAP score, RMSE, MAE and bias.

A truth that is NaN is missing: a target is scored on the rows that have its truth. A prediction is
needed for every row; one that is not finite is an error.

R2 follows scikit-learn's ``r2_score(..., multioutput="raw_values")``, also for a constant truth:
1 when it is met exactly, else 0. A constant deviates from its mean by exactly 0, here and in sums
over blocks (:class:`Deviation`), however its mean is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array


def r2_score(y: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """R2 of each target.

    Args:
        y: truth, (n_samples, n_targets); NaN where it is missing.
        y_pred: prediction, same shape.
        weights: (n_targets,), multiplied into truth and prediction first; None means 1.

    Returns:
        (n_targets,), at most 1; -inf where a prediction is too far off for a number.

    Raises:
        ClimstackError: shapes differ, a target has fewer than 2 truths, or a value is not finite.

    Example:
        >>> r2_score(np.array([[1.0], [2.0], [np.nan], [3.0]]), np.full((4, 1), 2.0))
        array([0.])
    """
    weights = None if weights is None else np.asarray(weights, dtype=np.float64)
    return _by_target(_r2, y, y_pred, weights)


def _r2(y: Array, y_pred: Array, weights: Array | None = None) -> Array:
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
    """Whether all truths of a target are equal, (n_targets,); NaN is missing."""
    missing = np.isnan(y)
    if not missing.any():
        same: NDArray[np.bool_] = (y == y[:1]).all(0)
        return same
    first = np.take_along_axis(y, missing.argmin(0)[None], axis=0)
    alike: NDArray[np.bool_] = ((y == first) | missing).all(0)
    return alike


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
        rows: (n_targets,), how many truths came.
        mean: (n_targets,), of the truth.
        squared: (n_targets,), sum of squared deviations from that mean.
    """

    rows: NDArray[np.int64]
    mean: Array
    squared: Array

    @classmethod
    def empty(cls, n_targets: int) -> Deviation:
        """No rows yet."""
        return cls(np.zeros(n_targets, np.int64), np.zeros(n_targets), np.zeros(n_targets))

    def add(self, y: Array) -> None:
        """Add rows of the truth, (n_samples, n_targets); NaN is missing and is left out."""
        missing = np.isnan(y)
        if missing.any():
            some = missing.any(0)
            whole = np.flatnonzero(~some)
            if len(whole):
                self._add(whole, np.ascontiguousarray(y[:, whole]))
            for target in np.flatnonzero(some):
                own = y[~missing[:, target], target]
                if len(own):
                    self._add(np.array([target]), own[:, None])
        elif len(y):
            self._add(slice(None), y)

    def _add(self, at: NDArray[np.intp] | slice, y: Array) -> None:
        """Add truths of some targets."""
        rows, here = self.rows[at], self.mean[at]
        away = y - y[:1]  # a constant is exactly 0 away, its mean may round to something else
        offset, total = away.mean(0), rows + len(y)
        mean = y[0] + offset
        shift = mean - np.where(rows > 0, here, mean)
        self.squared[at] += ((away - offset) ** 2).sum(0)
        self.squared[at] += shift**2 * (rows * len(y) / total)
        self.mean[at] = np.where(rows > 0, here + shift * (len(y) / total), mean)
        self.rows[at] = total


def mean_of_parts(means: Array, rows: Array) -> Array:
    """Mean over parts of the rows, (...); where all parts have the same mean, exactly that.

    Args:
        means: of each part, (n_parts, n_targets, ...).
        rows: of each part, (n_parts,), or of each part and target, (n_parts, n_targets). A target
            without rows has the mean 0.
    """
    if rows.ndim == 2 and (rows == rows[:, :1]).all() and (rows > 0).all():
        rows = rows[:, 0]
    if rows.ndim == 1:
        mean: Array = means[0] + np.tensordot(rows, means - means[0], axes=1) / rows.sum()
        return mean
    first = (rows > 0).argmax(0)
    start = means[first, np.arange(rows.shape[1])]  # of the first part that has rows
    alike = (...,) + (None,) * (means.ndim - 2)
    away = np.where((rows > 0)[alike], means - start, 0.0)
    total = np.maximum(rows.sum(0), 1)[alike]
    return np.where((rows.sum(0) > 0)[alike], start + (rows[alike] * away).sum(0) / total, 0.0)


def leap_score(y: Array, y_pred: Array, weights: Array | None = None) -> float:
    """The competition's score: plain mean over all targets of R2 on weighted values.

    Args:
        y: truth, (n_samples, n_targets); NaN where it is missing.
        y_pred: prediction, same shape.
        weights: submission weights, (n_targets,); a target of weight 0 scores 1.

    Source: evaluation page of the Kaggle competition LEAP - Atmospheric Physics using AI.

    Example:
        >>> y = np.array([[1.0, 5.0], [2.0, 6.0]])
        >>> leap_score(y, y), leap_score(y, y - 0.5, weights=np.array([1.0, 0.0]))
        (1.0, 0.5)
    """
    return float(r2_score(y, y_pred, weights).mean())


def rmse(y: Array, y_pred: Array) -> Array:
    """Root mean squared error of each target, in its unit, (n_targets,).

    Example:
        >>> rmse(np.array([[1.0], [2.0]]), np.array([[2.0], [3.0]])).tolist()
        [1.0]
    """
    return _by_target(lambda y, y_pred: np.sqrt(((y - y_pred) ** 2).mean(0)), y, y_pred)


def mae(y: Array, y_pred: Array) -> Array:
    """Mean absolute error of each target, in its unit, (n_targets,).

    Example:
        >>> mae(np.array([[1.0], [2.0]]), np.array([[2.0], [4.0]])).tolist()
        [1.5]
    """
    return _by_target(lambda y, y_pred: np.abs(y - y_pred).mean(0), y, y_pred)


def bias(y: Array, y_pred: Array) -> Array:
    """Mean of prediction minus truth of each target, in its unit, (n_targets,).

    Example:
        >>> bias(np.array([[1.0], [2.0]]), np.array([[2.0], [3.0]])).tolist()
        [1.0]
    """
    return _by_target(lambda y, y_pred: (y_pred - y).mean(0), y, y_pred)


def crps(y: Array, ensemble: Array) -> Array:
    """Continuous ranked probability score of an ensemble for each target, in its unit.

    The fair estimator: members are taken for draws from a distribution, and the mean score is that
    of the distribution, however many were drawn. So ensembles of other sizes compare. One member
    has no spread to estimate: its score is the mean absolute error, and compares with no other.
    Lower is better; the score of a few members that lie on both sides of the truth may be negative.

    Source: Ferro (2014), Q. J. R. Meteorol. Soc. 140, 1917-1923; Zamo and Naveau (2018), Math.
    Geosci. 50, 209-234, equation 7 (PWM). The mean over all pairs comes from the sorted members.

    Args:
        y: truth, (n_samples, n_targets); NaN where it is missing.
        ensemble: predictions, (n_members, n_samples, n_targets).

    Returns:
        (n_targets,), mean over the samples that have the truth; NaN where none has.

    Raises:
        ClimstackError: a prediction is NaN.

    Example:
        >>> crps(np.array([[0.0]]), np.array([[[-1.0]], [[1.0]]])).tolist()
        [0.0]
    """
    if np.isnan(ensemble).any():
        member, row, target = np.argwhere(np.isnan(ensemble))[0]
        raise ClimstackError(
            f"the prediction of member {member} is nan at row {row}, target {target}: a score needs"
            " every prediction"
        )
    n_members = len(ensemble)
    ranked = np.sort(ensemble, axis=0)
    rank = 2.0 * np.arange(n_members) - (n_members - 1)
    # Half the mean |x_i - x_j| over pairs of two different members.
    pairs = np.tensordot(rank, ranked, axes=1) / max(n_members * (n_members - 1), 1)
    each: Array = np.abs(ensemble - y).mean(0) - pairs
    missing = np.isnan(y)
    if not missing.any():
        score: Array = each.mean(0)
        return score
    count = (~missing).sum(0)
    total = np.where(missing, 0.0, each).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _by_target(
    score: Callable[..., Array], y: Array, y_pred: Array, weights: Array | None = None
) -> Array:
    """A score of each target on the rows that have its truth, (n_targets,)."""
    y, y_pred = _checked(y, y_pred)
    missing = np.isnan(y)
    if not missing.any():
        return score(y, y_pred) if weights is None else score(y, y_pred, weights)
    found = np.empty(y.shape[1])
    for target in range(y.shape[1]):
        rows, here = ~missing[:, target], slice(target, target + 1)
        own = (y[rows, here], y_pred[rows, here], *([] if weights is None else [weights[here]]))
        found[here] = score(*own)
    return found


def _checked(y: Array, y_pred: Array) -> tuple[Array, Array]:
    y, y_pred = np.asarray(y, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    if y.ndim != 2 or y.shape != y_pred.shape:
        raise ClimstackError(
            f"truth and prediction must be 2-D and alike, but got {y.shape} and {y_pred.shape}"
        )
    if len(y) < 2:
        raise ClimstackError(f"a score needs at least 2 rows, but got {len(y)}")
    for name, values in (("truth", y), ("prediction", y_pred)):
        bad = np.isinf(values) if name == "truth" else ~np.isfinite(values)
        if bad.any():
            row, target = np.argwhere(bad)[0]
            raise ClimstackError(
                f"the {name} is {values[row, target]} at row {row}, target {target}:"
                " scores need finite values"
            )
    known = (~np.isnan(y)).sum(0)
    if len(known) and known.min() < 2:
        raise ClimstackError(
            f"target {known.argmin()} has {known.min()} truths in {len(y)} rows: a score needs at"
            " least 2"
        )
    return y, y_pred
