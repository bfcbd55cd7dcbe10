"""What people write in a column, as numbers, words, days or seconds; what can't be read is told."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.types import Array

MISSING = ("NA", "N/A", "NaN", "nan", "NAN", "NaT", "null", "NULL", "None", "<NA>")
DAY = 86_400  # seconds
DATE = (
    r"^(\d{4})[-/](\d{1,2})[-/](\d{1,2})"
    r"(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2}(?:[.,]\d+)?))?)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?$"
)
WHOLE = r"^(-?\d+)\.0+$"


def as_text(values: pl.Series) -> pl.Series:
    """A column as text without spaces around it, null where nothing stands; 3.0 is "3".

    Example:
        >>> as_text(pl.Series([3.0, None, 2.5])).to_list()
        ['3', None, '2.5']
    """
    text = values.cast(pl.String).str.strip_chars()
    if values.dtype.is_float() or values.dtype.is_decimal():
        text = text.str.replace(WHOLE, "$1")
        text = text.set(text.is_in(MISSING), None)
    return text.set(text == "", None)


def is_word_of_none(text: pl.Series) -> pl.Series:
    """Whether a text says that nothing stands there, (n,); false where it is null."""
    return text.is_in(MISSING).fill_null(False)


def as_numbers(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A column as float64, null where nothing stands, and whether what stands can't be read.

    Example:
        >>> found, bad = as_numbers(pl.Series(["1e3", "NA", "true", "x", ""]))
        >>> found.to_list(), bad.to_list()
        ([1000.0, None, 1.0, None, None], [False, False, False, True, False])
    """
    if values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null):
        return values.cast(pl.Float64), _none_of(values)
    text = as_text(values)
    is_there = text.is_not_null() & ~is_word_of_none(text)
    found = text.set(~is_there, None).cast(pl.Float64, strict=False)
    lower = text.str.to_lowercase()
    for word, number in (("true", 1.0), ("false", 0.0)):
        found = found.set((lower == word).fill_null(False), number)
    return found, is_there & found.is_null()


def as_days(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A column of dates as days since 1970-01-01, float64; and whether one can't be read.

    Numbers are taken as such days.

    Example:
        >>> found, bad = as_days(pl.Series(["1970-01-02", "1970-01-01T12:00:00Z", "1970-02-30"]))
        >>> found.to_list(), bad.to_list()
        ([1.0, 0.5, None], [False, False, True])
    """
    if values.dtype.is_numeric():
        return values.cast(pl.Float64), _none_of(values)
    seconds, bad = as_seconds(values)
    return seconds / DAY, bad


def as_seconds(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A column of dates as seconds since 1970, float64; and whether one can't be read.

    Dates are ``2020-01-31``, perhaps with a time and a zone, or of a type of their own; those
    without a zone are taken as UTC.

    Example:
        >>> as_seconds(pl.Series(["1970-01-01 01:00+01:00", "1970/1/2"]))[0].to_list()
        [0.0, 86400.0]
    """
    if values.dtype == pl.Date:
        return values.cast(pl.Int32).cast(pl.Float64) * DAY, _none_of(values)
    if isinstance(values.dtype, pl.Datetime):
        unit = {"ms": 1e3, "us": 1e6, "ns": 1e9}[values.dtype.time_unit]
        return values.to_physical().cast(pl.Float64) / unit, _none_of(values)
    text = as_text(values)
    is_there = text.is_not_null() & ~is_word_of_none(text)
    parts = text.str.extract_groups(DATE).struct.unnest()
    year, month, day, hour, minute, second, zone = (parts.to_series(at) for at in range(7))
    date = (year + "-" + month + "-" + day).str.to_date("%Y-%m-%d", strict=False)
    clock = [
        part.str.replace(",", ".").cast(pl.Float64).fill_null(0.0)
        for part in (hour, minute, second)
    ]
    offset = zone.str.extract_groups(r"^([+-])(\d{2}):?(\d{2})$").struct.unnest()
    ahead = offset.to_series(1).cast(pl.Float64) * 3600 + offset.to_series(2).cast(pl.Float64) * 60
    ahead = ahead.fill_null(0.0) * (offset.to_series(0) == "-").fill_null(False).replace_strict(
        {True: -1.0, False: 1.0}, return_dtype=pl.Float64
    )
    hours, minutes, seconds = clock
    wrong = (hours >= 24) | (minutes >= 60) | (seconds >= 61)
    found = date.cast(pl.Int32).cast(pl.Float64) * DAY + hours * 3600 + minutes * 60 + seconds
    found = (found - ahead).set(wrong, None)
    return found, is_there & found.is_null()


def timesteps(values: Array, step: float) -> NDArray[np.int64]:
    """Number of the timestep that each time lies in, (n,), where 0.3 in steps of 0.1 is 3.

    Args:
        values: times, at least 0, (n,): seconds since 1970, or numbers.
        step: length of a timestep, in their unit.

    Example:
        >>> timesteps(np.array([0.0, 0.3, 0.35]), 0.1).tolist()
        [0, 3, 3]
    """
    steps = values / step
    return np.floor(steps + 1e-9 * np.maximum(steps, 1)).astype(np.int64)


def common_step(times: Array) -> float:
    """The most common difference of sorted distinct times, the smallest of equals; 1 for one.

    Example:
        >>> common_step(np.array([3.0, 0.0, 0.5, 1.0]))
        0.5
    """
    steps = np.round(np.diff(np.unique(times)), 6)
    found, counts = np.unique(steps[steps > 0], return_counts=True)
    return float(found[counts.argmax()]) if len(found) else 1.0


def is_date(values: pl.Series) -> bool:
    """Whether the first value of a column is a date, or its type is."""
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        return True
    first = values.drop_nulls().head(1)
    return (
        values.dtype == pl.String and len(first) > 0 and bool(as_seconds(first)[0].is_not_null()[0])
    )


def _none_of(values: pl.Series) -> pl.Series:
    return pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)
