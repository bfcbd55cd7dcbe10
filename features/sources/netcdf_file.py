"""Variables of one NetCDF file: read by their names, dimensions, types and units.

Source of what attributes mean: the CF conventions and the NetCDF Users Guide, appendix "Attribute
Conventions".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from features.core.errors import ClimstackError
from features.core.types import Array
from features.sources.findings import few_digits
from features.sources.netcdf_header import expected_bytes
from features.sources.units import Conversion, conversion

Axis = Literal["level", "interface", "column", "time"]
NAMES: Mapping[Axis, tuple[str, ...]] = {
    "level": ("lev", "level", "levels", "nlev", "nlevels", "plev", "pver"),
    "interface": ("ilev", "ilevel", "ilevels", "nilev", "pverp"),
    "column": ("ncol", "ncols", "col", "column", "columns", "cell", "cells", "ncell", "ncells"),
    "time": ("time",),
}
AXES = {name: axis for axis, names in NAMES.items() for name in names}
SCALES = ("scale_factor", "add_offset")
MASKS = ("_FillValue", "missing_value", "valid_min", "valid_max", "valid_range")
QUANTIZED = ("_Quantize", "quantization_", "least_significant_", "number_of_significant_")
CALENDARS = ("noleap", "365day")
MAX_BYTES = 1 << 28  # of a variable whose size nothing else says, and of a chunk


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A variable as it is needed.

    Attributes:
        name: its name.
        unit: of the values that are given; None takes them as they are.
        axes: its dimensions, in the order that is given, whatever theirs in the file is.
        lengths: of the axes, as far as they are known.
    """

    name: str
    unit: str | None
    axes: tuple[Axis, ...]
    lengths: Mapping[Axis, int | None]


@dataclass(kw_only=True)
class Content:
    """What was read from a file.

    Attributes:
        path: the file.
        values: float64 by name, NaN where a value is masked.
        rounded: how many values stand in fewer digits, by how they are stored, then by name.
        notes: what was done to the values.
        level_dimensions: names of the dimensions that were read as levels.
    """

    path: Path
    values: dict[str, Array] = field(default_factory=dict)
    rounded: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    level_dimensions: set[str] = field(default_factory=set)

    def read(self, data: Any, wanted: Iterable[Wanted]) -> None:
        """Add variables of the open file.

        Raises:
            ClimstackError: one is missing, has other dimensions, no numbers, attributes that make
                no sense, or a unit that is not convertible.
        """
        for each in wanted:
            if each.name not in self.values:
                self._read(_variable(self.path, data, each.name), each)

    def _read(self, variable: Any, wanted: Wanted) -> None:
        where = f"{self.path}: variable '{wanted.name}'"
        datatype = variable.datatype
        if not isinstance(datatype, np.dtype) or datatype.kind not in "iuf":
            kind = "text" if variable.dtype is str else getattr(datatype, "name", "unknown")
            raise ClimstackError(f"{where} holds values of type {kind}, expected numbers")
        order = _order(where, variable, wanted)
        stored = _stored(where, variable)
        _check_masks(where, variable)
        change = _conversion(where, variable, wanted.unit)
        values = np.ma.filled(np.ma.asarray(variable[...], dtype=np.float64), np.nan)
        rest = [position for position in range(values.ndim) if position not in order]
        values = values.transpose(order + rest).reshape([values.shape[p] for p in order])
        if stored is None and (few := few_digits(values)) is not None:
            stored = f"float64 with the values of {few}"
        if stored is not None:
            self.rounded.setdefault(stored, {})[wanted.name] = values.size
        if change is not None:
            values = change(values)
            found = _text(variable, "units")
            self.notes.append(f"'{wanted.name}' is in {found} and was turned into {wanted.unit}")
        self.values[wanted.name] = values
        names = [variable.dimensions[position] for position in order]
        self.level_dimensions |= {name for name in names if AXES[name.lower()] == "level"}


@contextmanager
def open_netcdf(path: Path) -> Iterator[Any]:
    """An open NetCDF file whose header is sound, of the model's calendar.

    Raises:
        ClimstackError: no such file, not NetCDF, cut off, or of another calendar; whatever else
            damage makes the library raise while it is open.
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
        if size not in (expected, -(-expected // 4) * 4):
            what = "is cut off" if size < expected else "holds more than it should"
            raise ClimstackError(
                f"{path} {what}: it has {size} bytes, its header promises {expected}: get it again"
            )
        with netCDF4.Dataset(path) as data:
            for held in (data, *(data.variables.get(name) for name in NAMES["time"])):
                _check_calendar(path, held)
            yield data
    except ClimstackError:
        raise
    except (
        ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
        ValueError,
    ) as error:  # fmt: skip
        lines = str(error).replace(f": '{path}'", "").split("\n")
        why = lines[0] or type(error).__name__
        raise ClimstackError(
            f"{path} is not a readable NetCDF file ({why}): get it again"
        ) from None


def whole_number(path: Path, data: Any, name: str) -> int:
    """The one whole number that a variable holds.

    Raises:
        ClimstackError: it holds something else.
    """
    held = Content(path=path)
    held.read(data, [Wanted(name=name, unit=None, axes=(), lengths={})])
    value = float(held.values[name])
    if not value.is_integer():
        raise ClimstackError(f"{path}: variable '{name}' holds {value}, expected a whole number")
    return int(value)


def _variable(path: Path, data: Any, name: str) -> Any:
    if name not in data.variables:
        inside = [group for group, held in data.groups.items() if name in held.variables]
        hint = f"it stands in group '{inside[0]}': take it out" if inside else "get the whole file"
        raise ClimstackError(f"{path} has no variable '{name}': {hint}")
    return data.variables[name]


def _order(where: str, variable: Any, wanted: Wanted) -> list[int]:
    """Positions of the variable's dimensions in the order of the axes that are wanted."""
    held = list(zip(variable.dimensions, variable.shape, strict=True))
    kept = {
        position: AXES.get(name.lower())
        for position, (name, n) in enumerate(held)
        if not (name.lower() in NAMES["time"] and n == 1)
    }
    expected = ", ".join(
        f"{NAMES[axis][0]}: {n}" if (n := wanted.lengths.get(axis)) else NAMES[axis][0]
        for axis in wanted.axes
    )
    shown = ", ".join(f"{name}: {n}" for name, n in held)
    said = f"{where} has dimensions ({shown}), expected ({expected}) in any order"
    if len(kept) != len(wanted.axes) or set(kept.values()) != set(wanted.axes):
        raise ClimstackError(f"{said}: rename them, or leave one time where there are several")
    order = [position for axis in wanted.axes for position in kept if kept[position] == axis]
    for axis, position in zip(wanted.axes, order, strict=True):
        if wanted.lengths.get(axis) not in (None, held[position][1]):
            hint = "give the grid's size" if axis == "column" else "give data of these levels"
            raise ClimstackError(f"{said}: {hint}")
    chunks = variable.chunking()
    for sizes in (variable.shape, chunks if isinstance(chunks, list) else []):
        if math.prod(sizes) * 8 > MAX_BYTES:
            raise ClimstackError(f"{said}: too many values to be true, get it again")
    return order


def _stored(where: str, variable: Any) -> str | None:
    """How the values are stored if that is in fewer digits than a float64 has."""
    scale = {name: _number(where, variable, name) for name in SCALES}
    if scale["scale_factor"] == 0:
        raise ClimstackError(f"{where} has scale_factor 0, so its values are lost: get it again")
    if variable.datatype.kind in "iu":
        step = scale["scale_factor"]
        return f"{variable.datatype.name} in steps of {1 if step is None else abs(step):g}"
    if variable.datatype.itemsize < 8:
        return str(variable.datatype.name)
    for name in variable.ncattrs():
        if name.startswith(QUANTIZED):
            return f"float64 with {name} = {_text(variable, name)[:20]}"
    return None


def _number(where: str, variable: Any, name: str) -> float | None:
    if name not in variable.ncattrs():
        return None
    value = np.asarray(variable.getncattr(name))
    if value.size != 1 or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise ClimstackError(
            f"{where} has {name} {_shown(value)}, expected a finite number: put it right"
        )
    return float(value.reshape(()))


def _check_masks(where: str, variable: Any) -> None:
    """The library leaves out, with a word at most, what its attributes say in another type."""
    for name in MASKS:
        if name not in variable.ncattrs():
            continue
        value = np.asarray(variable.getncattr(name))
        if value.dtype.kind in "iuf":
            with np.errstate(all="ignore"):
                if np.array_equal(value, value.astype(variable.datatype), equal_nan=True):
                    continue
        raise ClimstackError(
            f"{where} has {name} {_shown(value)}, which no {variable.datatype.name} is, so it"
            " masks nothing: put it right"
        )


def _conversion(where: str, variable: Any, unit: str | None) -> Conversion | None:
    """What turns values into the unit, or None where nothing is to be done."""
    if unit is None or "units" not in variable.ncattrs():
        return None
    found = _text(variable, "units")
    try:
        return conversion(found, unit)
    except ClimstackError as error:
        raise ClimstackError(
            f"{where} is in {_shown(found)}, expected {unit}: {error}; put its units right, or"
            " its values"
        ) from None


def _check_calendar(path: Path, held: Any) -> None:
    if held is None or "calendar" not in held.ncattrs():
        return
    found = _text(held, "calendar")
    if found.lower().replace("_", "") not in CALENDARS:
        raise ClimstackError(
            f"{path} has the calendar {_shown(found)}, expected noleap: its dates have leap years"
            " or other months"
        )


def _text(held: Any, name: str) -> str:
    """An attribute as text, whatever its type."""
    return str(held.getncattr(name)).strip(" \0")


def _shown(value: Any) -> str:
    text = repr(str(value))
    return text if len(text) <= 50 else f"{text[:45]}...'"
