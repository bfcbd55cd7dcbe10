"""Pairs of NetCDF files of the ClimSim archive as rows of a store.

``E3SM-MMF.mli.YYYY-MM-DD-SSSSS.nc`` holds the columns of air before a step of the model and
``E3SM-MMF.mlo...`` after it. The calendar has no leap years.
Source: ClimSim, Yu et al., NeurIPS 2023, CC BY 4.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from features.climate import climsim
from features.core.errors import ClimstackError
from features.core.types import Array
from features.schemas.schema import Schema
from features.schemas.variable import Variable
from features.sources.netcdf_file import Axis, Content, Wanted, open_netcdf, whole_number
from features.sources.orientation import turn_over

STEP_SECONDS = 1200
STEPS_PER_DAY = 86_400 // STEP_SECONDS
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # NO_LEAP
FILE_NAME = re.compile(r"E3SM-MMF\.(ml[io])\.(\d{4})-(\d{2})-(\d{2})-(\d{5})\.nc")

# Inputs that no file holds: what they need, and how they come of it.
DERIVED: Mapping[str, tuple[tuple[str, ...], Callable[..., Array]]] = {
    "state_rh": (("state_q0001", "state_t", "state_pmid"), climsim.relative_humidity),
    "state_qn": (("state_q0002", "state_q0003"), np.add),
    "liq_partition": (("state_t",), climsim.liquid_share),
}
# Tendencies of sums: of which states.
MERGED = {"ptend_qn": ("state_q0002", "state_q0003")}
# Of variables that files hold and not every schema does.
RAW_UNITS = dict.fromkeys(("state_q0001", "state_q0002", "state_q0003"), "kg/kg")
RAW_UNITS |= {"state_pmid": "Pa"}
PROFILE: tuple[Axis, ...] = ("level", "column")
# What changes little in 20 minutes, on average over a column: on ClimSim's rows .37 K, .16 m/s.
STEADY, MAX_CHANGE = {"state_t": "K", "state_u": "m/s", "state_v": "m/s"}, 3.0
SAME_PLACE = 1e-3  # degrees: what float32 leaves of them


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A time of the model's calendar, as in a file's name."""

    year: int
    month: int
    day: int
    second: int

    @property
    def step(self) -> int:
        """Steps of 20 minutes since the start of year 0."""
        days = self.year * 365 + sum(MONTH_DAYS[: self.month - 1]) + self.day - 1
        return days * STEPS_PER_DAY + self.second // STEP_SECONDS

    @property
    def ymd(self) -> int:
        """The date as one number."""
        return self.year * 10_000 + self.month * 100 + self.day

    @property
    def fault(self) -> str | None:
        """What is wrong with it, if anything."""
        if not (1 <= self.month <= 12 and 1 <= self.day <= MONTH_DAYS[self.month - 1]):
            return "its name holds no date of a calendar without leap years"
        if self.second >= 86_400 or self.second % STEP_SECONDS:
            return f"its name holds {self.second} s, expected a multiple of 1200 below 86400"
        return None

    def ids(self, n_columns: int) -> list[str]:
        """Ids of the rows of this time: date, second and column as one number."""
        stamp = f"{self.year:04d}{self.month:02d}{self.day:02d}{self.second:05d}"
        return [f"mmf_{stamp}{column:05d}" for column in range(n_columns)]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The two files of one step.

    Attributes:
        before: the ``mli`` file.
        after: the ``mlo`` file.
        moment: their time.
        fault: why they can't be used, as a sentence; None when nothing speaks against reading them.
    """

    before: Path
    after: Path
    moment: Moment
    fault: str | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """The rows of one step.

    Attributes:
        inputs: (n_columns, n_inputs).
        targets: (n_columns, n_targets).
        rounded: see :attr:`features.sources.source.Batch.rounded`.
        notes: what was done to the values, and the first file where it was.
    """

    inputs: Array
    targets: Array
    rounded: Mapping[str, Mapping[str, int]]
    notes: Mapping[str, Path]


@dataclass
class Places:
    """Where the columns lie, as the grid or the first files say it.

    Attributes:
        known: source and degrees, (n_columns,), of ``lat`` and ``lon``.
    """

    known: dict[str, tuple[str, Array]] = field(default_factory=dict)

    def add(self, path: Path, found: Mapping[str, Array]) -> None:
        """See that a file says the same.

        Raises:
            ClimstackError: a column lies elsewhere.
        """
        for name, degrees in found.items():
            source, known = self.known.setdefault(name, (str(path), degrees))
            same = np.abs((degrees - known + 180.0) % 360.0 - 180.0) <= SAME_PLACE
            if not same.all():
                at = int((~same).argmax())
                raise ClimstackError(
                    f"{path}: '{name}' of column {at} is {degrees[at]:g} degrees, but"
                    f" {known[at]:g} in {source}: put the columns in one order"
                )


def find_pairs(folder: Path) -> list[Pair]:
    """The pairs of a folder and the folders in it, in the order of time; broken ones with a fault.

    Raises:
        ClimstackError: no such file there, or one time stands twice.
    """
    found: dict[tuple[str, ...], dict[str, Path]] = {}
    for path in sorted(folder.rglob("E3SM-MMF.ml*.nc")):
        name = FILE_NAME.fullmatch(path.name)
        if name is None:
            continue
        kind, stamp = name[1], name.groups()[1:]
        if kind in found.setdefault(stamp, {}):
            raise ClimstackError(
                f"{path} stands already in {found[stamp][kind].parent}: remove one"
            )
        found[stamp][kind] = path
    if not found:
        raise ClimstackError(
            f"{folder} is a folder without NetCDF pairs (E3SM-MMF.mli.YYYY-MM-DD-SSSSS.nc and"
            " .mlo.): give a .csv or .parquet file, or a folder that holds them"
        )
    return [_pair(files, stamp) for stamp, files in sorted(found.items())]


def _pair(files: dict[str, Path], stamp: tuple[str, ...]) -> Pair:
    year, month, day, second = map(int, stamp)
    moment = Moment(year=year, month=month, day=day, second=second)
    held = next(iter(files.values()))
    before = files.get("mli", held.with_name(held.name.replace(".mlo.", ".mli.")))
    after = files.get("mlo", held.with_name(held.name.replace(".mli.", ".mlo.")))
    fault = moment.fault and f"{held}: {moment.fault}"
    if len(files) == 1:
        missing = after if held == before else before
        fault = f"{held} has no partner {missing.name}: add it, or leave this file out"
    return Pair(before=before, after=after, moment=moment, fault=fault)


@np.errstate(all="ignore")  # values are looked at when they are stored, with row and column
def read_pair(
    pair: Pair, schema: Schema, n_columns: int | None = None, places: Places | None = None
) -> Step:
    """The rows of one step, by names, units and coordinates.

    Args:
        pair: its files.
        schema: which variables, in which units.
        n_columns: of the grid; None takes the schema's.
        places: where the columns of pairs before it lie.

    Raises:
        ClimstackError: a file is broken, cut, of another time than its name says, lacks a variable,
            or has one with other dimensions, types or units; the files don't belong together.
            Values are not looked at.
    """
    if pair.fault:
        raise ClimstackError(pair.fault)
    places = Places() if places is None else places
    of_before, of_after = _needs(schema, n_columns or schema.n_grid_columns or 1)
    before = _read_file(pair.before, of_before, pair.moment, places)
    after = _read_file(pair.after, of_after, pair.moment, places)
    _check_together(before, after)
    inputs = {}
    for variable in schema.inputs:
        needs, compute = DERIVED.get(variable.name, ((variable.name,), np.array))
        inputs[variable.name] = compute(*(before.values[name] for name in needs))
    targets = {}
    for variable in schema.targets:
        change: Any = 0.0
        for name in _states(variable):
            change = change + after.values[name] - before.values[name]
        is_tendency = bool(_states(variable))
        targets[variable.name] = (
            change / STEP_SECONDS if is_tendency else after.values[variable.name]
        )
    return Step(
        inputs=_rows(schema.inputs, inputs),
        targets=_rows(schema.targets, targets),
        rounded=_sum(before.rounded, after.rounded),
        notes={note: each.path for each in (after, before) for note in each.notes},
    )


def _needs(schema: Schema, n_columns: int) -> tuple[list[Wanted], list[Wanted]]:
    """What to read before and after the step."""
    units = RAW_UNITS | {v.name: v.unit for v in schema.inputs}
    before, states, others = [], [], []
    for variable in schema.inputs:
        for name in DERIVED.get(variable.name, ((variable.name,),))[0]:
            before.append(_wanted(name, units.get(name, variable.unit), variable, n_columns))
    for variable in schema.targets:
        for name in _states(variable):
            unit = units.get(name, f"{variable.unit} s")
            states.append(_wanted(name, unit, variable, n_columns))
        if not _states(variable):
            others.append(_wanted(variable.name, variable.unit, variable, n_columns))
    return [*before, *states], [*states, *others]


def _wanted(name: str, unit: str, like: Variable, n_columns: int) -> Wanted:
    axes = PROFILE if like.n_levels > 1 else ("column",)
    lengths: dict[Axis, int | None] = {"level": like.n_levels, "column": n_columns}
    return Wanted(name=name, unit=unit, axes=axes, lengths=lengths)


def _read_file(path: Path, wanted: list[Wanted], moment: Moment, places: Places) -> Content:
    """Variables of a file whose time is that of its name, levels from the top down."""
    content = Content(path=path)
    with open_netcdf(path) as data:
        if {"ymd", "tod"} <= set(data.variables):
            ymd, second = (whole_number(path, data, name) for name in ("ymd", "tod"))
            if (ymd, second) != (moment.ymd, moment.second):
                raise ClimstackError(
                    f"{path} holds the time {ymd}, {second} s, its name says otherwise: was it"
                    " renamed?"
                )
        content.read(data, wanted)
        turn_over(data, content, [each for each in wanted if each.axes == PROFILE])
        held = Content(path=path)
        for name in ("lat", "lon"):
            if name in data.variables:
                held.read(data, [replace(wanted[0], name=name, unit="degree", axes=("column",))])
        places.add(path, held.values)
    return content


def _check_together(before: Content, after: Content) -> None:
    """See that the rows of both files are the same columns of air, and not of the same moment."""
    for name in [n for n in STEADY if n in before.values and n in after.values]:
        change = np.abs(after.values[name] - before.values[name]).mean(0)
        if not change.any():
            raise ClimstackError(
                f"{after.path}: '{name}' is that of {before.path.name} to the last digit: is one"
                " a copy of the other?"
            )
        if (change > MAX_CHANGE).any():
            at = int((change > MAX_CHANGE).argmax())
            raise ClimstackError(
                f"{after.path}: '{name}' of column {at} is {change[at]:.3g} {STEADY[name]} off that"
                f" of {before.path.name} on average, too much for 20 minutes: are levels and"
                " columns of both files in one order?"
            )


def _sum(*tables: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for table in tables:
        for how, counts in table.items():
            held = found.setdefault(how, {})
            for name, n in counts.items():
                held[name] = held.get(name, 0) + n
    return found


def _rows(variables: Iterable[Variable], held: Mapping[str, Array]) -> Array:
    """Columns of all variables side by side, (n_columns, width)."""
    return np.concatenate([np.atleast_2d(held[v.name]).T for v in variables], axis=1)


def _states(variable: Variable) -> tuple[str, ...]:
    """The states that a tendency is the change of; none of another target."""
    if not variable.name.startswith("ptend_"):
        return ()
    return MERGED.get(variable.name, (variable.name.replace("ptend_", "state_", 1),))
