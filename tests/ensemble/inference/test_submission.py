import numpy as np
import polars as pl
import pytest

from ensemble import read_weights, score_files, write_submission
from ensemble.inference.sample import check_sample
from features import ClimstackError, leap_score

N = 40


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 368)) * 10.0 ** rng.integers(-58, 2, (N, 368))


def ids(n=N):
    return pl.Series("sample_id", [f"test_{i}" for i in range(n)])


def write_table(path, sample_ids, values, schema):
    frame = pl.DataFrame(dict(zip(schema.target_columns, values.T, strict=True)))
    frame = frame.insert_column(0, pl.Series("sample_id", sample_ids))
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_value_survives_in_the_sample_submissions_order(values, schema, tmp_path, suffix):
    order = np.random.default_rng(1).permutation(N)
    sample = tmp_path / "sample.csv"
    pl.DataFrame({"sample_id": ids()[order]}).write_csv(sample)
    path = tmp_path / f"submission.{suffix}"
    write_submission(path, schema, ids(), iter([values[:7], values[7:]]), sample)
    read = pl.read_csv(path) if suffix == "csv" else pl.read_parquet(path)
    assert read.columns == ["sample_id", *schema.target_columns]
    assert read["sample_id"].to_list() == ids()[order].to_list()
    np.testing.assert_array_equal(read.drop("sample_id").to_numpy(), values[order])
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_truth_against_itself_scores_exactly_one(values, schema, tmp_path):
    path = write_table(tmp_path / "a.parquet", ids(), values, schema)
    r2 = score_files(path, path, schema)
    assert list(r2) == schema.target_columns
    assert np.mean(list(r2.values())) == 1.0


def test_score_aligns_rows_and_takes_weights(values, schema, tmp_path):
    rng = np.random.default_rng(2)
    y = rng.normal(size=(N, 368))
    y_pred = y + 0.5 * rng.normal(size=y.shape)
    order = rng.permutation(N)
    solution = write_table(tmp_path / "solution.csv", ids(), y, schema)
    submission = write_table(tmp_path / "submission.parquet", ids()[order], y_pred[order], schema)
    r2 = list(score_files(submission, solution, schema).values())
    assert np.mean(r2) == leap_score(y, y_pred, schema.weights)
    weights = np.tile(rng.uniform(0, 3, 368), (N, 1))
    sample = write_table(tmp_path / "sample.csv", ids(), weights, schema)
    with pytest.warns(UserWarning, match="the file's weights are used"):
        np.testing.assert_array_equal(read_weights(sample, schema), weights[0])
    with pytest.warns(UserWarning, match=r"sample.csv has other weights than schema leap in 368"):
        r2 = list(score_files(submission, solution, schema, sample).values())
    assert np.mean(r2) == pytest.approx(leap_score(y, y_pred, weights[0]), abs=1e-15)


def test_nothing_is_written_when_a_value_is_not_finite(values, schema, tmp_path):
    values[20, 5] = np.nan
    with pytest.raises(
        ClimstackError, match=r"ptend_t_5 for 'test_20' is nan: nothing was written"
    ):
        write_submission(tmp_path / "s.parquet", schema, ids(), [values])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        (["test_0", "test_1"], ["test_0", "test_2"], "lacks 1 ids.*first 'test_2'"),
        (["test_0", "test_1", "test_3"], ["test_0", "test_1"], "does not have, first 'test_3'"),
        (["test_0", "test_1"], ["test_0", "test_0"], "'test_0' in row 1 stands already in row 0"),
        (["test_0", "test_1"], ["test_0", "oops"], "'oops' in row 1 is malformed"),
    ],
)
def test_ids_must_match(values, schema, tmp_path, given, wanted, message):
    sample = tmp_path / "sample.csv"
    pl.DataFrame({"sample_id": wanted}).write_csv(sample)
    n = len(given)
    with pytest.raises(ClimstackError, match=message):
        write_submission(tmp_path / "s.csv", schema, pl.Series(given), [values[:n]], sample)
    assert not (tmp_path / "s.csv").exists()


def test_columns_stand_in_the_sample_submissions_order(values, schema, tmp_path):
    sample, path = tmp_path / "sample.csv", tmp_path / "s.parquet"
    frame = pl.DataFrame({"sample_id": ids()} | dict.fromkeys(schema.target_columns[::-1], 1.0))
    frame = frame.with_columns(
        pl.lit(float(weight)).alias(name)
        for name, weight in zip(schema.target_columns, schema.weights, strict=True)
    )
    frame.write_csv(sample)
    write_submission(path, schema, ids(), [values[:9], values[9:]], sample)
    read = pl.read_parquet(path)
    assert read.columns == frame.columns
    np.testing.assert_array_equal(read.select(schema.target_columns).to_numpy(), values)


def sample_of(schema, here, **columns):
    """A right sample submission with other columns."""
    known = dict(zip(schema.target_columns, schema.weights.tolist(), strict=True))
    frame = pl.DataFrame({"sample_id": ids(), **(known | columns)})
    frame.write_csv(here / "sample.csv")
    return here / "sample.csv"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"ptend_q0002_20": 1e15}, ["in 1 columns", "before 2024-06-19", "1e+15 for ptend_q0002_"]),
        ({"ptend_t_3": None}, ["in 1 columns", "nan for ptend_t_3, not 1", "the schema's weights"]),
        ({"ptend_t_3": -1.0}, ["-1 for ptend_t_3, not 1"]),
        ({"Unnamed: 0": 3}, ["1 columns that are no targets", "'Unnamed: 0'"]),
    ],
)
def test_an_odd_sample_submission_is_said(schema, tmp_path, columns, words):
    sample = sample_of(schema, tmp_path, **columns)
    with pytest.warns(UserWarning, match="sample.csv has ") as caught:
        check_sample(sample, schema, ids())
    (said,) = [str(each.message) for each in caught]
    assert [word for word in words if word not in said] == [], said


def test_a_sample_submission_without_a_target_is_refused(schema, tmp_path):
    sample = sample_of(schema, tmp_path)
    pl.read_csv(sample).drop("ptend_t_3").write_csv(sample)
    with pytest.raises(ClimstackError, match=r"sample.csv has no column 'ptend_t_3': add it"):
        check_sample(sample, schema, ids())


@pytest.mark.parametrize("bad", [-1.0, None])
def test_weights_are_finite_and_not_negative(schema, tmp_path, bad):
    sample = sample_of(schema, tmp_path, ptend_t_3=bad)
    with pytest.raises(ClimstackError, match=r"the weight of ptend_t_3 in row 0 is (-1|nan)"):
        read_weights(sample, schema)


def test_score_names_columns_with_a_constant_truth(schema, tmp_path):
    rng = np.random.default_rng(5)
    y, y_pred = rng.normal(size=(2, N, 368))
    y[:, [20, 21, 5]] = 0.1  # whose mean is not .1; ptend_q0001_5 has weight 0
    y[:, schema.target_columns.index("ptend_q0001_5")] = 0.1
    y_pred[:, 20] = 0.1
    files = [write_table(tmp_path / f"{name}.csv", ids(), v, schema) for name, v in
             (("sub", y_pred), ("solution", y))]  # fmt: skip
    with pytest.warns(UserWarning, match=r"3 columns is constant.*: ptend_t_5, ptend_t_20..21$"):
        r2 = score_files(*files, schema)
    assert (r2["ptend_t_20"], r2["ptend_t_21"], r2["ptend_q0001_5"]) == (1.0, 0.0, 1.0)


def test_no_score_is_infinite(schema, tmp_path):
    y = np.random.default_rng(6).normal(size=(N, 368))
    y_pred = y.copy()
    y_pred[7, 30] = -1e200
    submission = write_table(tmp_path / "sub.csv", ids(), y_pred, schema)
    solution = write_table(tmp_path / "solution.csv", ids(), y, schema)
    with pytest.raises(ClimstackError, match=r"sub.csv: column 'ptend_t_30' has -1e\+200 in row 7"):
        score_files(submission, solution, schema)
