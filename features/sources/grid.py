"""Where the grid's columns lie, and the pressure of their levels: ClimSim's grid file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from features.climate.physics import REFERENCE_PRESSURE, HybridLevels, hybrid_levels
from features.core.errors import ClimstackError
from features.core.files import read_json
from features.core.types import Array
from features.schemas.schema import Schema
from features.sources.netcdf_file import Axis, Content, Wanted, open_netcdf

OF_COLUMNS = ("lat", "lon", "area")
OF_LEVELS = ("hyam", "hybm", "hyai", "hybi")
AS_READ: dict[str, tuple[str, Axis]] = {
    "lat": ("degree", "column"),
    "lon": ("degree", "column"),
    "area": ("sr", "column"),
    "hyam": ("1", "level"),
    "hybm": ("1", "level"),
    "hyai": ("1", "interface"),
    "hybi": ("1", "interface"),
}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The horizontal grid and the hybrid levels of a data set.

    Attributes:
        lat: latitude, degrees north, (n_columns,).
        lon: longitude, degrees east, (n_columns,).
        area: solid angle, sr, (n_columns,).
        levels: hybrid coefficients, (n_levels,) and (n_levels + 1,).

    Example:
        >>> from features.synthetic import synthetic_grid
        >>> len(synthetic_grid(6).lat)
        6
    """

    lat: Array
    lon: Array
    area: Array
    levels: HybridLevels

    def __post_init__(self) -> None:
        mid, edge = len(self.levels.hyam), len(self.levels.hyai)
        shapes = {
            **{name: (getattr(self, name), len(self.lat)) for name in OF_COLUMNS},
            "hyam": (self.levels.hyam, mid),
            "hybm": (self.levels.hybm, mid),
            "hyai": (self.levels.hyai, mid + 1),
            "hybi": (self.levels.hybi, edge),
        }
        for name, (values, length) in shapes.items():
            if values.shape != (length,) or not np.isfinite(values).all():
                raise ClimstackError(
                    f"grid variable '{name}' must hold {length} finite numbers, but got"
                    f" {values.size} with {int((~np.isfinite(values)).sum())} not finite"
                )

    def __len__(self) -> int:
        return len(self.lat)

    @classmethod
    @np.errstate(all="ignore")  # absurd values are refused by name
    def read(cls, path: str | Path) -> Grid:
        """Read a NetCDF grid file such as ``ClimSim_low-res_grid-info.nc``, or a ``grid.json``.

        Raises:
            ClimstackError: missing, unreadable, without one of the seven variables or with one in
                another unit; columns beyond the globe; levels in no order. Levels from the ground
                up are turned over, with a warning.
        """
        path = Path(path)
        found = _read_json(path) if path.suffix == ".json" else _read_netcdf(path)
        try:
            grid = cls.from_table(found)
        except ClimstackError as error:
            raise ClimstackError(f"{path}: {error}") from None
        except (TypeError, ValueError) as error:
            raise ClimstackError(f"{path} holds no numbers ({error}): get it again") from None
        return _check(path, grid)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Grid:
        """The grid of a table of seven lists: see :meth:`to_table`."""
        held = {
            name: np.asarray(table[name], dtype=np.float64) for name in (*OF_COLUMNS, *OF_LEVELS)
        }
        levels = HybridLevels(**{name: held[name] for name in OF_LEVELS})
        return cls(lat=held["lat"], lon=held["lon"], area=held["area"], levels=levels)

    def to_table(self) -> dict[str, list[float]]:
        """Seven lists of numbers, exact in JSON."""
        table = {name: getattr(self, name).tolist() for name in OF_COLUMNS}
        return table | {name: getattr(self.levels, name).tolist() for name in OF_LEVELS}

    def levels_for(self, schema: Schema) -> HybridLevels | None:
        """The levels that features of a schema are computed with; None for ClimSim's own.

        Coefficients that equal those of :func:`features.climate.physics.hybrid_levels` to within
        rounding are ClimSim's own.

        Raises:
            ClimstackError: the grid has another number of levels than the schema's profiles.
        """
        n_levels = len(self.levels.hyam)
        for variable in schema.variables:
            if variable.n_levels not in (1, n_levels):
                raise ClimstackError(
                    f"the grid has {n_levels} levels, but '{variable.name}' of schema"
                    f" {schema.name} has {variable.n_levels}: give the grid of these data"
                )
        own = hybrid_levels()
        if n_levels == len(own.hyam) and all(
            np.allclose(getattr(self.levels, name), getattr(own, name), rtol=1e-6, atol=1e-10)
            for name in OF_LEVELS
        ):
            return None
        return self.levels


def _read_json(path: Path) -> dict[str, Any]:
    found = read_json(path)
    for name in (*OF_COLUMNS, *OF_LEVELS):
        if not isinstance(found, dict) or name not in found:
            raise ClimstackError(f"{path} has no variable '{name}': get the whole file")
    return {name: found[name] for name in (*OF_COLUMNS, *OF_LEVELS)}


def _read_netcdf(path: Path) -> dict[str, Any]:
    content = Content(path=path)
    with open_netcdf(path) as data:
        content.read(
            data,
            [
                Wanted(name=name, unit=unit, axes=(axis,), lengths={})
                for name, (unit, axis) in AS_READ.items()
            ],
        )
        if "P0" in data.variables:
            content.read(data, [Wanted(name="P0", unit="Pa", axes=(), lengths={})])
            if content.values["P0"] != REFERENCE_PRESSURE:
                raise ClimstackError(
                    f"{path} has P0 = {content.values['P0']:g} Pa, expected {REFERENCE_PRESSURE:g}:"
                    " scale hyam and hyai to it"
                )
    for note in content.notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    return content.values


def _check(path: Path, grid: Grid) -> Grid:
    """A grid of degrees, its levels from the top down."""
    if np.abs(grid.lat).max() > 90 or np.abs(grid.lon).max() > 360:
        raise ClimstackError(f"{path}: 'lat' or 'lon' is beyond the globe: are they degrees?")
    if (
        len(grid) > 1
        and np.abs(grid.lat).max() <= np.pi / 2
        and np.abs(grid.lon).max() <= 2 * np.pi
    ):
        raise ClimstackError(
            f"{path}: 'lat' and 'lon' look like radians: say so in their units, or turn them into"
            " degrees"
        )
    if (grid.area <= 0).any():
        at = int((grid.area <= 0).argmax())
        raise ClimstackError(
            f"{path}: 'area' of column {at} is {grid.area[at]:g}, expected above 0: get the whole"
            " file"
        )
    levels = grid.levels
    mid, edge = levels.hyam + levels.hybm, levels.hyai + levels.hybi
    if all((np.diff(p) < 0).all() for p in (mid, edge)):
        warnings.warn(
            f"{path}: levels run from the ground up by hyam and hybm and were turned over",
            stacklevel=2,
        )
        turned = {name: getattr(levels, name)[::-1] for name in OF_LEVELS}
        grid = replace(grid, levels=HybridLevels(**turned))
    elif not (edge[:-1] < mid).all() or not (mid < edge[1:]).all():
        raise ClimstackError(
            f"{path}: hyam + hybm must rise from level to level, between hyai + hybi: get the"
            " grid of these data"
        )
    for a, b in (("hyam", "hybm"), ("hyai", "hybi")):
        if getattr(grid.levels, b)[-1] <= getattr(grid.levels, a)[-1]:
            raise ClimstackError(
                f"{path}: at the ground '{a}' is {getattr(grid.levels, a)[-1]:g} and '{b}'"
                f" {getattr(grid.levels, b)[-1]:g}, but the ground's pressure is that of the"
                " surface: are they exchanged?"
            )
    return grid
