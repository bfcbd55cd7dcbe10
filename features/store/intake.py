"""What every row passes on its way in: ids, order, places, limits; one look for convert and check.

Whoever converts is stopped by the first fault; whoever checks hears the first of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array
from features.schemas.schema import Schema
from features.sources.ids import IdCheck
from features.sources.order import Order, Static
from features.sources.source import Source
from features.sources.tables.batch import Batch, Unknown
from features.sources.tables.row_ids import AnyIds, NamesIds
from features.views.missing import Repair

MOST_WORDS, OTHERS = 20, "others"


def stop(error: ClimstackError) -> NoReturn:
    """What a converter does about a fault."""
    raise error


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows that passed.

    Attributes:
        ids: id of each, (n,).
        time: timestep of each, by the source's own clock, (n,), -1 unknown.
        column: grid column of each, (n,), -1 unknown.
        inputs: (n, n_inputs), repaired.
        targets: (n, n_targets), repaired, or None.
        labels: place, group and fold of each, (n,) each, where the source tells them.
    """

    ids: pl.Series
    time: NDArray[np.int64]
    column: NDArray[np.int64]
    inputs: Array
    targets: Array | None
    labels: dict[str, pl.Series]


@dataclass(kw_only=True)
class Intake:
    """Takes in the rows of one source, in their order.

    Attributes:
        source: where they come from.
        schema: what they should be.
        repairs: of inputs and of targets; they count over all sources.
        fault: called with the first fault of each kind.
        rows_before: of the sources before; rows without ids are counted on from there.
        unknown: words that no category of the schema is, with their counts, by column; over all
            sources, the rest of very many together.
        found: kinds of faults so far: ``"ids"``, ``"order"``, ``"values"``, ``"static"``.
    """

    source: Source
    schema: Schema
    repairs: tuple[Repair, Repair]
    fault: Callable[[ClimstackError], Any] = stop
    ids: IdCheck | AnyIds = field(init=False)
    found: set[str] = field(default_factory=set)
    rows_before: int = 0
    unknown: Unknown = field(default_factory=dict)

    def __post_init__(self) -> None:
        path, schema = self.source.path, self.schema
        self._has_grid = schema.n_grid_columns is not None
        self.ids = IdCheck(path)
        if not self._has_grid and isinstance(self.source, NamesIds):
            look, counted = self.source.ids_at, schema.id_column is None
            self.ids = AnyIds(path=path, column=schema.id_name, look=look, counted=counted)
        width = self.source.n_grid_columns
        self._order = Order(self.source.path, width)
        columns = self.schema.input_columns
        self._static_at = self.schema.static_inputs
        self._static = Static.begin(width, [columns[at] for at in self._static_at])

    def take(self, batch: Batch, start: int, stop: int) -> Rows:
        """Some rows of a batch.

        Raises:
            ClimstackError: what is wrong with them, where that stops.
        """
        rows, first = slice(start, stop), batch.first_row + start
        ids, nowhere = self._ids(batch, start, stop), np.full(stop - start, -1)
        time = nowhere if batch.time is None else batch.time[rows]
        column = nowhere if batch.column is None else batch.column[rows]
        _count(self.unknown, batch.unknown(start, stop))
        inputs = batch.inputs[rows]
        targets = None if batch.targets is None else batch.targets[rows]
        with self._one("values"):
            self._repair(batch, start, inputs, self.repairs[0])
        if targets is not None:
            with self._one("values"):
                self._repair(batch, start, targets, self.repairs[1])
        with self._one("ids"):
            numbers = self.ids.add(ids, first)
        if batch.time is None and self.source.has_targets and "ids" not in self.found:
            with self._one("order"):
                time, column = self._order.places(numbers, self.ids.name, first)
        if targets is not None and self._has_grid:
            with self._one("static"):
                self._hold_still(batch, start, inputs[:, self._static_at])
        labels = {what: words[rows] for what, words in batch.labels.items()}
        return Rows(
            ids=ids, time=time, column=column, inputs=inputs, targets=targets, labels=labels
        )

    def see_again(self, ids: pl.Series, inputs: Array, first_row: int) -> None:
        """Rows that passed before a kill: what comes after them is held against them.

        Args:
            ids: (n,).
            inputs: at least those of the first timestep of the source that are among the rows.
            first_row: number of the first row in the source.
        """
        numbers = self.ids.add(ids, first_row)
        if self.source.has_targets and self._has_grid:
            if self.source.clock == "rows":
                self._order.places(numbers, self.ids.name, first_row)
            self._static.fault(inputs[:, self._static_at], first_row)

    def _ids(self, batch: Batch, start: int, stop: int) -> pl.Series:
        """Ids of rows of a batch, (n,); counted over all sources where rows have none."""
        if batch.ids is not None:
            return batch.ids[start:stop]
        first = self.rows_before + batch.first_row
        return pl.Series(
            [f"row_{row}" for row in range(first + start, first + stop)], dtype=pl.String
        )

    def _hold_still(self, batch: Batch, start: int, values: Array) -> None:
        found = self._static.fault(values, batch.first_row + start)
        if found is not None:
            row, why = found
            raise ClimstackError(f"{batch.path}: row {batch.row_of(start + row)}: {why}")

    def _repair(self, batch: Batch, start: int, values: Array, repair: Repair) -> None:
        refused = repair.apply(values)
        if refused is None:
            return
        row, position = start + refused[0], refused[1]
        columns, path = self.schema.input_columns, batch.path
        if repair is self.repairs[1]:
            columns, path = self.schema.target_columns, batch.targets_path or path
        value, column = float(values[refused]), columns[position]
        is_empty = batch.is_empty(row, column)
        found, hint = "no value" if is_empty else str(value), "fill it or drop the row"
        if is_empty and batch.path.suffix != ".parquet":
            hint = "fill it, or is the row empty or cut short?"
        if not self._has_grid:
            policy = "impute" if repair is self.repairs[0] else "skip"
            hint = f'fill it, drop the row, or say policy = "{policy}" for it in the schema'
        if (why := repair.why(value, position)) is not None:
            found, hint = f"{value:g}, {why},", "put it right or drop the row"
        raise ClimstackError(
            f"{path}: column '{column}' has {found} in row {batch.row_of(row)}: {hint}"
        )

    @contextmanager
    def _one(self, kind: str) -> Iterator[None]:
        """Hand on the first fault of a kind."""
        try:
            yield
        except ClimstackError as error:
            if kind not in self.found:
                self.found.add(kind)
                self.fault(error)


def _count(counts: Unknown, more: Unknown) -> None:
    """Add words that are unknown; beyond ``MOST_WORDS`` of a column they are counted together."""
    for column, words in more.items():
        of_column = counts.setdefault(column, {})
        for word, n in words.items():
            word = word if word in of_column or len(of_column) < MOST_WORDS else OTHERS
            of_column[word] = of_column.get(word, 0) + n
