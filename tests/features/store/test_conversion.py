"""Converting: several sources, packed files, kills, changed inputs."""

from __future__ import annotations

import gzip
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features import ClimstackError, Store, convert
from features.core.folders import SUFFIX
from features.sources.source import open_source
from features.store.writer import finished_parts

N_GRID = 16
KILLED = """
import os, signal, sys
from features import convert, load_schema
from features.sources import readers
from features.store import writer as store_writer
store_writer.PART_ROWS, readers.CSV_BLOCK_BYTES = 50, 200_000
source, out, moment, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
owner, name = {
    "part": (store_writer, "_publish"),
    "rows": (store_writer.StoreWriter, "append"),
    "seal": (store_writer.StoreWriter, "close"),
    "never": (store_writer, "_publish"),
}[moment]
real, calls = getattr(owner, name), [0]

def count_and_kill(*arguments):
    calls[0] += 1
    if moment == "rows" and calls[0] == count:
        os.kill(os.getpid(), signal.SIGKILL)
    made = real(*arguments)
    if moment in ("part", "seal") and calls[0] == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return made

setattr(owner, name, count_and_kill)
parse = readers.TableFile._parse

def told(self, block, types, first_row):
    print(first_row)
    return parse(self, block, types, first_row)

readers.TableFile._parse = told
convert([source, source.replace("first", "second")], out, load_schema("leap"), 16)
"""


@pytest.fixture(scope="module")
def halves(generated, tmp_path_factory) -> list[Path]:
    """The training file cut at a timestep, as two CSV files."""
    folder = tmp_path_factory.mktemp("halves")
    frame = pl.read_parquet(generated["train"])
    paths = [folder / "first.csv", folder / "second.csv"]
    frame.head(9 * N_GRID).write_csv(paths[0])
    frame.slice(9 * N_GRID).write_csv(paths[1])
    return paths


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_sources_are_appended_with_their_origin(halves, store, schema, tmp_path):
    both = convert(halves, tmp_path / "both", schema, N_GRID)
    assert both.data_hash == store.data_hash  # the same rows, wherever they came from
    assert both.sources == [
        {"file": "first.csv", "rows": 9 * N_GRID, "clock": "rows"},
        {"file": "second.csv", "rows": 15 * N_GRID, "clock": "rows"},
    ]
    assert both.source.tolist() == [0] * 9 * N_GRID + [1] * 15 * N_GRID
    np.testing.assert_array_equal(both.time, store.time)
    np.testing.assert_array_equal(both.column, store.column)
    np.testing.assert_array_equal(both.targets[:], store.targets[:])


def test_rows_of_two_files_must_differ(halves, schema, tmp_path):
    twice = [*halves, halves[0]]
    with pytest.raises(ClimstackError, match=r"'train_0' in row 0 stands already in row 0 of"):
        convert(twice, tmp_path / "store", schema, N_GRID)
    # What the good sources gave is kept only in whole parts: here there are none.
    assert list(tmp_path.iterdir()) == []


def test_packed_files_give_the_same_store(generated, halves, store, schema, tmp_path):
    packed = [tmp_path / "first.csv.gz", tmp_path / "second.zip"]
    packed[0].write_bytes(gzip.compress(halves[0].read_bytes(), 1))
    with zipfile.ZipFile(packed[1], "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("__MACOSX/._second.csv", b"nothing")
        archive.writestr("second.csv", halves[1].read_bytes())
    made = convert(packed, tmp_path / "store", schema, N_GRID)
    assert made.data_hash == store.data_hash


def test_killed_five_times_it_makes_the_same_bytes(halves, schema, tmp_path, monkeypatch):
    def run(out: Path, moment: str, count: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(halves[0]), str(out), moment, str(count)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    out, partial = tmp_path / "killed", tmp_path / "killed.partial"
    kept = 0
    for moment, count in [("rows", 4), ("part", 1), ("rows", 9), ("part", 3), ("seal", 1)]:
        done = run(out, moment, count)
        assert done.returncode == -signal.SIGKILL, done.stderr
        with pytest.raises(ClimstackError, match="is not a store"):
            Store(out)
        if moment != "seal":
            with pytest.raises(ClimstackError, match="is not a store"):
                Store(partial)
        # Nothing of the parts finished before was parsed again.
        firsts = [int(line) for line in done.stdout.split()]
        in_first = 9 * N_GRID
        assert firsts[0] >= (kept if kept < in_first else kept - in_first)
        kept = 50 * len([p for p in partial.glob("part-*") if (p / "part.json").is_file()])
    assert kept > 300
    assert run(out, "never", 0).returncode == 0
    assert not partial.exists()
    monkeypatch.setattr("features.store.writer.PART_ROWS", 50)  # in larger blocks than above
    convert(halves, tmp_path / "undisturbed", schema, N_GRID)
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert [part["rows"] for part in Store(out).manifest["parts"]] == [50] * 7 + [34]
    Store(out).verify()


@pytest.fixture
def interrupted(halves, schema, tmp_path, monkeypatch) -> Path:
    """A store that was left when some parts of it were finished: its two sources, and ``out``."""
    monkeypatch.setattr("features.store.writer.PART_ROWS", 50)
    for path in halves:
        (tmp_path / path.name).write_bytes(path.read_bytes())

    class Stopped(BaseException):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if done == total:
            raise Stopped

    sources = [tmp_path / path.name for path in halves]
    with pytest.raises(Stopped):
        convert(sources, tmp_path / "out", schema, N_GRID, progress=stop)
    assert len(finished_parts(tmp_path / "out.partial")) == 7
    return tmp_path


def test_a_changed_source_is_read_again(interrupted, store, schema):
    sources = [interrupted / "first.csv", interrupted / "second.csv"]
    lines = sources[1].read_text().splitlines()
    fields = lines[1].split(",")
    fields[1] = "277.25"
    sources[1].write_text("\n".join([lines[0], ",".join(fields), *lines[2:]]) + "\n")
    places = [part.stat().st_ino for part in sorted(interrupted.glob("out.partial/part-0000[01]"))]
    made = convert(sources, interrupted / "out", schema, N_GRID)
    assert made.inputs[:][9 * N_GRID, 0] == 277.25
    assert len(made) == len(store)
    # Parts that hold rows of the unchanged source alone are those of before.
    parts = sorted(interrupted.glob("out/part-0000[01]"))
    assert [part.stat().st_ino for part in parts] == places


def test_a_kill_while_stale_parts_are_cleared_away_is_harmless(interrupted, schema, monkeypatch):
    sources = [interrupted / "first.csv", interrupted / "second.csv"]
    for path in sources:
        header, *lines = path.read_text().splitlines()
        changed = [f"{line.split(',')[0]},277.25,{line.split(',', 2)[2]}" for line in lines]
        path.write_text("\n".join([header, *changed]) + "\n")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("features.store.conversion.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            convert(sources, interrupted / "out", schema, N_GRID)
    made = convert(sources, interrupted / "out", schema, N_GRID)
    assert (made.inputs[:][:, 0] == 277.25).all()
    made.verify()


def test_bad_input_later_on_keeps_the_parts_of_good_sources(interrupted, schema):
    sources = [interrupted / "first.csv", interrupted / "second.csv"]
    sources[1].write_text(sources[1].read_text()[:-2000])
    with pytest.raises(ClimstackError, match=r"second\.csv: .*row 239"):
        convert(sources, interrupted / "out", schema, N_GRID)
    partial = interrupted / "out.partial"
    assert [record["note"]["source"] for record in finished_parts(partial)] == [0, 0]
    assert not (interrupted / "out").exists()


def test_a_damaged_record_of_a_part_is_not_trusted(interrupted, store, schema):
    record = interrupted / "out.partial" / "part-00003" / "part.json"
    record.write_text(record.read_text().replace('"rows": 50', '"rows": 51'))
    sources = [interrupted / "first.csv", interrupted / "second.csv"]
    made = convert(sources, interrupted / "out", schema, N_GRID)
    np.testing.assert_array_equal(made.inputs[:], store.inputs[:])
    made.verify()


def test_a_finished_part_with_a_changed_byte_is_made_again(interrupted, store, schema):
    values = interrupted / "out.partial" / "part-00002" / "inputs.f64"
    changed = bytearray(values.read_bytes())
    changed[5000] ^= 64
    values.write_bytes(changed)
    sources = [interrupted / "first.csv", interrupted / "second.csv"]
    made = convert(sources, interrupted / "out", schema, N_GRID)
    np.testing.assert_array_equal(made.inputs[:], store.inputs[:])
    made.verify()


def test_two_processes_cannot_fill_one_store(interrupted, schema):
    from features.core.files import exclusive_lock

    sources = [interrupted / "first.csv", interrupted / "second.csv"]
    with (
        exclusive_lock(interrupted / "out.partial" / "lock", "busy"),
        pytest.raises(ClimstackError, match="filled by another process"),
    ):
        convert(sources, interrupted / "out", schema, N_GRID)
    assert len(finished_parts(interrupted / "out.partial")) == 7


def test_one_killed_before_its_plan_is_in_place_begins_anew(halves, store, schema, tmp_path):
    left = tmp_path / "out.partial" / f".plan.json.abc{SUFFIX}"
    left.mkdir(parents=True)
    (left / "plan.json").write_text("{")
    (tmp_path / "out.partial" / "lock").touch()
    made = convert(halves, tmp_path / "out", schema, N_GRID)
    assert made.data_hash == store.data_hash
    assert {path.name[:5] for path in (tmp_path / "out").iterdir()} == {"manif", "part-"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_store_that_another_process_has_finished_meanwhile_stays(
    halves, store, schema, tmp_path, monkeypatch
):
    out = tmp_path / "out"

    def slow(*args: Any, **more: Any) -> Any:
        if not out.exists():
            shutil.copytree(store.path, out)
            (out / "lock").touch()  # it is about to end
        return open_source(*args, **more)

    monkeypatch.setattr("features.store.stored.open_source", slow)
    with pytest.raises(ClimstackError, match="out exists: choose another place"):
        convert(halves, out, schema, N_GRID)
    assert contents(tmp_path) == {f"out/{k}": v for k, v in contents(store.path).items()}


@pytest.mark.parametrize("name", ["lock", "part-00003/inputs.f64", "plan.json"])
def test_a_link_in_an_unfinished_store_is_not_followed(interrupted, schema, tmp_path, name):
    mine, link = tmp_path / "mine", interrupted / "out.partial" / name
    mine.write_text("mine")
    link.unlink(missing_ok=True)
    link.symlink_to(mine)
    sources = [interrupted / "first.csv", interrupted / "second.csv"]
    with pytest.raises(ClimstackError, match=f"{name} is a symbolic link: .* remove it"):
        convert(sources, interrupted / "out", schema, N_GRID)
    assert mine.read_text() == "mine"


def test_a_foreign_folder_in_the_way_is_left_alone(halves, schema, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine.txt").write_text("kept")
    with pytest.raises(ClimstackError, match=r"out\.partial exists and is no unfinished store"):
        convert(halves, tmp_path / "out", schema, N_GRID)
    assert contents(tmp_path) == {"out.partial/mine.txt": b"kept"}


def test_progress_ends_at_all_bytes(halves, schema, tmp_path):
    seen: list[tuple[int, int]] = []
    convert(
        halves, tmp_path / "s", schema, N_GRID, progress=lambda _, done, of: seen.append((done, of))
    )
    total = sum(path.stat().st_size for path in halves)
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_small_memory_limit_gives_the_same_and_a_smaller_one_is_refused(
    halves, store, schema, tmp_path
):
    made = convert(halves, tmp_path / "s", schema, N_GRID, memory_limit_mb=320)
    assert made.data_hash == store.data_hash
    with pytest.raises(ClimstackError, match="at least 316 MB, but got 200 MB"):
        convert(halves, tmp_path / "t", schema, N_GRID, memory_limit_mb=200)
