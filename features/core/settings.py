"""Turn a table (from TOML or a caller) into a settings dataclass, refusing what it doesn't know."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from features.core.errors import ClimstackError, closest

T = TypeVar("T")


def from_table(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``cls`` from a table.

    Args:
        cls: a dataclass whose fields are bool, int, float, str, Literal, tuples of one type, or
            any of these or None.
        table: keys are field names.
        where: how to name the table in an error, as ``[folds]``.

    Raises:
        ClimstackError: an unknown key (with the closest known one), a missing key, a wrong type,
            or what the dataclass itself refuses.
    """
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise ClimstackError(f"{where} has no setting {key!r}: {closest(key, fields)}")
    for name, found in fields.items():
        no_default = (
            found.default is dataclasses.MISSING and found.default_factory is dataclasses.MISSING
        )
        if no_default and name not in table:
            raise ClimstackError(f"{where} needs the setting '{name}': add it")
    values = {key: _as(hints[key], value, f"{where} {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except ClimstackError as error:
        raise ClimstackError(f"{where} {error}") from None


def check(holds: bool, sentence: str) -> None:
    """Raise ``sentence`` unless the condition holds.

    Raises:
        ClimstackError: the condition does not hold.
    """
    if not holds:
        raise ClimstackError(sentence)


def require(settings: object, **intervals: str) -> None:
    """Check numbers of a settings object against intervals.

    Args:
        settings: the object, its attributes named as the keys.
        **intervals: as ``"(0, 1]"`` or ``"[1, inf)"``.

    Raises:
        ClimstackError: a value lies outside its interval.
    """
    for name, interval in intervals.items():
        value = getattr(settings, name)
        low, high = (float(end) for end in interval[1:-1].split(","))
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        check(above and below, f"{name} must lie in {interval}, but got {value}")


def _as(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _as(next(a for a in args if a is not type(None)), value, where)
    if origin is Literal:
        if value not in args:
            known = ", ".join(map(str, args))
            raise ClimstackError(f"{where} must be one of {known}, but got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ClimstackError(f"{where} must be a list, but got {value!r}")
        return tuple(_as(args[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise ClimstackError(f"{where} must be finite, but got {value}")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ClimstackError(f"{where} must be {hint.__name__}, but got {value!r}")
    return value
