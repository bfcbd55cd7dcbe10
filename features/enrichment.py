"""Extra sources: rows that train beside the training data, weighted, and are never held out.

An extra row must not lie near a held-out one in time, or the score would be flattered. So each
source gets a place on the training data's clock: from the store's own numbers where both tell the
model's time, else from rows that both hold. LEAP's ``train.csv`` has every seventh timestep of a
simulation, for one: its full archive holds copies of those rows, and they say where the six between
lie. Whatever the settings say, no copy of a held-out row trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import ClimstackError, closest
from features.fold_schemes import make_plan
from features.folds import FoldPlan, Rows
from features.settings import check, require
from features.store import Store

Numbers = NDArray[np.int64]
OF_TIME = ("time_blocks", "forward_chaining")
FAR = 2**40  # units of a source that has no time in common with the training data
LOOKED_AT = 2**20  # rows at once
CONFIRMED = 1024  # rows whose values are compared when their parities are equal


@dataclass(frozen=True)
class Extra:
    """``[[data.extra]]``: a source that trains, and never validates.

    Attributes:
        source: name of one of the store's sources; in an experiment whose training data is a table,
            a file or folder that is converted with it.
        weight: of each of its rows in training; a row of the training data weighs 1.
        embargo: timesteps of the training data's clock kept free around a validation block; None
            takes the folds'.
        time: ``"stored"`` where the store's own numbers place it among the training data,
            ``"separate"`` where it has no time in common with them: another simulation, other
            years. None finds out, and refuses where it can't.
    """

    source: str
    weight: float = 1.0
    embargo: int | None = None
    time: Literal["stored", "separate"] | None = None

    def __post_init__(self) -> None:
        require(self, weight="(0, inf)")
        check(
            self.embargo is None or self.embargo >= 0,
            f"embargo must be at least 0, but got {self.embargo}",
        )


def plan_store(
    store: Store,
    scheme: str,
    n_folds: int,
    embargo: int,
    seed: int,
    extras: Sequence[Extra] = (),
) -> FoldPlan:
    """The fold plan of a store: its training data by a scheme's name, then the extra sources.

    Raises:
        ClimstackError: see :func:`features.fold_schemes.make_plan` and :func:`enrich`.
    """
    main = main_rows(store, extras)
    time, column = store.time[main], store.column[main]
    plan = make_plan(scheme, time, column, n_folds, embargo, seed, store.grid)
    return enrich(plan, store, extras)


def main_rows(store: Store, extras: Sequence[Extra]) -> Rows:
    """Rows that are no extra source's, ascending.

    Raises:
        ClimstackError: no such source, two of that name, one named twice, or nothing is left.
    """
    if not extras:
        return np.arange(len(store))
    main = np.flatnonzero(~np.isin(store.source, [_number(store, each) for each in extras]))
    named = [each.source for each in extras]
    twice = [name for name in named if named.count(name) > 1]
    check(not twice, f"extra source '{twice[0] if twice else ''}' is named twice: remove one")
    check(len(main) > 0, f"every source of {store.path} is an extra one: leave one to validate on")
    return main


def enrich(plan: FoldPlan, store: Store, extras: Sequence[Extra]) -> FoldPlan:
    """A plan over all rows of a store, from that of its training data and some extra sources.

    Args:
        plan: of the rows that :func:`main_rows` gives, in their order.
        store: holds the extra sources too.
        extras: which of its sources train only.

    Returns:
        A plan whose extra rows have fold -1, weights, and an embargo of their own; the same plan if
        there are none.

    Raises:
        ClimstackError: a source has no known place in time, its rows are copies of held-out ones,
            or the scheme keeps nothing free around a held-out row.
    """
    if not extras:
        return plan
    main = main_rows(store, extras)
    check(
        len(plan) == len(main),
        f"the fold plan has {len(plan)} rows, but {store.path} has {len(main)} outside its extra"
        " sources: make the plan from those",
    )
    check(
        plan.scheme != "random_rows",
        "random folds keep no time free around a held-out row, and extra sources would leak into"
        " it: use time_blocks",
    )
    n = len(store)
    fold, unit, weight = np.full(n, -1, np.int16), np.zeros(n, np.int64), np.ones(n)
    excluded, is_extra = np.zeros((plan.n_folds, n), np.bool_), np.ones(n, np.bool_)
    fold[main], unit[main], is_extra[main] = plan.fold, plan.unit, False
    excluded[:, main] = plan.excluded
    for extra in extras:
        own = np.flatnonzero(store.source == _number(store, extra))
        weight[own] = extra.weight
        if plan.scheme in OF_TIME:
            unit[own] = _on_clock(store, main, own, extra)
            excluded[:, own] = _near_in_time(plan, unit[own], extra)
        else:
            unit[own], excluded[:, own] = _by_column(plan, store, main, own, extra)
    made = FoldPlan(plan.scheme, plan.n_folds, plan.embargo, fold, excluded, unit, weight, is_extra)
    _refuse_copies(made, store)
    return made


def _number(store: Store, extra: Extra) -> int:
    names = [source["file"] for source in store.sources]
    name = Path(extra.source).name
    check(
        name in names,
        f"{store.path} has no source '{name}': {closest(name, names)}",
    )
    check(names.count(name) == 1, f"{store.path} has two sources called '{name}': rename a file")
    return names.index(name)


def _on_clock(store: Store, main: Rows, own: Rows, extra: Extra) -> Numbers:
    """The timestep of the training data at which each of a source's rows lies, rounded."""
    time, copies = store.time, _copied_times(store, main, own)
    if extra.time == "separate":
        check(
            not len(copies),
            f"extra source '{extra.source}' is said to have no time in common with the training"
            f" data, but holds copies of {len(copies)} of its timesteps: leave time out",
        )
        return FAR + time[own]
    clocks = {store.sources[number].get("clock") for number in np.unique(store.source[main])}
    same_clock = clocks == {"model"} and store.sources[store.source[own[0]]].get("clock") == "model"
    if extra.time == "stored" or (same_clock and extra.time is None):
        wrong = np.flatnonzero(copies[:, 0] != copies[:, 1])
        if len(wrong):
            theirs, ours = copies[wrong[0]]
            raise ClimstackError(
                f"timestep {theirs} of extra source '{extra.source}' is a copy of the training"
                f" data's timestep {ours}, so the store's numbers don't place it: leave time out"
            )
        return time[own]
    if len(copies) < 2:
        raise ClimstackError(
            f"extra source '{extra.source}' has no known place in the training data's time: say"
            ' time = "separate" if it is from another simulation or other years, or'
            ' time = "stored" if it follows the training data as the store numbers it'
        )
    if not (np.diff(copies, axis=0) > 0).all():
        raise ClimstackError(
            f"extra source '{extra.source}' holds copies of the training data's timesteps in"
            " another order: leave the copies out, or sort it by time"
        )
    return _interpolated(time[own], copies)


def _copied_times(store: Store, main: Rows, own: Rows) -> Numbers:
    """Timesteps of a source that the training data hold too: (n, 2), theirs and ours, ascending."""
    parity, time = store.row_parities("inputs"), store.time
    of_main = parity[main]
    order = np.argsort(of_main, kind="stable")
    found: list[NDArray[np.intp]] = []
    for start in range(0, len(own), LOOKED_AT):
        rows = own[start : start + LOOKED_AT]
        at = np.searchsorted(of_main, parity[rows], sorter=order)
        match = order[np.minimum(at, len(order) - 1)]
        hit = of_main[match] == parity[rows]
        found.append(np.stack([rows[hit], main[match[hit]]], axis=1))
    pairs = np.concatenate(found)
    times = np.stack([time[pairs[:, 0]], time[pairs[:, 1]]], axis=1)
    times, first = np.unique(times, axis=0, return_index=True)
    real = _equal(store, pairs[first, 0], pairs[first, 1])
    copied: Numbers = times[real]
    return copied


def _equal(store: Store, some: Rows, others: Rows) -> NDArray[np.bool_]:
    """Whether inputs of rows are the same to the bit, (n,)."""
    found = [np.empty(0, np.bool_)]
    for start in range(0, len(some), CONFIRMED):
        here = slice(start, start + CONFIRMED)
        a, b = (store.inputs[rows[here]].view(np.int64) for rows in (some, others))
        found.append((a == b).all(axis=1))
    return np.concatenate(found)


def _interpolated(time: Numbers, copies: Numbers) -> Numbers:
    theirs, ours = copies[:, 0].astype(np.float64), copies[:, 1].astype(np.float64)
    slope = (ours[-1] - ours[0]) / (theirs[-1] - theirs[0])
    at = np.interp(time, theirs, ours)
    at = np.where(time < theirs[0], ours[0] + slope * (time - theirs[0]), at)
    at = np.where(time > theirs[-1], ours[-1] + slope * (time - theirs[-1]), at)
    return np.rint(at).astype(np.int64)  # a distance within the embargo stays within it


def _near_in_time(plan: FoldPlan, unit: Numbers, extra: Extra) -> NDArray[np.bool_]:
    embargo = plan.embargo if extra.embargo is None else extra.embargo
    near = np.zeros((plan.n_folds, len(unit)), np.bool_)
    for k in range(plan.n_folds):
        held = plan.unit[plan.valid_rows(k)]
        last = FAR - 1 if plan.scheme == "forward_chaining" else held.max() + embargo
        near[k] = (unit >= held.min() - embargo) & (unit <= last)
    return near


def _by_column(
    plan: FoldPlan, store: Store, main: Rows, own: Rows, extra: Extra
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Unit of each row, and in which folds its column is held out or kept free."""
    check(
        extra.embargo is None,
        f"extra source '{extra.source}' has an embargo, which counts timesteps, but scheme"
        f" {plan.scheme} holds out columns: leave it out",
    )
    columns, first = np.unique(store.column[main], return_index=True)
    at = np.searchsorted(columns, store.column[own])
    unknown = (at >= len(columns)) | (
        columns[np.minimum(at, len(columns) - 1)] != store.column[own]
    )
    if unknown.any():
        raise ClimstackError(
            f"extra source '{extra.source}' has grid column {store.column[own][unknown][0]}, which"
            " the training data lack: folds by column need the same grid"
        )
    held = plan.fold[first] == np.arange(plan.n_folds)[:, None]
    return plan.unit[first][at], (held | plan.excluded[:, first])[:, at]


def _refuse_copies(plan: FoldPlan, store: Store) -> None:
    """No extra row that trains in a fold is a copy of one that it holds out.

    Raises:
        ClimstackError: names both rows.
    """
    parity = store.row_parities("inputs")
    assert plan.extra is not None
    for k in range(plan.n_folds):
        held = plan.valid_rows(k)
        held = held[np.argsort(parity[held], kind="stable")]
        rows = plan.train_rows(k)
        rows = rows[plan.extra[rows]]
        at = np.minimum(np.searchsorted(parity[held], parity[rows]), len(held) - 1)
        hit = np.flatnonzero(parity[held[at]] == parity[rows])[:CONFIRMED]
        real = hit[_equal(store, rows[hit], held[at[hit]])]
        if len(real):
            row, original = rows[real[0]], held[at[real[0]]]
            name = store.sources[store.source[row]]["file"]
            raise ClimstackError(
                f"row {row} of {store.path}, from '{name}', is a copy of row {original}, which fold"
                f" {k} holds out: leave the copy out"
            )
