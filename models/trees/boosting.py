"""What the tree families share: features laid out by level, and the levels that a target sees.

A boosted tree's cost is proportional to the features it looks at, and what happens on a level is
mostly told by the levels near it. So a fold's features lie on disk as one part per level and one
for scalars, written and binned once, and a target's model is fitted on the parts of its window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core.files import npy_rows, release, scratch_array
from features.core.types import Array, Float32, Mask, Rows
from features.store.matrix import Matrix
from models.base import FoldData

SCALAR = -1  # the part of the scalars, and the "level" of a scalar target
SCALAR_TARGET_STRIDE = 4  # a scalar target sees every fourth level, counted from the ground

PARTS_BY = ("label_clip", "early_stopping_rounds", "inner_fraction")  # what Parts.write reads
OWN = {"n_rounds", "window", "label_clip", "early_stopping_rounds", "inner_fraction"}


def seen_levels(level: int, window: int, there: Sequence[int]) -> list[int]:
    """Levels whose features a target sees, the scalars' part first; all where it would see none.

    Args:
        level: the target's, -1 for a scalar.
        window: levels on each side; -1 sees all levels.
        there: levels that have features, ascending, -1 for scalars.
    """
    profile = [each for each in there if each != SCALAR]
    if window >= 0 and level == SCALAR:
        profile = profile[::-1][::SCALAR_TARGET_STRIDE][::-1]
    elif window >= 0:
        profile = [each for each in profile if abs(each - level) <= window]
    return [each for each in there if each == SCALAR] + profile or list(there)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A fold's training rows on disk, by level; picklable.

    Attributes:
        folder: holds ``fit_LEVEL.npy`` (n_rows, n_features of the level) and ``fit_labels.npy``
            (n_targets, n_rows), standardised and clipped, NaN where missing; with early stopping
            ``watch_*`` too; where rows have weights ``fit_weights.npy`` (n_rows,).
        feature_levels: level of each feature, (n_features,).
        target_levels: level of each target, (n_targets,).
        watched: whether there are rows to watch.
        misses: whether a row lacks a target.
        categories: whether each feature is the code of a category, (n_features,).
    """

    folder: Path
    feature_levels: NDArray[np.intp]
    target_levels: NDArray[np.intp]
    watched: bool
    misses: bool
    categories: Mask

    @classmethod
    def write(cls, data: FoldData, params: Any, folder: Path) -> Parts:
        """Lay out a fold for a family whose parameters have the common fields."""
        fraction = params.inner_fraction if params.early_stopping_rounds else 0.0
        fit, watch = data.inner_rows(fraction)
        parts = cls(
            folder=folder,
            feature_levels=data.feature_levels,
            target_levels=data.target_levels,
            watched=len(watch) > 0,
            misses=bool(data.misses.any()),
            categories=data.feature_categories,
        )
        parts._write_rows(data, "fit", fit, params.label_clip)
        if parts.watched:
            parts._write_rows(data, "watch", watch, params.label_clip)
        return parts

    def _write_rows(self, data: FoldData, name: str, rows: Rows, clip: float) -> None:
        shape = (len(data.targets), len(rows))
        labels = scratch_array(self.path(name, "labels"), "<f4", shape)
        if (weights := data.weights(rows)) is not None:
            np.save(self.path(name, "weights"), weights)
        start = 0
        with ExitStack() as files:
            writers = []
            for level in self.levels:
                columns = self.columns([level])
                shape = (len(rows), len(columns))
                add = files.enter_context(npy_rows(self.path(name, level), "<f4", shape))
                writers.append((columns, add))
            for features, targets in data.blocks(rows):
                for columns, add in writers:
                    add(features[:, columns])
                stop = start + len(features)
                labels[:, start:stop] = np.clip(targets, -clip, clip).T
                release(labels)  # what is mapped counts as this process's memory
                start = stop

    def path(self, name: str, part: int | str, suffix: str = "npy") -> Path:
        """File of one part of the rows ``name``."""
        return self.folder / f"{name}_{part}.{suffix}"

    @property
    def names(self) -> tuple[str, ...]:
        """The sets of rows that are there: ``fit`` and perhaps ``watch``."""
        return ("fit", "watch") if self.watched else ("fit",)

    @property
    def levels(self) -> list[int]:
        """Levels that have features, ascending, -1 for scalars."""
        return [int(level) for level in np.unique(self.feature_levels)]

    def columns(self, levels: Sequence[int]) -> NDArray[np.intp]:
        """Indices of the features of some levels, in the order of their parts."""
        return np.concatenate([np.flatnonzero(self.feature_levels == level) for level in levels])

    def features(self, name: str, levels: Sequence[int]) -> Float32:
        """Features of some levels side by side, (n_rows, n_features)."""
        held = Matrix.of_npy(self.path(name, levels[0]))
        features = np.empty((len(held), len(self.columns(levels))), held.dtype)
        start = 0
        for level in levels:  # one after the other, so that they are not held twice
            part = np.load(self.path(name, level))
            features[:, start : start + part.shape[1]] = part
            start += part.shape[1]
        return features

    def labels(self, name: str, target: int) -> Float32:
        """Labels of a target, (n_rows,), NaN where it is missing."""
        return np.array(np.load(self.path(name, "labels"), mmap_mode="r")[target])

    def weights(self, name: str) -> Float32 | None:
        """Weight of each row, (n_rows,); None where all weigh 1."""
        file = self.path(name, "weights")
        return np.load(file) if file.is_file() else None

    def windows(
        self, sets: Sequence[list[int]], window: int
    ) -> Iterator[tuple[list[int], list[list[int]]]]:
        """Levels seen, and the sets of one target each that see them, window by window."""
        seen_by: dict[tuple[int, ...], list[list[int]]] = {}
        for targets in sorted(sets, key=lambda targets: int(self.target_levels[targets[0]])):
            level = int(self.target_levels[targets[0]])
            seen_by.setdefault(tuple(seen_levels(level, window, self.levels)), []).append(targets)
        for seen, together in seen_by.items():
            yield list(seen), together


def spread_gain(gain: dict[int, float], columns: NDArray[np.intp], n_features: int) -> Array:
    """Gain by feature seen, as gain of every feature of the view, (n_features,)."""
    spread = np.zeros(n_features)
    for seen, value in gain.items():
        spread[columns[seen]] = value
    return spread
