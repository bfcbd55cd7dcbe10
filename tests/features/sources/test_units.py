"""Units as files spell them."""

from __future__ import annotations

import time

import numpy as np
import pytest

from features import ClimstackError, available_schemas, load_schema
from features.sources.units import Conversion, conversion

pytest.importorskip("pint")


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("W m-2", "W/m2"), ("W m**-2", "W/m2"), ("W/m^2", "W/m2"), ("W.m-2", "W/m2"),
        ("J m-2 s-1", "W/m2"), ("kg kg-1", "kg/kg"), ("1", "kg/kg"), ("mol mol-1", "mol/mol"),
        ("m s-1", "m/s"), ("m/s/s", "m/s2"), ("K s-1", "K/s"), ("kg kg-1 s-1", "kg/kg/s"),
        ("kg/(kg s)", "kg/kg/s"), ("fraction", "1"), ("", "1"), ("none", "1"), ("unitless", "1"),
        ("Kelvin", "K"), ("degK", "K"), ("pascal", "Pa"), ("Pascals", "Pa"), ("N m-2", "Pa"),
        ("degrees_north", "degree"), ("degree_east", "degree"), ("degrees_E", "degree"),
        ("radians^2", "sr"), ("steradian", "sr"), ("m/s2 s", "m/s"),
    ],
)  # fmt: skip
def test_equal_units_change_nothing(found, wanted):
    assert conversion(found, wanted) is None


@pytest.mark.parametrize(
    ("found", "wanted", "factor", "offset"),
    [
        ("hPa", "Pa", 100, 0), ("mb", "Pa", 100, 0), ("millibars", "Pa", 100, 0),
        ("mbar", "Pa", 100, 0), ("kPa", "Pa", 1000, 0), ("degC", "K", 1, 273.15),
        ("celsius", "K", 1, 273.15), ("degrees_C", "K", 1, 273.15),
        ("degF", "K", 5 / 9, 459.67 / 1.8),
        ("g/kg", "kg/kg", 1e-3, 0), ("g kg-1", "kg/kg", 1e-3, 0), ("1e-3 kg/kg", "kg/kg", 1e-3, 0),
        ("ppmv", "mol/mol", 1e-6, 0), ("ppb", "mol/mol", 1e-9, 0),
        ("percent", "1", 0.01, 0), ("%", "1", 0.01, 0),
        ("mm/day", "m/s", 1e-3 / 86_400, 0), ("K/day", "K/s", 1 / 86_400, 0), ("cm", "m", 0.01, 0),
        ("radians", "degree", 180 / np.pi, 0), ("degrees2", "sr", (np.pi / 180) ** 2, 0),
    ],
)  # fmt: skip
def test_other_units_are_turned(found, wanted, factor, offset):
    made = conversion(found, wanted)
    assert isinstance(made, Conversion)
    assert made.factor == pytest.approx(factor, rel=1e-12)
    assert made.offset == pytest.approx(offset, rel=1e-12)
    assert made(np.array([2.0]))[0] == pytest.approx(2 * factor + offset, rel=1e-12)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("kg/m2", "m"), ("K", "Pa"), ("", "Pa"), ("m", "1"), ("W", "W/m2"),
        # Plain numbers all, and yet of different things.
        ("kg/kg", "mol/mol"), ("mol mol-1", "kg/kg"), ("ppmv", "kg/kg"), ("degrees", "1"),
        ("radian", "1"), ("1", "degree"), ("radian", "sr"), ("dB", "1"),
        # No units at all.
        ("furlongs per smoot", "m/s"), ("-", "1"), ("K K K K K (", "K"), ("m\x00", "m"), ("é", "1"),
        ("0 Pa", "Pa"), ("nan", "1"), ("inf Pa", "Pa"), ("1e400", "1"), ("__import__('os')", "1"),
        ("9**9**9**9", "1"), ("(9)**99999999", "1"), ("m^9^9^9", "m"), ("1" * 1000, "1"),
    ],
)  # fmt: skip
def test_what_is_no_such_unit_is_refused_at_once(found, wanted):
    start = time.monotonic()
    with pytest.raises(ClimstackError):
        conversion(found, wanted)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("name", available_schemas())
def test_units_of_schemas_can_be_read(name):
    for variable in load_schema(name).variables:
        assert conversion(f" {variable.unit}  ", variable.unit) is None
        assert conversion(f"1 {variable.unit}".replace("1 1", "1"), variable.unit) is None
