"""Row ids of any kind are there and unique, over all sources of a store, in eight bytes a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.sources import ids as numbered
from features.sources.ids import IdCheck, shown

MOST = 1000  # equal hashes that are looked at; one that is no equal id is one in millions of tables

Look = Callable[[Sequence[int]], list[str]]


@runtime_checkable
class NamesIds(Protocol):
    """A source that can name the ids of its rows again."""

    def ids_at(self, rows: Sequence[int]) -> list[str]:
        """The ids of some rows, ascending."""


@dataclass(kw_only=True)
class AnyIds:
    """Sees every id of a source once, of any form, and keeps a hash of it.

    Attributes:
        path: the source.
        column: what its ids are called.
        look: gives the ids of some rows of the source, ascending, again.
        counted: whether ids were made by counting rows, so that there is nothing to find.
    """

    path: Path
    column: str
    look: Look
    counted: bool = False
    prefix: None = None
    _hashes: list[NDArray[np.uint64]] = field(default_factory=list)

    def name(self, number: int) -> str:
        """The id of a row."""
        return self.look([number])[0]

    def add(self, ids: pl.Series, first_row: int) -> NDArray[np.int64]:
        """Look at the next ids; the numbers of their rows, (n,).

        Raises:
            ClimstackError: an id is missing.
        """
        rows = first_row + np.arange(len(ids))
        if not self.counted:
            if ids.null_count():
                row = first_row + int(ids.is_null().arg_true()[0])
                raise ClimstackError(
                    f"{self.path}: {self.column} in row {row} is missing: fill it, or let the"
                    " schema name no id_column"
                )
            self._hashes.append(ids.hash().to_numpy())
        return rows

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """Of all ids so far, (n_rows,)."""
        return np.concatenate(self._hashes) if self._hashes else np.empty(0, np.uint64)


def check_unique(checks: Sequence[IdCheck | AnyIds]) -> None:
    """Look for ids that stand twice, in one source or in two.

    Raises:
        ClimstackError: names the id and both its places.
    """
    numbered.check_unique([check for check in checks if isinstance(check, IdCheck)])
    found = [check for check in checks if isinstance(check, AnyIds)]
    hashes = [check.hashes for check in found]
    starts = np.cumsum([0, *map(len, hashes)])
    if not starts[-1]:
        return
    joined = np.concatenate(hashes)
    order = np.argsort(joined, kind="stable")
    same = joined[order[1:]] == joined[order[:-1]]
    again = np.sort(order[1:][same])[:MOST]
    suspects = np.flatnonzero(np.isin(joined, joined[again])) if len(again) else again
    seen: dict[str, int] = {}
    texts: dict[int, str] = {}
    for number, check in enumerate(found):
        rows = suspects[(suspects >= starts[number]) & (suspects < starts[number + 1])]
        if len(rows):
            local = (rows - starts[number]).tolist()
            texts |= dict(zip(rows.tolist(), check.look(local), strict=True))
    for row in suspects.tolist():
        before = seen.setdefault(texts[row], row)
        if before != row:
            (a, row_a), (b, row_b) = (
                (int(np.searchsorted(starts, at, "right")) - 1, at) for at in (before, row)
            )
            where = "" if a == b else f" of {found[a].path}"
            raise ClimstackError(
                f"{found[b].path}: {found[b].column} {shown(texts[row])} in row"
                f" {row_b - starts[b]} stands already in row {row_a - starts[a]}{where}: ids must"
                " be unique"
            )
