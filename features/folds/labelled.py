"""Folds of single rows, of groups of rows, and people's own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.core.errors import LeakageWarning
from features.core.settings import check
from features.core.types import Array
from features.folds.plan import FoldPlan
from features.folds.schemes import at_least, new_plan

Numbers = NDArray[np.int64]


def groups(labels: ArrayLike, n_folds: int = 5, seed: int = 0) -> FoldPlan:
    """Whole groups: no group is on both sides of a fold. Sizes are balanced, largest group first.

    Args:
        labels: of each row, numbers or words, (n_samples,); rows without one (None) are one group.
        n_folds: number of folds.
        seed: of the order of groups of equal size, and of the units that inner blocks are cut from.

    Raises:
        ClimstackError: fewer groups than folds.

    Example:
        >>> plan = groups(["a", "b", "a", "c", "b"], n_folds=3)
        >>> [sorted(map(int, plan.valid_rows(k))) for k in range(3)]
        [[1, 4], [0, 2], [3]]
    """
    unit = shuffled_numbers(labels, seed)
    sizes = np.bincount(unit)
    at_least("groups", len(sizes), n_folds)
    fold_of_group, load = np.zeros(len(sizes), np.int64), np.zeros(n_folds, np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold_of_group[group] = load.argmin()
        load[fold_of_group[group]] += sizes[group]
    return _plan("groups", fold_of_group[unit], unit, n_folds)


def kfold(n_samples: int, n_folds: int = 5, seed: int = 0, *, independent: bool = True) -> FoldPlan:
    """Single rows at random, for rows that say nothing about each other.

    Args:
        n_samples: number of rows.
        n_folds: number of folds.
        seed: of the shuffle.
        independent: whether the rows are; else a LeakageWarning is given.

    Raises:
        ClimstackError: fewer rows than folds.

    Example:
        >>> [len(kfold(10, n_folds=4).valid_rows(k)) for k in range(4)]
        [3, 3, 2, 2]
    """
    _independent("kfold", independent)
    return _single("kfold", n_samples, n_folds, seed)


def stratified(
    values: ArrayLike, n_folds: int = 5, seed: int = 0, *, independent: bool = True
) -> FoldPlan:
    """Single rows so that each fold holds the same share of every category or quantile.

    Rows are sorted by value, equals at random; of every ``n_folds`` neighbours in that order each
    fold gets one.

    Args:
        values: numbers or words, (n_samples,); NaN and None are the last quantile.
        n_folds: number of folds.
        seed: of the shuffle.
        independent: whether the rows are; else a LeakageWarning is given.

    Raises:
        ClimstackError: fewer rows than folds.

    Example:
        >>> wet = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
        >>> plan = stratified(wet, n_folds=3)
        >>> [int(wet[plan.valid_rows(k)].sum()) for k in range(3)]
        [1, 1, 1]
    """
    _independent("stratified", independent)
    _, rank = np.unique(_comparable(values), return_inverse=True)
    at_least("rows", len(rank), n_folds)
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.permutation(len(rank)), rank))
    turns = [rng.permutation(n_folds) for _ in range(0, len(rank), n_folds)]
    fold = np.empty(len(rank), np.int64)
    fold[order] = np.concatenate(turns)[: len(rank)]
    return _plan("stratified", fold, rng.permutation(len(rank)), n_folds)


def own_folds(
    labels: Sequence[str | None],
    units: ArrayLike | None = None,
    *,
    scheme: str = "column",
    seed: int = 0,
) -> FoldPlan:
    """Folds that somebody else has made.

    Args:
        labels: the fold that holds a row out, (n_samples,), in the order of numbers, else of words;
            a row whose label is None is never held out, and trains for every fold.
        units: what inner blocks are cut from, (n_samples,); None takes single rows.
        scheme: how the plan is called.
        seed: of the order of the units.

    Raises:
        ClimstackError: fewer than two labels.

    Example:
        >>> plan = own_folds(["a", "b", None, "a"])
        >>> plan.valid_rows(0).tolist(), plan.train_rows(0).tolist()
        ([0, 3], [1, 2])
    """
    known = sorted({label for label in labels if label is not None}, key=_numbers_first)
    check(
        len(known) >= 2,
        f"{len(known)} folds are named, {known}: name at least 2, or 3 to stack",
    )
    number_of = {label: number for number, label in enumerate(known)}
    fold = np.array([-1 if label is None else number_of[label] for label in labels])
    unit = shuffled_numbers(np.arange(len(fold)) if units is None else units, seed)
    return _plan(scheme, fold, unit, len(known))


def random_rows(n_samples: int, n_folds: int = 5, seed: int = 0) -> FoldPlan:
    """Rows at random: flatters, because the neighbours in time of a validation row train.

    Args:
        n_samples: number of rows.
        n_folds: number of folds.
        seed: of the shuffle.

    Raises:
        ClimstackError: fewer rows than folds.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")  # neighbours in time train: it warns
        ...     plan = random_rows(9, n_folds=3)
        >>> plan.n_folds, said[-1].category.__name__
        (3, 'LeakageWarning')
    """
    warnings.warn(
        "random folds put neighbours in time on both sides, so their score is too good: use"
        " time_blocks for a score you can trust",
        LeakageWarning,
        stacklevel=2,
    )
    at_least("rows", n_samples, n_folds)
    fold = np.arange(n_samples) % n_folds
    np.random.default_rng(seed).shuffle(fold)
    return _plan("random_rows", fold, np.arange(n_samples), n_folds)


def shuffled_numbers(labels: ArrayLike, seed: int) -> Numbers:
    """A number for each label, in a random order, (n_samples,).

    Labels may be sorted by what is to be learned, and inner blocks are runs of units.
    """
    found, position = np.unique(_comparable(labels), return_inverse=True)
    numbers: Numbers = np.random.default_rng(seed).permutation(len(found))[position]
    return numbers


def _single(scheme: str, n_samples: int, n_folds: int, seed: int) -> FoldPlan:
    at_least("rows", n_samples, n_folds)
    fold = np.arange(n_samples) % n_folds
    rng = np.random.default_rng(seed)
    rng.shuffle(fold)
    return _plan(scheme, fold, rng.permutation(n_samples), n_folds)


def _independent(scheme: str, independent: bool) -> None:
    if not independent:
        warnings.warn(
            f"folds of scheme {scheme} put rows that may say something about each other on both"
            " sides, so their score may be too good: use groups or time_blocks, or say"
            " independent = true in the schema if they don't",
            LeakageWarning,
            stacklevel=3,
        )


def _comparable(labels: ArrayLike) -> Array | NDArray[np.str_]:
    """What can be sorted: numbers as they are, anything else as words."""
    array = np.asarray(labels)
    if array.dtype.kind in "biufM":
        return array
    return np.array(["" if each is None else f"={each}" for each in array.tolist()])


def _numbers_first(label: str) -> tuple[bool, int, str]:
    is_number = label.isdecimal()
    return not is_number, int(label) if is_number else 0, label


def _plan(scheme: str, fold: Numbers, unit: Numbers, n_folds: int) -> FoldPlan:
    excluded = np.zeros((n_folds, len(fold)), dtype=bool)
    return new_plan(scheme, 0, fold, unit, excluded)
