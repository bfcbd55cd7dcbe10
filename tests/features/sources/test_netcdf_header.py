"""Headers are read strictly, and no damage to a file does more than refuse it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from features import ClimstackError, Store
from features.sources.netcdf_file import open_netcdf
from features.sources.netcdf_header import expected_bytes
from tests.features.sources.pairs import CLASSIC, STAMP, Laid, dump, pair_of

netCDF4 = pytest.importorskip("netCDF4")

FUZZ = Path(__file__).with_name("fuzz_netcdf.py")
N_DAMAGES = int(os.environ.get("CLIMSTACK_FUZZ", "240"))
N_COLUMNS = 4


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", CLASSIC])
def test_headers_promise_what_is_there(form, tmp_path):
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w", format=form) as data:
        data.title = "odd lengths to pad"
        data.createDimension("time", None)
        data.createDimension("x", 3)
        for name in ("a", "b"):
            data.createVariable(name, "i2", ("time", "x"))[:] = np.ones((5, 3))
        data.createVariable("c", "f8", ("x",))[:] = 1.0
    promised = expected_bytes(path)
    assert path.stat().st_size - 4 < promised <= path.stat().st_size
    with open_netcdf(path) as data:
        assert data["b"][4, 2] == 1
    whole = path.read_bytes()
    for other in (whole[:-9], whole + bytes(8), whole[:-20] + bytes(4) + whole[-20:]):
        path.write_bytes(other)
        with pytest.raises(ClimstackError, match=r"its header promises|is not a readable"):
            open_netcdf(path).__enter__()


def test_netcdf_4_says_where_it_ends_and_other_formats_nothing(tmp_path):
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w", format="NETCDF4") as data:
        data.createDimension("x", 3)
    assert expected_bytes(path) == path.stat().st_size
    whole = path.read_bytes()
    for other in (whole[:-1], whole + b"\0"):
        path.write_bytes(other)
        with pytest.raises(ClimstackError, match=r"bytes, its header promises|cut off"):
            open_netcdf(path).__enter__()
    for other in (b"", b"CDF", b"CDF\x03" + bytes(99), b"\x0e\x03\x13\x01" + bytes(99)):
        path.write_bytes(other)
        with pytest.raises(ClimstackError, match="begins as no NetCDF file does"):
            open_netcdf(path).__enter__()


def text(value: str) -> bytes:
    return value.encode() + bytes(-len(value) % 4)


def big(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}i", *numbers)


def header(**changes: bytes) -> bytes:
    """Two variables of three doubles in CDF-1, which begin at 116 and 140."""
    parts = {
        "magic": b"CDF\x01", "records": big(0), "dims": big(10, 1, 1), "dim": text("x"),
        "length": big(3), "globals": big(0, 0), "variables": big(11, 2, 1), "a": text("a"),
        "shape_a": big(1, 0), "attributes": big(0, 0), "type_a": big(6), "size_a": big(24),
        "begin_a": big(116), "length_b": big(1), "b": text("b"), "shape_b": big(1, 0),
        "no_attributes": big(0, 0), "type_b": big(6), "size_b": big(24), "begin_b": big(140),
    }  # fmt: skip
    return b"".join((parts | changes).values())


FAULTS = {
    "two in one place": ({"begin_b": big(132)}, "two variables lie in one place"),
    "in the header": ({"begin_a": big(40)}, "or one in the header"),
    "beyond the end": ({"begin_b": big(1 << 30)}, "is cut off"),
    "a negative begin": ({"begin_a": big(-8)}, "or one in the header"),
    "a negative length": ({"length": big(-3)}, "a size below 0"),
    "a great length": ({"length": big(2**31 - 1)}, "two variables lie in one place"),
    "records below 0": ({"records": big(-1)}, "a size below 0"),
    "dimension that is not there": ({"shape_b": big(1, 1)}, "a variable has dimension 1 of 1"),
    "a great many dimensions": ({"dims": big(10, 2**30, 1)}, "the header counts 1073741824 items"),
    "a great many variables": ({"variables": big(11, 2**20 - 1, 1)}, "the header|of its variables"),
    "a long name": ({"length_b": big(2**20 - 1)}, "a name of 1048575 bytes that is none"),
    "a name of nothing": ({"length_b": big(0), "b": b""}, "a name of 0 bytes that is none"),
    "a name that is no text": ({"b": b"\xff\0\0\0"}, "can't decode byte 0xff"),
    "a name with a bell": ({"b": b"\x07\0\0\0"}, "a name of 1 bytes that is none"),
    "one name twice": ({"b": text("a")}, "two of its variables have one name"),
    "an unknown type": ({"type_a": big(7)}, "values of type 7"),
    "another type": ({"type_a": big(4)}, "size of variable 'a' is not that"),
    "another list": ({"variables": big(12, 2, 1)}, "has 12 where 11 is expected"),
    "absent and yet there": ({"globals": big(0, 1)}, "has 0 where 12 is expected"),
    "a great attribute": (
        {"globals": big(12, 1, 1) + text("t") + big(2, 2**20 - 4)},
        "the header is cut off",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_header_that_makes_no_sense_is_refused(name, tmp_path):
    changes, said = FAULTS[name]
    path = tmp_path / "a.nc"
    path.write_bytes(header() + np.arange(6.0).astype(">f8").tobytes())
    with open_netcdf(path) as data:
        assert data["b"][...].tolist() == [3.0, 4.0, 5.0]
    path.write_bytes(header(**changes) + bytes(48))
    with pytest.raises(ClimstackError, match=said):
        open_netcdf(path).__enter__()


@pytest.mark.parametrize(("form", "total"), [(CLASSIC, N_DAMAGES), ("NETCDF4", N_DAMAGES // 10)])
def test_no_damage_does_more_than_refuse_the_file(form, total, store: Store, tmp_path):
    """CLIMSTACK_FUZZ says how many ways to damage a file are tried."""
    files = pair_of(store, N_COLUMNS)
    number = int(STAMP[:10].replace("-", ""))
    for variables in files.values():
        variables["lev"] = Laid(np.arange(60.0), ("lev",), "f8", {"units": "m", "positive": "down"})
        variables["state_t"].attributes = {"units": "K", "_FillValue": 1e30}
        variables |= {
            "ymd": Laid(np.array(number), (), "i4"),
            "tod": Laid(np.array(1200), (), "i4"),
        }
    folder = dump(tmp_path / "pair", files, form, calendar="noleap")
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    lines: list[str] = []
    while len(lines) < total:
        for path, data in whole.items():
            path.write_bytes(data)
        words = [sys.executable, FUZZ, folder, str(len(lines)), str(min(total, len(lines) + 250))]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
        lines += done.stdout.splitlines()
        if done.returncode:
            lines[-1] += f"ended with {done.returncode}: {done.stderr[-500:]}"
    said = [line.split(maxsplit=2)[1:] for line in lines]
    assert [each for each in said if each[1] not in ("same", "other", "refused")] == []
    if form == CLASSIC:  # a byte more or less is seen; one changed within a value can't be
        assert {outcome for kind, outcome in said if kind in ("cut", "insert", "remove")} == {
            "refused"
        }
