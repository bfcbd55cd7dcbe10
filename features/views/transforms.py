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
        constant: (n_columns,) bool.
    """

    mean: Array
    std: Array
    constant: Mask

    @classmethod
    def fit(cls, blocks: Iterable[Array]) -> Scaler:
        """Learn mean and standard deviation from blocks of rows, stably.

        Blocks are merged by the update of Chan, Golub and LeVeque (1979). Each column is first
        divided by a power of two near its size, so that squares of 1e-58 don't underflow.
        """
        count, mean, squares, low, high = 0, np.empty(0), np.empty(0), np.empty(0), np.empty(0)
        for block in blocks:
            n_new = len(block)
            new_mean = block.mean(0)
            size = np.abs(block).max(0)
            scale = np.exp2(np.floor(np.log2(np.where(size > 0, size, 1.0))))
            centred = ((block - new_mean) / scale) ** 2
            new_squares = np.sqrt(centred.sum(0)) * scale  # kept as a root: no underflow
            if count == 0:
                count, mean, squares = n_new, new_mean, new_squares
                low, high = block.min(0), block.max(0)
                continue
            total = count + n_new
            shift = new_mean - mean
            between = np.abs(shift) * np.sqrt(count * n_new / total)
            squares = np.hypot(np.hypot(squares, new_squares), between)
            mean = mean + shift * (n_new / total)
            low, high = np.minimum(low, block.min(0)), np.maximum(high, block.max(0))
            count = total
        std = squares / np.sqrt(max(count, 1))
        constant = (low == high) | (std == 0)
        return cls(np.where(constant, low, mean), np.where(constant, 1.0, std), constant)

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
        """Undo :meth:`transform`, exact to 1e-12 of the column's own scale."""
        return np.asarray(scaled, dtype=np.float64) * self.std + self.mean

    def take(self, columns: NDArray[np.intp]) -> Scaler:
        """The scaler of some columns only."""
        return Scaler(self.mean[columns], self.std[columns], self.constant[columns])
