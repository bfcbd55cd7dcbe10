"""On the real rows, where CLIMSTACK_REAL_DATA names them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ensemble import (
    HeldOut,
    candidates,
    collect_moments,
    evaluate,
    fit_contenders,
    load_experiment,
    open_run,
    read_weights,
    score_files,
    write_submission,
)
from features import Grid, check_data, convert, explore_store, leap_score
from features.climate import physics
from models import CellStore, ModelSpec, cross_validate

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def train_file(real_folder):
    return real_folder / "train.parquet"


@pytest.fixture(scope="module")
def real_store(train_file, schema, tmp_path_factory):
    return convert(train_file, tmp_path_factory.mktemp("real") / "store", schema)


def test_check_finds_the_known_traps(train_file, schema):
    findings = check_data(train_file, schema)
    assert not [f for f in findings if f.level == "error"]
    said = " ".join(f.sentence for f in findings)
    assert "pbuf_CH4_27..59, pbuf_N2O_27..59" in said
    assert "pbuf_ozone_0..59" in said
    assert "float32 would lose" in said


def test_the_rule_holds_to_the_bit(real_store, schema):
    indices, values = schema.closed_form("exact", real_store.inputs[:])
    np.testing.assert_array_equal(real_store.targets[:][:, indices], values)
    bounded, bound = schema.closed_form("lower_bound", real_store.inputs[:])
    truth = real_store.targets[:][:, bounded]
    assert (truth >= bound - 1e-12 * np.abs(bound)).all()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_truth_through_the_writers_scores_one(
    real_store, train_file, real_folder, schema, tmp_path, suffix
):
    """Through float32 it would score 0.992 with the old weights and 0.986 with the new."""
    path = tmp_path / f"truth.{suffix}"
    write_submission(path, schema, real_store.sample_ids, real_store.targets.blocks())
    old = real_folder / "sample_submission_old_head.csv"
    assert np.mean(list(score_files(path, train_file, schema).values())) == 1.0
    said = r"in 308 columns .*before 2024-06-19.* 1e\+15 for ptend_q0002_15, not 1"
    with pytest.warns(UserWarning, match=said):
        r2 = score_files(path, train_file, schema, old)
    assert np.mean(list(r2.values())) == 1.0
    narrow = real_store.targets[:].astype(np.float32).astype(np.float64)
    with pytest.warns(UserWarning, match=said):
        old_weights = read_weights(old, schema)
    assert leap_score(real_store.targets[:], narrow, old_weights) < 0.9999


def test_float32_losses_survive_csv_and_store(train_file, schema, tmp_path):
    frame = pl.read_parquet(train_file).head(384 * 2)
    frame.write_csv(tmp_path / "train.csv")
    store = convert(tmp_path / "train.csv", tmp_path / "store", schema)
    values = frame.select(schema.input_columns).to_numpy()
    lost = (values != 0) & (values.astype(np.float32) == 0)
    assert lost.sum() > 1000
    np.testing.assert_array_equal(store.inputs[:], values)


@pytest.mark.slow
def test_trees_beat_ridge_by_far(real_folder, tmp_path):
    """The data and folds of configs/leap_real.toml, every 48th target, quick trees."""
    file = Path(__file__).parents[1] / "configs" / "leap_real.toml"
    experiment = load_experiment(file)
    with open_run(experiment, tmp_path / "run") as run:
        data, schema = run.data, run.data.store.schema
        targets = schema.modelled_targets[::48]
        quick = {"n_rounds": 40, "learning_rate": 0.2}
        members = [
            cross_validate(data, spec, CellStore(tmp_path / "cells"), targets=targets)
            for spec in (
                ModelSpec(name="ridge", family="ridge"),
                ModelSpec(name="lightgbm", family="lightgbm", params=quick),
            )
        ]
    held_out = HeldOut(data=data, members=members)
    blends = candidates(["nnls"], ["group"])
    contenders = fit_contenders(schema, members, collect_moments(held_out), blends)
    scores = evaluate(held_out, contenders)
    score = {c.name: scores.r2(c.name)[targets].mean() for c in contenders}
    assert score["lightgbm"] > score["ridge"] + 0.1


def test_levels_are_those_of_the_grid_file(real_folder):
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset(real_folder / "netcdf" / "ClimSim_low-res_grid-info.nc") as grid:
        held = {name: np.array(grid[name][:]) for name in ("hyam", "hybm", "hyai", "hybi")}
    levels = physics.hybrid_levels()
    np.testing.assert_allclose(levels.hyam + levels.hybm, held["hyam"] + held["hybm"], rtol=1e-8)
    np.testing.assert_allclose(levels.hyai + levels.hybi, held["hyai"] + held["hybi"], atol=1e-8)
    assert np.abs(levels.hybm - held["hybm"]).max() < 0.015  # tables don't hold the split


def test_explore_finds_what_is_known_of_the_real_rows(real_store, real_folder):
    grid = Grid.read(real_folder / "netcdf" / "ClimSim_low-res_grid-info.nc")
    found = explore_store(real_store, grid=grid)
    said = " ".join(finding.sentence for finding in found.findings)
    assert "66 inputs are constant" in said
    assert "pbuf_CH4_27..59, pbuf_N2O_27..59" in said
    assert "ptend_q0002_12..27 need no model" in said
    assert found.columns["reach"].max() > 100
    tropics = np.abs(found.by_column["lat"].to_numpy()) < 20
    warm = found.by_column["state_t, level 59"].to_numpy()
    assert warm[tropics].mean() > warm[~tropics].mean() + 10
