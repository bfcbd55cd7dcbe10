"""NetCDF pairs of the ClimSim archive: made here in its format, and two real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features import ClimstackError, FoldedStore, FoldPlan, Grid, Store, convert, load_schema
from features.climate.physics import hybrid_levels
from features.sources.netcdf import Moment, find_pairs, read_pair
from features.sources.source import open_source
from features.views.fill import Fill
from models import CellStore, FoldData, ModelSpec, cross_validate

netCDF4 = pytest.importorskip("netCDF4")

N_GRID, N_STEPS = 16, 6
STAMPS = [f"0002-02-28-{86_400 - 1200 * left:05d}" for left in range(N_STEPS - 1, 0, -1)]
STAMPS.append("0002-03-01-00000")  # no 29th of February
FORMAT = "NETCDF3_64BIT_DATA"


def write(path: Path, variables: dict[str, np.ndarray], stamp: str, form: str = FORMAT) -> None:
    year, month, day, second = map(int, stamp.split("-"))
    with netCDF4.Dataset(path, "w", format=form) as data:
        data.createDimension("ncol", N_GRID)
        data.createDimension("lev", 60)
        for name, value in (("ymd", year * 10_000 + month * 100 + day), ("tod", second)):
            data.createVariable(name, "i4", ())[...] = value
        for name, values in variables.items():
            dimensions = ("lev", "ncol") if values.ndim == 2 else ("ncol",)
            data.createVariable(name, "f8", dimensions)[...] = values


@pytest.fixture(scope="module")
def archive(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps as pairs, in two folders; no sea ice in columns 0 to 11."""
    folder = tmp_path_factory.mktemp("archive")
    schema = store.schema
    for step, stamp in enumerate(STAMPS):
        rows = slice(step * N_GRID, (step + 1) * N_GRID)
        inputs, targets = store.inputs[rows], store.targets[rows]
        before = {v.name: inputs[:, schema.slice_of(v.name)].T.squeeze() for v in schema.inputs}
        before["state_pmid"] = np.linspace(10.0, 1e5, 60)[:, None] + np.zeros(N_GRID)
        before["cam_in_SNOWHICE"] = np.where(np.arange(N_GRID) < 12, 1e30, 0.01 * (step + 1))
        after = {}
        for variable in schema.targets:
            values = targets[:, schema.slice_of(variable.name)].T.squeeze()
            name = variable.name.replace("ptend_", "state_")
            after[name] = before[name] + 1200 * values if name in before else values
        place = folder / stamp[:7]
        place.mkdir(exist_ok=True)
        write(place / f"E3SM-MMF.mli.{stamp}.nc", before, stamp)
        write(place / f"E3SM-MMF.mlo.{stamp}.nc", after, stamp)
    return folder


@pytest.fixture
def broken(archive: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    for path in archive.rglob("*.nc"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_pairs_become_rows(archive, store, schema, tmp_path):
    made = convert(archive, tmp_path / "store", schema, N_GRID)
    rows = slice(0, N_STEPS * N_GRID)
    np.testing.assert_array_equal(made.inputs[:], store.inputs[rows])
    states = made.inputs[:][:, schema.slice_of("state_t")]
    tendency = store.targets[rows][:, schema.slice_of("ptend_t")]
    expected = (states + 1200 * tendency - states) / 1200  # what is left of it in float64
    np.testing.assert_array_equal(made.targets[:][:, schema.slice_of("ptend_t")], expected)
    surface = [schema.column_index(v.name) for v in schema.targets if v.n_levels == 1]
    np.testing.assert_array_equal(made.targets[:][:, surface], store.targets[rows][:, surface])
    assert made.column.tolist() == list(range(N_GRID)) * N_STEPS
    # The model's clock counts steps of 20 minutes, and February has 28 days.
    assert np.unique(np.diff(made.time[::N_GRID])).tolist() == [1]
    assert made.time[0] == ((2 * 365 + 31 + 28) * 72) - 5
    assert made.sample_ids[17] == "mmf_000202288160000001"
    assert made.sources == [{"file": archive.name, "rows": N_STEPS * N_GRID, "clock": "model"}]


def test_a_part_may_end_within_a_step(archive, schema, tmp_path, monkeypatch):
    whole = convert(archive, tmp_path / "whole", schema, N_GRID)
    monkeypatch.setattr("features.store.writer.PART_ROWS", 20)

    class Stopped(BaseException):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if done > 0.6 * total:
            raise Stopped

    with pytest.raises(Stopped):
        convert(archive, tmp_path / "parts", schema, N_GRID, progress=stop)
    made = convert(archive, tmp_path / "parts", schema, N_GRID)
    assert [part["rows"] for part in made.manifest["parts"]] == [20, 20, 20, 20, 16]
    np.testing.assert_array_equal(made.targets[:], whole.targets[:])
    assert made.index.equals(whole.index)


@pytest.mark.parametrize(("name", "shape"), [("v1", (124, 128)), ("v2_rh_mc", (557, 308))])
def test_other_variable_sets(name, shape, archive, schema, tmp_path):
    leap = convert(archive, tmp_path / "leap", schema, N_GRID)
    made = convert(archive, tmp_path / name, load_schema(name), N_GRID)
    own = made.schema
    assert (made.inputs.shape[1], made.targets.shape[1]) == shape
    for variable in own.variables:
        held, of_leap = (
            s.inputs[:] if variable.role == "input" else s.targets[:] for s in (made, leap)
        )
        if variable.name in {v.name for v in schema.variables}:
            ours = held[:, own.slice_of(variable.name)]
            np.testing.assert_array_equal(ours, of_leap[:, schema.slice_of(variable.name)])


def test_merged_cloud_and_relative_humidity(archive, schema, tmp_path):
    leap = convert(archive, tmp_path / "leap", schema, N_GRID)
    made = convert(archive, tmp_path / "store", load_schema("v2_rh_mc"), N_GRID)
    x, y, own = leap.inputs[:], leap.targets[:], made.schema

    def inputs(name: str) -> np.ndarray:
        return x[:, schema.slice_of(name)]

    cloud = inputs("state_q0002") + inputs("state_q0003")
    np.testing.assert_array_equal(made.inputs[:][:, own.slice_of("state_qn")], cloud)
    both = y[:, schema.slice_of("ptend_q0002")] + y[:, schema.slice_of("ptend_q0003")]
    merged = made.targets[:][:, own.slice_of("ptend_qn")]
    np.testing.assert_allclose(merged, both, atol=1e-12 * np.abs(both).max())
    share = made.inputs[:][:, own.slice_of("liq_partition")]
    t = inputs("state_t")
    assert (share[t >= 273.16] == 1).all()
    assert (share[t <= 253.16] == 0).all()
    # Near the triple point any formula gives about 611 Pa over water.
    warm = np.abs(t - 273.16) < 1.0
    assert warm.any()
    p = np.tile(np.linspace(10.0, 1e5, 60), (len(t), 1))
    near = inputs("state_q0001") * p / (287 / 461 * 611.0)
    humidity = made.inputs[:][:, own.slice_of("state_rh")]
    np.testing.assert_allclose(humidity[warm], near[warm], rtol=0.08)


def test_what_no_file_holds_is_imputed_from_the_training_fold(archive, tmp_path):
    made = convert(archive, tmp_path / "store", load_schema("v2_rh_mc"), N_GRID)
    assert made.repaired == {"imputed": {"cam_in_SNOWHICE": 12 * N_STEPS}}
    at = made.schema.column_index("cam_in_SNOWHICE")
    snow = made.inputs[:][:, at].reshape(N_STEPS, N_GRID)
    assert np.isnan(snow[:, :12]).all()
    fold = np.repeat(np.arange(N_STEPS) // 3, N_GRID).astype(np.int16)
    plan = FoldPlan(
        scheme="two", embargo=0, fold=fold, excluded=np.zeros((2, len(made)), bool), unit=made.time
    )
    data = FoldData(
        data=FoldedStore(made, plan),
        fold=0,
        targets=made.schema.modelled_targets[:2],
        kind="linear",
    )
    # Fold 0 trains on steps 3 to 5 alone, where the snow is 0.04, 0.05 and 0.06 m deep.
    assert data.view.fill.mean.tolist() == pytest.approx([0.05])
    filled = data.view.fill.apply(made.inputs[:])[:, at].reshape(N_STEPS, N_GRID)
    assert (filled[:, :12] == data.view.fill.mean).all()
    np.testing.assert_array_equal(filled[:, 12:], snow[:, 12:])
    data.view.save(tmp_path / "view.npz")
    again = type(data.view).load(tmp_path / "view.npz")
    np.testing.assert_array_equal(
        again.transform(made.inputs[:5]), data.view.transform(made.inputs[:5])
    )
    member = cross_validate(
        FoldedStore(made, plan),
        ModelSpec(name="ridge", family="ridge"),
        CellStore(tmp_path / "cells"),
        targets=made.schema.modelled_targets[:2],
    )
    assert np.isfinite(member.oof(0)).all()


def test_fill_of_a_column_that_is_nowhere_known_is_zero():
    schema = load_schema("v2_rh_mc")
    inputs = np.ones((3, len(schema.input_columns)))
    inputs[:, schema.imputed_inputs] = np.nan
    filled = Fill.fit(schema, [inputs]).apply(inputs)
    assert (filled[:, schema.imputed_inputs] == 0).all()
    assert np.isnan(inputs).sum() == 3  # what was given stays as it was


Break = Callable[[Path], object]
BREAKS: dict[str, tuple[Break, str]] = {
    "unpaired": (
        lambda f: (f / f"E3SM-MMF.mlo.{STAMPS[1]}.nc").unlink(),
        rf"mli\.{STAMPS[1]}\.nc has no partner E3SM-MMF\.mlo\.{STAMPS[1]}\.nc",
    ),
    "no_date": (
        lambda f: [
            p.rename(f / p.name.replace(STAMPS[5], "0002-02-29-00000"))
            for p in f.glob(f"*{STAMPS[5]}.nc")
        ],
        "holds no date of a calendar without leap years",
    ),
    "between_steps": (
        lambda f: [
            p.rename(f / p.name.replace(STAMPS[5], "0002-03-01-00007"))
            for p in f.glob(f"*{STAMPS[5]}.nc")
        ],
        "holds 7 s, expected a multiple of 1200",
    ),
    "renamed": (
        lambda f: [
            p.rename(f / p.name.replace(STAMPS[5], "0002-03-02-00000"))
            for p in f.glob(f"*{STAMPS[5]}.nc")
        ],
        r"holds the time 20301, 0 s, its name says otherwise",
    ),
    "cut_off": (
        lambda f: cut(f / f"E3SM-MMF.mli.{STAMPS[2]}.nc", -8),
        rf"mli\.{STAMPS[2]}\.nc is cut off: it has \d+ bytes, its header promises \d+",
    ),
    "cut_in_the_header": (
        lambda f: cut(f / f"E3SM-MMF.mlo.{STAMPS[2]}.nc", 100),
        rf"mlo\.{STAMPS[2]}\.nc is not a readable NetCDF file",
    ),
    "other_bytes": (
        lambda f: (f / f"E3SM-MMF.mlo.{STAMPS[3]}.nc").write_bytes(b"no NetCDF at all" * 99),
        rf"mlo\.{STAMPS[3]}\.nc is not a readable NetCDF file",
    ),
    "variable_missing": (
        lambda f: write(
            f / f"E3SM-MMF.mlo.{STAMPS[0]}.nc", {"state_t": np.ones((60, N_GRID))}, STAMPS[0]
        ),
        rf"mlo\.{STAMPS[0]}\.nc has no variable 'state_q0001'",
    ),
}


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("name", BREAKS)
def test_broken_pairs_are_refused_or_skipped(name, broken, schema, tmp_path):
    change, sentence = BREAKS[name]
    change(broken)
    with pytest.raises(ClimstackError, match=sentence):
        convert(broken, tmp_path / "store", schema, N_GRID)
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "store.partial").exists()
    made = convert(broken, tmp_path / "store", schema, N_GRID, broken="skip")
    assert len(made) == (N_STEPS - 1) * N_GRID
    assert len(made.sources[0]["skipped"]) == 1
    assert made.sources[0]["skipped"][0].startswith(str(broken))


def test_what_is_skipped_after_a_part_is_told_though_no_row_follows(broken, schema):
    cut(broken / f"E3SM-MMF.mli.{STAMPS[5]}.nc", -8)
    source = open_source(broken, schema, N_GRID, "skip")
    (batch,) = source.batches({"pair": 5, "row": 5 * N_GRID}, 1)
    assert (len(batch), len(batch.skipped), batch.first_row) == (0, 1, 5 * N_GRID)


def test_the_command_names_what_it_left_out(broken, tmp_path, monkeypatch, capsys):
    from ensemble.cli.app import main

    cut(broken / f"E3SM-MMF.mli.{STAMPS[2]}.nc", -8)

    def command(*more: str) -> int:
        words = ["data", "convert", str(broken), "--out", str(tmp_path / "store"), *more]
        monkeypatch.setattr("sys.argv", ["climstack", *words, "--grid-columns", str(N_GRID)])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    assert command("--schema", "v2_rh_mc") == 1
    assert "is cut off" in capsys.readouterr().err
    assert command("--broken", "sometimes") == 1
    assert "give refuse or skip, not 'sometimes'" in capsys.readouterr().err
    assert command("--schema", "v2_rh_mc", "--broken", "skip", "--memory-limit", "400MB") == 0
    printed = capsys.readouterr()
    assert "store: 80 rows, data hash" in printed.out
    assert "imputed: 60 values in cam_in_SNOWHICE" in printed.out
    lines = printed.err.splitlines()
    assert lines[0].startswith("convert: 0.00/0.00 GB, ")
    assert lines[-1].startswith("warning: left out: ")
    assert f"mli.{STAMPS[2]}.nc is cut off" in lines[-1]


def test_a_bad_value_is_named_with_its_file_row_and_column(broken, schema, tmp_path):
    path = broken / f"E3SM-MMF.mli.{STAMPS[2]}.nc"
    with netCDF4.Dataset(path, "a") as data:
        data["state_u"][7, 3] = np.nan
    with pytest.raises(
        ClimstackError, match=rf"mli\.{STAMPS[2]}\.nc: column 'state_u_7' has nan in row 3"
    ):
        convert(broken, tmp_path / "store", schema, N_GRID)


def test_the_grids_size_must_fit(archive, schema, tmp_path):
    with pytest.raises(
        ClimstackError,
        match=r"'state_t' has dimensions \(lev: 60, ncol: 16\), expected \(lev: 60, ncol: 384\)",
    ):
        convert(archive, tmp_path / "store", schema)


def test_a_time_that_stands_twice_is_refused(broken, schema, tmp_path):
    (broken / "copy").mkdir()
    path = broken / f"E3SM-MMF.mli.{STAMPS[0]}.nc"
    (broken / "copy" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ClimstackError, match="stands already in"):
        find_pairs(broken)


def test_tables_are_numbered_on_after_pairs_and_never_across_them(
    archive, generated, schema, tmp_path
):
    both = convert([archive, generated["train"]], tmp_path / "both", schema, N_GRID)
    assert both.time[N_STEPS * N_GRID] == both.time[N_STEPS * N_GRID - 1] + 1
    assert both.source[[0, -1]].tolist() == [0, 1]


def test_two_clocks_may_not_meet(broken, generated, schema, tmp_path):
    for kind in ("mli", "mlo"):
        path = (broken / f"E3SM-MMF.{kind}.{STAMPS[0]}.nc").rename(
            broken / f"E3SM-MMF.{kind}.0000-01-01-06000.nc"
        )
        with netCDF4.Dataset(path, "a") as data:
            data["ymd"][...], data["tod"][...] = 101, 6000
    sources = [generated["train"], broken]
    with pytest.raises(ClimstackError, match=r"timesteps 5 to \d+ of .* meet those of .*, 0 to 23"):
        convert(sources, tmp_path / "store", schema, N_GRID)


def test_grid_is_kept_with_the_store(generated, schema, tmp_path):
    path = tmp_path / "grid.nc"
    rng = np.random.default_rng(0)
    lat = np.linspace(-89, 89, N_GRID)
    with netCDF4.Dataset(path, "w", format=FORMAT) as data:
        for name, size in (("ncol", N_GRID), ("lev", 60), ("ilev", 61)):
            data.createDimension(name, size)
        for name in ("lon", "area"):
            data.createVariable(name, "f8", ("ncol",))[:] = rng.random(N_GRID)
        data.createVariable("lat", "f8", ("ncol",))[:] = lat
        for name in ("hyam", "hybm", "hyai", "hybi"):
            dimension = "lev" if name.endswith("m") else "ilev"
            data.createVariable(name, "f8", (dimension,))[:] = getattr(hybrid_levels(), name)
    made = convert(generated["train"], tmp_path / "store", schema, N_GRID, grid=path)
    read, kept = Grid.read(path), Store(made.path).grid
    assert kept.to_table() == read.to_table()
    assert Grid.read(made.path / "grid.json").to_table() == read.to_table()
    made.verify()
    file = made.path / "grid.json"
    file.write_text(file.read_text().replace("-89.0", "-80.0"))
    with pytest.raises(ClimstackError, match=r"grid\.json is damaged"):
        made.verify()
    with pytest.raises(ClimstackError, match="has 16 columns, expected 12"):
        convert(generated["train"], tmp_path / "other", schema, 12, grid=path)
    write(path, {"lon": lat}, STAMPS[0])
    with pytest.raises(ClimstackError, match="has no variable 'lat'"):
        Grid.read(path)
    path = tmp_path / "grid.json"
    for table, said in (
        ([], "no variable 'lat'"),
        (read.to_table() | {"lat": ["x"]}, "holds no numbers"),
    ):
        path.write_text(json.dumps(table))
        with pytest.raises(ClimstackError, match=said):
            Grid.read(path)
    every_second = {name: read.to_table()[name][::2] for name in ("hyai", "hybi")}
    between = {f"hy{k}m": read.to_table()[f"hy{k}i"][1::2] for k in "ab"}
    path.write_text(json.dumps(read.to_table() | every_second | between))
    with pytest.raises(ClimstackError, match=r"grid\.json: the grid has 30 levels, but 'state_t'"):
        convert(generated["train"], tmp_path / "other", schema, N_GRID, grid=path)


@pytest.mark.real
def test_real_pairs_equal_the_rows_of_the_table(real_folder, schema):
    stamps = (real_folder / "timesteps.txt").read_text().split()
    table = pl.scan_parquet(real_folder / "train.parquet")
    pairs = find_pairs(real_folder / "netcdf")
    assert len(pairs) == 2
    for pair in pairs:
        m: Moment = pair.moment
        stamp = f"{m.year:04d}-{m.month:02d}-{m.day:02d}-{m.second:05d}"
        rows = table.slice(384 * stamps.index(stamp), 384).collect()
        step = read_pair(pair, schema)
        np.testing.assert_array_equal(step.inputs, rows.select(schema.input_columns).to_numpy())
        np.testing.assert_array_equal(step.targets, rows.select(schema.target_columns).to_numpy())
        assert (step.rounded, step.notes) == ({}, {})


@pytest.mark.real
def test_real_grid_and_humidity_agree_with_the_physics(real_folder, tmp_path):
    from features.climate import physics

    netcdf = real_folder / "netcdf"
    grid = netcdf / "ClimSim_low-res_grid-info.nc"
    made = convert(netcdf, tmp_path / "store", load_schema("v2_rh_mc"), grid=grid)
    assert made.grid is not None
    assert made.grid.area.sum() == pytest.approx(4 * np.pi)
    leap, own = load_schema("leap"), made.schema
    pair = find_pairs(netcdf)[0]
    x = read_pair(pair, leap).inputs
    q, t = x[:, leap.slice_of("state_q0001")], x[:, leap.slice_of("state_t")]
    p = physics.pressure(x[:, leap.column_index("state_ps")], made.grid.levels)
    ours = q / physics.saturation_humidity(t, p)
    theirs = made.inputs[:384][:, own.slice_of("state_rh")]
    # Two formulas for saturated air: alike near the ground, further apart over ice.
    assert np.abs(ours - theirs)[:, 45:].mean() < 0.02
    assert made.repaired["imputed"].keys() == {"cam_in_SNOWHICE"}
