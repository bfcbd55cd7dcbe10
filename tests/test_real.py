"""On the real rows, where CLIMSTACK_REAL_DATA names them."""

from pathlib import Path
from types import SimpleNamespace

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
from features import (
    FoldedStore,
    Grid,
    check_data,
    convert,
    explore_store,
    leap_score,
    time_blocks,
)
from features.climate import physics
from models import CellStore, External, ModelSpec, cross_validate
from models.diagnostics.plausible import implausible

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


@pytest.fixture(scope="module")
def real_stack(real_store, schema, tmp_path_factory):
    """Folds of the real rows, a few targets of each kind, and two members fitted here."""
    folder = tmp_path_factory.mktemp("real_stack")
    data = FoldedStore(real_store, time_blocks(real_store.time, 5, 0))
    names = [f"ptend_{v}_{level}" for v in ("t", "q0001", "u") for level in (24, 36, 52)]
    columns = schema.target_columns
    targets = np.array([columns.index(name) for name in [*names, "cam_out_SOLS", "cam_out_NETSW"]])
    specs = (
        ModelSpec(name="ridge", family="ridge"),
        ModelSpec(name="trees", family="lightgbm", params={"n_rounds": 60, "num_leaves": 31}),
    )
    cells = CellStore(folder / "cells")
    members = [cross_validate(data, spec, cells, targets=targets) for spec in specs]
    return SimpleNamespace(data=data, targets=targets, cells=cells, members=members, folder=folder)


def external_of(stack, predictions, name, ids=None):
    """A member of somebody's file: predictions of all rows, (n_samples, n_targets)."""
    store, file = stack.data.store, stack.folder / f"{name}.parquet"
    columns = [store.schema.target_columns[target] for target in stack.targets]
    frame = pl.from_numpy(predictions, columns)
    ids = store.sample_ids if ids is None else ids
    folds = pl.Series("fold", stack.data.plan.fold)
    frame.select(ids.alias("sample_id"), folds, pl.all()).write_parquet(file)
    files = External(oof=str(file), folds="fold")
    spec = ModelSpec(name=name, family="external", external=files)
    return cross_validate(stack.data, spec, stack.cells, targets=stack.targets)


def honest_score(stack, members):
    schema = stack.data.store.schema
    held_out = HeldOut(data=stack.data, members=members)
    blends = candidates(["nnls"], ["target"])
    contenders = fit_contenders(schema, members, collect_moments(held_out), blends)
    scores = evaluate(held_out, contenders)
    return {c.name: float(scores.r2(c.name)[stack.targets].mean()) for c in contenders}


@pytest.mark.slow
def test_what_was_predicted_elsewhere_gains_as_the_same_model_inside(real_stack):
    ridge, trees = real_stack.members
    made = np.empty((len(real_stack.data.store), len(real_stack.targets)))
    for fold in range(5):
        made[real_stack.data.plan.valid_rows(fold)] = trees.oof(fold)
    theirs = external_of(real_stack, made, "theirs")
    inside = honest_score(real_stack, [ridge, trees])
    outside = honest_score(real_stack, [ridge, theirs])
    assert inside["nnls/target"] > inside["trees"] > inside["ridge"]
    assert abs(outside["nnls/target"] - inside["nnls/target"]) < 0.0005
    assert outside["nnls/target"] == pytest.approx(inside["nnls/target"], abs=1e-12)
    assert not implausible([ridge, theirs])
    rows = np.random.default_rng(0).permutation(len(made))
    with pytest.warns(UserWarning, match="no column goes with the truth .* look shuffled"):
        external_of(real_stack, made[rows], "shuffled")


@pytest.mark.slow
@pytest.mark.parametrize("library", ["sklearn", "catboost"])
def test_a_script_of_another_library_joins_and_in_sample_predictions_are_told(real_stack, library):
    pytest.importorskip(library)
    store, plan, targets = real_stack.data.store, real_stack.data.plan, real_stack.targets
    x = store.inputs[:]
    scale = x.std(0)
    x = ((x - x.mean(0)) / np.where(scale > 0, scale, 1)).astype(np.float32)
    y = store.targets[:][:, targets]
    mean, std = y.mean(0), y.std(0)

    def predict(train, rows):
        if library == "sklearn":
            from sklearn.ensemble import ExtraTreesRegressor

            model = ExtraTreesRegressor(12, min_samples_leaf=4, max_features=0.1, random_state=0)
            found = model.fit(x[train], (y[train] - mean) / std).predict(x[rows])
        else:
            from catboost import CatBoostRegressor

            model = CatBoostRegressor(
                iterations=150, depth=6, learning_rate=0.15, loss_function="MultiRMSE",
                rsm=0.2, boosting_type="Plain", verbose=False, allow_writing_files=False,
            )  # fmt: skip
            found = model.fit(x[train], (y[train] - mean) / std).predict(x[rows])
        return found * std + mean

    honest = np.empty_like(y)
    for fold in range(5):
        valid = plan.valid_rows(fold)
        honest[valid] = predict(plan.train_rows(fold), valid)
    members = [*real_stack.members, external_of(real_stack, honest, library)]
    assert not implausible(members)
    assert not implausible([members[0], members[2]])
    before, after = (honest_score(real_stack, some) for some in (members[:2], members))
    assert after["nnls/target"] > before["nnls/target"] - 0.002  # a weak one hardly costs
    every = np.arange(len(y))
    seen = external_of(real_stack, predict(every, every), f"{library}_seen")
    if library == "sklearn":
        (said,) = implausible([*real_stack.members, seen])
        assert "'sklearn_seen' fits implausibly well: its R2 is 0." in said
