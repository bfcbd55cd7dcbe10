"""Tables that people have: converted in memory, from text and from Parquet."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from features import ClimstackError, Schema, Store, Variable, check_data, convert
from features.store.writer import PART_ROWS

FARM = Schema(
    name="farm",
    variables=(
        Variable(name="wind", role="input", policy="impute"),
        Variable(name="kind", role="input", kind="category", categories=("a", "b", "3")),
        Variable(name="day", role="input", kind="date", policy="impute"),
        Variable(name="is on", role="input", policy="impute"),
        Variable(name="power", role="target", policy="skip"),
    ),
    id_column="id",
    time_column="day",
    time_step=86400.0,
    place_column="site",
    group_column="owner",
    ignore=("x_*",),
)
TEXT = """id,day,site,owner,"is on",kind,wind,power,x_1
7f3,2020-01-02,s,ann,true,a,1.5,NA,k
7f1,2020-01-01T12:00:00+01:00,s,ann,False,3,NaN,2,k
"q,1",2020-01-03,t,,0,new,,3,k
8,2020/1/3 06:00,u,bob,,NA,2,null,k
"""
KINDS = [0.0, 2.0, np.nan, np.nan]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "farm.csv"
    path.write_text(TEXT)
    return path


def written(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text)
    return path


def plain(**settings):
    y = Variable(name="y", role="target")
    return Schema(name="p", variables=(Variable(name="x", role="input"), y), **settings)


@pytest.mark.filterwarnings("ignore::features.DataWarning")
def test_every_kind_of_column_comes_in(file, tmp_path):
    store = convert(file, tmp_path / "store", FARM)
    assert store.sample_ids.to_list() == ["7f3", "7f1", "q,1", "8"]
    assert store.time.tolist() == [18263, 18262, 18264, 18264]
    assert store.column.tolist() == [-1] * 4
    assert store.n_grid_columns == 1
    np.testing.assert_array_equal(
        store.inputs[:],
        np.array([[1.5, np.nan, np.nan, 2], KINDS, [18263, 18262 + 11 / 24, 18264, 18264.25],
                  [1, 0, 0, np.nan]]).T,
    )  # fmt: skip
    np.testing.assert_array_equal(store.targets[:][:, 0], [np.nan, 2, 3, np.nan])
    assert store.labels("place").to_list() == ["s", "s", "t", "u"]
    assert store.labels("group").to_list() == ["ann", "ann", None, "bob"]
    assert store.labels("fold") is None
    assert store.repaired["skipped"] == {"power": 2}
    assert store.repaired["imputed"] == {"wind": 2, "kind": 2, "is on": 1}
    assert store.unknown == {"kind": {"new": 1}}
    assert store.sources[0]["clock"] == "dates"
    found = check_data(file, FARM)
    assert [f.level for f in found] == ["warning"]
    assert "'new' (1)" in found[0].sentence


@pytest.mark.filterwarnings("ignore::features.DataWarning")
def test_frames_and_files_make_the_same_store(file, tmp_path):
    text = convert(file, tmp_path / "text", FARM)
    typed = pl.read_csv(file, null_values=["NA", "NaN", "null"]).with_columns(
        kind=pl.col("kind").cast(pl.Categorical), day=pl.Series(
            ["2020-01-02 00:00", "2020-01-01 11:00", "2020-01-03 00:00", "2020-01-03 06:00"]
        ).str.to_datetime("%Y-%m-%d %H:%M", time_zone="UTC"),
    )  # fmt: skip
    typed.write_parquet(tmp_path / "farm.parquet")
    of_pandas = pd.DataFrame({name: typed[name].to_list() for name in typed.columns})
    for number, source in enumerate((tmp_path / "farm.parquet", typed, of_pandas)):
        made = convert(source, tmp_path / f"store-{number}", FARM)
        assert made.data_hash == text.data_hash
        assert made.time.tolist() == text.time.tolist()
        assert made.labels("group").equals(text.labels("group"))


def test_matrices_come_in(tmp_path):
    store = convert(np.array([[1.0, 2.0], [3.0, 4.0]]), tmp_path / "s", plain())
    assert store.targets[:].tolist() == [[2.0], [4.0]]
    test = convert(np.array([[1.0], [3.0]]), tmp_path / "t", plain())
    assert test.targets is None
    with pytest.raises(ClimstackError, match="an array has 3 columns, schema p 1 inputs and 1"):
        convert(np.ones((2, 3)), tmp_path / "u", plain())
    with pytest.raises(ClimstackError, match="object is no table"):
        convert(object(), tmp_path / "u", plain())


def test_rows_without_ids_are_counted_over_sources(tmp_path):
    rows = pl.DataFrame({"x": [1.0, 2.0], "y": [1.0, 0.0]})
    store = convert([rows, rows * 3], tmp_path / "s", plain())
    assert store.sample_ids.to_list() == ["row_0", "row_1", "row_2", "row_3"]


@pytest.mark.parametrize("ids", [[3, 1, 2], [1.0, 2.0, 2.5], ["a b", "ü", "x"]])
def test_ids_of_any_kind_must_be_unique(tmp_path, ids):
    frame = pl.DataFrame({"id": ids, "x": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 4.0]})
    store = convert(frame, tmp_path / "s", plain(id_column="id"))
    assert store.sample_ids.to_list() == [str(i).removesuffix(".0") for i in ids]
    with pytest.raises(ClimstackError, match=r"row 0 stands already in row 2 of DataFrame: ids"):
        convert([frame, frame[2:]], tmp_path / "t", plain(id_column="id"))
    assert not (tmp_path / "t").exists()
    assert (
        "stands already in row 2"
        in check_data([frame, frame[2:]], plain(id_column="id"))[0].sentence
    )


@pytest.mark.parametrize(
    ("text", "settings", "sentence"),
    [
        ("x,y\n1,2\nabc,3\n", {}, "'x' has 'abc' in row 1: expected a number"),
        ("x,y\n1,2\n,3\n", {}, "'x' has no value in row 1: .*policy = \"impute\""),
        ("x,y\n1,2\n2,NA\n", {}, "'y' has no value in row 1: .*policy = \"skip\""),
        ("x,Y\n1,2\n", {}, "a column 'Y' that schema p does not know"),
        ("x,y\n", {}, "has a header but no rows"),
        ("", {}, "is empty"),
        ("x,y\n1,2,3\n", {}, "row 0 has 3 fields"),
        ("i,x,y\n,1,2\n", {"id_column": "i"}, "i in row 0 is missing"),
        ("x,y\n1,2\n", {"id_column": "i"}, "has no column 'i'"),
        ("x,y\n1,2\n", {"group_column": "site"}, "has no column 'site'"),
        ("sit,x,y\na,1,2\n", {"group_column": "site"}, "no column 'site': .*is it 'sit'"),
        ("t,x,y\n2020-01-01,1,2\nlast,1,2\n", {"time_column": "t", "time_step": 1.0},
         "'t' has 'last' in row 1: expected a date"),
        ("t,x,y\n2020-01-01,1,2\n,1,2\n", {"time_column": "t", "time_step": 1.0},
         "'t' has no value in row 1: every row needs its time"),
        ("t,x,y\n1,1,2\n2020-01-01,1,2\n", {"time_column": "t", "time_step": 1.0},
         "'t' has '2020-01-01' in row 1: expected a number"),
        ("t,x,y\n-1,1,2\n", {"time_column": "t", "time_step": 1.0}, "times count from 0 on"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, text, settings, sentence):
    path = written(tmp_path, text)
    with pytest.raises(ClimstackError, match=sentence):
        convert(path, tmp_path / "s", plain(**settings))
    assert not (tmp_path / "s").exists()
    assert any(f.level == "error" for f in check_data(path, plain(**settings)))


def test_a_target_that_is_never_there_and_times_of_two_kinds_are_refused(tmp_path):
    skip = Schema(
        name="s",
        variables=(
            Variable(name="x", role="input"),
            Variable(name="y", role="target", policy="skip"),
        ),
        time_column="t",
        time_step=0.1,
    )
    one = pl.DataFrame({"t": [0.3], "x": [1.0], "y": [None]})
    with pytest.raises(ClimstackError, match="'y' has no value in any of 1 rows"):
        convert(one, tmp_path / "s", skip)
    two = one.with_columns(t=pl.Series(["2020-01-01"]), y=pl.lit(1.0))
    with pytest.raises(ClimstackError, match=r"times of DataFrame are dates, those of .* numbers"):
        convert([one, two], tmp_path / "s", skip)
    assert convert(one.with_columns(y=pl.lit(1.0)), tmp_path / "s", skip).time.tolist() == [3]


@pytest.mark.filterwarnings("ignore::features.DataWarning")
def test_many_words_and_more_than_a_part(tmp_path):
    words = tuple(f"w{n}" for n in range(100_000))
    schema = Schema(
        name="w",
        variables=(
            Variable(name="x", role="input", kind="category", categories=words),
            Variable(name="y", role="target"),
        ),
        id_column="id",
    )
    n = PART_ROWS + 10
    rows = np.arange(n)
    frame = pl.DataFrame({"id": rows[::-1], "x": [f"w{r}" for r in rows], "y": rows / 2})
    frame.write_csv(tmp_path / "w.csv")
    store = convert(tmp_path / "w.csv", tmp_path / "s", schema)
    assert isinstance(store, Store)
    np.testing.assert_array_equal(store.inputs[:][:, 0], rows)
    store.verify()


def test_pandas_with_holes_an_index_and_zones_comes_in(tmp_path):
    frame = pd.DataFrame(
        {
            "x": pd.array([1, None], dtype="Int64"),
            "y": [1, "2"],
            "t": pd.to_datetime(["2020-01-01", "2020-07-01"]).tz_localize("Europe/Berlin"),
        },
        index=pd.Index([5, 7], name="id"),
    )
    x = Variable(name="x", role="input", policy="impute")
    y = Variable(name="y", role="target")
    schema = Schema(
        name="s", variables=(x, y), id_column="id", time_column="t", time_step=3600.0
    )  # fmt: skip
    store = convert(frame, tmp_path / "s", schema)
    np.testing.assert_array_equal(store.inputs[:], [[1], [np.nan]])
    assert store.time.tolist() == [438287, 442654]  # 23 h and 22 h of the day before, in UTC
    assert store.sample_ids.to_list() == ["5", "7"]


def test_text_as_spreadsheets_write_it_comes_in(tmp_path):
    text = '\ufeff"id","x, m",y\r\n"a,b","1", 2\r\n"c ""q""",NA,true\r\n'
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    x = Variable(name="x, m", role="input", policy="impute")
    schema = Schema(name="s", variables=(x, Variable(name="y", role="target")), id_column="id")
    store = convert(path, tmp_path / "s", schema)
    assert store.sample_ids.to_list() == ["a,b", 'c "q"']
    assert store.targets[:].tolist() == [[2.0], [1.0]]


@pytest.mark.filterwarnings("ignore::features.DataWarning")
def test_a_conversion_goes_on_after_a_kill(tmp_path, monkeypatch):
    """Counts, ids and unknown words of finished parts are not lost."""
    monkeypatch.setattr("features.store.writer.PART_ROWS", 10)
    rows = pl.DataFrame(
        {"id": range(40), "kind": ["a", "new"] * 20, "wind": 1.0, "day": "2020-01-01"}
        | {"is on": True, "power": [None, 2.0] * 20, "site": "s", "owner": "o"}
    )
    rows.write_csv(tmp_path / "t.csv")
    whole = convert(tmp_path / "t.csv", tmp_path / "whole", FARM)
    taken = []

    def dies(self, batch, number, writer):
        if taken:
            raise KeyboardInterrupt
        taken.append(1)
        take(self, batch, number, writer)

    from features.store import conversion

    take = conversion._Conversion._take
    monkeypatch.setattr("features.sources.readers.CSV_BLOCK_BYTES", 700)
    monkeypatch.setattr(conversion, "_block_bytes", lambda _: 700)
    with monkeypatch.context() as patch:
        patch.setattr(conversion._Conversion, "_take", dies)
        with pytest.raises(KeyboardInterrupt):
            convert(tmp_path / "t.csv", tmp_path / "again", FARM)
    assert (tmp_path / "again.partial" / "part-00000").is_dir()
    again = convert(tmp_path / "t.csv", tmp_path / "again", FARM)
    assert again.manifest == whole.manifest
    assert again.unknown == {"kind": {"new": 20}}


def test_equal_hashes_of_two_ids_are_looked_at_again(tmp_path, monkeypatch):
    monkeypatch.setattr(
        pl.Series, "hash", lambda self: pl.zeros(len(self), dtype=pl.UInt64, eager=True)
    )
    frame = pl.DataFrame({"id": ["a", "b", "c"], "x": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 4.0]})
    assert len(convert(frame, tmp_path / "s", plain(id_column="id"))) == 3
