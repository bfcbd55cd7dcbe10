"""Turn a table (from TOML or a caller) into a settings dataclass, refusing what it doesn't know."""

from __future__ import annotations

import dataclasses
import math
import operator
import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Lt

from features.core.errors import ClimstackError, closest

T = TypeVar("T")

LARGEST = 2**63 - 1  # what TOML holds, and the libraries behind the settings

Natural = Annotated[int, Ge(0)]
Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Rate = Annotated[float, Interval(ge=0, lt=1)]
InnerShare = Annotated[float, Interval(gt=0, lt=0.5)]


def from_table(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``cls`` from a table.

    Args:
        cls: a dataclass whose fields are bool, int, float, str, Literal, tuples of one type,
            tables of anything (``Mapping[str, Any]``), or any of these or None; numbers perhaps
            with bounds: see :class:`Bounded`.
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
        made = cls(**values)
        check_bounds(made)
    except ClimstackError as error:
        raise ClimstackError(f"{where} {error}") from None
    for key, value in values.items():  # last, for a bound says more
        _check_size(value, f"{where} {key}")
    return made


def check(holds: bool, sentence: str) -> None:
    """Raise ``sentence`` unless the condition holds.

    Raises:
        ClimstackError: the condition does not hold.
    """
    if not holds:
        raise ClimstackError(sentence)


class Bounded:
    """Settings whose fields may have bounds: a dataclass with ``epochs: Annotated[int, Ge(1)]``.

    Raises:
        ClimstackError: when one is made with a value outside its bounds.
    """

    def __post_init__(self) -> None:
        check_bounds(self)


def check_bounds(settings: Any) -> None:
    """See that each value is within the bounds of its field's annotation.

    Raises:
        ClimstackError: one is not; names it and the interval.
    """
    for name, limits in _bounds(settings.__class__).items():
        if (value := getattr(settings, name)) is not None:
            holds = all(getattr(operator, kind)(value, limit) for kind, limit in limits.items())
            low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
            start = f"{'[' if 'ge' in limits else '('}{-math.inf if low is None else low:.12g}"
            end = f"{math.inf if high is None else high:.12g}{']' if 'le' in limits else ')'}"
            check(holds, f"{name} must lie in {start}, {end}, but got {value}")


def without_none(value: Any) -> Any:
    """The same table, however deep, without what is None: TOML has no word for it."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_none(item) for item in value]
    return value


@cache
def _bounds(cls: type) -> dict[str, dict[str, Any]]:
    """By field its limits, called as in :mod:`operator`: ge, gt, le, lt."""
    bounds: dict[str, dict[str, Any]] = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        for part in (hint, *get_args(hint)):  # itself, or in a union with None
            for each in get_args(part)[1:] if get_origin(part) is Annotated else ():
                for one in each if isinstance(each, GroupedMetadata) else (each,):
                    if isinstance(one, Gt | Ge | Lt | Le):
                        bounds.setdefault(name, {}).update(dataclasses.asdict(one))
    return bounds


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
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ClimstackError(f"{where} must be a table, but got {value!r}")
        return {str(key): _any(item, f"{where} {key}") for key, item in value.items()}
    return _plain(hint, value, where)


def _any(value: Any, where: str) -> Any:
    """Whatever TOML and JSON hold alike."""
    if isinstance(value, Mapping):
        return {str(key): _any(item, f"{where} {key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_any(item, where) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        _check_size(value, where)
        return _plain(type(value), value, where)
    raise ClimstackError(f"{where} must be a number, a text, a list or a table, but got {value!r}")


def _check_size(value: Any, where: str) -> None:
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ClimstackError(f"{where} is a whole number of more than 64 bits: give a smaller one")


def _plain(hint: Any, value: Any, where: str) -> Any:
    """A truth value, a number or a text."""
    if hint is float:
        _check_size(value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise ClimstackError(f"{where} must be finite, but got {value}")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ClimstackError(f"{where} must be {hint.__name__}, but got {value!r}")
    return value
