"""Levels from the ground up are turned over, whoever says that they are."""

from __future__ import annotations

import re

import numpy as np
import pytest

from features import ClimstackError
from features.climate.physics import hybrid_levels
from features.sources.grid import Grid
from features.synthetic import synthetic_grid
from tests.features.sources.pairs import Files, Laid, dump

netCDF4 = pytest.importorskip("netCDF4")

LEVELS = hybrid_levels()
PRESSURE = 1000 * (LEVELS.hyam + LEVELS.hybm)  # hPa, from the top down


def turn(files: Files, *kinds: str) -> None:
    for kind in kinds or files:
        for laid in files[kind].values():
            laid.turn()


def lev(values: np.ndarray, **attributes: str) -> Laid:
    return Laid(values, ("lev",), "f8", attributes)


UP = {
    "pressure": {"lev": lev(PRESSURE[::-1], units="hPa", positive="down")},
    "pressure without positive": {"lev": lev(PRESSURE[::-1], units="millibars")},
    "height": {"lev": lev(np.arange(60.0), units="km")},
    "height upward": {"lev": lev(np.arange(60.0), positive="Up")},
    "depth": {"lev": lev(-np.arange(60.0), units="m", positive="down")},
    "hybrid": {"hyam": lev(LEVELS.hyam[::-1]), "hybm": lev(LEVELS.hybm[::-1])},
    "hybrid in pascals": {"hyam": lev(1e5 * LEVELS.hyam[::-1]), "hybm": lev(LEVELS.hybm[::-1])},
    "numbers": {"lev": lev(np.arange(60.0)[::-1])},  # of what? humidity says it
    "nothing": {},
}


@pytest.mark.parametrize("name", UP)
def test_profiles_from_the_ground_up_are_turned_over(name, files, rows, tmp_path):
    right = rows(dump(tmp_path / "right", files))
    turn(files)
    for variables in files.values():
        variables |= UP[name]
    witness = "state_q0001" if name in ("numbers", "nothing") else r"lev|hyam and hybm"
    folder = dump(tmp_path / "up", files)
    with pytest.warns(
        UserWarning, match=f"mli.*: levels run from the ground up by ({witness}) and"
    ):
        made = rows(folder)
    np.testing.assert_array_equal(made, right)


@pytest.mark.parametrize("kinds", [("mli",), ("mlo",)])
def test_the_two_files_may_differ(kinds, files, rows, tmp_path):
    right = rows(dump(tmp_path / "right", files))
    turn(files, *kinds)
    folder = dump(tmp_path / "up", files)
    with pytest.warns(
        UserWarning, match=rf"{kinds[0]}.*from the ground up by state_q0001 and were"
    ):
        made = rows(folder)
    np.testing.assert_array_equal(made, right)


DOWN = {
    "pressure": {"lev": lev(PRESSURE, units="hPa", positive="down")},
    "sigma": {"lev": lev(PRESSURE / 1000, units="sigma_level", positive="down")},
    "numbers": {"lev": lev(np.arange(60.0))},
    "hybrid": {"hyam": lev(LEVELS.hyam), "hybm": lev(LEVELS.hybm)},
}


@pytest.mark.parametrize("name", DOWN)
def test_profiles_from_the_top_down_stay(name, files, rows, tmp_path):
    right = rows(dump(tmp_path / "right", files))
    for variables in files.values():
        variables |= DOWN[name]
    np.testing.assert_array_equal(rows(dump(tmp_path / "pair", files)), right)


def bent(at: int, value: float) -> np.ndarray:
    values = PRESSURE.copy()
    values[at] = value
    return values


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"lev": lev(bent(30, 1.0), units="hPa")}, "'lev' neither rises nor falls"),
        ({"lev": lev(bent(30, np.nan), units="hPa")}, "'lev' neither rises nor falls"),
        ({"lev": lev(np.full(60, 5.0))}, "'lev' neither rises nor falls"),
        (
            {"hyam": lev(bent(9, 900.0) / 1000), "hybm": lev(0 * PRESSURE)},
            "hyam + hybm neither rises nor falls",
        ),
        (
            {"lev": Laid(np.arange(9.0), ("nlev",))},
            "'lev' has dimensions (nlev: 9), expected (lev: 60)",
        ),
        ({"lev": Laid(np.full(60, b"x"), ("lev",), "S1")}, "'lev' holds values of type bytes8"),
        ({"lev": lev(PRESSURE, units="hPa", positive="up")}, "a pressure that grows upward"),
        ({"lev": lev(PRESSURE, positive="left")}, "has positive = 'left', expected up or down"),
        # Somebody turned the profiles over and not their coordinate, or the other way round.
        (
            {"lev": lev(PRESSURE[::-1], units="hPa")},
            "by lev its levels run from the ground up, by state_q0001",
        ),
        (
            {
                "lev": lev(PRESSURE, units="hPa"),
                "hyam": lev(LEVELS.hyam[::-1]),
                "hybm": lev(LEVELS.hybm[::-1]),
            },
            "by hyam and hybm its levels run from the ground up, by lev from the",
        ),
    ],
)
def test_coordinates_that_make_no_sense_are_refused(held, said, files, read, tmp_path):
    files["mlo"] |= held
    with pytest.raises(ClimstackError, match=rf"mlo.*{re.escape(said)}"):
        read(dump(tmp_path / "pair", files))


def test_two_files_that_run_against_each_other_are_no_pair(files, read, tmp_path):
    """Humidity that says nothing, and no coordinate: the temperature of both tells it."""
    for variables in files.values():
        variables["state_q0001"].values = np.full((60, 16), 1e-3)
    files["mli"]["pbuf_ozone"].values = np.full((60, 16), 1e-6)
    read(dump(tmp_path / "right", files))
    turn(files, "mlo")
    with pytest.raises(ClimstackError, match="are levels and columns of both files in one order"):
        read(dump(tmp_path / "pair", files))


def write_grid(path, grid: Grid, **changes) -> None:
    """A grid file as ClimSim's; changes are values, or values and unit, by name."""
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_DATA") as data:
        for name, size in (("ncol", len(grid)), ("lev", 60), ("ilev", 61)):
            data.createDimension(name, size)
        for name, values in (grid.to_table() | changes).items():
            values, unit = values if isinstance(values, tuple) else (values, None)
            dimension = {len(grid): ("ncol",), 60: ("lev",), 61: ("ilev",)}.get(np.size(values), ())
            made = data.createVariable(name, "f8", dimension)
            made[...] = values
            if unit is not None:
                made.units = unit


def test_a_grid_from_the_ground_up_is_turned_over(tmp_path):
    grid, path = synthetic_grid(16), tmp_path / "grid.nc"
    names = ("hyam", "hybm", "hyai", "hybi")
    up = {name: getattr(grid.levels, name)[::-1] for name in names}
    write_grid(path, grid, **up)
    with pytest.warns(
        UserWarning, match=r"grid\.nc: levels run from the ground up by hyam and hybm"
    ):
        made = Grid.read(path)
    assert made.to_table() == grid.to_table()


def test_a_grid_is_read_by_its_units(tmp_path):
    grid, path = synthetic_grid(16), tmp_path / "grid.nc"
    write_grid(
        path, grid, lat=(grid.lat, "degrees_north"), lon=(grid.lon, "degrees_east"), P0=(1e5, "Pa")
    )
    assert Grid.read(path).to_table() == grid.to_table()
    write_grid(path, grid, lat=(np.deg2rad(grid.lat), "radians"), area=(grid.area, "radians^2"))
    with pytest.warns(UserWarning, match="'lat' is in radians and was turned into degree"):
        made = Grid.read(path)
    np.testing.assert_allclose(made.lat, grid.lat, rtol=1e-14)
    np.testing.assert_array_equal(made.area, grid.area)


LEVELS_MIXED = np.random.default_rng(0).permutation(LEVELS.hyam)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {name: np.deg2rad(getattr(synthetic_grid(16), name)) for name in ("lat", "lon")},
            "look like radians",
        ),
        ({"lat": np.linspace(-100, 100, 16)}, "'lat' or 'lon' is beyond the globe"),
        ({"area": (np.ones(16), "m2")}, "'area' is in 'm2', expected sr: of another kind"),
        ({"lat": (np.arange(16.0), "1")}, "'lat' is in '1', expected degree: of another kind"),
        ({"hyam": (1e5 * LEVELS.hyam, "Pa")}, "'hyam' is in 'Pa', expected 1: of another kind"),
        ({"hyam": 1e5 * LEVELS.hyam}, "must rise from level to level"),
        ({"hyam": LEVELS_MIXED}, "must rise from level to level"),
        ({"hyai": LEVELS.hyai[::-1], "hybi": LEVELS.hybi[::-1]}, "must rise from level to level"),
        ({"hyam": LEVELS.hybm, "hybm": LEVELS.hyam}, "at the ground 'hyam' is"),
        ({"area": -np.ones(16)}, "'area' of column 0 is -1, expected above 0"),
        ({"P0": 1000.0}, "has P0 = 1000 Pa, expected 100000"),
        ({"P0": (1013.25, "hPa")}, "has P0 = 101325 Pa, expected 100000"),
        ({"hyam": LEVELS.hyai}, "'hyam' has dimensions (ilev: 61), expected (lev)"),
    ],
)
def test_a_grid_of_something_else_is_refused(changes, said, tmp_path):
    path = tmp_path / "grid.nc"
    write_grid(path, synthetic_grid(16), **changes)
    with pytest.raises(ClimstackError, match=rf"grid\.nc.*{re.escape(said)}"):
        Grid.read(path)
