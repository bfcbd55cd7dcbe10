"""The sequence view: flat columns as profiles (n_samples, n_levels, n_channels) and scalars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ABSENT = -1


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where flat columns stand in profiles and scalars.

    Attributes:
        n_columns: width of the flat table.
        channels: names of the profiles' channels, (n_channels,).
        profile: flat column of each level and channel, (n_levels, n_channels); -1 where a profile
            lacks a level, which reads as 0 (what is constant there is left out of a view).
        scalar: flat column of each scalar, (n_scalars,).
    """

    n_columns: int
    channels: list[str]
    profile: NDArray[np.intp]
    scalar: NDArray[np.intp]

    @classmethod
    def of(cls, names: Sequence[str], levels: Sequence[int], n_levels: int) -> Layout:
        """The layout of columns named ``VARIABLE_LEVEL``, or ``VARIABLE`` with the level -1."""
        channels: dict[str, dict[int, int]] = {}
        scalars = []
        for position, (name, level) in enumerate(zip(names, levels, strict=True)):
            if level < 0:
                scalars.append(position)
            else:
                channels.setdefault(name.removesuffix(f"_{level}"), {})[int(level)] = position
        profile = np.full((n_levels, len(channels)), ABSENT, dtype=np.intp)
        for channel, found in enumerate(channels.values()):
            profile[list(found), channel] = list(found.values())
        scalar = np.array(scalars, dtype=np.intp)
        return cls(n_columns=len(names), channels=list(channels), profile=profile, scalar=scalar)

    @property
    def source(self) -> NDArray[np.intp]:
        """For each flat column its position in (profiles flattened, scalars), (n_columns,)."""
        there = self.profile.ravel() != ABSENT
        source = np.empty(self.n_columns, dtype=np.intp)
        source[self.profile.ravel()[there]] = np.flatnonzero(there)
        source[self.scalar] = self.profile.size + np.arange(len(self.scalar))
        return source
