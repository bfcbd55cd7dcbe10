"""Auxiliary sources: rows that train beside the training data, weighted, and are never held out.

An auxiliary row must not lie near a held-out one in time, or the score would be flattered. So each
source gets a place on the training data's clock: from the store's own numbers where both tell the
model's time, else from rows that both hold. LEAP's ``train.csv`` has every seventh timestep of a
simulation, for one: its full archive holds copies of those rows, and the six between lie somewhere
from one copy to the next. Whatever the settings say, no copy of a held-out row trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from features.core.errors import ClimstackError, closest
from features.core.settings import Bounded, Natural, check
from features.core.types import Mask, Rows
from features.folds.making import Wanted, make_plan
from features.folds.plan import FoldPlan
from features.store.store import Store

Numbers = NDArray[np.int64]
OF_TIME, OF_PLACE = ("time_blocks", "forward_chaining"), ("column_blocks", "regions")
FAR = 2**40  # units of a source that has no time in common with the training data
TIMES = 2**31  # more timesteps than any source has
Time = Literal["stored", "separate"]
LOOKED_AT = 2**20  # rows at once
CONFIRMED = 1024  # rows whose values are compared when their parities are equal


@dataclass(frozen=True, kw_only=True)
class Auxiliary(Bounded):
    """``[[data.auxiliary]]``: a source that trains, and never validates.

    Attributes:
        source: name of one of the store's sources; in an experiment whose training data is a table,
            a file or folder that is converted with it.
        weight: of each of its rows in training; a row of the training data weighs 1.
        embargo: timesteps of the training data's clock kept free around a validation block; None
            takes the folds'. Inner blocks, which penalties and early stopping are chosen on, keep
            the folds'.
        time: ``"stored"`` where the store's own numbers place it among the training data,
            ``"separate"`` where it has no time in common with them: another simulation, other
            years. None finds out, and refuses where it can't.

    Example:
        >>> Auxiliary(source="warmer.parquet", weight=0.5).embargo is None
        True
    """

    source: str
    weight: Annotated[float, Interval(ge=1e-6, le=1e6)] = 1.0
    embargo: Natural | None = None
    time: Time | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.time in (None, *get_args(Time)),
            f"time must be one of {', '.join(get_args(Time))}, but got {self.time!r}",
        )


def plan_store(
    store: Store,
    scheme: str | None = None,
    *,
    n_folds: int = 5,
    embargo: int = 1,
    by: str | None = None,
    file: str | None = None,
    seed: int = 0,
    auxiliaries: Sequence[Auxiliary] = (),
) -> FoldPlan:
    """The fold plan of a store: its training data by a scheme's name, then the auxiliary sources.

    What the arguments mean says :class:`features.folds.making.Wanted`.

    No copy of a row that a fold holds out trains in it.

    Raises:
        ClimstackError: see :func:`features.folds.making.make_plan` and :func:`enrich`.
    """
    wanted = Wanted(scheme=scheme, n_folds=n_folds, embargo=embargo, by=by, file=file, seed=seed)
    plan = make_plan(store, wanted, main_rows(store, auxiliaries))
    return enrich(plan, store, auxiliaries).without_copies(store.original)


def main_rows(store: Store, auxiliaries: Sequence[Auxiliary]) -> Rows:
    """Rows that are no auxiliary source's, ascending.

    Raises:
        ClimstackError: no such source, two of that name, one named twice, or nothing is left.
    """
    if not auxiliaries:
        return np.arange(len(store))
    numbers = [_number(store, each) for each in auxiliaries]
    for auxiliary, number in zip(auxiliaries, numbers, strict=True):
        check(
            numbers.count(number) == 1,
            f"auxiliary source '{auxiliary.source}' is named twice: remove one",
        )
    main = np.flatnonzero(~np.isin(store.source, numbers))
    check(
        len(main) > 0, f"every source of {store.path} is an auxiliary one: leave one to validate on"
    )
    ours = np.unique(store.source[main])
    if _counts_rows(store, int(ours[-1])):
        for auxiliary, number in zip(auxiliaries, numbers, strict=True):
            check(
                number > ours[-1] or not _counts_rows(store, number),
                f"the training data's timesteps in {store.path} count on from those of auxiliary"
                f" source '{auxiliary.source}': convert it after the training data",
            )
    return main


def enrich(plan: FoldPlan, store: Store, auxiliaries: Sequence[Auxiliary]) -> FoldPlan:
    """A plan over all rows of a store, from that of its training data and some auxiliary sources.

    Args:
        plan: of the rows that :func:`main_rows` gives, in their order.
        store: holds the auxiliary sources too.
        auxiliaries: which of its sources train only.

    Returns:
        A plan whose auxiliary rows have fold -1, weights, and an embargo of their own; the same
        plan if there are none.

    Raises:
        ClimstackError: a source has no known place in time, its rows are copies of held-out ones,
            or the scheme keeps nothing free around a held-out row.

    Example:
        >>> enrich(data.plan, store, []).hash == data.plan.hash
        True
    """
    if not auxiliaries:
        return plan
    main = main_rows(store, auxiliaries)
    check(
        len(plan) == len(main),
        f"the fold plan has {len(plan)} rows, but {store.path} has {len(main)} outside its"
        " auxiliary sources: make the plan from those",
    )
    check(
        plan.scheme in (*OF_TIME, *OF_PLACE),
        f"folds of scheme {plan.scheme} keep neither time nor place free around a held-out row, and"
        " auxiliary sources would leak into it: use time_blocks",
    )
    n = len(store)
    fold, weight = np.full(n, -1, np.int16), np.ones(n)
    unit, last = np.zeros((2, n), np.int64)
    excluded, is_auxiliary = np.zeros((plan.n_folds, n), np.bool_), np.ones(n, np.bool_)
    fold[main], unit[main], last[main], is_auxiliary[main] = plan.fold, plan.unit, plan.unit, False
    excluded[:, main] = plan.excluded
    for auxiliary in auxiliaries:
        own = np.flatnonzero(store.source == _number(store, auxiliary))
        weight[own] = auxiliary.weight
        if plan.scheme in OF_TIME:
            unit[own], last[own] = _on_clock(store, main, own, auxiliary)
            excluded[:, own] = _near_in_time(plan, unit[own], last[own], auxiliary)
        else:
            unit[own], excluded[:, own] = _by_column(plan, store, main, own, auxiliary)
            last[own] = unit[own]
    made = replace(
        plan,
        fold=fold,
        excluded=excluded,
        unit=unit,
        last=last,
        weight=weight,
        auxiliary=is_auxiliary,
    )
    _refuse_copies(made, store)
    return made


def _number(store: Store, auxiliary: Auxiliary) -> int:
    names = [source["file"] for source in store.sources]
    name = Path(auxiliary.source).name
    check(name in names, f"{store.path} has no source '{name}': {closest(name, names)}")
    check(names.count(name) == 1, f"{store.path} has two sources called '{name}': rename a file")
    return names.index(name)


def _counts_rows(store: Store, number: int) -> bool:
    return store.sources[number].get("clock") != "model"


def _on_clock(store: Store, main: Rows, own: Rows, auxiliary: Auxiliary) -> tuple[Numbers, Numbers]:
    """First and last timestep of the training data at which each row of a source may lie."""
    time, copies = store.time[own], _copied_times(store, main, own)
    if auxiliary.time == "separate":
        check(
            not len(copies),
            f"auxiliary source '{auxiliary.source}' is said to have no time in common with the"
            f" training data, but holds copies of {len(copies)} of its timesteps: leave time out",
        )
        return FAR + time, FAR + time
    numbers = [*np.unique(store.source[main]), store.source[own[0]]]
    same_clock = not any(_counts_rows(store, int(number)) for number in numbers)
    if auxiliary.time == "stored" or (same_clock and auxiliary.time is None):
        wrong = np.flatnonzero(copies[:, 0] != copies[:, 1])
        if len(wrong):
            theirs, ours = copies[wrong[0]]
            raise ClimstackError(
                f"timestep {theirs} of auxiliary source '{auxiliary.source}' is a copy of the"
                f" training data's timestep {ours}, so the store's numbers don't place it: leave"
                " time out"
            )
        return time, time
    if not len(copies):
        raise ClimstackError(
            f"auxiliary source '{auxiliary.source}' has no known place in the training data's"
            " time: say"
            ' time = "separate" if it is from another simulation or other years, or'
            ' time = "stored" if it follows the training data as the store numbers it'
        )
    if not (np.diff(copies, axis=0) > 0).all():
        raise ClimstackError(
            f"auxiliary source '{auxiliary.source}' holds copies of the training data's timesteps"
            " in another order: sort it by time"
        )
    # A row lies from the last copy before it to the first one after it; before the first copy and
    # after the last, anywhere.
    theirs, ours = copies[:, 0], np.concatenate([[-FAR], copies[:, 1], [FAR]])
    before = np.searchsorted(theirs, time, "right")
    return ours[before], ours[1:][np.searchsorted(theirs, time, "left")]


def _copied_times(store: Store, main: Rows, own: Rows) -> Numbers:
    """Timesteps of a source that the training data hold too: (n, 2), theirs and ours, ascending."""
    time, found = store.time, np.empty(0, np.int64)
    for pairs in _of_equal_parity(store, own, main):
        times = time[pairs[:, 0]] * TIMES + time[pairs[:, 1]]
        while len(times):  # one pair of rows for each pair of timesteps, another if it won't do
            unknown = ~np.isin(times, found)
            times, pairs = times[unknown], pairs[unknown]
            _, first = np.unique(times, return_index=True)
            real = _equal(store, pairs[first, 0], pairs[first, 1])
            found = np.concatenate([found, times[first[real]]])
            times, pairs = np.delete(times, first), np.delete(pairs, first, axis=0)
    return np.stack(np.divmod(np.sort(found), TIMES), axis=1)


def _of_equal_parity(store: Store, rows: Rows, others: Rows) -> Iterator[NDArray[np.intp]]:
    """Pairs of a row and another one whose inputs have equal parities, (n, 2) at a time."""
    parity = store.row_parities("inputs")
    others = others[np.argsort(parity[others], kind="stable")]
    known = parity[others]
    for start in range(0, len(rows), LOOKED_AT):
        here = rows[start : start + LOOKED_AT]
        first = np.searchsorted(known, parity[here], "left")
        counts = np.searchsorted(known, parity[here], "right") - first
        pair_of = np.repeat(np.arange(len(here)), counts)
        nth = np.arange(len(pair_of)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield np.stack([here[pair_of], others[first[pair_of] + nth]], axis=1)


def _equal(store: Store, some: Rows, others: Rows) -> Mask:
    """Whether inputs of rows are the same to the bit, (n,)."""
    found = [np.empty(0, np.bool_)]
    for start in range(0, len(some), CONFIRMED):
        here = slice(start, start + CONFIRMED)
        a, b = (store.inputs[rows[here]].view(np.int64) for rows in (some, others))
        found.append((a == b).all(axis=1))
    return np.concatenate(found)


def _near_in_time(plan: FoldPlan, first: Numbers, last: Numbers, auxiliary: Auxiliary) -> Mask:
    embargo = plan.embargo if auxiliary.embargo is None else auxiliary.embargo
    near = np.zeros((plan.n_folds, len(first)), np.bool_)
    for k in range(plan.n_folds):
        held = plan.unit[plan.valid_rows(k)]
        end = FAR - 1 if plan.scheme == "forward_chaining" else held.max() + embargo
        near[k] = (last >= held.min() - embargo) & (first <= end)
    return near


def _by_column(
    plan: FoldPlan, store: Store, main: Rows, own: Rows, auxiliary: Auxiliary
) -> tuple[Numbers, Mask]:
    """Unit of each row, and in which folds its column is held out or kept free."""
    check(
        auxiliary.embargo is None,
        f"auxiliary source '{auxiliary.source}' has an embargo, which counts timesteps, but scheme"
        f" {plan.scheme} holds out columns: leave it out",
    )
    columns, first = np.unique(store.column[main], return_index=True)
    at = np.searchsorted(columns, store.column[own])
    unknown = (at >= len(columns)) | (
        columns[np.minimum(at, len(columns) - 1)] != store.column[own]
    )
    if unknown.any():
        raise ClimstackError(
            f"auxiliary source '{auxiliary.source}' has grid column"
            f" {store.column[own][unknown][0]}, which the training data lack: folds by column need"
            " the same grid"
        )
    held = plan.fold[first] == np.arange(plan.n_folds)[:, None]
    return plan.unit[first][at], (held | plan.excluded[:, first])[:, at]


def _refuse_copies(plan: FoldPlan, store: Store) -> None:
    """No auxiliary row that trains in a fold is a copy of one that it holds out.

    Raises:
        ClimstackError: names both rows.
    """
    assert plan.auxiliary is not None
    for k in range(plan.n_folds):
        train = plan.train_rows(k)
        for pairs in _of_equal_parity(store, train[plan.auxiliary[train]], plan.valid_rows(k)):
            real = pairs[_equal(store, pairs[:, 0], pairs[:, 1])]
            if len(real):
                row, original = real[0]
                name = store.sources[store.source[row]]["file"]
                raise ClimstackError(
                    f"row {row} of {store.path}, from '{name}', is a copy of row {original}, which"
                    f" fold {k} holds out, so the source is not where its settings say"
                )
