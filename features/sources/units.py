"""Units as NetCDF files spell them, turned into those of a schema.

Source of the spellings: the CF conventions and UDUNITS (``W m-2``, ``kg kg-1``, ``millibars``).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from features.core.errors import ClimstackError
from features.core.types import Array

MAX_LENGTH = 40
NAME = r"[A-Za-zµ°%_]+"
# What CF says and Pint does not, or says of something else: its mb is a millibarn.
DEFINITIONS = (
    "mb = 100 pascal = mbar = millibars",
    "fraction = 1 = unitless = none",
    "ppmv = 1e-6",
    "ppbv = 1e-9 = ppb",
    "@alias degree = degrees_north = degree_north = degrees_n = degree_N = degreeN = degreesn",
    "@alias degree = degrees_east = degree_east = degrees_e = degree_E = degreeE = degreese",
    "@alias degree_Celsius = degrees_c = degree_c = deg_c",
)
KINDS = {
    "solid angles": r"sr\b|steradian|(rad|deg)[a-z]*\W*2",
    "angles": r"rad|deg|turn",
    "moles": r"mol|pp[mb]v",
    "mass": r"gram|g\b|g(?=[-\d])",
}
MAY_MEET: tuple[set[str | None], ...] = ({None, "moles"}, {None, "mass"})


@dataclass(frozen=True)
class Conversion:
    """From one unit to another: ``factor * value + offset``."""

    factor: float
    offset: float

    def __call__(self, values: Array) -> Array:
        """Values in the other unit."""
        return values * self.factor + self.offset


@lru_cache(maxsize=1024)
def conversion(found: str, wanted: str) -> Conversion | None:
    """How values in a unit become values in another; None where both are alike.

    Raises:
        ClimstackError: one of them can't be read, or they measure different things; the words of a
            sentence that the caller begins with the file and the variable.
    """
    if found.split() == wanted.split():
        return None
    try:
        import pint
    except ImportError:
        raise ClimstackError(
            "comparing units needs the package pint: pip install 'climstack[netcdf]'"
        ) from None
    here, there = _read(found), _read(wanted)
    kinds = {_kind(found), _kind(wanted)}
    if there.dimensionless and len(kinds) == 2 and kinds not in MAY_MEET:
        raise ClimstackError("of another kind")
    try:
        steps = _registry().Quantity(here.magnitude * np.arange(3.0), here.units)
        made = steps.to(there.units).magnitude / there.magnitude
    except pint.PintError:
        raise ClimstackError("of another kind") from None
    factor, offset = float(made[1] - made[0]), float(made[0])
    if not np.isfinite(made).all() or not factor > 0 or made[2] - made[1] > 1.001 * factor:
        raise ClimstackError("on a scale that is not linear")
    if offset == 0 and abs(factor - 1) < 1e-12:
        return None
    return Conversion(factor, offset)


def _read(text: str) -> Any:
    """A unit as Pint's quantity of one of it."""
    plain = text.strip().replace("**", "^").replace("²", "2").replace("·", " ")
    # Powers stand on names alone and have one digit: no text makes Pint compute for ever.
    plain = re.sub(rf"(?<![\w%µ°])({NAME})\^?([+-]?\d)(?![\d.])", r"\1@\2", plain)
    plain = re.sub(r"(?<=[\w%°)])[ .](?=[A-Za-zµ°%(])", "*", plain)
    plain = re.sub(r"[A-Za-z_]{5,}", lambda name: name[0].lower(), plain)
    allowed = rf"(?:{NAME}(?:@[+-]?\d)?|\d+(?:\.\d+)?(?:[eE][+-]?\d{{1,2}})?|[ */()])*"
    if len(text) > MAX_LENGTH or not re.fullmatch(allowed, plain) or "**" in plain:
        raise ClimstackError("unreadable")
    try:
        unit = _registry().Quantity(plain.replace("@", "**") or "1")
        is_one = 0 < unit.magnitude < math.inf
    except Exception:  # Pint's parser raises whatever Python's tokenizer does
        is_one = False
    if not is_one:
        raise ClimstackError("unreadable")
    return unit


def _kind(text: str) -> str | None:
    """What a plain number is a share or a measure of: kg/kg, mol/mol and degrees are all plain."""
    return next((kind for kind, words in KINDS.items() if re.search(words, text)), None)


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    registry: Any = pint.UnitRegistry(on_redefinition="ignore")
    for line in DEFINITIONS:
        registry.define(line)
    return registry
