import numpy as np
import polars as pl
import pytest

from features import ClimstackError, Store, load_schema
from features.schemas.schema import Schema
from features.schemas.variable import Variable

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 2))


def test_arrays_come_back_as_they_are(tmp_path):
    store = Store.from_arrays(tmp_path / "a", X, Y)
    assert np.array_equal(store.inputs[:], X)
    assert np.array_equal(store.require_targets()[:], Y)
    assert store.schema.input_columns == ["x0", "x1", "x2"]
    assert store.schema.target_columns == ["y0", "y1"]
    assert store.schema.independent
    assert store.schema.n_grid_columns is None
    assert set(store.time) == {-1}
    assert store.labels("group") is None
    store.verify()


def test_the_data_hash_is_that_of_the_values(tmp_path):
    first = Store.from_arrays(tmp_path / "a", X, Y)
    again = Store.from_arrays(tmp_path / "b", X.copy(order="F"), Y.tolist(), groups=range(40))
    assert first.data_hash == again.data_hash
    other = Store.from_arrays(tmp_path / "c", X, Y + 1e-15)
    assert first.data_hash != other.data_hash


def test_many_rows_fill_several_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("features.store.writer.PART_ROWS", 16)
    store = Store.from_arrays(tmp_path / "a", X, Y[:, 0], ids=np.arange(40) * 7)
    assert np.array_equal(store.inputs[:], X)
    assert store.sample_ids.to_list() == [str(7 * row) for row in range(40)]


def test_gaps_choose_the_policy(tmp_path):
    x, y = X.copy(), Y.copy()
    x[3, 1] = y[5, 0] = np.nan
    store = Store.from_arrays(tmp_path / "a", x, y)
    assert store.schema.imputed_inputs.tolist() == [1]
    assert store.schema.skipped_targets.tolist() == [0]
    assert np.isnan(store.inputs[3:4][0, 1])


def test_labels_are_words(tmp_path):
    store = Store.from_arrays(
        tmp_path / "a", X[:4], Y[:4], groups=[1.0, 2.0, np.nan, 1.0], folds=["a", None, "b", "a"]
    )
    assert store.labels("group").to_list() == ["1", "2", None, "1"]
    assert store.labels("fold").to_list() == ["a", None, "b", "a"]


def test_times_are_numbers_or_dates(tmp_path):
    days = np.datetime64("2024-01-01") + np.array([0, 1, 2, 4, 5, 9])
    store = Store.from_arrays(tmp_path / "a", X[:6], Y[:6], times=days)
    assert store.schema.time_step == 86400
    assert (store.time - store.time[0]).tolist() == [0, 1, 2, 4, 5, 9]
    assert not store.schema.independent
    store = Store.from_arrays(tmp_path / "b", X[:4], Y[:4], times=[0.5, 1.0, 1.5, 1.5])
    assert store.time.tolist() == [1, 2, 3, 3]
    dates = days.tolist()
    store = Store.from_arrays(tmp_path / "c", X[:6], Y[:6], times=dates)
    assert (store.time - store.time[0]).tolist() == [0, 1, 2, 4, 5, 9]


def test_a_data_frame_names_its_columns(tmp_path):
    x = pl.DataFrame(X, schema=["wind", "gust", "lift"])
    store = Store.from_arrays(tmp_path / "a", x, Y)
    assert store.schema.input_columns == ["wind", "gust", "lift"]


def test_a_grid_tells_time_by_order(tmp_path):
    toy = load_schema("tests/toy.toml")
    x, y = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 4))
    store = Store.from_arrays(tmp_path / "a", x, y, toy)
    assert store.time.tolist() == [0] * 4 + [1] * 4
    assert store.column.tolist() == [0, 1, 2, 3] * 2


def test_a_store_says_what_its_times_count_and_gives_them_back(tmp_path):
    steps = np.arange(4) * 0.1  # 0.3 in steps of 0.1 is 2.9999...
    numbers = Store.from_arrays(tmp_path / "a", X[:4], Y[:4], times=steps)
    assert numbers.time.tolist() == [0, 1, 2, 3]
    assert numbers.sources[0]["clock"] == "numbers"
    np.testing.assert_allclose(numbers.to_polars()["time"], steps)
    days = np.array(["2024-01-01", "2024-01-02"], "datetime64[D]")
    dates = Store.from_arrays(tmp_path / "b", X[:2], Y[:2], times=days)
    assert dates.sources[0]["clock"] == "dates"
    assert dates.to_polars()["time"].dt.date().to_list() == days.tolist()
    assert Store.from_arrays(tmp_path / "c", X, Y).sources[0]["clock"] == "none"


def test_rows_to_predict_need_no_times(tmp_path):
    train = Store.from_arrays(tmp_path / "a", X, Y, times=np.arange(40))
    test = Store.from_arrays(tmp_path / "b", X[:5], schema=train.schema)
    assert test.targets is None
    assert set(test.time) == {-1}


CATEGORY = Schema(
    name="c",
    variables=(
        Variable(name="soil", role="input", kind="category", categories=("clay", "sand")),
        Variable(name="y", role="target"),
    ),
)


@pytest.mark.parametrize(
    ("args", "more", "sentence"),
    [
        ((np.where(X > 2, np.inf, X), Y), {}, "inputs hold inf in row .*, column 'x"),
        ((X, -np.inf * np.abs(Y)), {}, "targets hold -inf in row 0, column 'y0'"),
        ((X, Y[:39]), {}, "targets have shape"),
        ((X[:, 0], Y), {}, r"inputs must have shape \(n, n_columns\)"),
        (([["a"]], [1.0]), {}, "inputs must be numbers"),
        ((X,), {}, "need the schema of the training rows"),
        ((X, Y), {"ids": ["a"] * 40}, "ids hold 'a' twice"),
        ((X, Y), {"ids": [None, *range(39)]}, "ids lack one in row 0"),
        ((X, Y), {"groups": range(4)}, "groups have 4 entries, but inputs have 40 rows"),
        ((X, Y), {"times": [np.nan, *range(39)]}, "times hold nan in row 0"),
        ((X, Y), {"times": ["soon"] * 40}, "times must be numbers or dates"),
        ((X, Y), {"times": [*range(39), -1]}, "times hold -1 in row 39: they count from 0"),
        ((X[:0], Y[:0]), {}, "the arrays have no rows"),
        (([[2.0]], [1.0], CATEGORY), {}, "hold 2.0 in row 0 of category 'soil'"),
        (([[0.0]], [np.nan], CATEGORY), {}, "targets hold nan in row 0, column 'y'"),
        (([[0.0]], [1.0], CATEGORY), {"times": [1]}, "names no time_column"),
        ((X[:3, :1].repeat(4, 1), Y[:3, :1].repeat(4, 1), "tests/toy.toml"), {}, "no whole time"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, args, more, sentence):
    with pytest.raises(ClimstackError, match=sentence):
        Store.from_arrays(tmp_path / "a", *args, **more)
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_taken_is_refused(tmp_path):
    with pytest.raises(ClimstackError, match="exists"):
        Store.from_arrays(tmp_path, X, Y)
