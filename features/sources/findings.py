"""What is worth knowing about data, as sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from features.core.types import Array

SMALLEST_FLOAT32 = float(np.finfo(np.float32).tiny)  # what is smaller loses digits, or is 0

FEWEST = 32  # distinct values that tell a habit from chance
SAMPLED, MOST = 4096, 64  # values, and distinct ones, that are looked at
SHORT = 12  # significant digits: of a thousand float64s that were computed, one has no more

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing about data.

    Attributes:
        level: ``"error"`` (can't be used), ``"warning"`` or ``"note"``.
        sentence: what, where, the value found, what to do.

    Example:
        >>> Finding("warning", "2 inputs are constant").level
        'warning'
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


def few_digits(values: Array) -> str | None:
    """How values were cut if all of them were, as ``"float32"``; None where they are float64s.

    0, 1 and -1 tell nothing, nor do values that hardly differ.
    """
    found = values.ravel(order="K")[:: max(1, values.size // SAMPLED)]
    if _are_wide(found[:: max(1, len(found) // MOST)]):
        return None
    found = np.unique(found[np.isfinite(found)])
    found = found[~np.isin(found, (-1.0, 0.0, 1.0))]
    if len(found) < FEWEST:
        return None
    found = found[np.linspace(0, len(found) - 1, min(MOST, len(found))).astype(int)]
    with np.errstate(over="ignore", under="ignore"):
        if np.array_equal(found, found.astype(np.float32)):
            return "float32"
    if any(_digits(value) > SHORT for value in found.tolist()):
        return None
    return f"decimals of at most {SHORT} digits"


def _are_wide(values: Array) -> bool:
    """Whether values have the digits of float64s, as nearly all do that were computed so."""
    finite = values[np.isfinite(values)]
    with np.errstate(over="ignore", under="ignore"):
        is_narrow = np.array_equal(finite, finite.astype(np.float32))
    return not is_narrow and any(_digits(value) > SHORT for value in finite.tolist())


def _digits(value: float) -> int:
    return len(repr(value).partition("e")[0].replace(".", "").strip("-0"))
