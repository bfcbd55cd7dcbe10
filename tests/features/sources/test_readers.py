import gzip
import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from features import ClimstackError, check_data, convert
from features.sources.readers import TableFile, find_columns
from features.sources.tables import text

ROOT = Path(__file__).resolve().parents[3]
FUZZ = int(os.environ.get("CLIMSTACK_FUZZ", "0"))
ROWS = "sample_id,a,b\nx_0,1,2\nx_1,3,4\nx_2,5,6\n"


def rows_of(path):
    file = TableFile.open(path)
    return pl.concat([frame for _, frame in file.frames(["sample_id", "a", "b"])]).rows()


def zipped(path, *, method=zipfile.ZIP_DEFLATED, flag=None, claims=None, names=("t.csv",)):
    """A zip of ROWS; its headers may claim another method, or that it is encrypted."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), ROWS, method)
    made = bytearray(path.read_bytes())
    for header, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = made.index(header) + at
        if flag is not None:
            made[place] |= flag
        if claims is not None:
            made[place + 2] = claims
    path.write_bytes(made)
    return path


ARCHIVES = {
    "deflate64": ({"claims": 9}, "can't unpack (That compression method is not supported)"),
    "zstandard": ({"claims": 93}, "can't unpack (That compression method is not supported)"),
    "aes": ({"claims": 99, "flag": 1}, "can't unpack (File 't.csv' is encrypted"),
    "encrypted": ({"flag": 1}, "can't unpack (File 't.csv' is encrypted"),
    "strong_encryption": ({"flag": 64}, "can't unpack (strong encryption"),
    "patched": ({"flag": 32}, "can't unpack (compressed patched data"),
    "lzma_that_is_none": ({"claims": 14}, "t.zip is "),
    "bzip2_that_is_none": ({"claims": 12}, "t.zip is not readable as .zip (Invalid data stream)"),
    "two": ({"names": ("a.csv", "b.csv")}, "holds 2 .csv files, expected one"),
    "gzip_inside": ({"names": ("t.csv.gz",)}, "holds 0 .csv files, expected one"),
    "only_a_folder": ({"names": ("t.csv/",)}, "holds 0 .csv files, expected one"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_what_python_cannot_unpack_is_one_sentence(name, schema, tmp_path):
    how, words = ARCHIVES[name]
    path = zipped(tmp_path / "t.zip", **how)
    calls = [
        lambda: rows_of(path),
        lambda: list(TableFile(path, ["sample_id", "a", "b"]).blocks(["sample_id", "a", "b"])),
        lambda: convert(path, tmp_path / "out", schema),
    ]
    said = []
    for call in calls:
        with pytest.raises(ClimstackError) as caught:
            call()
        said.append(str(caught.value))
    said += [finding.sentence for finding in check_data(path, schema)]
    assert len(said) == 4
    for each in said:
        assert "t.zip" in each
        assert "unpack it" in each
        assert each.isprintable()
    assert words in said[0]


def test_a_zip_in_parts_is_refused(tmp_path):
    path = zipped(tmp_path / "t.zip")
    path.write_bytes(path.read_bytes()[40:])  # the last of several
    with pytest.raises(ClimstackError, match=r"t.zip .*unpack it"):
        rows_of(path)


def test_all_members_of_a_gzip_file_are_read(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(ROWS[:20].encode()) + gzip.compress(ROWS[20:].encode()))
    assert rows_of(path) == [("x_0", 1.0, 2.0), ("x_1", 3.0, 4.0), ("x_2", 5.0, 6.0)]
    path.write_bytes(path.read_bytes() + b"garbage behind it")
    with pytest.raises(ClimstackError, match=r"damaged or cut off after row \d .*unpack it"):
        rows_of(path)


def test_a_folder_with_a_files_name_is_refused(tmp_path):
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(ClimstackError, match=r"t.csv is a folder"):
        TableFile.open(tmp_path / "t.csv")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("where", ["the header", r"a line after row \d"])
def test_lines_have_a_bound(packed, where, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "LINE_BYTES", 1 << 20)
    long = b"sample_id,a,b" if where == "the header" else ROWS.encode()
    long += b"9" * (3 << 20)
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(long) if packed else long)
    with pytest.raises(ClimstackError, match=f"{where} has no line break within 1 MiB"):
        list(TableFile.open(path).blocks(["sample_id", "a", "b"], block_bytes=30))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("x_1,3", "row 1 has 2 fields, the header has 3"),
        ("", "row 1 is empty"),
        ('x_1,"3\n4",5', "row 1 has a quote that is not closed"),
        ("x_1,3 ,5", "column 'a' has '3 ' in row 1: expected a number"),
        ("x_1,\xa0,5", r"column 'a' has '\xa0' in row 1: expected a number"),
        ('x_1,"' + "3" * 140_000 + '",x', "row 1 is not a row of CSV (field larger"),
    ],
)
def test_a_row_that_polars_would_fill_or_join_is_refused(row, words, tmp_path):
    (tmp_path / "t.csv").write_text(ROWS.replace("x_1,3,4", row), encoding="utf-8")
    with pytest.raises(ClimstackError) as caught:
        rows_of(tmp_path / "t.csv")
    assert words in str(caught.value)


def test_a_bomb_of_line_breaks_takes_no_memory(tmp_path):
    """Polars would make a row of nulls of each: 901 columns x 2 million rows."""
    columns = ["sample_id", *(f"x{i}" for i in range(900))]
    row = ",".join(["x_0", *["1"] * 900])
    with gzip.open(tmp_path / "t.csv.gz", "wb", compresslevel=1) as file:
        file.write(f"{','.join(columns)}\n{row}\n".encode() + b"\n" * 2_000_000)
    with pytest.raises(ClimstackError, match="row 1 is empty"):
        list(TableFile.open(tmp_path / "t.csv.gz").blocks(columns))


def test_commas_in_quotes_are_no_fields(tmp_path):
    (tmp_path / "t.csv").write_text(ROWS.replace("x_1", '"x,1"'), encoding="utf-8")
    assert rows_of(tmp_path / "t.csv")[1] == ("x,1", 3.0, 4.0)


def test_unknown_columns_can_be_ignored_in_one_word(generated, schema, tmp_path):
    path, out = tmp_path / "t.parquet", tmp_path / "out"
    train = pl.read_parquet(generated["train"])
    train.with_row_index("Unnamed: 0").with_columns(note=pl.lit("mine")).write_parquet(path)
    with pytest.raises(ClimstackError) as caught:
        convert(path, out, schema, 16)
    assert "has the columns 'Unnamed: 0', 'note' that schema leap does not know" in str(
        caught.value
    )
    assert "--ignore 'Unnamed: 0'" in str(caught.value)
    assert "[data] ignore = ['Unnamed: 0']" in str(caught.value)
    with pytest.raises(ClimstackError, match=r"has a column 'note' that .*--ignore 'note'"):
        find_columns(TableFile.open(path), schema, ["Unnamed*"])
    store = convert(path, out, schema, 16, ignore=["Unnamed*", "note"])
    known = convert(generated["train"], tmp_path / "known", schema, 16)
    assert store.data_hash == known.data_hash
    assert [
        f for f in check_data(path, schema, 16, ignore=["Un*", "note"]) if f.level == "error"
    ] == []


def test_no_column_of_the_schema_is_ignored(generated, schema):
    assert find_columns(TableFile.open(generated["train"]), schema, ["*"])


@pytest.mark.parametrize("name", ["sample_submission", "solution"])
def test_a_submission_is_called_one(name, generated, schema, tmp_path):
    findings = check_data(generated[name], schema)
    assert [finding.level for finding in findings] == ["error"]
    assert "is a submission or a solution, not data" in findings[0].sentence
    assert "climstack score" in findings[0].sentence
    with pytest.raises(ClimstackError, match="submit --sample-submission"):
        convert(generated[name], tmp_path / "out", schema)


@pytest.mark.parametrize(("kind", "sample"), [("csv", 250), ("parquet", 250), ("convert", 30)])
def test_damaged_tables_are_read_rightly_or_refused(kind, sample, tmp_path):
    """Rows are what Python's own reader reads, or a sentence; see ``fuzz_tables``."""
    count = (FUZZ // 10 if kind == "convert" else FUZZ) or sample
    code = [sys.executable, "-m", "tests.features.sources.fuzz_tables", kind]
    came: Counter[str] = Counter()
    faults, died, start = [], [], 0
    while start < count:
        done = subprocess.run(
            [*code, str(start), str(count), str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60 + count,
        )  # fmt: skip
        for line in done.stdout.splitlines():
            number, _, what = line.partition(" ")
            start = int(number) + 1
            if not what:
                died.append((start - 1, done.returncode))
                continue
            came[json.loads(what)] += 1
            if json.loads(what) not in ("same", "other", "refused"):
                faults.append((start - 1, json.loads(what)))
        assert done.stdout, done.stderr
    sys.stdout.write(f"{kind}: {dict(came)}, died: {died}\n")
    assert faults == []
    assert came["refused"] > count // 3
    # Polars ends the process where a damaged page of a Parquet file claims 2^61 values.
    assert len(died) <= (count // 2000 if kind == "parquet" else 0)
