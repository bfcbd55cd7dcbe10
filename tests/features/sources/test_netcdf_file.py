"""NetCDF variables are read by their names, dimensions, types and units."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from features import ClimstackError, convert
from features.core.files import write_json
from features.sources.source import PairSource
from features.synthetic import synthetic_grid
from tests.features.sources.pairs import Files, Laid, dump, pair_of

netCDF4 = pytest.importorskip("netCDF4")


def relay(files: Files, profile: tuple[str, ...], scalar: tuple[str, ...]) -> None:
    """All variables with other dimensions: those that are not lev and ncol have length 1."""
    for variables in files.values():
        for laid in variables.values():
            wanted = profile if laid.values.ndim == 2 else scalar
            names = {"level": 0, "column": -1}
            kinds = [
                "level" if "lev" in n.lower() else "column" if "col" in n else "" for n in wanted
            ]
            order = [names[kind] % laid.values.ndim for kind in kinds if kind]
            shape = [laid.values.shape[names[kind]] if kind else 1 for kind in kinds]
            laid.values = laid.values.transpose(order).reshape(shape)
            laid.dimensions = wanted


@pytest.mark.parametrize(
    ("profile", "scalar"),
    [
        (("ncol", "lev"), ("ncol",)),
        (("time", "lev", "ncol"), ("time", "ncol")),
        (("ncol", "time", "lev"), ("ncol", "time")),
        (("column", "level"), ("column",)),
        (("Time", "NLEV", "ncol"), ("ncol",)),
    ],
)
def test_a_square_file_is_read_right_however_it_lies(profile, scalar, store, rows, tmp_path):
    files = pair_of(store, 60)
    right = rows(dump(tmp_path / "right", files), 60)
    relay(files, profile, scalar)
    np.testing.assert_array_equal(rows(dump(tmp_path / "other", files), 60), right)


@pytest.mark.parametrize(
    ("dimensions", "said"),
    [
        (("x", "y"), r"(x: 60, y: 60)"),
        (("lev", "x"), r"(lev: 60, x: 60)"),
        (("lev", "level"), r"(lev: 60, level: 60)"),
        (("ncol", "columns"), r"(ncol: 60, columns: 60)"),
        (("ilev", "ncol"), r"(ilev: 60, ncol: 60)"),
    ],
)
def test_names_that_tell_nothing_are_refused(dimensions, said, store, read, tmp_path):
    files = pair_of(store, 60)
    files["mlo"]["state_q0003"].dimensions = dimensions
    folder = dump(tmp_path / "pair", files)
    sentence = (
        rf"mlo.*'state_q0003' has dimensions {re.escape(said)}, expected \(lev: 60, ncol: 60\)"
    )
    with pytest.raises(ClimstackError, match=sentence):
        read(folder, 60)


@pytest.mark.parametrize(
    ("name", "values", "dimensions", "said"),
    [
        ("state_ps", np.ones((2, 16)), ("time", "ncol"), "(time: 2, ncol: 16), expected (ncol"),
        ("state_ps", np.ones(60), ("lev",), "(lev: 60), expected (ncol: 16)"),
        ("state_ps", np.ones(17), ("columns",), "(columns: 17), expected (ncol: 16)"),
        ("state_t", np.ones((59, 16)), ("level", "ncol"), "(level: 59, ncol: 16), expected (lev"),
        ("state_t", np.ones((60, 16, 1)), ("lev", "ncol", "x"), "(lev: 60, ncol: 16, x: 1), exp"),
        ("state_t", np.ones(()), (), "(), expected (lev: 60, ncol: 16)"),
    ],
)  # fmt: skip
def test_other_dimensions_are_refused(name, values, dimensions, said, files, read, tmp_path):
    files["mli"][name] = Laid(values, dimensions)
    with pytest.raises(ClimstackError, match=re.escape(f"'{name}' has dimensions {said}")):
        read(dump(tmp_path / "pair", files))


def test_two_files_of_other_sizes_are_no_pair(files, store, read, tmp_path):
    files["mlo"] = pair_of(store, 15)["mlo"]
    with pytest.raises(
        ClimstackError, match=r"mlo.*'state_t' has dimensions \(lev: 60, ncol: 15\)"
    ):
        read(dump(tmp_path / "pair", files))


def test_a_unit_is_turned_into_the_schemas_and_said_once(files, rows, schema, tmp_path):
    right = rows(dump(tmp_path / "right", files))
    for laid in (files["mli"]["state_t"], files["mlo"]["state_t"]):
        laid.attributes["units"] = "K"
    files["mli"]["state_ps"].attributes["units"] = "Pa"
    np.testing.assert_array_equal(rows(dump(tmp_path / "right", files)), right)

    files["mli"]["state_ps"].values = files["mli"]["state_ps"].values / 100
    files["mli"]["state_ps"].attributes["units"] = "hPa"
    files["mlo"]["state_t"].values = files["mlo"]["state_t"].values - 273.15  # only there
    files["mlo"]["state_t"].attributes["units"] = "degC"
    files["mlo"]["cam_out_PRECC"].values = files["mlo"]["cam_out_PRECC"].values * 86_400_000
    files["mlo"]["cam_out_PRECC"].attributes["units"] = "mm day-1"
    folder = dump(tmp_path / "other", files)
    for file in folder.glob("*.nc"):
        (folder / file.name.replace("02-28-01200", "02-28-02400")).write_bytes(file.read_bytes())
    source = PairSource(folder, schema, 16, "refuse")
    first, _ = source.batches({}, 1)
    said = sorted(f"{path}: {note}" for note, path in first.notes.items())
    assert [sentence.split(".nc: ")[1] for sentence in said] == [
        "'state_ps' is in hPa and was turned into Pa",
        "'cam_out_PRECC' is in mm day-1 and was turned into m/s",
        "'state_t' is in degC and was turned into K",
    ]
    assert "01200" in said[0]
    made = np.concatenate([first.inputs, first.targets], axis=1)
    # What is left of K - 273.15 + 273.15 in float64, over 1200 s.
    np.testing.assert_allclose(made, right, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("kind", "name", "unit", "said"),
    [
        ("mli", "state_ps", "m", "in 'm', expected Pa: of another kind"),
        ("mli", "state_ps", "", "in '', expected Pa: of another kind"),
        ("mli", "pbuf_ozone", "kg/kg", "in 'kg/kg', expected mol/mol: of another kind"),
        ("mlo", "state_q0002", "kg/m3", "in 'kg/m3', expected kg/kg: of another kind"),
        ("mlo", "cam_out_PRECC", "kg m-2 s-1", "in 'kg m-2 s-1', expected m/s: of another kind"),
        ("mli", "cam_in_ICEFRAC", "degrees", "in 'degrees', expected 1: of another kind"),
        ("mli", "state_t", "warm", "in 'warm', expected K: unreadable"),
        ("mli", "state_t", 7, "in '7', expected K: of another kind"),
        ("mli", "state_t", "K" * 99_999, f"in '{'K' * 44}...', expected K: unreadable"),
    ],
)  # fmt: skip
def test_a_unit_of_another_kind_is_refused(kind, name, unit, said, files, read, tmp_path):
    files[kind][name].attributes["units"] = unit
    with pytest.raises(ClimstackError, match=re.escape(f"'{name}' is {said}")) as caught:
        read(dump(tmp_path / "pair", files))
    assert f".{kind}." in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_in_fewer_digits_are_counted(files, read, tmp_path):
    assert read(dump(tmp_path / "right", files)).rounded == {}
    for variables in files.values():
        variables["state_t"].dtype = "i2"
        variables["state_t"].attributes = {"scale_factor": 0.01, "add_offset": 250.0}
        variables["state_t"].values = np.round((variables["state_t"].values - 250) / 0.01)
    files["mli"]["cam_in_OCNFRAC"].dtype = "f4"
    files["mli"]["cam_in_LANDFRAC"].dtype = "i4"
    files["mli"]["state_ps"].attributes["least_significant_digit"] = 1
    files["mlo"]["cam_out_SOLS"].dtype = "f4"
    batch = read(dump(tmp_path / "other", files))
    assert batch.rounded == {
        "int16 in steps of 0.01": {"state_t": 2 * 16 * 60},
        "float32": {"cam_in_OCNFRAC": 16, "cam_out_SOLS": 16},
        "int32 in steps of 1": {"cam_in_LANDFRAC": 16},
        "float64 with least_significant_digit = 1": {"state_ps": 16},
    }
    packed = np.float64(files["mli"]["state_t"].values) * 0.01 + 250
    np.testing.assert_allclose(batch.inputs[:, :60], packed.T, rtol=1e-15)


def test_a_part_of_a_step_counts_its_own_values(files, schema, tmp_path):
    files["mli"]["state_u"].dtype = "f4"
    source = PairSource(dump(tmp_path / "pair", files), schema, 16, "refuse")
    (batch,) = source.batches({"pair": 0, "row": 0, "taken": 10}, 1)
    assert batch.rounded == {"float32": {"state_u": 6 * 60}}


ODD: dict[str, tuple[dict[str, Any], Any, str]] = {
    "scale of nothing": ({"scale_factor": 0.0}, "i2", "has scale_factor 0, so its values are lost"),
    "scale that is NaN": ({"scale_factor": np.nan}, "i2", "has scale_factor 'nan', expected a"),
    "scale as text": ({"scale_factor": "0.01"}, "i2", "has scale_factor '0.01', expected a"),
    "two offsets": ({"add_offset": [1.0, 2.0]}, "f8", "has add_offset '[1. 2.]', expected a"),
    "fill as text": ({"missing_value": "-999"}, "f8", "has missing_value '-999', which no float64"),
    "fill of another type": ({"missing_value": 1e30}, "f4", "has missing_value '1e+30'"),
    "range as text": ({"valid_range": "0 to 1"}, "f8", "has valid_range '0 to 1', which no"),
    "least that is none": ({"valid_min": np.nan}, "i4", "has valid_min 'nan', which no int32 is"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_attributes_that_make_no_sense_are_refused(name, files, read, tmp_path):
    attributes, dtype, said = ODD[name]
    files["mli"]["state_u"].attributes, files["mli"]["state_u"].dtype = attributes, dtype
    with pytest.raises(ClimstackError, match=re.escape(f"'state_u' {said}")):
        read(dump(tmp_path / "pair", files))


@pytest.mark.parametrize(
    ("attributes", "dtype"),
    [
        ({"_FillValue": 7.0}, "f8"),
        ({"missing_value": np.array([7.0, 8.0])}, "f8"),
        ({"valid_max": 6.5}, "f8"),
        ({"valid_range": np.array([-100.0, 6.5], "f4")}, "f4"),
        ({"_FillValue": np.int16(7), "scale_factor": 0.5}, "i2"),
        ({"_FillValue": np.int8(7), "_Unsigned": "true"}, "i1"),
    ],
)
def test_a_masked_value_is_nan_and_refused_by_row_and_column(
    attributes, dtype, files, schema, tmp_path
):
    values = np.zeros((60, 16))
    values[5, 3] = 7
    files["mli"]["pbuf_N2O"] = Laid(values, ("lev", "ncol"), dtype, attributes)
    folder = dump(tmp_path / "pair", files)
    with pytest.raises(ClimstackError, match=r"mli.*column 'pbuf_N2O_5' has nan in row 3"):
        convert(folder, tmp_path / "store", schema, 16)


def test_what_is_no_number_is_refused(files, read, schema, tmp_path):
    folder = dump(tmp_path / "pair", files, "NETCDF4")
    read(folder)
    path = next(folder.glob("*.mli.*"))
    whole = path.read_bytes()

    def text(data: Any) -> Any:
        return data.createVariable("state_u", str, ("ncol",))

    def letters(data: Any) -> Any:
        return data.createVariable("state_u", "S1", ("ncol",))

    def record(data: Any) -> Any:
        return data.createVariable("state_u", data.createCompoundType("f8,f8", "two"), ("ncol",))

    def ragged(data: Any) -> Any:
        return data.createVariable("state_u", data.createVLType("f8", "many"), ("ncol",))

    def named(data: Any) -> Any:
        kind = data.createEnumType(np.int32, "kinds", {"a": 0, "b": 1})
        return data.createVariable("state_u", kind, ("ncol",))

    def inside(data: Any) -> Any:
        return data.createGroup("air").createVariable("state_u", "f8", ("ncol",))

    for make, said in (
        (text, "'state_u' holds values of type text, expected numbers"),
        (letters, "'state_u' holds values of type bytes8"),
        (record, "'state_u' holds values of type two"),
        (ragged, "'state_u' holds values of type many"),
        (named, "'state_u' holds values of type kinds"),
        (inside, "no variable 'state_u': it stands in group 'air'"),
    ):
        path.write_bytes(whole)
        with netCDF4.Dataset(path, "a") as data:
            data.renameVariable("state_u", "other")
            make(data)
        with pytest.raises(ClimstackError, match=said):
            read(folder)


@pytest.mark.parametrize("dtype", [">f8", "<f8", "i8", "u2"])
def test_any_type_of_numbers_in_any_order_of_bytes_is_read(dtype, files, read, schema, tmp_path):
    values = np.arange(960.0).reshape(60, 16)
    files["mli"]["pbuf_N2O"] = Laid(values, ("lev", "ncol"), dtype)
    batch = read(dump(tmp_path / "pair", files, "NETCDF4"))
    np.testing.assert_array_equal(batch.inputs[:, schema.slice_of("pbuf_N2O")], values.T)


def test_a_file_that_promises_more_than_memory_holds_is_refused(files, read, tmp_path):
    folder = dump(tmp_path / "pair", files, "NETCDF4")
    with netCDF4.Dataset(next(folder.glob("*.mli.*")), "a") as data:
        data.renameVariable("state_u", "other")
        data.createDimension("columns", 10**13)
        data.createVariable("state_u", "f8", ("lev", "columns"), chunksizes=(1, 10))
    with pytest.raises(ClimstackError, match=r"'state_u' has dimensions .*columns: 10000000000000"):
        read(folder)


@pytest.mark.parametrize("calendar", ["gregorian", "standard", "360_day", "all_leap", 7, ""])
def test_another_calendar_is_refused(calendar, files, read, tmp_path):
    for named in ("NO_LEAP", "noleap", "365_day"):
        read(dump(tmp_path / "right", files, calendar=named))
    with pytest.raises(ClimstackError, match=rf"has the calendar '{calendar}', expected noleap"):
        read(dump(tmp_path / "pair", files, calendar=calendar))
    files["mlo"]["time"] = Laid(np.zeros(1), ("time",), "f8", {"calendar": calendar})
    with pytest.raises(ClimstackError, match=rf"mlo.*has the calendar '{calendar}', expected"):
        read(dump(tmp_path / "clock", files))


@pytest.mark.parametrize("value", [np.nan, 20228.5, 9.969209968386869e36])
def test_a_time_must_be_a_whole_number(value, files, read, tmp_path):
    files["mli"] |= {"ymd": Laid(np.array(value), ()), "tod": Laid(np.array([1200.0]), ("time",))}
    with pytest.raises(ClimstackError, match=r"'ymd' holds .*, expected a whole number"):
        read(dump(tmp_path / "pair", files))


Change = Callable[[Files], object]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f["mlo"]["lat"].values.__setitem__(3, 0.5), r"mlo.*'lat' of column 3 is 0.5"),
        (lambda f: f["mli"]["lon"].values.__setitem__(3, 0.5), r"mlo.*'lon' of column 3 is .*mli"),
        (lambda f: f["mli"]["lat"].values.__setitem__(3, np.nan), r"'lat' of column 3 is nan"),
    ],
)  # fmt: skip
def test_columns_in_another_order_are_refused(change: Change, said, files, read, tmp_path):
    grid = synthetic_grid(16)
    for variables in files.values():
        variables["lat"] = Laid(np.deg2rad(grid.lat), ("ncol",), "f8", {"units": "radians"})
        variables["lon"] = Laid(grid.lon.copy(), ("ncol",), "f4", {"units": "degrees_east"})
    files["mlo"]["lat"] = Laid(grid.lat.copy(), ("ncol",))
    files["mlo"]["lon"].values -= 360.0
    read(dump(tmp_path / "right", files))
    files["mli"]["lat"] = Laid(grid.lat.copy(), ("ncol",))
    change(files)
    with pytest.raises(ClimstackError, match=said):
        read(dump(tmp_path / "pair", files))


def test_columns_must_lie_where_the_grid_says(files, schema, tmp_path):
    grid = synthetic_grid(16)
    files["mli"]["lat"] = Laid(grid.lat, ("ncol",))
    folder, path = dump(tmp_path / "pair", files), tmp_path / "grid.json"
    write_json(path, grid.to_table())
    convert(folder, tmp_path / "store", schema, 16, grid=path)
    write_json(path, grid.to_table() | {"lat": grid.lat[::-1].tolist()})
    with pytest.raises(ClimstackError, match=r"mli.*'lat' of column 0 is .* in the grid: put the"):
        convert(folder, tmp_path / "other", schema, 16, grid=path)


def test_air_of_another_order_is_seen_in_its_temperature_and_wind(files, read, tmp_path):
    other = deepcopy(files)
    for laid in other["mlo"].values():
        laid.values = laid.values[..., ::-1]
    said = r"mlo.*'state_t' of column \d+ is .* K off that of .*mli"
    with pytest.raises(ClimstackError, match=said):
        read(dump(tmp_path / "columns", other))
    files["mli"]["state_u"].turn()
    with pytest.raises(
        ClimstackError, match=r"'state_u' of column \d+ is .* m/s off that of .*mli"
    ):
        read(dump(tmp_path / "wind", files))


def test_a_copy_of_the_state_before_is_no_state_after(files, read, tmp_path):
    files["mlo"] |= {name: laid for name, laid in files["mli"].items() if name in files["mlo"]}
    with pytest.raises(
        ClimstackError, match=r"mlo.*'state_t' is that of .*mli.* a copy of the other"
    ):
        read(dump(tmp_path / "pair", files))
