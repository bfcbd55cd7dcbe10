"""A run as a whole: killed at random moments, resumed, two at once, dry, by its commands."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from joblib import cpu_count

from ensemble import (
    RunFolder,
    load_experiment,
    load_leaderboard,
    open_run,
    plan_run,
    run_experiment,
    score_files,
    submit_run,
)
from ensemble.cli.app import main
from ensemble.evaluation.held_out import HeldOut
from ensemble.report import write_report
from ensemble.runs.planner import parse_memory
from ensemble.runs.run import is_later
from ensemble.stacking.blend import Blend
from ensemble.uncertainty.conformal import fit_uncertainty
from features import ClimstackError, FoldPlan, Grid, Store
from features.core.files import exclusive_lock
from features.core.sealed import seal

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
FINAL = ("submission.parquet", "stack/blend.json", "stack/weights.parquet", "folds.parquet")


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


REGIONS = """
name = "small"
[data]
train = "{train}"
test = "{test}"
grid_columns = 16
grid = "{grid}"
[folds]
scheme = "regions"
n_folds = 3
[[models]]
family = "ridge"
[[models]]
name = "stiff"
family = "ridge"
[models.params]
clip = 4.0
"""


def test_folds_by_region_from_end_to_end(generated, tmp_path):
    """Blend, intervals, report and submission over regions, of a table and its grid file."""
    file = tmp_path / "small.toml"
    file.write_text(REGIONS.format(**generated))
    experiment = load_experiment(file)
    planned = plan_run(experiment, tmp_path)
    assert [model.done for model in planned.models] == [None, None]
    rows = run_experiment(experiment, tmp_path)
    run = tmp_path / "small"
    assert np.isfinite([row["score"] for row in rows]).all()
    plan, store = FoldPlan.load(run / "folds.parquet"), Store(run / "store" / "train")
    assert plan.scheme == "regions"
    assert store.grid.to_table() == Grid.read(generated["grid"]).to_table()
    for fold in range(3):
        assert set(store.column[plan.valid_rows(fold)]).isdisjoint(
            store.column[plan.train_rows(fold)]
        )
    text = (run / "report.html").read_text()
    assert "Error by block" in text
    assert "patches of columns" in text
    assert not re.search("blocks? of time, in order", text)
    submit_run(run, tmp_path / "again.parquet", intervals=tmp_path / "ends.parquet")
    assert pl.read_parquet(tmp_path / "ends.parquet").height
    assert [model.done for model in plan_run(experiment, tmp_path).models] == [3, 3]
    file.write_text(file.read_text().replace("grid = ", "# "))
    for start in (plan_run, run_experiment):
        with pytest.raises(ClimstackError, match="the store has no grid: convert with --grid"):
            start(load_experiment(file), tmp_path / "other")
    file.write_text(REGIONS.format(**generated | {"train": run / "store" / "train"}))
    with pytest.raises(ClimstackError, match=r"\[data\] grid is for tables.*convert with --grid"):
        load_experiment(file)


def test_a_refit_and_another_run_on_the_leaderboard(finished, generated, tmp_path):
    """The same run with two more settings: cells are read, one model is fitted on all rows."""
    file, run = finished
    again = tmp_path / "small"
    shutil.copytree(run, again)
    own = tmp_path / "small.toml"
    more = f'[stack]\nblenders = ["mean", "nnls"]\nrefit = ["trees"]\ncompare = ["{run}"]\n'
    own.write_text(file.read_text() + more)
    with pytest.warns(
        UserWarning, match=r"another experiment .*stack.refit \(\[\], now \['trees'\]"
    ):
        rows = run_experiment(load_experiment(own), tmp_path)
    names = [row["model"] for row in rows]
    assert {"trees", "nnls/group", "small: trees", "small: nnls/group"} <= set(names)
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert sum(row["chosen"] for row in rows) == 1
    score = {row["model"]: row["score"] for row in rows}
    assert score["trees"] == score["small: trees"]
    stages = [stage["stage"] for stage in json.loads((again / "run.json").read_text())["stages"]]
    assert stages[-3:] == ["refit trees", "submit", "report"]
    before, after = (pl.read_parquet(f / "submission.parquet") for f in (run, again))
    assert not before.equals(after)
    # what was refitted is read again
    first = (again / "submission.parquet").read_bytes()
    submit_run(again, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == first
    facts = json.loads((run / "run.json").read_text())
    (tmp_path / "other").mkdir()
    for name in ("leaderboard.json", "checksums.json"):
        shutil.copy(run / name, tmp_path / "other")
    (tmp_path / "other" / "run.json").write_text(json.dumps(seal(facts | {"rows_hash": "0"})))
    own.write_text(file.read_text() + f'[stack]\ncompare = ["{tmp_path / "other"}"]\n')
    with (
        pytest.raises(ClimstackError, match="scored on other rows"),
        pytest.warns(UserWarning, match=r"stack.compare"),
    ):
        run_experiment(load_experiment(own), tmp_path)
    own.write_text(file.read_text() + '[stack]\nrefit = ["tree"]\n')
    with pytest.raises(ClimstackError, match="did you mean 'trees'"):
        load_experiment(own)


def test_a_runs_folder_holds_what_it_should(finished, generated, schema):
    _, run = finished
    names = {p.name for p in run.iterdir() if not p.name.startswith(".")}
    assert names == {
        "experiment.toml", "schema.toml", "folds.parquet", "run.json", "cells", "stack", "store",
        "leaderboard.json", "submission.parquet", "importance", "report.html", "checksums.json",
    }  # fmt: skip
    assert len(cells_of(run)) == 3 * (1 + 292)
    facts = json.loads((run / "run.json").read_text())
    stages = {stage["stage"]: stage for stage in facts["stages"]}
    assert list(stages) == [
        "convert train", "convert test", "fit linear", "fit trees", "stack", "errors", "submit",
        "report",
    ]  # fmt: skip
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
    assert resolved.model("trees").params["lambda_l2"] == 1.0
    assert "max_bin" not in resolved.model("trees").params  # it follows the table
    settled = [json.loads(each.read_text()) for each in run.glob("cells/*/params.json")]
    assert {key["params"]["max_bin"] for key in settled if key["family"] == "lightgbm"} == {63}


def test_a_rerun_computes_nothing(finished):
    file, run = finished
    before = {name: (run / name).read_bytes() for name in FINAL}
    first = json.loads((run / "run.json").read_text())["stages"]
    run_experiment(load_experiment(file), run.parent)
    stages = json.loads((run / "run.json").read_text())["stages"]
    assert stages[: len(first)] == first
    computed = [stage.get("cells_computed", 0) for stage in stages[len(first) :]]
    assert sum(computed) == 0
    assert {name: (run / name).read_bytes() for name in FINAL} == before


@pytest.mark.slow
def test_killed_at_random_it_ends_equal(finished, generated, tmp_path):
    """SIGKILL at five random moments: each rerun keeps finished cells; the end is byte-equal."""
    _, undisturbed = finished
    file = write_experiment(tmp_path, generated)
    run = tmp_path / "runs" / "small"
    command = [sys.executable, "-c", "from ensemble.cli.app import main; main()", "run", str(file)]
    command += ["--runs", str(tmp_path / "runs")]
    rng = np.random.default_rng(0)
    everything = cells_of(undisturbed)
    kills, survived = 0, []
    for wait in rng.uniform(0.3, 1.6, 5):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(1.2 + wait)  # 1.2 s go into imports
        alive = process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += alive
        now = cells_of(run)
        assert set(survived) <= now <= everything
        survived = sorted(now)
    assert kills >= 3
    before = {p: p.stat().st_mtime_ns for p in (run / "cells").glob("*/score.json")}
    run_experiment(load_experiment(file), tmp_path / "runs")
    stages = json.loads((run / "run.json").read_text())["stages"][-6:]
    assert [stage["stage"] for stage in stages] == [
        "fit linear", "fit trees", "stack", "errors", "submit", "report"
    ]  # fmt: skip
    computed = sum(stage.get("cells_computed", 0) for stage in stages)
    assert computed == len(everything) - len(survived)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert cells_of(run) == everything
    for name in FINAL:
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert not list((run / "cells").glob(".*"))


def test_two_runs_at_once_are_refused(finished):
    file, run = finished
    with (
        open_run(load_experiment(file), run),
        pytest.raises(ClimstackError, match="another process is running"),
    ):
        run_experiment(load_experiment(file), run.parent)


def test_changed_data_is_refused(generated, tmp_path):
    copy = tmp_path / "train.parquet"
    copy.write_bytes(generated["train"].read_bytes())
    file = write_experiment(tmp_path, generated | {"train": copy})
    with open_run(load_experiment(file), tmp_path / "run") as run:
        assert run.data
    pl.read_parquet(copy).head(16 * 20).write_parquet(copy)
    with (
        open_run(load_experiment(file), tmp_path / "run") as run,
        pytest.raises(ClimstackError, match="holds other rows than"),
    ):
        assert run.train_store


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


def test_a_memory_limit_chooses_the_workers(finished, tmp_path):
    file, _ = finished
    experiment = load_experiment(file)
    free = {m.model: m for m in plan_run(experiment, tmp_path).models}
    assert free["trees"].workers == cpu_count()
    assert free["linear"].workers == 1
    limit = free["trees"].memory_mb * 3 // 4
    held = {m.model: m for m in plan_run(experiment, tmp_path, limit).models}
    assert held["trees"].workers < cpu_count()
    assert all(m.memory_mb <= limit for m in held.values())
    with pytest.raises(ClimstackError, match=r"model 'linear' needs about \d+ MB.*limit of 50 MB"):
        plan_run(experiment, tmp_path, 50)


@pytest.mark.parametrize("text", ["2", "GB", "-1GB", "0MB", "two GB", "1TB"])
def test_memory_is_given_with_its_unit(text):
    with pytest.raises(ClimstackError, match="as 2GB or 800MB, but got"):
        parse_memory(text)
    assert (parse_memory("2GB"), parse_memory("0.5 gb"), parse_memory("800MB")) == (2048, 512, 800)


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
    code, out, _ = call(monkeypatch, capsys, "leaderboard", run, "--by", "group", "--sort", "u")
    assert code == 0
    assert "FLWDS" in out
    code, _, err = call(monkeypatch, capsys, "leaderboard", run, "--sort", "onest")
    assert code == 1
    assert "did you mean 'honest'" in err
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
    assert len(out.split()) == 5
    train = tmp_path / "g" / "train.parquet"
    code, out, _ = call(monkeypatch, capsys, "data", "check", train, "--grid-columns", 8)
    assert code == 0
    assert "errors: 0" in out
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
    [[], ["demo"], ["data", "generate"], ["data", "convert"], ["data", "check"],
     ["data", "explore"], ["data", "compare"], ["run"], ["fit"], ["tune"], ["stack"],
     ["leaderboard"], ["report"], ["submit"], ["score"]],
)  # fmt: skip
def test_every_command_has_help_with_an_example(command, monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, *command, "--help")
    assert code == 0
    assert not command or "Example: climstack" in out


def test_wrong_usage_exits_2(monkeypatch, capsys):
    assert call(monkeypatch, capsys, "no-such-command")[0] == 2
    assert call(monkeypatch, capsys, "score", "one.csv")[0] == 2
    assert call(monkeypatch, capsys, "leaderboard", "nowhere")[0] == 1


def test_a_touched_file_is_only_converted_again(generated, tmp_path):
    copy = tmp_path / "train.parquet"
    copy.write_bytes(generated["train"].read_bytes())
    file = write_experiment(tmp_path, generated | {"train": copy})
    hashes = []
    for _ in range(2):
        with open_run(load_experiment(file), tmp_path / "run") as run:
            hashes.append(run.train_store.data_hash)
        copy.touch()
    assert hashes[0] == hashes[1]


def test_bad_test_data_is_refused_before_anything_is_fitted(generated, tmp_path):
    for bad in ({"test": tmp_path / "nowhere.csv"}, {"sample_submission": generated["train"]}):
        file = write_experiment(tmp_path, generated | bad)
        with pytest.raises(ClimstackError, match=r"nowhere|lacks .* ids"):
            run_experiment(load_experiment(file), tmp_path)
        assert not cells_of(tmp_path / "small")


def test_a_refused_experiment_leaves_the_run_as_it_was(finished):
    file, run = finished
    before = (run / "experiment.toml").read_bytes()
    other = file.with_name("refused.toml")
    other.write_text(file.read_text().replace("n_folds = 3", "n_folds = 4"))
    with pytest.raises(ClimstackError, match="other folds"):
        run_experiment(load_experiment(other), run.parent)
    assert (run / "experiment.toml").read_bytes() == before


@pytest.fixture
def copied(finished, tmp_path):
    """A finished run under another name, elsewhere."""
    return shutil.copytree(finished[1], tmp_path / "moved")


def test_a_moved_run_submits_from_its_own_cells(copied, finished, generated, tmp_path):
    out = submit_run(copied, tmp_path / "s.parquet")
    assert out.read_bytes() == (finished[1] / "submission.parquet").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["moved", "s.parquet"]
    other = pl.read_parquet(generated["test"]).head(7)
    other.write_parquet(tmp_path / "seven.parquet")
    submit_run(copied, tmp_path / "seven.csv", test=tmp_path / "seven.parquet")
    assert pl.read_csv(tmp_path / "seven.csv")["sample_id"].to_list() == [
        f"test_{i}" for i in range(7)
    ]


def test_a_run_that_is_only_read_stays_as_it_is(finished, generated, tmp_path):
    """It may be another's, and somebody may be writing there or reading at the same time."""
    run = finished[1]
    before = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in [run, *run.rglob("*")]}
    pl.read_parquet(generated["test"]).head(5).write_parquet(tmp_path / "five.parquet")
    out = tmp_path / "out"
    with exclusive_lock(run / ".lock", "busy"):
        submit_run(run, out / "s.parquet", intervals=out / "ends.parquet")
        submit_run(run, out / "five.csv", test=tmp_path / "five.parquet")
        write_report(run, out / "report.html")
        assert load_leaderboard(run)
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in [run, *run.rglob("*")]} == before
    written = ["ends.parquet", "five.csv", "report.html", "s.parquet"]
    assert sorted(path.name for path in out.iterdir()) == written
    assert (out / "s.parquet").read_bytes() == (run / "submission.parquet").read_bytes()


def test_a_damaged_store_of_the_run_is_made_again(copied, finished, tmp_path, caplog):
    file = copied / "store" / "train" / "part-00000" / "inputs.f64"
    whole = file.read_bytes()
    file.write_bytes(whole[:80] + bytes(8) + whole[88:])
    with pytest.raises(ClimstackError, match=r"inputs\.f64 is damaged"):
        write_report(copied, tmp_path / "report.html")
    with open_run(load_experiment(finished[0]), copied) as run:
        assert run.data
    assert file.read_bytes() == whole
    assert "inputs.f64 is damaged" in caplog.text


def test_submit_refuses_models_that_the_blend_was_not_made_with(copied, tmp_path):
    experiment = copied / "experiment.toml"
    text = experiment.read_text()
    experiment.write_text(text.replace("clip = 8.0", "clip = 7.0"))
    with pytest.raises(ClimstackError, match=r"experiment\.toml is damaged, was"):
        submit_run(copied, tmp_path / "s.parquet")
    RunFolder(copied).seal(experiment)
    with pytest.raises(ClimstackError, match="'linear' lacks 1 of 1 cells"):
        submit_run(copied, tmp_path / "s.parquet")
    with open_run(load_experiment(experiment), copied) as run:
        assert run.members
    with pytest.raises(
        ClimstackError, match="'linear' is not the one that the blend was made with"
    ):
        submit_run(copied, tmp_path / "s.parquet")
    assert not (tmp_path / "s.parquet").exists()


def test_a_new_blend_deletes_the_old_submission(copied):
    experiment = copied / "experiment.toml"
    text = re.sub(r"(?s)blenders = \[.*?\]", 'blenders = ["mean"]', experiment.read_text())
    experiment.write_text(text)
    with open_run(load_experiment(experiment), copied) as run:
        run.stack()
    assert not (copied / "submission.parquet").exists()


@pytest.mark.slow
def test_workers_end_when_their_run_is_killed_alone(generated, tmp_path):
    """The system may kill the main process and no other: its workers must not fit on."""
    file = write_experiment(tmp_path, generated, "n_rounds = 60")
    command = [sys.executable, "-c", "from ensemble.cli.app import main; main()", "run", str(file)]
    command += ["--runs", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 240
    while len(cells_of(tmp_path / "small")) < 10 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    time.sleep(5)
    settled = cells_of(tmp_path / "small")
    time.sleep(3)
    assert 10 <= len(settled) < 800
    assert cells_of(tmp_path / "small") == settled


@pytest.mark.parametrize("columns", [80, 140])
def test_the_leaderboard_names_models_on_a_narrow_terminal(finished, monkeypatch, columns):
    from io import StringIO

    from rich.console import Console

    from ensemble import load_leaderboard
    from ensemble.cli import console, tables

    text = StringIO()
    terminal = Console(file=text, width=columns, force_terminal=True, no_color=True)
    monkeypatch.setattr(console, "out", terminal)
    tables.show_leaderboard(load_leaderboard(finished[1]))
    for row in load_leaderboard(finished[1]):
        assert row["model"] in text.getvalue()
        assert f"{row['score']:.4f}" in text.getvalue()


def test_ctrl_c_says_how_to_go_on(generated, tmp_path):
    file = write_experiment(tmp_path, generated, "n_rounds = 60")
    command = [sys.executable, "-c", "from ensemble.cli.app import main; main()", "run", str(file)]
    process = subprocess.Popen(
        [*command, "--runs", str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not cells_of(tmp_path / "small") and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "error: interrupted: the same command goes on where it stopped" in said


def test_submit_writes_intervals_beside_the_submission(
    copied, generated, tmp_path, monkeypatch, capsys
):
    with open_run(load_experiment(copied / "experiment.toml"), copied) as run:
        final, store = Blend.load(run.folder.blend), run.train_store
        held_out = HeldOut(data=run.data, members=run.members, honest=[final] * 3)
    fit_uncertainty(held_out, final).intervals.save(run.folder.intervals)
    run.folder.seal(run.folder.intervals)
    out, ends = tmp_path / "s.parquet", tmp_path / "ends.parquet"
    code, said, err = call(monkeypatch, capsys, "submit", copied, "--out", out, "--intervals", ends)
    assert code == 0, err
    assert f"{out} written" in said
    assert f"{ends} written" in said
    values, found = pl.read_parquet(out), pl.read_parquet(ends)
    assert out.read_bytes() == (copied / "submission.parquet").read_bytes()
    assert found["sample_id"].equals(values["sample_id"])
    names = values.columns[1:]
    low, high = (
        found.select(f"{name}_{end}" for name in names).to_numpy() for end in ("low", "high")
    )
    inside = values.drop("sample_id").to_numpy()
    assert ((low <= inside) & (inside <= high)).all()
    solution = pl.read_parquet(generated["solution"]).sort("sample_id")
    truth = solution.select(names).to_numpy()
    order = np.argsort(values["sample_id"].to_numpy().astype(str))
    modelled = store.schema.modelled_targets
    covered = (low[order] <= truth) & (truth <= high[order])
    assert covered[:, modelled].mean() > 0.8  # five days later, from 24 timesteps

    (copied / "stack" / "intervals.npz").unlink()
    code, _, err = call(monkeypatch, capsys, "submit", copied, "--out", out, "--intervals", ends)
    assert code == 1
    assert "run the stack again" in err


@pytest.mark.parametrize(
    ("first", "clocks", "later"),
    [(12, ["model"], True), (9, ["model"], False), (12, ["rows"], False), (-1, ["rows"], False)],
)
def test_a_later_test_set_is_known_by_the_models_clock(first, clocks, later):
    """Row numbers of tables are no dates: only NetCDF pairs tell when their rows are."""
    train = SimpleNamespace(time=np.arange(10), sources=[{"clock": "model"}])
    test = SimpleNamespace(
        time=np.array([first, first + 3]), sources=[{"clock": clock} for clock in clocks]
    )
    assert is_later(train, test) is later
