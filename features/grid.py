"""Where the grid's columns lie, and the pressure of their levels: ClimSim's grid file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import ClimstackError
from features.physics import HybridLevels

Array = NDArray[np.float64]
OF_COLUMNS = ("lat", "lon", "area")
OF_LEVELS = ("hyam", "hybm", "hyai", "hybi")


@dataclass(frozen=True)
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
        """Read a NetCDF grid file such as ``ClimSim_low-res_grid-info.nc``.

        Raises:
            ClimstackError: missing, unreadable, or without one of the seven variables.
        """
        from features.netcdf import read_variables

        found = read_variables(Path(path), (*OF_COLUMNS, *OF_LEVELS))
        try:
            return cls.from_table(found)
        except ClimstackError as error:
            raise ClimstackError(f"{path}: {error}") from None

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Grid:
        """The grid of a table of seven lists: see :meth:`to_table`."""
        held = {
            name: np.asarray(table[name], dtype=np.float64) for name in (*OF_COLUMNS, *OF_LEVELS)
        }
        levels = HybridLevels(**{name: held[name] for name in OF_LEVELS})
        return cls(held["lat"], held["lon"], held["area"], levels)

    def to_table(self) -> dict[str, list[float]]:
        """Seven lists of numbers, exact in JSON."""
        table = {name: getattr(self, name).tolist() for name in OF_COLUMNS}
        return table | {name: getattr(self.levels, name).tolist() for name in OF_LEVELS}

    def bands(self, width: float = 30.0) -> NDArray[np.int64]:
        """Number of each column's band of latitude, from the south, (n_columns,).

        Folds by region: ``groups(store.grid.bands()[store.column], n_folds)``.

        Args:
            width: of a band, degrees.

        Raises:
            ClimstackError: the width is not between 0 and 180.
        """
        if not 0 < width <= 180:
            raise ClimstackError(f"0 < width <= 180 must hold, but got width={width}")
        band = np.floor((self.lat + 90.0) / width).astype(np.int64)
        return np.minimum(band, int(np.ceil(180.0 / width)) - 1)  # the pole lies in the last
