import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import ClimstackError, Store, convert
from features.core.files import atomic_path, exclusive_lock, npy_rows, release, scratch_array
from features.store.matrix import Matrix
from features.store.writer import StoreWriter


def test_store_holds_the_files_values(store, generated, schema):
    frame = pl.read_parquet(generated["train"])
    inputs = frame.select(schema.input_columns).to_numpy()
    np.testing.assert_array_equal(store.inputs[:], inputs)
    np.testing.assert_array_equal(store.targets[:], frame.select(schema.target_columns).to_numpy())
    assert store.sample_ids.to_list() == frame["sample_id"].to_list()
    assert store.time[:17].tolist() == [0] * 16 + [1]
    assert store.column[:17].tolist() == [*range(16), 0]
    assert Store(store.path).data_hash == store.data_hash


def test_csv_and_parquet_give_the_same_store(generated, schema, store, tmp_path):
    pl.read_parquet(generated["train"]).write_csv(tmp_path / "train.csv")
    again = convert(tmp_path / "train.csv", tmp_path / "store", schema, 16)
    assert again.data_hash == store.data_hash


def test_values_that_float32_would_lose_survive(generated, schema, tmp_path):
    tiny = [2.9e-58, 5e-324, 3.5e-40, 0.010000000000000002]
    frame = pl.read_parquet(generated["train"]).head(16)
    frame = frame.with_columns(state_q0002_20=pl.Series(tiny * 4))
    frame = frame.with_columns(ptend_q0002_20=pl.col("state_q0002_20") / -1200)
    frame.write_csv(tmp_path / "train.csv")
    store = convert(tmp_path / "train.csv", tmp_path / "store", schema, 16)
    column = store.inputs[:][:, schema.column_index("state_q0002", 20)]
    assert column.tolist() == tiny * 4


def test_test_rows_have_no_time(generated, schema, tmp_path):
    store = convert(generated["test"], tmp_path / "store", schema)
    assert store.targets is None
    assert set(store.time) == {-1}
    with pytest.raises(ClimstackError, match="no targets"):
        store.require_targets()


@pytest.fixture(scope="module")
def matrix_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("matrix")


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_matrix_of_parts_reads_like_one_array(lengths, seed, matrix_folder):
    rng = np.random.default_rng(seed)
    whole = rng.normal(size=(sum(lengths), 3))
    files = [matrix_folder / f"{number}.f64" for number in range(len(lengths))]
    for file, part in zip(files, np.split(whole, np.cumsum(lengths)[:-1]), strict=True):
        part.tofile(file)
    matrix = Matrix(files, lengths, 3)
    rows = rng.integers(0, len(whole), 20)
    np.testing.assert_array_equal(matrix[rows], whole[rows])
    np.testing.assert_array_equal(matrix[1:-1], whole[1:-1])
    np.testing.assert_array_equal(np.concatenate(list(matrix.blocks(size=4))), whole)
    np.testing.assert_array_equal(np.concatenate(list(matrix.blocks(rows, size=7))), whole[rows])
    assert matrix[rows[:0]].shape == (0, 3)
    with pytest.raises(IndexError, match="exist, but got"):
        matrix[np.array([len(whole)])]
    files[0].write_bytes(b"")
    with pytest.raises(ClimstackError, match="was cut off while in use"):
        matrix[:1]


def test_parts_are_cut_at_their_size(schema, tmp_path, monkeypatch):
    monkeypatch.setattr("features.store.writer.PART_ROWS", 10)
    values = np.random.default_rng(0).normal(size=(25, 556 + 368))
    row = np.arange(25)
    with StoreWriter(tmp_path / "s", schema, has_targets=True, n_grid_columns=5) as writer:
        start = 0
        while start < 25:
            stop = min(25, start + 7, start + writer.room)
            block = values[start:stop]
            ids = [f"train_{i}" for i in range(start, stop)]
            here = row[start:stop]
            index = {"sample_id": ids, "time": here // 5, "column": here % 5, "source": 0 * here}
            writer.append(pl.DataFrame(index), block[:, :556], block[:, 556:])
            if not writer.room:
                writer.close_part({})
            start = stop
        writer.close([])
    store = Store(tmp_path / "s")
    assert [part["rows"] for part in store.manifest["parts"]] == [10, 10, 5]
    np.testing.assert_array_equal(store.inputs[:], values[:, :556])
    np.testing.assert_array_equal(store.targets[:], values[:, 556:])
    assert store.time.tolist() == [i // 5 for i in range(25)]
    store.verify()


def test_opening_reads_no_values(store, monkeypatch):
    import builtins

    opened = []
    real_open = builtins.open
    monkeypatch.setattr(builtins, "open", lambda *a, **k: opened.append(a[0]) or real_open(*a, **k))
    again = Store(store.path)
    assert len(again) == len(store)
    assert not [path for path in opened if str(path).endswith(".parquet")]


def test_shuffled_batches_hold_every_row_once(store, plan, monkeypatch):
    monkeypatch.setattr("features.store.shuffle.BLOCK_ROWS", 16)
    monkeypatch.setattr("features.store.shuffle.MIXED_ROWS", 80)
    rows = plan.train_rows(1)
    batches = list(store.batches(32, seed=4, rows=rows))
    assert {len(found) for found, _, _ in batches[:-1]} == {32}
    order = np.concatenate([found for found, _, _ in batches])
    np.testing.assert_array_equal(np.sort(order), rows)
    assert np.abs(np.diff(order)).min() > 0
    assert (np.diff(order) == 1).mean() < 0.1
    for found, x, y in batches:
        np.testing.assert_array_equal(x, store.inputs[found])
        np.testing.assert_array_equal(y, store.targets[found])
    again = np.concatenate([found for found, _, _ in store.batches(32, seed=4, rows=rows)])
    other = np.concatenate([found for found, _, _ in store.batches(32, seed=5, rows=rows)])
    np.testing.assert_array_equal(again, order)
    assert (other != order).any()
    assert sum(len(found) for found, _, _ in store.batches(64, seed=0)) == len(store)


def test_npy_rows_read_like_a_matrix(tmp_path):
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(700, 3)).astype("<f4")
    with npy_rows(tmp_path / "a.npy", "<f4", whole.shape) as add:
        for block in np.array_split(whole, 5):
            add(block.astype(np.float64))
    matrix = Matrix.of_npy(tmp_path / "a.npy")
    chosen = rng.integers(0, 700, 900)
    assert (matrix.dtype, matrix.nbytes) == (whole.dtype, whole.nbytes)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), whole)
    np.testing.assert_array_equal(matrix[chosen], whole[chosen])
    np.save(tmp_path / "b.npy", np.asfortranarray(whole))
    with pytest.raises(ClimstackError, match=r"b.npy holds shape \(700, 3\), not row by row"):
        Matrix.of_npy(tmp_path / "b.npy")


def test_released_pages_come_back_as_they_were(tmp_path):
    array = scratch_array(tmp_path / "a.npy", "<f8", (500, 300))
    expected = np.arange(150_000.0).reshape(500, 300)
    array[:] = expected
    release(array)
    np.testing.assert_array_equal(array, expected)
    array[7] = -1.0
    release(array)
    assert (np.load(tmp_path / "a.npy", mmap_mode="r")[7] == -1).all()
    release(expected)  # no map: left alone
    assert expected[499, 299] == 149_999


def test_parities_of_rows_are_those_of_their_values(store, tmp_path):
    """Also in a store of an earlier version, which kept none."""
    expected = np.bitwise_xor.reduce(store.inputs[:].view(np.uint64), axis=1)
    assert np.array_equal(store.row_parities("inputs"), expected)
    shutil.copytree(store.path, tmp_path / "older")
    for file in (tmp_path / "older").rglob("*.xor"):
        file.unlink()
    assert np.array_equal(Store(tmp_path / "older").row_parities("inputs"), expected)
    rows = np.array([3, 5])
    assert Store(tmp_path / "older").hash_of(rows) == store.hash_of(rows)
    assert store.hash_of(rows) != store.hash_of(rows[::-1])


def test_where_no_space_is_left_is_said(tmp_path):
    for writing in (atomic_path(tmp_path / "a"), exclusive_lock(tmp_path / "lock", "busy")):
        with (
            pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"),
            writing,
            Path("/dev/full").open("wb", buffering=0) as file,
        ):
            file.write(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
