"""Members that come from elsewhere in a run, and a run's own for elsewhere."""

import json
import os

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ensemble import (
    RunFolder,
    load_experiment,
    load_leaderboard,
    plan_run,
    run_experiment,
    submit_run,
    write_members,
)
from ensemble.cli.app import app
from ensemble.report import write_report
from ensemble.runs.tune import tune_model
from features import ClimstackError
from features.core.errors import DataWarning, LeakageWarning
from tests.tiny_run import EXPERIMENT, prepare
from tuning import TuneSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*is one a copy of the other")
EXPERIMENT = EXPERIMENT.replace("n_rounds = 2\n", "n_rounds = 40\nmin_data_in_leaf = 5\n").replace(
    "[1, 4]", "[1, 99]"
)
RIDGE = '[[models]]\nfamily = "ridge"\n'
HEAD = EXPERIMENT[: EXPERIMENT.index("[[models]]")]
for name in ("train", "test"):  # converted in this process they would silence what is said
    HEAD = HEAD.replace(f"data/{name}.parquet", f"runs/run/store/{name}")
THEIRS = '[[models]]\nname = "trees"\nfamily = "external"\noof = "oof.parquet"\nfolds = "fold"\n'
WEAK = '[[models]]\nname = "weak"\nfamily = "lightgbm"\n[models.params]\nn_rounds = 1\n'
TEST = 'test = "test.parquet"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of ridge and trees, and what it says of its trees."""
    folder = tmp_path_factory.mktemp("run")
    kept = os.fsync
    prepare(folder, network=False)
    (folder / "run.toml").write_text(EXPERIMENT)
    run_experiment(load_experiment(folder / "run.toml"), folder / "runs")
    write_members(
        folder / "runs" / "run",
        folder / "oof.parquet",
        test=folder / "test.parquet",
        names=["trees"],
    )
    os.fsync = kept
    return folder


@pytest.fixture
def experiment(folder):
    """Writes an experiment under another name and reads it."""

    def write(name, *models, beside=RIDGE):
        file = folder / f"{name}.toml"
        file.write_text(
            (HEAD + beside + "".join(models)).replace('name = "run"', f'name = "{name}"')
        )
        return load_experiment(file)

    return write


def honest(rows):
    return {row["model"]: row["score"] for row in rows}


def test_our_own_predictions_come_back_as_the_same_member(folder, experiment):
    rows = run_experiment(experiment("same", THEIRS + TEST), folder / "runs")
    before = load_leaderboard(folder / "runs" / "run")
    assert honest(rows) == pytest.approx(honest(before), abs=1e-12)
    frames = [pl.read_parquet(RunFolder(folder / "runs" / n).submission) for n in ("run", "same")]
    for name in frames[0].columns[1:]:
        np.testing.assert_allclose(frames[1][name], frames[0][name], rtol=1e-9, atol=1e-12)
    oof = pl.read_parquet(folder / "oof.parquet")
    assert oof.columns[:2] == ["sample_id", "fold"]
    assert len(oof) == 160
    write_report(folder / "runs" / "same", folder / "report.html")
    out = folder / "again.parquet"
    submit_run(folder / "runs" / "same", out, intervals=folder / "ends.parquet")
    assert pl.read_parquet(out).equals(frames[1])
    back = write_members(folder / "runs" / "same", folder / "back.csv", names=["trees"])
    both = pl.read_csv(back).select(oof.columns[2:]).to_numpy()
    np.testing.assert_allclose(both, oof.select(oof.columns[2:]).to_numpy(), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.*fits implausibly well")  # beside what hardly fits at all
def test_the_resolved_experiment_needs_the_file_no_more(folder, experiment):
    same = experiment("moved", THEIRS + TEST, beside=WEAK)
    run_experiment(same, folder / "runs")
    kept = (folder / "oof.parquet").rename(folder / "elsewhere.parquet")
    submit_run(folder / "runs" / "moved", folder / "moved.parquet")
    write_report(folder / "runs" / "moved", folder / "report.html")
    kept.rename(folder / "oof.parquet")
    with pytest.raises(ClimstackError, match=r"lacks 24 of 24 rows of .*'train_0'"):
        submit_run(
            folder / "runs" / "moved",
            folder / "moved.parquet",
            test=write_test(folder, "train"),
        )


def write_test(folder, name):
    frame = pl.read_parquet(folder / "data" / f"{name}.parquet").head(24)
    file = folder / f"few_{name}.parquet"
    frame.select(pl.exclude("^warmth.*$", "flux")).write_parquet(file)
    return file


@pytest.mark.filterwarnings("ignore:.*fits implausibly well")
def test_without_test_predictions_there_is_a_stack_and_a_report(folder, experiment):
    with pytest.warns(DataWarning, match="no submission, for 'trees' was fitted elsewhere"):
        run_experiment(experiment("untested", THEIRS, beside=WEAK), folder / "runs")
    run = RunFolder(folder / "runs" / "untested")
    assert run.report.is_file()
    assert not run.submission.is_file()
    said = "'trees' was fitted elsewhere, and its predictions of the 24 rows of .* as test"
    with pytest.raises(ClimstackError, match=said):
        submit_run(run.path, folder / "s.parquet")


def test_a_file_of_test_rows_is_looked_at_before_anything_is_fitted(folder, experiment):
    pl.read_parquet(folder / "test.parquet")[1:].write_parquet(folder / "short.parquet")
    wrong = experiment("short", THEIRS + 'test = "short.parquet"\n')
    with pytest.raises(
        ClimstackError, match=r"short\.parquet lacks 1 of 24 rows of .*, as 'test_0'"
    ):
        run_experiment(wrong, folder / "runs")
    assert not list(RunFolder(folder / "runs" / "short").cells.glob("*"))


def test_a_dry_run_counts_it_as_free(folder, experiment):
    fed = '[[models]]\nname = "fed"\nfamily = "ridge"\ninputs_from = ["trees"]\n'
    plan = plan_run(experiment("dry", THEIRS + TEST + fed), folder / "runs")
    theirs = plan.models[1]
    assert (theirs.model, theirs.cells, theirs.minutes, theirs.memory_mb) == ("trees", 3, 0.0, 0)


def test_a_model_that_builds_on_it_predicts_test_rows(folder, experiment):
    fed = '[[models]]\nname = "fed"\nfamily = "ridge"\ninputs_from = ["trees"]\n'
    own = EXPERIMENT[EXPERIMENT.index("[[models]]\nname") : EXPERIMENT.index("[models.search]")]
    rows = [
        run_experiment(experiment(name, *models), folder / "runs")
        for name, models in (("fed", (THEIRS + TEST, fed)), ("own", (own, fed)))
    ]
    assert honest(rows[0]) == pytest.approx(honest(rows[1]), abs=1e-12)


def test_in_sample_predictions_are_told(folder, experiment):
    train = pl.read_parquet(folder / "data" / "train.parquet")
    frame = train.select("sample_id", pl.col("^warmth.*$", "flux"))
    noise = np.random.default_rng(0).normal(size=(len(train), 4)) * 1e-3
    columns = [
        pl.Series(n, frame[n].to_numpy() + noise[:, i]) for i, n in enumerate(frame.columns[1:])
    ]
    frame.with_columns(columns).write_parquet(folder / "seen.parquet")
    seen = '[[models]]\nname = "seen"\nfamily = "external"\noof = "seen.parquet"\n'
    said = r"'seen' fits implausibly well: its R2 is 1.000 where .* \(weak\) have 0.*above 0.98"
    with (
        pytest.warns(LeakageWarning, match=said),
        pytest.warns(DataWarning, match="no submission"),
    ):
        run_experiment(experiment("seen", seen, beside=WEAK), folder / "runs")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (THEIRS + "[models.params]\nclip = 1.0\n", "fitted elsewhere: remove params"),
        (THEIRS + 'inputs_from = ["ridge"]\n', "fitted elsewhere: remove inputs_from"),
        (THEIRS.replace("oof", "off"), "has no setting 'off'|needs the setting 'oof'"),
        (THEIRS.replace("oof.parquet", "of.parquet"), "no file .*of.parquet"),
        (THEIRS.replace("external", "ridge"), "'oof', which only family 'external' has"),
        (
            THEIRS + '[stack]\nrefit = ["trees"]\n',
            "refit names 'trees', which was fitted elsewhere",
        ),
        (THEIRS + 'targets = ["flux", "rain"]\n', "'rain', which names no target"),
    ],
)
def test_what_can_not_be_asked_of_it(text, said, experiment, monkeypatch):
    if "[stack]" in text:
        monkeypatch.setattr("tests.ensemble.runs.test_pipeline.HEAD", HEAD[: HEAD.index("[stack]")])
    with pytest.raises(ClimstackError, match=said):
        experiment("wrong", text)


def test_the_command_writes_all_members_or_some(folder):
    def members(*arguments):
        done = CliRunner().invoke(
            app, ["members", str(folder / "runs" / "run"), *map(str, arguments)]
        )
        if done.exception is not None:
            raise done.exception

    out, csv = folder / "all.parquet", folder / "one.csv"
    members("--out", out)
    columns = pl.read_parquet(out).columns
    assert columns[:3] == ["sample_id", "fold", "ridge/warmth_1"]
    assert "trees/flux" in columns
    members("--out", csv, "--member", "ridge")
    assert pl.read_csv(csv).columns[2:] == ["warmth_1", "warmth_2", "flux"]
    with pytest.raises(ClimstackError, match="has no member 'rige': did you mean 'ridge'"):
        members("--out", out, "--member", "rige")
    with pytest.raises(ClimstackError, match=r"all.txt ends in '.txt': give a .csv or .parquet"):
        members("--out", folder / "all.txt")


def test_models_that_serve_some_targets_run_to_the_submission(folder, experiment):
    """Ridge for one variable, an external member for another; a target that nobody serves."""
    surface = '[[models]]\nname = "surface"\nfamily = "ridge"\ntargets = ["flux"]\n'
    theirs = THEIRS + TEST + 'targets = ["warmth_1"]\n'
    wanted = experiment("partial", surface, theirs, beside="")
    plan = plan_run(wanted, folder / "runs")
    assert [model.cells for model in plan.models] == [3, 3]
    with pytest.warns(DataWarning, match="no model serves 1 of 3 targets, .* mean: warmth_2"):
        run_experiment(wanted, folder / "runs")
    run = RunFolder(folder / "runs" / "partial")
    found = pl.read_parquet(run.submission)
    assert np.isfinite(found.drop("sample_id").to_numpy()).all()
    assert found["warmth_2"].n_unique() == 1
    theirs_alone = pl.read_parquet(folder / "test.parquet")
    assert np.corrcoef(found["warmth_1"], theirs_alone["warmth_1"])[0, 1] > 0.999
    weights = pl.read_parquet(run.weights)
    for member, target in (("surface", "warmth_1"), ("trees", "flux")):
        here = weights.filter((pl.col("member") == member) & (pl.col("target") == target))
        assert here["weight"].to_list() == [0.0]
    write_members(run.path, folder / "partial.parquet", test=folder / "partial_test.parquet")
    columns = pl.read_parquet(folder / "partial.parquet").columns
    assert columns == ["sample_id", "fold", "surface/flux", "trees/warmth_1"]
    assert pl.read_parquet(folder / "partial_test.parquet").columns == [columns[0], *columns[2:]]


def test_a_model_of_some_targets_is_tuned_for_these(folder, experiment):
    own = EXPERIMENT[EXPERIMENT.index("[[models]]\nname") :]
    trees = own.replace('"lightgbm"\n', '"lightgbm"\ntargets = ["warmth_2", "flux"]\n')
    how = TuneSettings(n_trials=2, n_clusters=2, n_representatives=1, n_finalists=2)
    found = tune_model(experiment("tuned", trees), "trees", how, folder / "runs")
    cells = RunFolder(folder / "runs" / "tuned").cells.glob("*/params.json")
    fitted = {name for file in cells for name in json.loads(file.read_text())["targets"]}
    assert fitted == {"warmth_2", "flux"}
    named = {name for variant in found.spec.variants for name in variant.targets}
    assert named <= {"warmth_2", "flux"}
    best = trees.replace("seed", "").split("[models.params]")[0] + f'tuned = "{found.best_file}"\n'
    served = experiment("adopted", best).model("trees")
    assert served.targets == ("warmth_2", "flux")
