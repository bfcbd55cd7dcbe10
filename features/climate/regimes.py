"""Regimes of a column of air, from its inputs: day or night, surface, cloud, latitude.

| kind | regimes | told apart by |
|---|---|---|
| all | all | every row |
| sun | day, night | cosine of the zenith angle above 0 or not |
| surface | land, ocean, ice | the largest of the three fractions of the grid cell |
| cloud | cloudy, clear | condensed water in the column above :data:`CLOUDY` or not |
| latitude | tropics, extratropics | within :data:`TROPICS` of the equator or not |
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from features.climate import physics
from features.core.errors import ClimstackError
from features.core.types import Array, Mask
from features.schemas.schema import Schema

# kg/m2. Drops of radius r = 10 um and optical depth 3.6 hold W = 2/3 x 1000 kg/m3 x r x 3.6
# (Stephens 1978, J. Atmos. Sci. 35, 2123-2132); 3.6 parts ISCCP's thin clouds from its medium ones
# (Rossow and Schiffer 1999, Bull. Amer. Meteor. Soc. 80, 2261-2287).
CLOUDY = 0.024
TROPICS = 30.0  # degrees: half of the globe's surface lies within
KINDS = {
    "all": ("all",),
    "sun": ("day", "night"),
    "surface": ("land", "ocean", "ice"),
    "cloud": ("cloudy", "clear"),
    "latitude": ("tropics", "extratropics"),
}
FRACTIONS = ("cam_in_LANDFRAC", "cam_in_OCNFRAC", "cam_in_ICEFRAC")  # in the order of "surface"
CONDENSATE = ("state_q0002", "state_q0003")
KIND_OF = {regime: kind for kind, regimes in KINDS.items() for regime in regimes}


def regime_masks(
    schema: Schema,
    inputs: Array,
    latitude: Array | None = None,
    levels: physics.HybridLevels | None = None,
) -> dict[str, Mask]:
    """Which rows lie in which regime; those of a kind share the rows out among them.

    Args:
        schema: says where the inputs lie.
        inputs: (n_samples, n_inputs), physical units.
        latitude: of each row, degrees north, (n_samples,); None leaves the latitude out.
        levels: hybrid levels: :attr:`features.store.store.Store.levels`; None for ClimSim's own.

    Returns:
        By the regime's name a mask, (n_samples,). Kinds that the schema lacks a variable for are
        left out.

    Example:
        >>> from features.schemas.known import load_schema
        >>> from features.synthetic import simulate
        >>> masks = regime_masks(load_schema("leap"), simulate(2, 6, 0).inputs)
        >>> "day" in masks, masks["all"].sum().item()
        (True, 12)
    """

    def of(name: str) -> Array:
        return inputs[:, schema.slice_of(name)]

    n_levels = {variable.name: variable.n_levels for variable in schema.inputs}
    found = {"all": np.ones(len(inputs), dtype=bool)}
    if "pbuf_COSZRS" in n_levels:
        day = of("pbuf_COSZRS")[:, 0] > 0
        found |= {"day": day, "night": ~day}
    if set(FRACTIONS) <= set(n_levels):
        surface = np.concatenate([of(name) for name in FRACTIONS], axis=1).argmax(axis=1)
        found |= {name: surface == place for place, name in enumerate(KINDS["surface"])}
    known = physics.N_LEVELS if levels is None else len(levels.hyam)
    if "state_ps" in n_levels and all(n_levels.get(x) == known for x in CONDENSATE):
        cloudy = cloud_water_path(schema, inputs, levels) > CLOUDY
        found |= {"cloudy": cloudy, "clear": ~cloudy}
    if latitude is not None:
        tropics = np.abs(latitude) < TROPICS
        found |= {"tropics": tropics, "extratropics": ~tropics}
    return found


def cloud_water_path(
    schema: Schema, inputs: Array, levels: physics.HybridLevels | None = None
) -> Array:
    """Liquid and ice in the column, kg/m2, (n_samples,), from (n_samples, n_inputs)."""
    liquid, ice = (inputs[:, schema.slice_of(name)] for name in CONDENSATE)
    surface_pressure = inputs[:, schema.slice_of("state_ps")][:, 0]
    return physics.column_integral(liquid + ice, physics.layer_mass(surface_pressure, levels))


def latitude_of_rows(column: NDArray[np.int64], latitude: Array, n_columns: int) -> Array:
    """Latitude of each row, (n_samples,), from that of the grid columns.

    Args:
        column: grid column of each row, (n_samples,).
        latitude: degrees north, (n_columns,).
        n_columns: of the grid.

    Raises:
        ClimstackError: another number of columns, no latitude, or the rows' columns are unknown.
    """
    if latitude.shape != (n_columns,):
        raise ClimstackError(
            f"the data have {n_columns} grid columns, but latitudes of shape {latitude.shape} are"
            " given: give one per column"
        )
    wrong = np.flatnonzero(~(np.abs(latitude) <= 90))
    if len(wrong):
        raise ClimstackError(
            f"the latitude of grid column {wrong[0]} is {latitude[wrong[0]]}: give degrees"
            " from -90 to 90"
        )
    if len(column) and column.min() < 0:
        raise ClimstackError("the grid columns of these rows aren't known (test data?)")
    return latitude[column]
