"""What is worth knowing about data, as sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

SMALLEST_FLOAT32 = float(np.finfo(np.float32).tiny)  # what is smaller loses digits, or is 0

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing about data.

    Attributes:
        level: ``"error"`` (can't be used), ``"warning"`` or ``"note"``.
        sentence: what, where, the value found, what to do.
    """

    level: Level
    sentence: str


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then notes."""
    return sorted(findings, key=lambda finding: get_args(Level).index(finding.level))


def compress(names: Iterable[str]) -> str:
    """Shorten column names to ranges of levels.

    >>> compress(["a_0", "a_1", "a_2", "b", "a_7"])
    'a_0..2, a_7, b'
    """
    levels: dict[str, list[int]] = {}
    for name in names:
        stem, _, level = name.rpartition("_")
        if level.isdigit() and stem:
            levels.setdefault(stem, []).append(int(level))
        else:
            levels.setdefault(name, [])
    parts = []
    for stem, found in levels.items():
        if not found:
            parts.append(stem)
        runs: list[tuple[int, int]] = []
        for number in sorted(found):
            if runs and number == runs[-1][1] + 1:
                runs[-1] = (runs[-1][0], number)
            else:
                runs.append((number, number))
        parts += [f"{stem}_{a}" if a == b else f"{stem}_{a}..{b}" for a, b in runs]
    return ", ".join(parts)
