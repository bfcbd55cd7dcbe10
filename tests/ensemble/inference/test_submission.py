import numpy as np
import polars as pl
import pytest

from ensemble import read_weights, score_files, write_submission
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
    np.testing.assert_array_equal(read_weights(sample, schema), weights[0])
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
