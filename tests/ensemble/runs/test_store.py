"""A run with an auxiliary source: it trains only, and the run without it stays comparable."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ensemble import RunFolder, load_experiment, open_run, plan_run, run_experiment
from ensemble.evaluation.leaderboard import load_leaderboard
from ensemble.runs.store import RunStore
from features import ClimstackError, FoldPlan, LeakageWarning, Store, convert, describe
from tests.features.folds.test_enrichment import N_GRID, timesteps

pytestmark = pytest.mark.filterwarnings("ignore::features.core.errors.DataWarning")  # copies

EXPERIMENT = """
name = "{name}"
[data]
train = "{train}"
grid_columns = 16
{auxiliary}
[folds]
n_folds = 3
embargo = 0
[[models]]
family = "ridge"
[stack]
blenders = ["mean"]
pooling = ["all"]
compare = {compare}
"""
AUXILIARY = """
[[data.auxiliary]]
source = "{source}"
weight = {weight}
"""


def written(folder: Path, name: str, train: str, auxiliary: str = "", compare: str = "[]") -> Path:
    file = folder / f"{name}.toml"
    file.write_text(EXPERIMENT.format(name=name, train=train, auxiliary=auxiliary, compare=compare))
    return file


@pytest.fixture(scope="module")
def folder(generated, tmp_path_factory) -> Path:
    """``main.parquet``: every second of 24 timesteps; ``archive.parquet``: all of them."""
    folder = tmp_path_factory.mktemp("enriched")
    table = pl.read_parquet(generated["train"])
    timesteps(table, np.arange(0, 24, 2)).write_parquet(folder / "main.parquet")
    ids = pl.Series("sample_id", [f"archive_{row}" for row in range(len(table))])
    table.with_columns(ids).write_parquet(folder / "archive.parquet")
    run_experiment(load_experiment(written(folder, "plain", "main.parquet")), folder / "runs")
    return folder


def test_an_auxiliary_source_trains_only_and_is_told_apart(folder):
    auxiliary = AUXILIARY.format(source="archive.parquet", weight=0.5)
    file = written(folder, "more", "main.parquet", auxiliary, '["runs/plain"]')
    experiment = load_experiment(file)
    assert plan_run(experiment, folder / "runs").rows == (12 + 24) * N_GRID
    rows = run_experiment(experiment, folder / "runs")
    plan = FoldPlan.load(folder / "runs/more/folds.parquet")
    held = np.concatenate([plan.valid_rows(k) for k in range(3)])
    assert sorted(held) == list(range(12 * N_GRID))
    scores = {row["model"]: row["score"] for row in load_leaderboard(folder / "runs/more")}
    assert scores["ridge"] != scores["plain: ridge"]
    assert [row["model"] for row in rows].count("plain: ridge") == 1
    # What was resolved is the same experiment.
    again = load_experiment(folder / "runs/more/experiment.toml")
    assert again.data == experiment.data
    changed = file.with_name("changed.toml")
    changed.write_text(file.read_text().replace("weight = 0.5", "weight = 0.25"))
    with pytest.raises(ClimstackError, match="holds other folds than the experiment asks for"):
        run_experiment(load_experiment(changed), folder / "runs")


def test_a_source_of_a_store_is_named(folder, schema):
    files = [folder / "main.parquet", folder / "archive.parquet"]
    store = convert(files, folder / "store", schema, N_GRID)
    auxiliary = AUXILIARY.format(source="archive.parquet", weight=2.0)
    experiment = load_experiment(written(folder.parent, "named", str(store.path), auxiliary))
    with open_run(experiment, folder / "runs/named") as run:
        plan = run.data.plan
    assert set(plan.weight[plan.auxiliary]) == {2.0}
    wrong = written(
        folder, "wrong", str(store.path), AUXILIARY.format(source="archive.parque", weight=1.0)
    )
    with (
        open_run(load_experiment(wrong), folder / "runs/wrong") as run,
        pytest.raises(
            ClimstackError, match=r"no source 'archive.parque': did you mean 'archive.parquet'"
        ),
    ):
        assert run.data


def test_a_dry_run_sees_that_an_auxiliary_source_has_changed(folder):
    folder, source = folder / "dry", folder / "archive.parquet"
    folder.mkdir()
    for name in ("main.parquet", "archive.parquet"):
        shutil.copy(source.with_name(name), folder)
    auxiliary = AUXILIARY.format(source="archive.parquet", weight=0.5)
    experiment = load_experiment(written(folder, "dry", "main.parquet", auxiliary))
    with open_run(experiment, folder / "runs" / "dry") as run:
        assert run.train_store
    before = plan_run(experiment, folder / "runs")
    assert (before.rows, before.store_mb, before.models[0].done) == (36 * N_GRID, 0, 0)
    pl.read_parquet(source).head(20 * N_GRID).write_parquet(folder / "archive.parquet")
    after = plan_run(experiment, folder / "runs")
    assert (after.rows, after.models[0].done) == (32 * N_GRID, None)
    assert after.store_mb > 0


def test_a_run_on_other_rows_is_not_compared(folder, generated):
    file = written(folder, "other", str(generated["train"]), compare='["runs/plain"]')
    with pytest.raises(ClimstackError, match="was scored on other rows: remove it"):
        run_experiment(load_experiment(file), folder / "runs")


@pytest.mark.parametrize(
    ("auxiliary", "sentence"),
    [
        ("[[data.auxiliary]]\nweight = 1.0", r"number 1 needs the setting 'source'"),
        (
            AUXILIARY.format(source="a", weight=0),
            r"number 1 weight must lie in \[1e-06, 1000000\], but got 0",
        ),
        ("[[data.auxiliary]]\nsource = 'a'\ntime = 'far'", "time must be one of stored, separate"),
        ("auxiliary = 3", r"auxiliary must be \[\[data.auxiliary\]\] tables"),
        ("[[data.extra]]\nsource = 'a'", r"\[\[data.extra\]\] is called \[\[data.auxiliary\]\]"),
    ],
)
def test_bad_settings_are_refused(folder, auxiliary, sentence):
    with pytest.raises(ClimstackError, match=sentence):
        load_experiment(written(folder, "bad", "main.parquet", auxiliary))


def test_a_missing_file_is_named(folder):
    auxiliary = AUXILIARY.format(source="no.parquet", weight=1.0)
    experiment = load_experiment(written(folder, "missing", "main.parquet", auxiliary))
    with (
        open_run(experiment, folder / "runs/missing") as run,
        pytest.raises(
            ClimstackError, match=r"no data at .*no\.parquet: give a CSV or Parquet file"
        ),
    ):
        assert run.train_store


def test_stores_keep_what_each_source_is(folder):
    found = Store(folder / "runs/more/store/train").sources
    assert [source["file"] for source in found] == ["main.parquet", "archive.parquet"]


def test_of_a_store_no_path_is_taken_for_a_source(folder, schema):
    auxiliary = AUXILIARY.format(source="elsewhere/archive.parquet", weight=1.0)
    store = folder / "runs/more/store/train"
    with pytest.raises(ClimstackError, match=r"is a path, but .* is a store: give the name of one"):
        load_experiment(written(folder, "path", str(store), auxiliary))
    # The same store without its auxiliary source on the side scores more rows.
    alone = written(folder, "alone", str(store), compare='["runs/more"]')
    with pytest.raises(ClimstackError, match="was scored on other rows: remove it"):
        run_experiment(load_experiment(alone), folder / "runs")


def test_a_table_without_grid_or_ids_runs_from_experiment_to_submission(tmp_path):
    rng = np.random.default_rng(4)
    x, kind = rng.normal(size=(240, 3)), rng.choice(["a", "b"], 240)
    table = pl.DataFrame(
        {"day": pl.Series(np.arange(240) // 2 + 20_000).cast(pl.Int32).cast(pl.Date), "kind": kind}
        | {name: x[:, at] for at, name in enumerate("uvw")}
        | {"y": x.sum(axis=1) + (kind == "a")}
    )
    table[:180].write_csv(tmp_path / "train.csv")
    table[180:].drop("y").write_csv(tmp_path / "test.csv")
    schema = describe(tmp_path / "train.csv", ["y"], time="day")
    (tmp_path / "own.toml").write_text(schema.to_toml())
    (tmp_path / "e.toml").write_text(
        'name = "e"\n[data]\ntrain = "train.csv"\ntest = "test.csv"\nschema = "own.toml"\n'
        '[folds]\nn_folds = 3\n[[models]]\nfamily = "ridge"\n'
    )
    experiment = load_experiment(tmp_path / "e.toml")
    head = RunStore.training(experiment.data, RunFolder(tmp_path / "x"))
    small = head.head(100, tmp_path / "head")
    assert (len(small), small.time[-1]) == (100, 20_049)
    assert small.inputs[:3][:, 0].tolist() == [float(word == "b") for word in kind[:3]]
    assert head.count_rows()[0] == 180
    with pytest.warns(LeakageWarning, match="all test rows are later than the training rows"):
        run_experiment(experiment, tmp_path / "runs")
    made = pl.read_parquet(tmp_path / "runs" / "e" / "submission.parquet")
    assert made["sample_id"].to_list() == [f"row_{n}" for n in range(60)]
    assert np.corrcoef(made["y"], table["y"][180:])[0, 1] > 0.9
