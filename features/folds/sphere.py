"""Geometry of the globe for folds by region: compact parts of its columns, and who is near them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from features.core.types import Array, Mask

Indices = NDArray[np.intp]

NEARLY_EQUAL = 0.9  # directions of nearly the largest spread are equals: a fixed one decides
TILT = 1e-3 * np.sqrt([1.0, 2.0, 3.0])  # columns on one parallel are cut along it, too
CHUNK = 2048  # columns compared at once


def unit_vectors(lat: Array, lon: Array) -> Array:
    """Places on the unit sphere, (n, 3), from degrees north and degrees east, each (n,)."""
    north, east = np.deg2rad(lat), np.deg2rad(lon)
    return np.stack(
        [np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1
    )


def mean_spacing(n_columns: int) -> float:
    """Side of a square of a column's mean share of the globe, rad: sqrt(4 pi / n_columns)."""
    return float(np.sqrt(4.0 * np.pi / n_columns))


def compact_parts(places: Array, n_parts: int) -> list[Indices]:
    """Cut places into compact parts of about equal numbers, by recursive bisection.

    Each cut is a plane across the direction in which the places spread most. Parts that follow one
    another are mostly neighbours.

    Source: Simon (1991), Comput. Syst. Eng. 2, 135-148, inertial bisection.

    Args:
        places: unit vectors, (n, 3).
        n_parts: at most n.

    Returns:
        Positions in ``places`` of each part; their numbers differ by 2 at most.
    """

    def parts(at: Indices, number: int) -> list[Indices]:
        if number == 1:
            return [at]
        first = number // 2
        along = places[at] @ _direction(places[at])
        in_order = at[np.argsort(along, kind="stable")]
        cut = round(len(at) * first / number)
        return [*parts(in_order[:cut], first), *parts(in_order[cut:], number - first)]

    return parts(np.arange(len(places)), n_parts)


def within(places: Array, others: Array, angle: float) -> Mask:
    """Which places have one of the others within a great-circle distance, (n,).

    Args:
        places: unit vectors, (n, 3).
        others: unit vectors, (m, 3).
        angle: the distance, rad.
    """
    least = np.cos(min(angle, np.pi))
    chunks = range(0, len(places), CHUNK)
    nearest = [(places[i : i + CHUNK] @ others.T).max(axis=1) for i in chunks]
    near: Mask = np.concatenate(nearest) >= least
    return near


def _direction(places: Array) -> Array:
    """The direction of the largest spread, (3,); the most northward one of equals.

    Eigenvectors of equal eigenvalues, as those of the whole globe, are chosen by rounding. So the
    first of north, 0 E and 90 E that has a part in their span is taken, and the folds are the
    same on every machine.
    """
    around = places - places.mean(axis=0)
    spread, vectors = np.linalg.eigh(around.T @ around)
    span = vectors[:, spread >= NEARLY_EQUAL * spread[-1]]
    onto = span @ span.T
    axis = next(part for part in (onto[2], onto[0], onto[1]) if part @ part > 0.25)
    direction: Array = axis + TILT
    return direction
