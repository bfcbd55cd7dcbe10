"""Ridge regression of all targets at once from streamed normal equations.

Targets that the same rows have share their sums; others have sums over their own rows.

The penalty is chosen for each target on inner blocks of the training rows, from the same sums, so
the choice costs one eigendecomposition whatever the number of penalties.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from features.core.arrays import check_numbers, read_npz
from features.core.settings import Bounded, InnerShare, Positive, check
from features.core.types import Array, Float32, Rows
from models.base import Family, FitContext, Fits, Fitted, FoldData, Sets, check_width

MAX_SUMS = 2**29  # bytes of sums that are held at once: more targets take more passes


def one_blas_thread() -> AbstractContextManager[object]:
    """While it is entered, BLAS runs on one thread.

    How BLAS splits a product over threads changes its rounding: with one thread the model is the
    same to the bit on any number of cores.
    """
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


@dataclass(frozen=True)
class RidgeParams(Bounded):
    """Parameters of ridge regression.

    Attributes:
        alphas: candidate penalties; features and targets are standardised, and the intercept,
            which is small then, is penalised too.
        clip: features are clipped to +-clip standard deviations, so that a line fitted on common
            values does not run away on rare ones.
        inner_fraction: share of the training time that the penalty is chosen on.
    """

    alphas: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e5, 1e6)
    clip: Positive = 8.0
    inner_fraction: InnerShare = 0.15

    def __post_init__(self) -> None:
        check(
            len(self.alphas) > 0 and min(self.alphas) > 0,
            f"alphas must be one or more numbers above 0, but got {list(self.alphas)}",
        )
        super().__post_init__()


@dataclass
class _Sums:
    """Second moments of features (with a 1 appended) and targets over some rows, weighted."""

    xx: Array
    xz: Array
    zz: Array

    @classmethod
    def empty(cls, n_features: int, n_targets: int) -> _Sums:
        shapes = ((n_features, n_features), (n_features, n_targets), (n_targets,))
        return cls(*(np.zeros(shape) for shape in shapes))

    def add(self, x: Array, targets: Array) -> None:
        self.xx += x.T @ x
        self.xz += x.T @ targets
        self.zz += (targets**2).sum(0)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.xx + other.xx, self.xz + other.xz, self.zz + other.zz)

    def solutions(self, alphas: Sequence[float]) -> Iterator[Array]:
        """Coefficients (n_features + 1, n_targets) for each penalty."""
        values, vectors = np.linalg.eigh(self.xx)
        rotated = vectors.T @ self.xz
        for alpha in alphas:
            yield vectors @ (rotated / (np.maximum(values, 0) + alpha)[:, None])

    def squared_error(self, coefficients: Array) -> Array:
        """Sum of squared errors of each target, (n_targets,)."""
        quadratic = (coefficients * (self.xx @ coefficients)).sum(0)
        error: Array = quadratic - 2 * (coefficients * self.xz).sum(0) + self.zz
        return error


@dataclass(frozen=True)
class RidgeModel(Fitted):
    """Fitted coefficients.

    Attributes:
        coefficients: (n_features + 1, n_targets), the last row the intercept.
        alpha: chosen penalty of each target, (n_targets,).
        clip: features are clipped to +-clip.
    """

    coefficients: Array
    alpha: Array
    clip: float

    def predict(self, features: Float32) -> Array:
        """Standardised predictions, (n_samples, n_targets)."""
        check_width(features, len(self.coefficients) - 1)
        with one_blas_thread():
            predicted: Array = _design(features, self.clip) @ self.coefficients
        return predicted

    def save(self, folder: Path) -> None:
        """Write ``ridge.npz``."""
        with (folder / "ridge.npz").open("wb") as file:
            np.savez(
                file, coefficients=self.coefficients, alpha=self.alpha, clip=np.array(self.clip)
            )


class Ridge(Family):
    """The family; see :class:`models.base.Family`."""

    Params = RidgeParams
    package = "numpy"
    view = "linear"
    prepared_by = ("alphas", "clip", "inner_fraction")

    def prepare(self, data: FoldData, params: RidgeParams, folder: Path) -> RidgeModel:
        """Choose each target's penalty on the inner blocks, then fit on all training rows.

        One pass over the training rows for each of the inner split's parts, as long as the sums
        fit ``MAX_SUMS``: targets that miss other rows than each other need sums of their own.
        """
        fit, watch = data.inner_rows(params.inner_fraction)
        rest = np.setdiff1d(data.train_rows, np.concatenate([fit, watch]))
        n_features, n_targets = len(data.feature_names) + 1, len(data.targets)
        coefficients, alpha = np.zeros((n_features, n_targets)), np.zeros(n_targets)
        alike = _alike(data)
        n_together = max(1, MAX_SUMS // (3 * 8 * n_features**2))
        with one_blas_thread():
            for start in range(0, len(alike), n_together):
                together = alike[start : start + n_together]
                sums = [_sums_of(data, rows, together, params.clip) for rows in (fit, watch, rest)]
                for targets, own, watched, other in zip(together, *sums, strict=True):
                    solved = _solve(own, watched, other, params.alphas)
                    coefficients[:, targets], alpha[targets] = solved
        return RidgeModel(coefficients, alpha, params.clip)

    def fit(
        self, prepared: RidgeModel, sets: Sets, params: RidgeParams, context: FitContext
    ) -> Fits:
        """Take what was solved for all targets at once."""
        for targets in sets:
            coefficients, alpha = prepared.coefficients[:, targets], prepared.alpha[targets]
            yield targets, RidgeModel(coefficients, alpha, prepared.clip)

    def load(self, folder: Path) -> RidgeModel:
        """Read ``ridge.npz``."""
        held = read_npz(folder / "ridge.npz", ("coefficients", "alpha", "clip"))
        n_features = len(held["coefficients"])
        n_targets = len(held["alpha"])
        shapes = {"coefficients": (n_features, n_targets), "alpha": (n_targets,), "clip": ()}
        check_numbers(folder / "ridge.npz", held, shapes)
        return RidgeModel(held["coefficients"], held["alpha"], float(held["clip"]))


def _alike(data: FoldData) -> list[list[int]]:
    """Positions of targets, together where the same training rows have them."""
    if not data.misses.any():
        return [list(range(len(data.targets)))]
    seen = [hashlib.sha256() for _ in data.targets]
    for there in data.there(data.train_rows):
        for one, column in zip(seen, np.packbits(there, axis=0).T, strict=True):
            one.update(column.tobytes())
    found: dict[bytes, list[int]] = {}
    for position, one in enumerate(seen):
        found.setdefault(one.digest(), []).append(position)
    return list(found.values())


def _sums_of(data: FoldData, rows: Rows, together: list[list[int]], clip: float) -> list[_Sums]:
    """Sums over the rows that have them, for each of some lists of targets."""
    n_features = len(data.feature_names) + 1
    sums = [_Sums.empty(n_features, len(targets)) for targets in together]
    weights, start = data.weights(rows), 0
    for features, values in data.blocks(rows):
        x = _design(features, clip)
        if weights is not None:
            root = np.sqrt(weights[start : start + len(x), None])
            x, values, start = x * root, values * root, start + len(x)
        for targets, own in zip(together, sums, strict=True):
            if len(together) == 1 and not data.misses.any():
                own.add(x, values)
                continue
            there = ~np.isnan(values[:, targets[0]])
            own.add(x[there], values[there][:, targets])
    return sums


def _solve(fit: _Sums, watch: _Sums, rest: _Sums, alphas: Sequence[float]) -> tuple[Array, Array]:
    """Coefficients (n_features + 1, n_targets) and penalty of each target, (n_targets,)."""
    errors = [watch.squared_error(solution) for solution in fit.solutions(alphas)]
    chosen = np.argmin(errors, axis=0)
    if watch.xx[-1, -1] == 0:  # no row to choose it on
        chosen[:] = len(alphas) // 2
    everything = fit + watch + rest
    coefficients = np.zeros_like(everything.xz)
    for position, solution in enumerate(everything.solutions(alphas)):
        coefficients[:, chosen == position] = solution[:, chosen == position]
    return coefficients, np.array(alphas)[chosen]


def _design(features: Float32, clip: float) -> Array:
    clipped = np.clip(features.astype(np.float64), -clip, clip)
    return np.concatenate([clipped, np.ones((len(features), 1))], axis=1)


MODEL = Ridge()
