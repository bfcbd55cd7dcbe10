"""How a value becomes learnable: float64 until scaled, then float32; fitted on training rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core.arrays import check_numbers
from features.core.errors import ClimstackError
from features.core.types import Array, Mask

OF_SCALER = ("mean", "std", "constant")


@dataclass(frozen=True)
class Scaler:
    """Standardise columns in float64; a constant column becomes zeros.

    Attributes:
        mean: (n_columns,).
        std: (n_columns,), 1 where the column is constant.
        constant: (n_columns,) bool: of these :meth:`inverse` gives the mean.

    Example:
        >>> scaler = Scaler.fit([np.array([[1.0, 5.0], [3.0, 5.0]])])
        >>> scaler.mean.tolist(), scaler.std[0].item(), scaler.constant.tolist()
        ([2.0, 5.0], 1.0, [False, True])
    """

    mean: Array
    std: Array
    constant: Mask

    @classmethod
    def fit(cls, blocks: Iterable[Array]) -> Scaler:
        """Learn mean and standard deviation from blocks of rows, stably; of values that are there.

        Blocks are merged by the update of Chan, Golub and LeVeque (1979). Each column is first
        divided by a power of two near its size, so that squares of 1e-58 don't underflow. NaN is a
        missing value, which counts for nothing; a column of nothing else has the mean 0.

        Example:
            >>> scaler = Scaler.fit([np.array([[1.0, np.nan], [3.0, 8.0]])])
            >>> scaler.mean, scaler.std, scaler.constant
            (array([2., 8.]), array([1., 1.]), array([False,  True]))
        """
        held: _Moments | None = None
        for block in blocks:
            more = _Moments.of(block)
            held = more if held is None else held.merged(more)
        if held is None:
            return cls(np.empty(0), np.empty(0), np.empty(0, dtype=bool))
        std = held.root / np.sqrt(np.maximum(held.count, 1))
        constant = (held.low >= held.high) | (std == 0)  # of no values low is inf, high is -inf
        mean = np.where(constant & (held.count > 0), held.low, held.mean)
        return cls(mean, np.where(constant, 1.0, std), constant)

    @classmethod
    def read(cls, path: Path, arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> Scaler:
        """A scaler from the arrays ``mean``, ``std`` and ``constant`` of a file.

        Raises:
            ClimstackError: they are no such arrays, or a deviation is not above 0.
        """
        names = [f"{prefix}{part}" for part in OF_SCALER]
        mean, std, constant = (arrays[name] for name in names)
        check_numbers(path, arrays, dict.fromkeys(names[:2], constant.shape))
        if constant.dtype != np.bool_ or constant.ndim != 1 or not (std > 0).all():
            raise ClimstackError(
                f"{path} is damaged ({names[1]} or {names[2]} is no scale): delete its cell and run"
                " again"
            )
        return cls(mean, std, constant)

    def transform(self, values: Array) -> Array:
        """Standardise (n_samples, n_columns)."""
        return (values - self.mean) / self.std

    def inverse(self, scaled: Array) -> Array:
        """Undo :meth:`transform`, exact to 1e-12 of the column's own scale.

        A constant column gives its mean, whatever was predicted.
        """
        values = np.asarray(scaled, dtype=np.float64) * self.std + self.mean
        return np.where(self.constant, self.mean, values) if self.constant.any() else values

    def take(self, columns: NDArray[np.intp]) -> Scaler:
        """The scaler of some columns only."""
        return Scaler(self.mean[columns], self.std[columns], self.constant[columns])


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """What some rows say of each column, (n_columns,) each.

    Attributes:
        count: values that are there.
        mean: of them, 0 of none.
        root: square root of the sum of their squared deviations from it: no underflow.
        low: the least, inf of none.
        high: the greatest, -inf of none.
    """

    count: NDArray[np.int64]
    mean: Array
    root: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, block: Array) -> _Moments:
        count = np.full(block.shape[1], len(block))
        mean = block.mean(0)
        there = None
        if np.isnan(mean).any():  # a look at means costs nothing, one at all values does
            there = ~np.isnan(block)
            count = there.sum(0)
            block = np.where(there, block, 0.0)
            mean = block.sum(0) / np.maximum(count, 1)
        size = np.abs(block).max(0)
        scale = np.exp2(np.floor(np.log2(np.where(size > 0, size, 1.0))))
        away = block - mean
        low, high = block, block
        if there is not None:
            away, low = np.where(there, away, 0.0), np.where(there, block, np.inf)
            high = np.where(there, block, -np.inf)
        root = np.sqrt(((away / scale) ** 2).sum(0)) * scale
        return cls(count=count, mean=mean, root=root, low=low.min(0), high=high.max(0))

    def merged(self, more: _Moments) -> _Moments:
        total = np.maximum(self.count + more.count, 1)
        shift = more.mean - self.mean
        between = np.abs(shift) * np.sqrt(self.count * more.count / total)
        return _Moments(
            count=self.count + more.count,
            mean=self.mean + shift * (more.count / total),
            root=np.hypot(np.hypot(self.root, more.root), between),
            low=np.minimum(self.low, more.low),
            high=np.maximum(self.high, more.high),
        )
