"""Pairs of NetCDF files of the ClimSim archive as rows of a store.

``E3SM-MMF.mli.YYYY-MM-DD-SSSSS.nc`` holds the columns of air before a step of the model and
``E3SM-MMF.mlo...`` after it, profiles as (lev, ncol). The calendar has no leap years.
Source: ClimSim, Yu et al., NeurIPS 2023, CC BY 4.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.climate import climsim
from features.core.errors import ClimstackError
from features.core.types import Array
from features.schemas.schema import Schema, Variable
from features.sources.netcdf_header import expected_bytes

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


def read_pair(pair: Pair, schema: Schema) -> tuple[Array, Array]:
    """Inputs (n_columns, n_inputs) and targets (n_columns, n_targets) of one step.

    Raises:
        ClimstackError: a file is broken, cut, of another time than its name says, or lacks a
            variable; values are not looked at.
    """
    if pair.fault:
        raise ClimstackError(pair.fault)
    tendencies = {v.name: MERGED.get(v.name, (_state(v.name),)) for v in schema.targets}
    states = [name for v in schema.targets if _is_tendency(v) for name in tendencies[v.name]]
    raw = [name for v in schema.inputs for name in DERIVED.get(v.name, ((v.name,),))[0]]
    before = read_variables(pair.before, [*raw, *states], pair.moment)
    others = [v.name for v in schema.targets if not _is_tendency(v)]
    after = read_variables(pair.after, [*states, *others], pair.moment)
    inputs = {}
    for variable in schema.inputs:
        needs, compute = DERIVED.get(variable.name, ((variable.name,), np.array))
        inputs[variable.name] = compute(*(before[name] for name in needs))
    targets = {name: after[name] for name in others}
    for variable in schema.targets:
        if _is_tendency(variable):
            change: Any = 0.0
            for name in tendencies[variable.name]:
                change = change + after[name] - before[name]
            targets[variable.name] = change / STEP_SECONDS
    return (_rows(pair.before, schema.inputs, inputs), _rows(pair.after, schema.targets, targets))


def read_variables(
    path: Path, names: Iterable[str], moment: Moment | None = None
) -> dict[str, Any]:
    """Variables of a NetCDF file as float64, NaN where a value is masked.

    Args:
        path: the file.
        names: what to read.
        moment: the time that the file must say it holds, if it says any.

    Raises:
        ClimstackError: no such file or variable, not NetCDF, cut off, or of another time.
    """
    try:
        import netCDF4
    except ImportError:
        raise ClimstackError(
            "NetCDF files need the package netCDF4: pip install 'climstack[netcdf]'"
        ) from None
    if not path.is_file():
        raise ClimstackError(f"no file {path}")
    try:
        size, expected = path.stat().st_size, expected_bytes(path)
        if expected is not None and size < expected:
            raise ClimstackError(
                f"{path} is cut off: it has {size} bytes, its header promises {expected}: get it"
                " again"
            )
        with netCDF4.Dataset(path) as data:
            if moment is not None and {"ymd", "tod"} <= set(data.variables):
                _check_moment(path, int(data["ymd"][...]), int(data["tod"][...]), moment)
            found = {}
            for name in dict.fromkeys(names):
                if name not in data.variables:
                    raise ClimstackError(f"{path} has no variable '{name}': get the whole file")
                values = np.ma.asarray(data[name][...], dtype=np.float64)
                found[name] = np.ma.filled(values, np.nan)
            return found
    except ClimstackError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, IndexError) as error:
        why = str(error).replace(f": '{path}'", "") or type(error).__name__
        raise ClimstackError(
            f"{path} is not a readable NetCDF file ({why}): get it again"
        ) from None


def _check_moment(path: Path, ymd: int, second: int, moment: Moment) -> None:
    if (ymd, second) != (moment.year * 10_000 + moment.month * 100 + moment.day, moment.second):
        raise ClimstackError(
            f"{path} holds the time {ymd}, {second} s, its name says otherwise: was it renamed?"
        )


def _rows(path: Path, variables: Iterable[Variable], held: Mapping[str, Array]) -> Array:
    """Columns of all variables side by side, (n_columns, width)."""
    parts = []
    n_columns = None
    for variable in variables:
        values = np.atleast_2d(held[variable.name])
        n_columns = values.shape[1] if n_columns is None else n_columns
        if values.shape != (variable.n_levels, n_columns):
            raise ClimstackError(
                f"{path}: variable '{variable.name}' has shape {held[variable.name].shape},"
                f" expected {variable.n_levels} levels of {n_columns} columns"
            )
        parts.append(values.T)
    return np.concatenate(parts, axis=1)


def _is_tendency(variable: Variable) -> bool:
    return variable.name.startswith("ptend_")


def _state(name: str) -> str:
    return name.replace("ptend_", "state_", 1)
