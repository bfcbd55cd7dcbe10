"""A schema from the table itself."""

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ensemble.cli.app import app
from features import ClimstackError, Schema, convert, describe
from features.explore.description import look_over

N = 60


@pytest.fixture
def farm():
    rng = np.random.default_rng(0)
    day = np.repeat(np.arange(N // 3), 3)
    site = [f"site {n}" for n in np.tile(np.arange(3), N // 3)]
    frame = pl.DataFrame({
        "date": pl.Series(day).cast(pl.Int32).cast(pl.Date),
        "site": site,
        "height": np.tile([80.0, 90.5, 100.0], N // 3),
        "wind_0": rng.random(N), "wind_1": rng.random(N), "wind_2": rng.random(N),
        "hole_0": rng.random(N), "hole_2": rng.random(N),
        'make "ü"': pl.Series(["a", None, "c,d"] * (N // 3)),
        "built": pl.Series(["2001-05-01", "1999-01-31", "2010-12-01"] * (N // 3)),
        "is on": [True, False, True] * (N // 3),
        "x_note": [f"text {n}" for n in range(N)],
        "power_1": rng.random(N), "power_2": rng.random(N), "loss": rng.random(N),
    })  # fmt: skip
    return frame.with_columns(
        loss=pl.when(pl.int_range(N) % 4 == 0).then(None).otherwise("loss"),
        wind_1=pl.when(pl.int_range(N) == 3).then(None).otherwise("wind_1"),
    )


pytestmark = pytest.mark.filterwarnings("ignore::features.DataWarning")
ABOUT = {"time": "date", "place": "site"}


@pytest.mark.parametrize("form", ["frame", "csv", "parquet", "gz"])
def test_a_table_describes_itself_and_comes_in(farm, form, tmp_path):
    source = farm
    if form != "frame":
        source = tmp_path / f"farm.{form}"
        farm.write_parquet(source) if form == "parquet" else farm.write_csv(
            source, **({"compression": "gzip", "check_extension": False} if form == "gz" else {})
        )
    found = look_over(source, ["power_*", "loss"], about=ABOUT, ignore=["x_*"], name="farm")
    schema = found.schema
    kinds = {v.name: (v.n_levels, v.kind, v.policy, v.static) for v in schema.inputs}
    assert kinds == {
        "height": (1, "number", "refuse", True),
        "wind": (3, "number", "impute", False),
        "hole_0": (1, "number", "refuse", False),
        "hole_2": (1, "number", "refuse", False),
        'make "ü"': (1, "category", "impute", True),
        "built": (1, "date", "refuse", True),
        "is on": (1, "number", "refuse", True),
    }
    assert [(v.name, v.policy, v.group) for v in schema.targets] == [
        ("power_1", "refuse", "power"), ("power_2", "refuse", "power"), ("loss", "skip", None)
    ]  # fmt: skip
    assert schema.variable('make "ü"').categories == ("a", "c,d")
    assert (schema.time_step, schema.independent) == (86400.0, False)
    text = found.to_toml()
    (tmp_path / "farm.toml").write_text(text)
    assert Schema.read(tmp_path / "farm.toml").hash == schema.hash
    assert "1999-01-31 to 2010-12-01" in text
    assert "25.00% missing" in text
    store = convert(source, tmp_path / "store", schema)
    assert store.time.max() == N // 3 - 1
    back = store.to_polars()
    assert back['make "ü"'].to_list() == farm['make "ü"'].to_list()
    assert back["loss"].to_list() == pytest.approx(farm["loss"].to_list(), nan_ok=True)
    assert store.to_polars([5, 2])["site"].to_list() == ["site 2", "site 2"]
    again = convert(back.drop("sample_id"), tmp_path / "again", schema)
    assert again.data_hash == store.data_hash
    assert again.time.tolist() == store.time.tolist()
    assert np.asarray(store.inputs).shape == (N, 9)
    assert "rows=60" in repr(store)
    assert "<td>farm</td>" in store._repr_html_()


@pytest.mark.parametrize(
    ("targets", "settings", "sentence"),
    [
        ([], {}, "as --targets 'loss'"),
        (["pwer_1"], {}, "did you mean 'power_1'"),
        (["loss"], {"id": "height "}, "did you mean 'height'"),
        (["loss"], {}, "'x_note' is text|ignore"),
        (["loss"], {"time": "is on"}, "time column 'is on'|'x_note'"),
        (["site"], {"ignore": ["x_*"]}, "target 'site' is no number, but as 'site 0'"),
        (["*"], {}, "no column left for an input"),
    ],
)
def test_what_cannot_be_described_is_told(farm, targets, settings, sentence, monkeypatch):
    monkeypatch.setattr("features.explore.column_kinds.MOST_WORDS", 20)
    with pytest.raises(ClimstackError, match=sentence):
        describe(farm, targets, **settings)


def test_climsims_own_columns_are_known(generated, schema):
    found = look_over(generated["train"], schema.target_columns)
    assert found.schema.name == "leap"
    assert "--schema leap" in found.notes[0]


def test_the_command_writes_what_it_found(farm, tmp_path):
    farm.write_csv(tmp_path / "farm.csv")
    made = tmp_path / "wind.toml"
    call = ["data", "describe", str(tmp_path / "farm.csv"),
            "--targets", "power_*", "--time", "date",
            "--ignore", "x_*", "--ignore", "loss", "--out", str(made)]  # fmt: skip
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "category" in done.output
    assert Schema.read(made).name == "wind"
    assert isinstance(CliRunner().invoke(app, call).exception, ClimstackError)
    checked = CliRunner().invoke(
        app, ["data", "check", str(tmp_path / "farm.csv"), "--schema", str(made)]
    )
    assert checked.exit_code == 0, checked.output


def test_one_row_and_no_rows():
    one = pl.DataFrame({"x": [1], "y": [2.0]})
    assert describe(one, ["y"]).independent
    with pytest.raises(ClimstackError, match="no rows"):
        describe(one[:0], ["y"])
    with pytest.raises(ClimstackError, match="target 'y' has no value"):
        describe(one.with_columns(y=None), ["y"])
