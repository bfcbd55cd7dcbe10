"""Exploring a store: the sample, the facts, the relations, the drift and the page."""

import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy.stats import ks_2samp, spearmanr
from sklearn.metrics import roc_auc_score

from ensemble.cli.app import main
from features import ClimstackError, Schema, Store, Variable, convert, load_schema
from features.climate.physics import hybrid_levels
from features.explore import exploration
from features.explore.column_facts import QUANTILES, describe
from features.explore.drift import auc, block_drift, cut_time, kolmogorov_smirnov, sample_drift
from features.explore.exploration import explore_store
from features.explore.page import write_exploration
from features.explore.relations import copies, group_correlations, normal_ranks
from features.explore.sample import Sample, draw
from features.explore.sample_check import check_sample
from features.sources.grid import Grid

N_COLUMNS = 16


@pytest.fixture(scope="module")
def sample(store) -> Sample:
    return draw(store)


@pytest.fixture(scope="module")
def test_store(generated, schema, tmp_path_factory) -> Store:
    """Test rows: shuffled, of unknown time; 60 K were added at level 30."""
    folder = tmp_path_factory.mktemp("explore")
    warm = pl.read_parquet(generated["test"]).with_columns(pl.col("state_t_30") + 60)
    warm.write_parquet(folder / "test.parquet")
    return convert(folder / "test.parquet", folder / "test", schema)


@pytest.fixture(scope="module")
def grid() -> Grid:
    lat = np.linspace(-75, 75, N_COLUMNS)
    return Grid(
        lat=lat,
        lon=np.linspace(0, 345, N_COLUMNS),
        area=np.cos(np.deg2rad(lat)),
        levels=hybrid_levels(),
    )


@pytest.fixture(scope="module")
def explored(store, test_store, grid):
    return explore_store(store, test_store, grid, n_rows=320)


def changed(sample: Sample, **columns: np.ndarray) -> Sample:
    """A copy of a sample with other values in some columns."""
    values = sample.values.copy(order="F")
    for name, new in columns.items():
        values[:, sample.names.index(name)] = new
    return replace(sample, values=values)


def sentences(sample: Sample, schema) -> list[tuple[str, str]]:
    columns, _, _ = describe(sample, schema)
    ranks = normal_ranks(sample.values[:, : len(schema.input_columns)])
    store = SimpleNamespace(called="here", schema=schema)
    found = check_sample(store, sample, columns, copies(sample, ranks))
    return [(finding.level, finding.sentence) for finding in found]


def test_a_sample_is_of_whole_timesteps_spread_over_time(store):
    found = draw(store, n_rows=6 * N_COLUMNS, seed=1)
    times, counts = np.unique(found.time, return_counts=True)
    assert counts.tolist() == [N_COLUMNS] * 6
    assert (times // 4).tolist() == list(range(6))
    assert not found.everything
    np.testing.assert_array_equal(found.values[:, :556], store.inputs[found.rows])
    np.testing.assert_array_equal(found.values[:, 556:], store.targets[found.rows])
    assert draw(store, 6 * N_COLUMNS, seed=2).rows.tolist() != found.rows.tolist()


def test_a_fine_grid_is_thinned_rather_than_time(store):
    found = draw(store, n_rows=6 * 3)
    assert len(np.unique(found.time)) == 6
    assert len(np.unique(found.column)) == 3


def test_single_rows_are_drawn_where_time_is_unknown(test_store):
    found = draw(test_store, n_rows=20)
    assert len(np.unique(found.rows)) == 20
    assert (np.diff(found.rows) > 0).all()
    np.testing.assert_array_equal(found.values, test_store.inputs[found.rows])


def test_facts_on_columns_are_those_of_numpy(sample, schema):
    columns, tails, histograms = describe(sample, schema)
    assert columns["name"].to_list() == sample.names
    for name in ("state_t_59", "state_q0002_40", "ptend_u_30", "cam_out_PRECC"):
        values = sample.values[:, sample.names.index(name)]
        fact = columns.row(by_predicate=pl.col("name") == name, named=True)
        assert fact["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert fact["std"] == pytest.approx(values.std(), rel=1e-9)
        assert fact["distinct"] == len(np.unique(values))
        found = [fact[f"q{q}"] for q in QUANTILES]
        np.testing.assert_allclose(found, np.quantile(values, QUANTILES), rtol=1e-9)
        reach = np.abs(values - values.mean()).max() / values.std()
        assert fact["reach"] == pytest.approx(reach, rel=1e-9)
    shares = tails.group_by("group").agg(pl.col("share").sum())["share"].to_numpy()
    np.testing.assert_allclose(shares, 1)
    assert set(histograms["group"]) <= {v.name for v in schema.variables if v.n_levels == 1}


def test_what_float32_would_lose_is_counted(sample, schema):
    tiny = np.full(len(sample), 1.0)
    tiny[:5] = [1e-50, -2.9e-58, 1e-40, 0.0, 1e-37]
    columns, _, _ = describe(changed(sample, state_q0002_20=tiny), schema)
    fact = columns.row(by_predicate=pl.col("name") == "state_q0002_20", named=True)
    assert (fact["lost"], fact["subnormal"], fact["smallest"]) == (2, 1, 2.9e-58)
    # Squares of these are below the smallest float64: the standard deviation must not vanish.
    scaled = describe(changed(sample, state_q0002_20=tiny * 1e-200), schema)[0]
    fact = scaled.row(by_predicate=pl.col("name") == "state_q0002_20", named=True)
    assert fact["std"] == pytest.approx(tiny.std() * 1e-200, rel=1e-9)


def test_rank_correlations_are_spearmans_with_ties_and_gaps():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 3))
    values[:, 1] = np.round(values[:, 0] + values[:, 1])
    ranks = normal_ranks(values)
    np.testing.assert_allclose(ranks.T @ ranks, spearmanr(values)[0], atol=1e-5)
    values[3, 0] = np.nan
    assert normal_ranks(values)[3, 0] == 0
    assert (normal_ranks(np.ones((5, 1))) == 0).all()


def test_target_groups_are_tied_to_the_inputs_that_make_them(sample, schema):
    planted = sample.values[:, sample.names.index("state_ps")] ** 3
    planted = changed(sample, cam_out_FLWDS=-planted)
    ranks = normal_ranks(planted.values)
    found = group_correlations(schema, ranks[:, :556], ranks[:, 556:])
    assert len(found) == len(schema.inputs) * found["target_group"].n_unique()
    best = found.filter(pl.col("target_group") == "cam_out_FLWDS").sort("strength").row(-1)
    assert best[1] == "state_ps"
    assert best[2:] == (pytest.approx(1), "cam_out_FLWDS", "state_ps", pytest.approx(-1))


def test_inputs_that_repeat_are_grouped(sample):
    t = sample.values[:, sample.names.index("state_t_10")]
    planted = changed(sample, state_u_5=t, state_v_5=-2 * t)
    equal, almost = copies(planted, normal_ranks(planted.values[:, :556]))
    assert ["state_t_10", "state_u_5"] in equal
    assert any({"state_t_10", "state_v_5"} <= set(group) for group in almost)


def test_distances_are_those_of_scipy():
    rng = np.random.default_rng(0)
    a, b = np.sort(rng.normal(size=300)), np.sort(np.round(rng.normal(0.4, 2, size=200), 1))
    every = np.concatenate([a, b])
    assert kolmogorov_smirnov(a, b, every) == pytest.approx(ks_2samp(a, b).statistic)
    label = np.repeat([0, 1], [300, 200])
    assert auc(a, b) == pytest.approx(roc_auc_score(label, every))


def test_drift_names_the_block_and_the_column(sample):
    block = cut_time(sample.time)
    assert np.bincount(block).tolist() == [80, 80, 80, 80, 64]
    shifted = sample.values[:, sample.names.index("state_v_3")] + 500 * (block == 2)
    found = block_drift(changed(sample, state_v_3=shifted), block).sort("ks")
    assert found.row(-1)[:3] == ("state_v_3", 2, 1.0)
    assert found.row(-1)[3] > 2
    assert not len(block_drift(sample, np.zeros(len(sample), dtype=np.int64)))


def test_a_test_set_that_lies_elsewhere_is_named(sample):
    here = sample.values[:, sample.names.index("pbuf_ozone_7")]
    found = sample_drift(sample, changed(sample, pbuf_ozone_7=here + 100 * here.std()))
    assert found["ks"].arg_max() == sample.names.index("pbuf_ozone_7")
    row = found.row(by_predicate=pl.col("name") == "pbuf_ozone_7", named=True)
    assert row["ks"] == row["outside"] == row["auc"] == 1
    assert row["shift"] == pytest.approx(100)
    assert found.filter(pl.col("name") != "pbuf_ozone_7")["ks"].max() == 0


def test_findings_say_what_is_wrong(sample, schema):
    good = sentences(sample, schema)
    assert any("closed-form rule holds" in sentence for _, sentence in good)
    assert not [sentence for level, sentence in good if level == "error"]
    broken = np.full(len(sample), 250.0)
    broken[7] = np.nan
    planted = changed(
        sample,
        state_t_0=broken,
        ptend_q0002_12=np.ones(len(sample)),
        ptend_q0001_50=np.full(len(sample), -1.0),
    )
    found = sentences(planted, schema)
    assert found[0] == (
        "error",
        "here: 1 values in all 384 rows are NaN or infinite, in state_t_0: fill them or drop their"
        " rows",
    )
    text = "\n".join(sentence for _, sentence in found)
    assert "inputs are constant" in text
    assert "state_t_0" in text.split("inputs are constant")[1].split("\n")[0]
    assert "does not hold" in text
    assert "for ptend_q0002_12:" in text
    assert "below the schema's lower bound" in text
    assert "scored targets are constant" in text
    may_miss = replace(schema.variable("state_t"), policy="impute")
    variables = tuple(may_miss if v.name == "state_t" else v for v in schema.variables)
    by_policy = sentences(planted, replace(schema, variables=variables))
    assert "fill them" not in str(by_policy)
    assert any(
        "1 input values in all 384 rows are missing, as the schema" in s for _, s in by_policy
    )


def test_a_rank_correlation_is_that_of_the_rows_that_have_both():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 2))
    y = np.stack([x[:, 0], -(x[:, 1] ** 3)], axis=1)
    gaps_x, gaps_y = (np.where(rng.random(v.shape) < 0.3, np.nan, v) for v in (x, y))
    variables = [Variable(name=n, role="input", policy="impute") for n in ("a", "b")]
    variables += [Variable(name=n, role="target", policy="skip") for n in ("c", "d")]
    schema = Schema(name="gaps", variables=tuple(variables))
    there = np.isfinite(np.concatenate([gaps_x, gaps_y], axis=1))
    ranks = normal_ranks(gaps_x), normal_ranks(gaps_y)
    found = group_correlations(schema, *ranks, there).sort("target_group", "input_group")
    assert found["correlation"].round(2).to_list()[::3] == [1.0, -1.0]
    assert found["strength"].to_list()[1] < 0.1


def test_an_outlier_is_named_with_its_row(store, generated, schema, tmp_path):
    frame = pl.read_parquet(generated["train"])
    spike = pl.when(pl.col("sample_id") == "train_77").then(450.0).otherwise(pl.col("state_u_12"))
    frame.with_columns(state_u_12=spike).write_parquet(tmp_path / "spiked.parquet")
    spiked = convert(tmp_path / "spiked.parquet", tmp_path / "store", schema, N_COLUMNS)
    found = explore_store(spiked)
    row = found.outliers.filter(pl.col("name") == "state_u_12").row(0, named=True)
    assert (row["row"], row["sample_id"], row["value"]) == (77, "train_77", 450.0)
    assert (row["time"], row["column"]) == (77 // N_COLUMNS, 77 % N_COLUMNS)
    assert row["apart"] > 10
    assert 77 in found.outlying_rows["row"]


def test_means_by_place_and_time(explored, store, grid):
    place, time = explored.by_column, explored.by_time
    assert place["column"].to_list() == list(range(N_COLUMNS))
    np.testing.assert_array_equal(place["lat"], grid.lat)
    rows = np.isin(store.time, time["time"].to_numpy())
    ps = store.inputs[:][:, store.schema.column_index("state_ps")]
    for column in (0, 5):
        expected = ps[rows & (store.column == column)].mean()
        assert place["state_ps"][column] == pytest.approx(expected)
    first = store.time == time["time"][0]
    expected = np.average(ps[first], weights=grid.area[store.column[first]])
    assert time["state_ps"][0] == pytest.approx(expected)


def test_another_schema_or_grid_is_refused(store, test_store, grid, monkeypatch):
    with pytest.raises(ClimstackError, match=r"16 rows per timestep: give the grid of these data"):
        explore_store(
            store,
            grid=Grid(lat=grid.lat[:9], lon=grid.lon[:9], area=grid.area[:9], levels=grid.levels),
        )
    monkeypatch.setattr(test_store, "schema", load_schema("v1"))
    with pytest.raises(ClimstackError, match=r"has another schema than .*: compare stores of"):
        explore_store(store, test_store)


def test_a_damaged_store_is_not_explored(test_store, store, tmp_path):
    shutil.copytree(test_store.path, tmp_path / "damaged")
    file = tmp_path / "damaged" / "part-00000" / "inputs.f64"
    file.write_bytes(bytes(8) + file.read_bytes()[8:])
    damaged = Store(tmp_path / "damaged")
    for stores in ((damaged,), (store, damaged)):
        with pytest.raises(ClimstackError, match=r"inputs\.f64 is damaged .* in row 0, column"):
            explore_store(*stores)


def test_the_page_starts_with_the_check_and_says_it_is_a_sample(explored, tmp_path):
    text = write_exploration(explored, tmp_path / "page.html").read_text()
    titles = [part.split("</h2>")[0] for part in text.split("<h2>")[1:]]
    assert titles == [
        "Check", "Profiles", "Distributions and tails", "Places", "Time",
        "Inputs against targets", "Constant and repeated inputs", "What float32 would lose",
        "Outliers", "Drift between blocks of time", "Training against test",
    ]  # fmt: skip
    assert "Read: a sample of 320 rows: 20 timesteps of 16 grid columns." in text
    assert "what is rarer may be missed" in text
    table = text.split("The 40 inputs furthest apart")[-1]
    assert table.index("state_t_30<") < table.index("</tr>", table.index("<tbody>"))


def test_what_is_unknown_is_said(test_store, store, tmp_path):
    text = write_exploration(explore_store(test_store), tmp_path / "test.html").read_text()
    for sentence in (
        "there is no map", "there are no time series", "This store holds no targets",
        "no blocks to compare", "No test store was given",
    ):  # fmt: skip
        assert sentence in text
    text = write_exploration(explore_store(store), tmp_path / "train.html").read_text()
    assert "give the grid file with --grid for a map" in text


def test_gaps_and_infinities_are_survived(store, sample, monkeypatch, tmp_path):
    values = sample.values.copy(order="F")
    values[np.random.default_rng(0).random(values.shape) < 0.01] = np.nan
    values[:, [10, 600]], values[5, 3], values[:, 400] = np.nan, np.inf, -np.inf
    holed = replace(sample, values=values)
    monkeypatch.setattr(exploration, "draw", lambda *_: holed)
    found = explore_store(store, store)
    assert found.findings[0].level == "error"
    assert f"{(~np.isfinite(values)).sum()} values" in found.findings[0].sentence
    assert write_exploration(found, tmp_path / "page.html").is_file()


def test_explore_command(store, tmp_path, monkeypatch, capsys):
    out = tmp_path / "page.html"
    argv = ["climstack", "data", "explore", str(store.path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert out.is_file()
    assert "page.html written" in capsys.readouterr().out


@pytest.fixture(scope="module")
def other_schema(generated, tmp_path_factory):
    """The same rows with fewer variables, no grid and no test set."""
    folder, small = tmp_path_factory.mktemp("v1"), load_schema("v1")
    frame = pl.read_parquet(generated["train"])
    frame = frame.select("sample_id", *small.input_columns, *small.target_columns)
    frame.write_parquet(folder / "train.parquet")
    return explore_store(convert(folder / "train.parquet", folder / "store", small, N_COLUMNS))


@pytest.mark.browser
@pytest.mark.parametrize(
    ("which", "width", "n_figures"), [("explored", 1440, 46), ("other_schema", 390, 22)]
)
def test_the_page_in_a_browser(which, width, n_figures, tmp_path, open_page, request):
    path = write_exploration(request.getfixturevalue(which), tmp_path / "page.html")
    assert path.stat().st_size < 8e6
    visit = open_page(path, width)
    assert visit.complaints == []
    assert visit.n_drawn == visit.n_figures >= n_figures
    assert visit.overflow == 0
    assert visit.load_seconds < 3
