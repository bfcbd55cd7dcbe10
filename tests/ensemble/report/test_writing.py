"""The report of a tiny run: what stands in it, what is left out, what a browser sees."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as plotly
import polars as pl
import pytest

from ensemble import Blend, RunFolder, open_run, run_experiment
from ensemble.cli.app import main
from ensemble.evaluation.regime_errors import write_errors
from ensemble.experiment.experiment import experiment_from_table
from ensemble.report import write_report
from ensemble.report.budget import TERMS, terms
from ensemble.report.distributions import LINE, PLANE, Distributions, Standard
from ensemble.report.extremes import Extremes
from ensemble.report.finished import Finished
from ensemble.report.latitudes import Latitudes
from features import (
    ClimstackError,
    DataWarning,
    Store,
    describe,
    explore_store,
    load_schema,
    r2_score,
    write_exploration,
)
from features.climate.physics import LATENT_HEAT_VAPOUR, hybrid_levels, layer_mass
from features.core.files import write_json
from features.core.sealed import write_sealed
from features.sources.grid import Grid
from features.store.writer import StoreWriter
from features.synthetic import write_table
from models import CellStore, cross_validate
from models.diagnostics.importance import importance
from models.member import read_member

NETWORK = {"preset": "tiny", "epochs": 2, "patience": 2, "device": "cpu"}
STUDY = {
    "trials": [
        {"place": 0, "state": "complete", "value": 0.30, "change": None, "seconds": 2.0,
         "params": {"num_leaves": 31}},
        {"place": 1, "state": "pruned", "value": None, "change": None, "seconds": 1.0,
         "params": {"num_leaves": 4}},
        {"place": 2, "state": "complete", "value": 0.34, "change": 0.04, "seconds": 2.0,
         "params": {"num_leaves": 15}},
    ],
    "claim": {"defaults": 0.30, "tuned": 0.34}, "unseen": {"defaults": 0.31, "tuned": 0.33},
    "minutes": 0.1, "adopted": "tuned", "importances": {"num_leaves": 1.0},
}  # fmt: skip

TOY = Path(__file__).parents[2] / "toy.toml"


@pytest.fixture(scope="session")
def folder(store, cells, members, some_targets, tmp_path_factory):
    """A finished run of three members on some of the targets; the trees' cells are shared."""
    path = tmp_path_factory.mktemp("runs") / "tiny <run>"
    path.mkdir()
    shutil.copytree(cells.path, path / "cells", copy_function=os.link)
    served = [store.schema.target_columns[target] for target in some_targets]
    table = {
        "name": "tiny",
        "data": {"train": str(store.path)},
        "folds": {"n_folds": 3, "embargo": 1},
        "models": [
            {"name": "linear", "family": "ridge", "targets": served},
            {
                "name": "trees",
                "family": "lightgbm",
                "targets": served,
                "params": members[1].spec.params,
            },
            {"name": "network", "family": "convnext1d", "targets": served, "params": NETWORK},
        ],
    }
    with open_run(experiment_from_table(table, path), path) as run:
        run.members = fitted = [
            cross_validate(run.data, spec, run.cells, targets=some_targets, n_jobs=1)
            for spec in run.experiment.models
        ]
        (path / "importance").mkdir()
        file = run.folder.importance("trees")
        importance(fitted[1], store.schema).write_parquet(file)
        run.folder.seal(file)
        with pytest.warns(DataWarning, match="no model serves 255 of 292 targets"):
            run.stack()
    assert [member.computed for member in fitted[:2]] == [0, 0]
    write_sealed(path / "tuning" / "trees" / "study.json", STUDY)
    return path


@pytest.fixture(scope="session")
def page(folder):
    return write_report(folder)


@pytest.fixture(scope="session")
def full_page(folder, some_targets, store, tmp_path_factory):
    """The report of the same run with everything that a run can have."""
    path = copied(folder, tmp_path_factory.mktemp("full"))
    shutil.copytree(folder / "cells", path / "cells", copy_function=os.link)
    run = Finished(path)
    cells = CellStore(path / "cells")
    fitted = [read_member(run.data, spec, cells, some_targets) for spec in run.experiment.models]
    honest = [Blend.load(file) for file in run.folder.honest(3)]
    held_out = replace(run.held_out, members=fitted, honest=honest)
    board = json.loads((path / "leaderboard.json").read_text())
    other = board[0] | {"model": "other: best", "chosen": False, "run": "runs/other"}
    write_json(path / "leaderboard.json", [*board, other | {"score_per_fold": [0.5]}])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "grid", grid_of(store))
        write_errors(held_out, run.folder.errors)
        run.folder.seal(run.folder.errors, run.folder.leaderboard)
        return write_report(path)


@pytest.fixture
def copy(folder, tmp_path):
    """The run without its cells, to be changed."""
    return copied(folder, tmp_path)


def copied(folder, to):
    return shutil.copytree(folder, to / "copy", ignore=lambda *_: ["cells", ".lock"])


def grid_of(store) -> Grid:
    n = store.n_grid_columns
    return Grid(
        lat=np.linspace(-88, 88, n),
        lon=np.linspace(0, 350, n),
        area=np.ones(n),
        levels=hybrid_levels(),
    )


def honest(folder) -> tuple[np.ndarray, np.ndarray]:
    """Truth and stored honest outputs of all held-out rows."""
    run = Finished(folder)
    blocks = list(run.held_out.blocks())
    return np.concatenate([b.truth for b in blocks]), np.concatenate([b.outputs for b in blocks])


def words(page) -> str:
    return re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)


def section(text: str, name: str) -> str:
    return text.split(f'<section id="{name}">')[1].split("</section>")[0]


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1440])
def test_a_browser_draws_it(full_page, open_page, width):
    visit = open_page(full_page, width)
    assert visit.complaints == []
    assert visit.n_figures == visit.n_drawn > 40
    assert visit.overflow <= 0
    assert 0 < visit.load_seconds < 3
    assert full_page.stat().st_size < 8e6


def test_plotly_knows_every_key_of_both_pages(page, full_page, store, tmp_path):
    pages = [page, full_page]
    for name, seen in {
        "with": explore_store(store, store, grid_of(store)),
        "without": explore_store(store),
    }.items():
        pages.append(write_exploration(seen, tmp_path / f"{name}.html"))
    n_choices = 0
    for each in pages:
        found = re.search(r'id="page-data">(.*?)</script>', each.read_text(), re.DOTALL)
        for figure in json.loads(found[1])["figures"]:
            drawn = plotly.Figure(figure["data"], figure["layout"])  # refuses misspelt keys
            for menu in figure["layout"].get("updatemenus", []):
                for button in menu["buttons"]:
                    drawn.plotly_restyle(*button["args"])
                    n_choices += 1
    assert n_choices > 100


def test_only_what_a_run_lacks_is_left_out(page):
    text = words(page)
    left_out = re.findall(r"<p>(Left out: [^<]*)</p>", text)
    assert left_out == ["Left out: the store has no grid, so latitudes are unknown."]
    assert text.count("<figure") == text.count("<summary>Numbers</summary>")
    assert "No learning curve is kept of linear, trees" in section(text, "learning")


def test_the_same_run_gives_the_same_file(folder, page, tmp_path):
    again = write_report(folder, tmp_path / "again.html")
    assert again.read_bytes() == page.read_bytes()


def test_the_leaderboard_is_the_runs(folder, page):
    board = json.loads((folder / "leaderboard.json").read_text())
    text = section(words(page), "leaderboard")
    for row in board:
        assert f"<td>{row['model']}</td>" in text
        assert f'<td class="n">{row["score"]:.4f}</td>' in text


def test_scores_come_back_as_the_leaderboard_has_them(folder):
    run = Finished(folder)
    for row in run.board:
        assert run.scores.r2(row["model"]).mean() == pytest.approx(row["score"], abs=1e-12)


def test_counts_are_those_of_all_values(folder):
    run = Finished(folder)
    standard = Standard.of(run)
    counted = Distributions(standard)
    run.held_out.walk(counted, what="counts")
    truth, predicted = honest(folder)
    y, p = standard(truth), standard(predicted)
    np.testing.assert_allclose(y.std(0), 1.0, rtol=0.05)
    assert counted.plane.sum() == counted.residual.sum() == y.size
    kind = np.array(standard.kind)
    for place, name in enumerate(counted.kinds):
        own = (y[:, kind == name].ravel(), p[:, kind == name].ravel())
        plain = np.histogram2d(*own, bins=[PLANE.edges, PLANE.edges])[0]
        assert np.abs(counted.plane[place] - plain).sum() <= 0.002 * own[0].size  # on an edge
        quantile = np.quantile(own[1] - own[0], 0.9)
        share = np.concatenate([[0], np.cumsum(counted.residual[place])]) / own[0].size
        found = np.interp(0.9, share, LINE.edges)
        assert found == pytest.approx(quantile, abs=0.02 + 0.1 * abs(quantile))


def test_the_worst_rows_are_the_worst(folder):
    run = Finished(folder)
    standard = Standard.of(run)
    extremes = Extremes(run, standard)
    run.held_out.walk(extremes, what="extremes")
    truth, predicted = honest(folder)
    error = ((standard(predicted) - standard(truth)) ** 2).mean(1)
    expected = np.sort(error)[::-1][: len(extremes.rows)]
    np.testing.assert_allclose([row[0] for row in extremes.rows], expected)
    assert extremes.error.sum() == pytest.approx(error.sum())
    shown = [row["mean squared error / variance"] for _, row in extremes.rows]
    np.testing.assert_allclose(shown, expected)


def test_r2_inside_a_band_of_latitude(folder, store, monkeypatch):
    monkeypatch.setattr(Store, "grid", grid_of(store))
    run = Finished(folder)
    latitude = run.latitude
    places = Latitudes(run, latitude)
    run.held_out.walk(places, what="places")
    rows = np.concatenate([block.rows for block in run.held_out.blocks()])
    band = np.floor((latitude[store.column[rows]] + 90) / 10).astype(int)
    truth, predicted = honest(folder)
    target = run.blend.targets
    here = band == 8
    expected = r2_score(truth[here], predicted[here])[target]
    np.testing.assert_allclose(places.r2[8, target], expected, rtol=1e-6, atol=1e-6)
    assert len(places.parts()["latitude"]) == 1 + 6 + 1


def test_budget_terms_by_hand(store):
    inputs, truth = store.inputs[slice(0, 50)], store.targets[slice(0, 50)]
    schema = store.schema
    found = dict(zip(TERMS, terms(schema, inputs, truth, None), strict=True))
    mass = layer_mass(inputs[:, schema.column_index("state_ps")])
    water = sum(truth[:, schema.slice_of(f"ptend_q000{k}")] for k in (1, 2, 3))
    rain = 1000.0 * truth[:, schema.column_index("cam_out_PRECC")]
    expected = LATENT_HEAT_VAPOUR * ((water * mass).sum(1) + rain)
    np.testing.assert_allclose(
        found["water gained and precipitation"], expected, rtol=1e-9, atol=1e-9
    )


def test_a_run_without_scores_and_outputs_says_so(copy):
    for name in ("scores", "errors", "uncertainty"):
        (copy / "stack" / f"{name}.parquet").unlink()
    shutil.rmtree(copy / "stack" / "oof")
    text = words(write_report(copy))
    for name in ("levels", "gain", "time"):
        assert "no stack/scores.parquet" in section(text, name)
    for name in ("predicted", "residuals", "worst", "budget", "data"):
        assert "no stack/oof" in section(text, name)
    assert "no stack/errors.parquet" in section(text, "regimes")
    assert "no stack/uncertainty.parquet" in section(text, "intervals")
    assert "lacks" in section(text, "learning")  # its cells are gone


def test_nothing_is_left_out_where_a_run_has_everything(full_page):
    text = words(full_page)
    assert "Left out" not in text
    assert "R2 of blend by regime" in section(text, "regimes")
    table = pl.read_parquet(full_page.parent / "stack" / "uncertainty.parquet")
    near = ((table["coverage_later"] - 0.9).abs() <= 0.03).sum()
    assert f"{near} of {len(table)} modelled targets" in section(text, "intervals")
    assert "-10 to 0" in section(text, "latitude")
    assert "other: best" in section(text, "leaderboard")
    assert "other: best" not in section(text, "levels")


def test_a_run_of_another_schema_has_a_report(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 4))
    y = np.stack([0 * x[:, 0], 2 * x[:, 1] + 0.1, x[:, 2] - x[:, 3], x[:, 3]], axis=1)
    with StoreWriter(tmp_path / "rows", load_schema(TOY), True, 4) as writer:
        row = np.arange(len(x))
        ids = [f"row_{i}" for i in row]
        index = {"sample_id": ids, "time": row // 4, "column": row % 4, "source": 0 * row}
        writer.append(pl.DataFrame(index), x, y)
        writer.close([])
    table = {
        "name": "toy",
        "data": {"train": str(tmp_path / "rows"), "schema": str(TOY)},
        "folds": {"n_folds": 3},
        "models": [{"family": "ridge"}],
    }
    run_experiment(experiment_from_table(table, tmp_path), tmp_path / "runs")
    text = words(write_report(tmp_path / "runs" / "toy"))
    assert "the schema toy lacks state_ps" in section(text, "budget")
    assert "the run has one member" in section(text, "gain")
    assert "<h3>warmth</h3>" in section(text, "levels")
    assert "pressures" not in section(text, "levels")
    assert ">day<" not in section(text, "regimes")  # nothing tells day from night


ELSEWHERE = ("surface output", "globe", "pressure", "grid column", "latitude", "columns of air")


def test_pages_of_a_table_without_levels_or_a_globe_name_neither(tmp_path):
    files = write_table("wind_farm", tmp_path, n_rows=400)
    wind = describe(files["train"], ["out_*"], time="date", place="turbine", name="wind")
    (tmp_path / "wind.toml").write_text(wind.to_toml())
    table = {
        "name": "wind",
        "data": {"train": str(files["train"]), "schema": "wind.toml"},
        "folds": {"n_folds": 3},
        "models": [
            {"family": "ridge"},
            {"family": "lightgbm", "params": {"n_rounds": 5}, "targets": ["out_power", "out_gear"]},
        ],
    }
    run_experiment(experiment_from_table(table, tmp_path), tmp_path / "runs")
    text = words(write_report(tmp_path / "runs" / "wind"))
    assert not [word for word in ELSEWHERE if word in text]
    assert not [id for id in ("levels", "latitude", "regimes", "budget") if f'id="{id}"' in text]
    assert "missing, %" in section(text, "data")  # the anemometers' gaps
    assert "out_gear" in section(text, "leaderboard")
    store = Store(tmp_path / "runs" / "wind" / "store" / "train")
    explored = words(write_exploration(explore_store(store), tmp_path / "explored.html"))
    assert not [word for word in ELSEWHERE if word in explored]
    assert not [id for id in ("profiles", "places") if f'id="{id}"' in explored]
    assert "Words of each category" in explored
    assert "E82" in explored


def test_the_command_writes_the_file(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "there.html"
    monkeypatch.setattr("sys.argv", ["climstack", "report", str(folder), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert out.is_file()
    said = capsys.readouterr()
    assert f"{out} written" in said.out
    assert "report: 384/384" in said.err


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ClimstackError, match=r"no leaderboard\.json"):
        write_report(tmp_path)


def test_outputs_of_other_rows_are_refused(copy):
    file = copy / "stack" / "oof" / "fold-1.npy"
    np.save(file, np.zeros((3, 368)))
    with pytest.raises(ClimstackError, match=r"fold-1\.npy is damaged, .* run the stack again"):
        write_report(copy)
    RunFolder(copy).seal(file)
    with pytest.raises(ClimstackError, match=r"fold-1\.npy does not hold"):
        write_report(copy)
