"""What rows say against themselves: inputs and targets of two rows, levels upside down, few digits.

None of it holds on any real row: rules are exact, profiles those of any air.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from features.climate.physics import STEFAN_BOLTZMANN
from features.core.types import Array
from features.schemas.schema import Schema
from features.sources.findings import compress, few_digits
from features.sources.orientation import HUMIDITY, OZONE

ROWS = 1024  # of a source that are looked at, spread over it
TOLERANCE = 1e-2  # of a rule's value: what three digits leave of it
SHARE = 1e-2  # of rows that break a rule; no real row does
COVER = ("cam_in_LANDFRAC", "cam_in_OCNFRAC", "cam_in_ICEFRAC")
SNOW_RAIN = ("cam_out_PRECSC", "cam_out_PRECC")
FEWEST = 16  # rows whose mean profile is any air's
GROUND_KELVIN = 40.0  # between ground and lowest level, on average; 23 at most on a real row


@dataclass
class Sample:
    """Some hundreds of a source's rows, spread evenly over it, whatever its length.

    Attributes:
        rows: numbers of the rows, by block.
        inputs: (n, n_inputs), by block.
        targets: (n, n_targets), by block; empty for test data.
    """

    rows: list[Array] = field(default_factory=list)
    inputs: list[Array] = field(default_factory=list)
    targets: list[Array] = field(default_factory=list)
    _step: int = field(default=1, init=False)

    def add(self, first_row: int, inputs: Array, targets: Array | None) -> None:
        """Look at the next rows."""
        rows = np.arange(first_row, first_row + len(inputs))
        keep = rows % self._step == 0
        self.rows.append(rows[keep])
        self.inputs.append(inputs[keep])
        if targets is not None:
            self.targets.append(targets[keep])
        while sum(map(len, self.rows)) > 2 * ROWS:
            self._step *= 2
            kept = [rows % self._step == 0 for rows in self.rows]
            for held in (self.rows, self.inputs, self.targets):
                held[:] = [block[k] for block, k in zip(held, kept, strict=False)]

    def doubts(self, schema: Schema, known: set[str]) -> list[str]:
        """See :func:`doubts`; none where there are no rows."""
        if not sum(map(len, self.rows)):
            return []
        targets = np.concatenate(self.targets) if self.targets else None
        rows, inputs = np.concatenate(self.rows), np.concatenate(self.inputs)
        with np.errstate(all="ignore"):
            return list(doubts(schema, rows, inputs, targets, known))


def doubts(
    schema: Schema, rows: Array, inputs: Array, targets: Array | None, known: set[str]
) -> Iterator[str]:
    """Sentences on what can't be right in rows; none where nothing is wrong.

    Values that are refused already, as infinite ones, may be among them.

    Args:
        schema: what they should be.
        rows: their numbers, (n,).
        inputs: (n, n_inputs).
        targets: (n, n_targets), or None.
        known: names of variables and columns that are known to have few digits.
    """
    if targets is not None:
        yield from _rules(schema, rows, inputs, targets)
    yield from _levels(schema, inputs)
    names = schema.input_columns + (schema.target_columns if targets is not None else [])
    values = inputs if targets is None else np.hstack([inputs, targets])
    columns = dict(zip(names, values.T, strict=True))
    yield from _budgets(rows, columns)
    if schema.n_grid_columns is not None:  # those of other tables have the digits that they have
        yield from _digits(schema, columns, known)
    yield from _twins(columns)


def _rules(schema: Schema, rows: Array, inputs: Array, targets: Array) -> Iterator[str]:
    for kind in ("exact", "lower_bound"):
        at, value = schema.closed_form(kind, inputs)
        found = targets[:, at]
        off = value - found if kind == "lower_bound" else np.abs(value - found)
        size = np.maximum(np.abs(value), np.abs(found) if kind == "exact" else 0.0)
        wrong = off > TOLERANCE * size + np.finfo(np.float32).tiny
        share = wrong.any(axis=1).mean() if len(at) else 0.0
        if share > SHARE:
            row = int(wrong.any(axis=1).argmax())
            column = int(wrong[row].argmax())
            name = schema.target_columns[at[column]]
            rule = "must be" if kind == "exact" else "can't be below"
            yield (
                f"row {rows[row]}: '{name}' is {found[row, column]:.6g}, but {rule}"
                f" {value[row, column]:.6g} by its input on that level, and so in {share:.0%} of"
                " the rows looked at: are inputs and targets those of the same rows and levels?"
            )
            return


def _levels(schema: Schema, inputs: Array) -> Iterator[str]:
    if len(inputs) < FEWEST:
        return
    profiles = {v.name: inputs[:, schema.slice_of(v.name)] for v in schema.inputs}
    means = {name: values.mean(axis=0) for name, values in profiles.items()}
    for name, grows in ((HUMIDITY, "downward"), (OZONE, "upward")):
        if name not in means:
            continue
        quarter = max(len(means[name]) // 4, 1)
        top, bottom = means[name][:quarter], means[name][-quarter:]
        is_odd = top.max() >= bottom.min() if grows == "downward" else bottom.max() >= top.max()
        if is_odd:
            yield (
                f"'{name}' does not grow {grows}, as it does in any air ({top.mean():.3g} in the"
                f" upper quarter of the levels, {bottom.mean():.3g} in the lower): is level 0 the"
                " top, and is it that variable?"
            )
    if {"state_t", "cam_in_LWUP"} <= set(means):
        ground = (profiles["cam_in_LWUP"].clip(0) / STEFAN_BOLTZMANN) ** 0.25
        lowest = means["state_t"][-1]
        if abs(ground.mean() - lowest) > GROUND_KELVIN:
            yield (
                f"the lowest level has {lowest:.0f} K by 'state_t', but the ground"
                f" {ground.mean():.0f} K by 'cam_in_LWUP': is level 0 the top?"
            )


def _budgets(rows: Array, columns: dict[str, Array]) -> Iterator[str]:
    if set(COVER) <= set(columns):
        cover = sum((columns[name] for name in COVER), start=np.zeros(len(rows)))
        wrong = np.abs(cover - 1) > TOLERANCE
        if wrong.mean() > SHARE:
            row = int(wrong.argmax())
            yield (
                f"row {rows[row]}: {', '.join(COVER)} are {cover[row]:.6g} together, but land, sea"
                f" and ice are 1, and so in {wrong.mean():.0%} of the rows looked at: are all of"
                " them shares of one column?"
            )
    if set(SNOW_RAIN) <= set(columns):
        snow, rain = (columns[name] for name in SNOW_RAIN)
        wrong = snow > (1 + TOLERANCE) * rain + 1e-12
        if wrong.mean() > SHARE:
            row = int(wrong.argmax())
            yield (
                f"row {rows[row]}: '{SNOW_RAIN[0]}' is {snow[row]:.6g}, but '{SNOW_RAIN[1]}', which"
                f" it is a part of, {rain[row]:.6g}, and so in {wrong.mean():.0%} of the rows"
                " looked at: are they exchanged?"
            )


def _digits(schema: Schema, columns: dict[str, Array], known: set[str]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for variable in schema.variables:
        held = [c for c in variable.columns if c in columns and c not in known]
        if held and variable.name not in known:
            kind = few_digits(np.stack([columns[name] for name in held]))
            if kind is not None:
                found.setdefault(kind, []).extend(held)
    for kind, names in found.items():
        yield (
            f"values are those of {kind} in all rows looked at, so small ones and small"
            f" differences may be lost already, in {compress(names)}: convert the original data if"
            " you have them"
        )


def _twins(columns: dict[str, Array]) -> Iterator[str]:
    """Two equal columns; where there are more, they are levels of a gas that is well mixed."""
    equal: dict[bytes, list[str]] = {}
    for name, values in columns.items():
        if 0 < np.ptp(values) < np.inf:
            equal.setdefault(values.tobytes(), []).append(name)
    for name, other, *more in (names for names in equal.values() if len(names) > 1):
        if not more:
            yield f"'{other}' equals '{name}' in all rows looked at: is one a copy of the other?"
