"""Where the grid's columns lie, and the pressure of their levels: ClimSim's grid file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.climate.physics import HybridLevels, hybrid_levels
from features.core.errors import ClimstackError
from features.core.files import read_json
from features.core.types import Array
from features.schemas.schema import Schema

OF_COLUMNS = ("lat", "lon", "area")
OF_LEVELS = ("hyam", "hybm", "hyai", "hybi")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The horizontal grid and the hybrid levels of a data set.

    Attributes:
        lat: latitude, degrees north, (n_columns,).
        lon: longitude, degrees east, (n_columns,).
        area: solid angle, sr, (n_columns,).
        levels: hybrid coefficients, (n_levels,) and (n_levels + 1,).
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
    def read(cls, path: str | Path) -> Grid:
        """Read a NetCDF grid file such as ``ClimSim_low-res_grid-info.nc``, or a ``grid.json``.

        Raises:
            ClimstackError: missing, unreadable, or without one of the seven variables.
        """
        path, names = Path(path), (*OF_COLUMNS, *OF_LEVELS)
        if path.suffix == ".json":
            found = read_json(path)
            for name in names:
                if not isinstance(found, dict) or name not in found:
                    raise ClimstackError(f"{path} has no variable '{name}': get the whole file")
        else:
            from features.sources.netcdf import read_variables

            found = read_variables(path, names)
        try:
            return cls.from_table(found)
        except ClimstackError as error:
            raise ClimstackError(f"{path}: {error}") from None
        except (TypeError, ValueError) as error:
            raise ClimstackError(f"{path} holds no numbers ({error}): get it again") from None

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
