"""Telling another set of rows from the training rows."""

import json
import sys

import numpy as np
import polars as pl
import pytest

from ensemble.cli import tables
from ensemble.cli.app import main
from features import ClimstackError, Store, convert, load_schema
from models.diagnostics.adversarial import Comparison, compare_stores

N_COLUMNS = 16
N_TRAIN = 12 * N_COLUMNS  # the first 12 of 24 timesteps; the others make the other sets


@pytest.fixture(scope="module")
def make(generated, schema, tmp_path_factory):
    """Writes a store of some generated rows, with some columns changed."""
    frame = pl.read_parquet(generated["train"])
    folder = tmp_path_factory.mktemp("compare")

    def store(name: str, rows: pl.DataFrame) -> Store:
        rows.write_parquet(folder / f"{name}.parquet")
        return convert(folder / f"{name}.parquet", folder / name, schema, N_COLUMNS)

    store.frame = frame
    return store


@pytest.fixture(scope="module")
def train(make) -> Store:
    return make("train", make.frame[:N_TRAIN])


@pytest.fixture(scope="module")
def elsewhere(make) -> Store:
    """Later rows from a place with other ozone, by much, and another surface pressure."""
    moved = make.frame[N_TRAIN:].with_columns(
        pl.col("pbuf_ozone_7") * 3, pl.col("state_ps") - 40_000
    )
    return make("elsewhere", moved)


@pytest.fixture(scope="module")
def found(train, elsewhere) -> Comparison:
    return compare_stores(train, elsewhere)


def test_what_gives_a_set_away_is_named(found):
    assert found.timed
    assert found.auc > 0.99
    assert min(found.auc_per_fold) > 0.99
    told = found.inputs.filter(pl.col("auc") > 0.99)["name"].to_list()
    assert set(told) >= {"pbuf_ozone_7", "state_ps"}
    assert set(found.inputs["name"].head(2)) == {"pbuf_ozone_7", "state_ps"}
    usual = found.inputs.filter(pl.col("name") == "pbuf_ozone_7")["usual_auc"][0]
    assert usual < 0.9
    assert set(found.without[1].removed) == {"pbuf_ozone", "state_ps"}
    assert found.without[1].auc < found.auc
    assert found.inputs["gain"].sum() == pytest.approx(1)
    assert found.variables["gain"].sum() == pytest.approx(1)


def test_a_source_of_a_store_is_compared_with_the_others(
    train, elsewhere, schema, tmp_path, monkeypatch, capsys
):
    paths = [store.path.with_suffix(".parquet") for store in (train, elsewhere)]
    both = convert(paths, tmp_path / "both", schema, N_COLUMNS)
    found = compare_stores(both, "elsewhere.parquet")
    assert found.n_rows == (N_TRAIN // 2, N_TRAIN)
    assert found.auc > 0.99
    assert found.other.name == "elsewhere.parquet"
    with pytest.raises(ClimstackError, match="has no source 'nowhere': known: elsewhere"):
        compare_stores(both, "nowhere")
    arguments = ["data", "compare", str(both.path), "elsewhere.parquet", "--json"]
    monkeypatch.setattr(sys, "argv", ["climstack", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["other"] == "elsewhere.parquet"


def test_rows_of_the_same_days_are_not_told_apart(make):
    """Each timestep's columns are dealt to two sets: nothing but chance tells them apart."""
    rng = np.random.default_rng(0)
    dealt = np.concatenate([rng.permutation(np.arange(N_COLUMNS) % 2) for _ in range(24)])
    sets = (make.frame.filter(pl.Series(dealt == k)) for k in (0, 1))
    one, two = (
        make(
            f"set{k}", each.with_columns(make.frame["sample_id"][: len(each)], cam_in_LANDFRAC=0.0)
        )
        for k, each in enumerate(sets)
    )
    assert abs(compare_stores(one, two).auc - 0.5) < 0.12


def test_a_set_of_unknown_time_is_compared_with_hidden_time(make, train, schema):
    shuffled = make.frame[N_TRAIN:].sample(fraction=1, shuffle=True, seed=0)
    test = make("shuffled", shuffled.select("sample_id", *schema.input_columns))
    found = compare_stores(train, test)
    assert not found.timed
    assert 0.5 < found.usual_auc <= 1


def test_what_cannot_be_compared_is_refused(make, train, elsewhere, monkeypatch):
    few = make("few", make.frame[: 5 * N_COLUMNS])
    with pytest.raises(ClimstackError, match=r"few has 5 timesteps.*at least 6 to hold blocks"):
        compare_stores(train, few)
    monkeypatch.setattr(few, "schema", load_schema("v1"))
    with pytest.raises(ClimstackError, match=r"has another schema than .*: compare stores of one"):
        compare_stores(train, few)


def test_little_time_leaves_no_yardstick(make, elsewhere):
    few = make("nine", make.frame[: 9 * N_COLUMNS])
    found = compare_stores(few, elsewhere)
    assert found.usual_auc is None
    assert all(step.usual_auc is None for step in found.without)
    json.dumps(found.to_table(), allow_nan=False)


def test_compare_command_gives_the_same_again(train, elsewhere, found, monkeypatch, capsys):
    arguments = ["data", "compare", str(train.path), str(elsewhere.path), "--json"]
    monkeypatch.setattr(sys, "argv", ["climstack", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == found.to_table()
    tables.show_comparison(found)
    out = capsys.readouterr().out
    assert "pbuf_ozone_7" in out
    assert f"{found.auc:.3f}" in out


def test_gain_is_that_of_inputs_seen(found):
    """An input that never changes can't be split on."""
    still = found.inputs.filter((pl.col("ks") == 0) & (pl.col("shift") == 0))
    assert len(still)
    assert np.all(still["gain"].to_numpy() == 0)
