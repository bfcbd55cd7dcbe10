"""What is no error in a store, and its user should hear of: copies, a jumping clock, few digits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from features.core.types import Array
from features.sources.findings import compress
from features.store.copies import first_equal
from features.store.odd.doubts import ROWS, doubts
from features.store.store import Store

WINDOWS, LENGTH = 4, 64  # stretches of timesteps that are looked at, and timesteps in each
FEWEST = 20  # timesteps that tell order from chance
SHOWN_WORDS = 5
N_COLUMNS = 64  # grid columns whose mean is taken


def oddities(store: Store) -> list[str]:
    """Sentences on what is odd in a store; none where nothing is."""
    return [f"{store.called}: {sentence}" for sentence in _found(store)]


def said_twice(n_copies: int) -> str:
    """How many rows are copies, and what becomes of them."""
    rows = "1 row is a copy" if n_copies == 1 else f"{n_copies} rows are copies"
    return f"{rows} of a row before, in all inputs; no copy of a held-out row trains"


def said_rounded(kind: str, counts: dict[str, int]) -> str:
    """Which values came in fewer digits."""
    return (
        f"{sum(counts.values())} values came as {kind} and not as float64, so small ones and small"
        f" differences may be lost already, in {compress(counts)}: convert the original data if you"
        " have them"
    )


def said_unknown(unknown: dict[str, dict[str, int]]) -> list[str]:
    """Sentences on words that no category of a schema is."""
    return [
        f"column '{column}' has words that the schema does not know, which are taken as missing: "
        + ", ".join(f"{word!r} ({n})" for word, n in list(words.items())[:SHOWN_WORDS])
        + (f" and {len(words) - SHOWN_WORDS} more" if len(words) > SHOWN_WORDS else "")
        for column, words in unknown.items()
    ]


def said_shared(train: Store, test: Store) -> list[str]:
    """A sentence on test rows that stand in the training data; none where there are none."""
    stores = (train, test)
    first = first_equal(
        [store.inputs for store in stores], [store.row_parities("inputs") for store in stores]
    )[len(train) :]
    shared = np.flatnonzero(first < len(train))
    if not len(shared):
        return []
    theirs, ours = int(shared[0]), int(first[shared[0]])
    return [
        f"{len(shared)} of {len(test)} rows of {test.called} stand in {train.called}, too, in all"
        f" inputs, first row {theirs} ('{test.sample_ids[theirs]}') as row {ours}"
        f" ('{train.sample_ids[ours]}'): their truth is known, so a score on them flatters"
    ]


def _found(store: Store) -> Iterator[str]:
    first = store.original
    if len(copies := np.flatnonzero(first != np.arange(len(first)))):
        row, ids = int(copies[0]), store.sample_ids
        yield (
            f"{said_twice(len(copies))}, first row {row} ('{ids[row]}'), a copy of row {first[row]}"
            f" ('{ids[int(first[row])]}')"
        )
    for variable in store.schema.inputs:
        if variable.slow and store.targets is not None:
            where = store.schema.slice_of(variable.name)
            yield from _jumps(store, variable.name, where)
    for kind, counts in store.rounded.items():
        yield said_rounded(kind, counts)
    yield from said_unknown(store.unknown)
    yield from store.notes
    yield from _doubts(store)


def _doubts(store: Store) -> Iterator[str]:
    known = {name for counts in store.rounded.values() for name in counts}
    for number in range(len(store.sources)):
        rows = np.flatnonzero(store.source == number)
        if not len(rows):
            continue
        rows = rows[np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int)]
        targets = None if store.targets is None else store.targets[rows]
        yield from doubts(store.schema, rows, store.inputs[rows], targets, known)


def _jumps(store: Store, name: str, where: slice) -> Iterator[str]:
    """Whether the mean of what changes slowly goes up and down from timestep to timestep.

    In the order of time it goes once up and down in a year, so all its steps together are a few
    times its range; of n timesteps in a random order they are n/3 of it.
    """
    times = np.unique(store.time)
    for start in np.linspace(0, max(0, len(times) - LENGTH), WINDOWS).astype(int):
        window = times[start : start + LENGTH]
        is_there = np.isin(store.time, window) & (store.column < N_COLUMNS)
        rows = np.flatnonzero(is_there)
        values = store.inputs[rows][:, where].mean(axis=1)
        at = np.searchsorted(window, store.time[rows])
        means: Array = np.bincount(at, values) / np.bincount(at)
        steps, reach = np.abs(np.diff(means)).sum(), np.ptp(means)
        is_told = len(means) >= FEWEST and reach > 1e-6 * np.abs(means).max()
        if is_told and steps > len(means) / 6 * reach:
            yield (
                f"the mean of '{name}', which changes slowly, jumps up and down from timestep"
                f" {window[0]} to {window[-1]}, as if timesteps were shuffled or the grid"
                " had another size: then neighbours in time stand on both sides of a fold, so sort"
                " the rows by time, or give the grid's size"
            )
            return
