"""A run as a whole: killed at random moments, resumed, two at once, dry, by its commands."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ensemble import load_experiment, open_run, plan_run, run_experiment, score_files
from ensemble.cli import main
from features import ClimstackError

TREES = "n_rounds = 4\nnum_leaves = 4\nearly_stopping_rounds = 0"
EXPERIMENT = """
name = "small"
seed = 1
[data]
train = "{train}"
test = "{test}"
sample_submission = "{sample_submission}"
grid_columns = 16
[folds]
n_folds = 3
[[models]]
name = "linear"
family = "ridge"
[[models]]
name = "trees"
family = "lightgbm"
[models.params]
{trees}
"""
FINAL = ("submission.parquet", "stack/graph.json", "stack/weights.parquet", "folds.parquet")


def write_experiment(folder: Path, generated: dict[str, Path], trees: str = TREES) -> Path:
    file = folder / "small.toml"
    file.write_text(EXPERIMENT.format(trees=trees, **generated))
    return file


@pytest.fixture(scope="module")
def finished(tmp_path_factory, generated):
    """An undisturbed run: its experiment file and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = write_experiment(folder, generated)
    run_experiment(load_experiment(file), folder / "runs")
    return file, folder / "runs" / "small"


def cells_of(run: Path) -> set[str]:
    """Finished cells; a killed writer's folder has no name of 64 digits."""
    return {p.name for p in (run / "cells").glob("*") if len(p.name) == 64}


def test_a_runs_folder_holds_what_it_should(finished, generated, schema):
    _, run = finished
    names = {p.name for p in run.iterdir() if not p.name.startswith(".")}
    assert names == {
        "experiment.toml", "folds.parquet", "run.json", "cells", "stack", "store",
        "leaderboard.json", "submission.parquet",
    }  # fmt: skip
    assert len(cells_of(run)) == 3 * (1 + 292)
    facts = json.loads((run / "run.json").read_text())
    stages = {stage["stage"]: stage for stage in facts["stages"]}
    assert stages["fit trees"]["cells_computed"] == 876
    assert facts["versions"]["lightgbm"]
    submission = pl.read_parquet(run / "submission.parquet")
    sample = pl.read_parquet(generated["sample_submission"])
    assert submission["sample_id"].to_list() == sample["sample_id"].to_list()
    r2 = score_files(run / "submission.parquet", generated["solution"], schema)
    assert r2["ptend_t_0"] > 0.5  # a wrong row order would score below 0


def test_the_resolved_experiment_is_an_experiment(finished):
    file, run = finished
    resolved = load_experiment(run / "experiment.toml")
    assert resolved.to_toml() == load_experiment(file).to_toml()
    assert resolved.model("trees").params["num_leaves"] == 4
    assert resolved.model("trees").params["max_bin"] == 63


def test_a_rerun_computes_nothing(finished):
    file, run = finished
    before = {name: (run / name).read_bytes() for name in FINAL}
    run_experiment(load_experiment(file), run.parent)
    facts = json.loads((run / "run.json").read_text())
    computed = [stage.get("cells_computed", 0) for stage in facts["stages"]]
    assert sum(computed) == 0
    assert {name: (run / name).read_bytes() for name in FINAL} == before


@pytest.mark.slow
def test_killed_ten_times_at_random_it_ends_equal(finished, generated, tmp_path):
    """SIGKILL at ten random moments: each rerun keeps finished cells; the end is byte-equal."""
    _, undisturbed = finished
    file = write_experiment(tmp_path, generated)
    run = tmp_path / "runs" / "small"
    command = [sys.executable, "-c", "from ensemble.cli import main; main()", "run", str(file)]
    command += ["--runs", str(tmp_path / "runs")]
    rng = np.random.default_rng(0)
    everything = cells_of(undisturbed)
    kills, survived = 0, []
    for wait in rng.uniform(0.3, 1.6, 10):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(1.2 + wait)  # 1.2 s go into imports
        alive = process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += alive
        now = cells_of(run)
        assert set(survived) <= now <= everything
        survived = sorted(now)
    assert kills >= 5
    before = {p: p.stat().st_mtime_ns for p in (run / "cells").glob("*/score.json")}
    run_experiment(load_experiment(file), tmp_path / "runs")
    facts = json.loads((run / "run.json").read_text())
    computed = sum(stage.get("cells_computed", 0) for stage in facts["stages"])
    assert computed == len(everything) - len(survived)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert cells_of(run) == everything
    for name in FINAL:
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert not list((run / "cells").glob(".*"))


def test_two_runs_at_once_are_refused(finished):
    file, run = finished
    with (
        open_run(load_experiment(file), run.parent),
        pytest.raises(ClimstackError, match="another process is running"),
    ):
        run_experiment(load_experiment(file), run.parent)


def test_changed_data_is_refused(generated, tmp_path):
    copy = tmp_path / "train.parquet"
    copy.write_bytes(generated["train"].read_bytes())
    file = write_experiment(tmp_path, generated | {"train": copy})
    with open_run(load_experiment(file), tmp_path) as run:
        run.plan(run.train_store())
    pl.read_parquet(copy).head(16 * 20).write_parquet(copy)
    with (
        open_run(load_experiment(file), tmp_path) as run,
        pytest.raises(ClimstackError, match="is not the file"),
    ):
        run.train_store()


def test_changed_folds_are_refused(finished):
    file, run = finished
    text = file.read_text().replace("n_folds = 3", "n_folds = 4")
    other = file.with_name("other.toml")
    other.write_text(text)
    with pytest.raises(ClimstackError, match="other folds than the experiment asks for"):
        run_experiment(load_experiment(other), run.parent)


def test_a_dry_run_counts_cells_and_fits_none(finished, tmp_path):
    file, run = finished
    plan = plan_run(load_experiment(file), run.parent)
    assert {m.model: (m.cells, m.done) for m in plan.models} == {
        "linear": (3, 3),
        "trees": (876, 876),
    }
    assert [m.minutes for m in plan.models] == [0, 0]
    fresh = plan_run(load_experiment(file), tmp_path)
    assert [m.done for m in fresh.models] == [None, None]
    assert all(m.minutes > 0 and m.memory_mb > 50 and m.disk_mb >= 1 for m in fresh.models)
    assert fresh.rows == 24 * 16
    assert list(tmp_path.iterdir()) == []


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["climstack", *map(str, arguments)])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_commands_on_a_finished_run(finished, generated, tmp_path, monkeypatch, capsys):
    file, run = finished
    runs = run.parent
    code, out, err = call(
        monkeypatch, capsys, "fit", file, "--model", "trees", "--fold", 1, "--runs", runs
    )
    assert (code, "trees: 0 cells fitted, 292 were there" in out) == (0, True), err
    code, out, _ = call(monkeypatch, capsys, "stack", file, "--runs", runs)
    assert code == 0
    assert "Leaderboard" in out
    code, out, _ = call(monkeypatch, capsys, "leaderboard", run, "--json")
    assert json.loads(out)[0]["model"]
    submission = tmp_path / "again.csv"
    code, out, err = call(
        monkeypatch,
        capsys,
        "submit",
        run,
        "--test",
        generated["test"],
        "--sample-submission",
        generated["sample_submission"],
        "--out",
        submission,
    )
    assert code == 0, err
    first = pl.read_parquet(run / "submission.parquet")
    assert pl.read_csv(submission).equals(first)
    code, out, _ = call(monkeypatch, capsys, "score", submission, generated["solution"])
    code_json, out_json, _ = call(
        monkeypatch, capsys, "score", submission, generated["solution"], "--json"
    )
    assert (code, code_json) == (0, 0)
    assert float(out) == json.loads(out_json)["score"]
    code, out, _ = call(monkeypatch, capsys, "run", file, "--runs", runs, "--dry-run")
    assert code == 0
    assert "together: about 0.0 minutes" in out


def test_data_commands(tmp_path, monkeypatch, capsys):
    code, out, _ = call(
        monkeypatch,
        capsys,
        "data",
        "generate",
        tmp_path / "g",
        "--timesteps",
        6,
        "--columns",
        8,
        "--seed",
        2,
    )
    assert code == 0
    assert len(out.split()) == 4
    train = tmp_path / "g" / "train.parquet"
    code, out, _ = call(monkeypatch, capsys, "data", "check", train, "--grid-columns", 8)
    assert code == 0
    assert "0 errors" in out
    code, out, _ = call(monkeypatch, capsys, "data", "check", train, "--grid-columns", 7)
    assert code == 1
    assert "not a multiple of 7" in out
    code, out, _ = call(
        monkeypatch, capsys, "data", "convert", train, "--out", tmp_path / "s", "--grid-columns", 8
    )
    assert code == 0
    assert "48 rows" in out


@pytest.mark.parametrize(
    "command",
    [[], ["demo"], ["data", "generate"], ["data", "convert"], ["data", "check"], ["run"], ["fit"],
     ["stack"], ["leaderboard"], ["submit"], ["score"]],
)  # fmt: skip
def test_every_command_has_help_with_an_example(command, monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, *command, "--help")
    assert code == 0
    assert not command or "Example: climstack" in out


def test_wrong_usage_exits_2(monkeypatch, capsys):
    assert call(monkeypatch, capsys, "no-such-command")[0] == 2
    assert call(monkeypatch, capsys, "score", "one.csv")[0] == 2
    assert call(monkeypatch, capsys, "leaderboard", "nowhere")[0] == 1
