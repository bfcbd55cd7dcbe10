"""A corpus of broken inputs: each must fail with one sentence that names what, where and what next.

Rows are counted from 0 without the header. Row 13 and the column ``state_t_10`` are where most
things are broken. A case is a function that breaks one thing, the call that must refuse it, and the
parts that its error must contain.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ensemble.cli.app import main
from ensemble.experiment.experiment import load_experiment
from ensemble.inference.submission import score_files, write_submission
from features import ClimstackError, FoldPlan, Store, convert, time_blocks
from features.folds.making import Wanted, blocks_plan
from features.folds.schemes import column_blocks, forward_chaining, regions
from features.schemas.known import load_schema
from features.store.check import check_data
from features.synthetic import write_dataset

N_TIMESTEPS, N_GRID = 6, 8
ROW, COLUMN = 13, "state_t_10"
AT = f"column '{COLUMN}' has"
SCHEMA = load_schema("leap")
TARGET = SCHEMA.target_columns[3]


@dataclass(frozen=True)
class Good:
    """The good data set that every case breaks a copy of."""

    train: pl.DataFrame
    lines: list[str]
    parquet: bytes
    solution: pl.DataFrame
    sample: pl.DataFrame
    store: Path

    def rows(self, row: int, change: Callable[[str], str]) -> str:
        """The CSV with one row changed."""
        lines = list(self.lines)
        lines[row + 1] = change(lines[row + 1])
        return "\n".join(lines) + "\n"

    def field(self, value: str, column: str = COLUMN, row: int = ROW) -> str:
        """The CSV with one field changed."""
        position = self.train.columns.index(column)

        def change(line: str) -> str:
            fields = line.split(",")
            return ",".join([*fields[:position], value, *fields[position + 1 :]])

        return self.rows(row, change)

    def value(self, value: Any, column: str = COLUMN, row: int = ROW) -> pl.DataFrame:
        """The training frame with one value changed."""
        return put(self.train, value, column, row)


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    folder = tmp_path_factory.mktemp("good")
    paths = write_dataset(folder, N_TIMESTEPS, N_GRID, seed=3)
    train, solution, sample = (
        pl.read_parquet(paths[name]) for name in ("train", "solution", "sample_submission")
    )
    store = convert(paths["train"], folder / "store", SCHEMA, N_GRID)
    return Good(
        train,
        train.write_csv().splitlines(),
        paths["train"].read_bytes(),
        solution,
        sample,
        store.path,
    )


def put(frame: pl.DataFrame, value: Any, column: str, row: int) -> pl.DataFrame:
    here = pl.int_range(pl.len()) == row
    return frame.with_columns(pl.when(here).then(pl.lit(value)).otherwise(column).alias(column))


def text(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(path: Path, frame: pl.DataFrame) -> Path:
    (frame.write_csv if path.suffix == ".csv" else frame.write_parquet)(path)
    return path


# What a case hands over, and the call that must refuse it: call(thing, out).
Breaks = Callable[[Good, Path], Any]
Call = Callable[[Any, Path], Any]
CASES: list[Any] = []


def broken(call: Call, *parts: str) -> Callable[[Breaks], Breaks]:
    """Register a function ``(good, folder) -> thing`` as a case."""

    def register(function: Breaks) -> Breaks:
        CASES.append(pytest.param(function, call, parts, id=function.__name__))
        return function

    return register


def converting(source: Path | list[Path], out: Path) -> None:
    convert(source, out, SCHEMA, N_GRID)


def csv_case(name: str, content: Callable[[Good], str | bytes], *parts: str) -> None:
    """Register a broken ``bad.csv``, as text or bytes."""

    def make(good: Good, here: Path) -> Path:
        return text(here / "bad.csv", content(good))

    CASES.append(pytest.param(make, converting, ("bad.csv", *parts), id=f"csv_{name}"))


def parquet_case(name: str, content: Callable[[Good], pl.DataFrame | bytes], *parts: str) -> None:
    """Register a broken ``bad.parquet``, as a frame or bytes."""

    def make(good: Good, here: Path) -> Path:
        made, path = content(good), here / "bad.parquet"
        return text(path, made) if isinstance(made, bytes) else table(path, made)

    CASES.append(pytest.param(make, converting, ("bad.parquet", *parts), id=f"parquet_{name}"))


# --- convert: columns -----------------------------------------------------------------------------

parquet_case(
    "missing_column", lambda g: g.train.drop(COLUMN), f"has no column '{COLUMN}'", "needs it"
)
parquet_case(
    "missing_columns",
    lambda g: g.train.drop("state_t_10", "state_u_3"),
    "no column 'state_t_10' and 1 more",
)
parquet_case("missing_id_column", lambda g: g.train.drop("sample_id"), "no column 'sample_id'")
parquet_case(
    "extra_column",
    lambda g: g.train.with_columns(surprise=1.0),
    "column 'surprise'",
    "leap does not know",
    "remove it",
)
parquet_case(
    "misspelt_column",
    lambda g: g.train.rename({"cam_out_SOLL": "cam_out_SOL"}),
    "no column 'cam_out_SOLL'",
    "needs it",
)
csv_case(
    "duplicated_column",
    lambda g: "\n".join([g.lines[0].replace("state_t_11,", "state_t_10,"), *g.lines[1:]]),
    "column 'state_t_10' twice",
    "remove one",
)

# --- convert: values ------------------------------------------------------------------------------

for found, shown in [("NaN", "nan"), ("inf", "inf"), ("-inf", "-inf"), ("1e999", "inf")]:
    csv_case(f"value_{found}", lambda g, v=found: g.field(v), f"{AT} {shown} in row {ROW}: fill it")
csv_case("empty_field", lambda g: g.field(""), f"{AT} no value in row {ROW}", "fill it")
for found in ("warm", "NA", "0x1f", "1_0", "27\x001"):
    csv_case(
        f"text_{found!r}",
        lambda g, v=found: g.field(v),
        f"{AT} {found!r} in row {ROW}: expected a number",
    )
csv_case(
    "long_text",
    lambda g: g.field("warm" * 999),
    f"{AT} '{'warm' * 10}...' in row {ROW}",
)
csv_case("quoted_text", lambda g: g.field('"wa,rm"'), f"{AT} 'wa,rm' in row {ROW}")
csv_case("decimal_comma", lambda g: g.field("271,5"), f"row {ROW} has 926 fields", "has 925")
csv_case("open_quote", lambda g: g.field('"271.5'), f"row {ROW}", "quote that is not closed")
csv_case(
    "latin_1",
    lambda g: g.field("QQ").encode().replace(b"QQ", b"27\xb0"),
    f"row {ROW} is not UTF-8 text (byte 0xb0)",
    "write the file in UTF-8",
)
parquet_case("nan", lambda g: g.value(float("nan")), f"{AT} nan in row {ROW}: fill it")
parquet_case("null", lambda g: g.value(None), f"{AT} no value in row {ROW}: fill it or drop")
parquet_case(
    "string_column",
    lambda g: g.train.with_columns(pl.col(COLUMN).cast(pl.String)),
    f"column '{COLUMN}' has type String, expected Float64",
    "write it as numbers",
)

# --- convert: rows and whole files ----------------------------------------------------------------

csv_case(
    "field_too_many",
    lambda g: g.rows(ROW, lambda line: line + ",1.0"),
    f"row {ROW} has 926 fields, the header has 925",
    "remove the extra ones",
)
csv_case(
    "field_too_few",
    lambda g: g.rows(ROW, lambda line: line.rpartition(",")[0]),
    f"row {ROW} has 924 fields, the header has 925",
    "cut off?",
)
csv_case(
    "first_row_field_too_few",
    lambda g: g.rows(0, lambda line: line.rpartition(",")[0]),
    "row 0 has 924 fields, the header has 925",
    "cut off?",
)
csv_case(
    "truncated_last_line",
    lambda g: "\n".join(g.lines)[:-2000],
    "row 47 has ",
    "the header has 925",
    "cut off?",
)
csv_case("empty_line", lambda g: g.rows(ROW, lambda line: ""), f"row {ROW} is empty", "remove")
csv_case("empty_line_at_the_end", lambda g: "\n".join(g.lines) + "\n\n", "row 48 is empty")
csv_case(
    "semicolons",
    lambda g: "\n".join(g.lines).replace(",", ";"),
    "not separated by commas",
    "write it with commas",
)
csv_case(
    "semicolons_below_the_header",
    lambda g: "\n".join([g.lines[0], *(line.replace(",", ";") for line in g.lines[1:])]),
    "row 0 has 1 fields, the header has 925",
)
csv_case("empty_file", lambda g: "", "is empty", "expected a header line")
csv_case("empty_first_line", lambda g: "\n" + "\n".join(g.lines), "starts with an empty line")
csv_case("header_only", lambda g: g.lines[0] + "\n", "a header but no rows", "nothing to convert")
csv_case("gzipped", lambda g: gzip.compress("\n".join(g.lines).encode()), "is not UTF-8 text")
csv_case("utf_16", lambda g: "\n".join(g.lines).encode("utf-16"), "is not UTF-8 text")
csv_case(
    "rows_not_a_multiple",
    lambda g: "\n".join(g.lines[:46]) + "\n",
    f"has 45 rows, not a multiple of {N_GRID} grid columns",
    "give the grid's size",
)
parquet_case("no_rows", lambda g: g.train.head(0), "a header but no rows")
parquet_case("truncated", lambda g: g.parquet[:-2000], "is not a readable Parquet file")
parquet_case("other_bytes", lambda g: b"no table at all" * 99, "is not a readable Parquet file")
parquet_case("empty_file", lambda g: b"", "is not a readable Parquet file")
parquet_case(
    "damaged_pages",
    lambda g: g.parquet[:5000] + bytes(3000) + g.parquet[8000:],
    "is not readable",
)

# --- convert: sample ids --------------------------------------------------------------------------

MALFORMED = f"in row {ROW} is malformed: expected train_ and a number"
csv_case(
    "id_twice",
    lambda g: g.field("train_3", "sample_id"),
    f"row {ROW} has sample_id 'train_3', expected 'train_{ROW}'",
    "sort the rows",
)
csv_case("id_malformed", lambda g: g.field("train-13", "sample_id"), f"'train-13' {MALFORMED}")
csv_case("id_of_another_prefix", lambda g: g.field("test_13", "sample_id"), "'test_13'", MALFORMED)
csv_case("id_empty", lambda g: g.field("", "sample_id"), f"sample_id in row {ROW} is missing")
csv_case(
    "first_id_malformed",
    lambda g: g.field("0", "sample_id", row=0),
    "sample_id '0' in row 0 is malformed: expected train_ and a number",
)
parquet_case("id_null", lambda g: g.value(None, "sample_id"), f"sample_id in row {ROW} is missing")
parquet_case(
    "first_id_null",
    lambda g: g.value(None, "sample_id", row=0),
    "sample_id in row 0 is missing: expected train_ and a number",
)
parquet_case(
    "ids_are_numbers",
    lambda g: g.train.with_columns(sample_id=pl.int_range(pl.len())),
    "sample_id '0' in row 0 is malformed",
)

# --- convert: packed files and several sources ----------------------------------------------------


@broken(converting, "bad.csv.gz is damaged or cut off after row 0", "end-of-stream")
def gzip_cut(good, here):
    # Large blocks: the end is missed before the first row is parsed.
    return text(here / "bad.csv.gz", gzip.compress("\n".join(good.lines).encode())[:-9])


@broken(converting, "bad.csv.gz is not readable as .gz", "Not a gzipped file")
def gzip_that_is_none(good, here):
    return text(here / "bad.csv.gz", good.lines[0])


@broken(converting, f"bad.csv.gz: column '{COLUMN}' has 'warm' in row {ROW}: expected a number")
def gzip_with_text(good, here):
    return text(here / "bad.csv.gz", gzip.compress(good.field("warm").encode()))


@broken(converting, "bad.zip is not readable as .zip", "not a zip file")
def zip_that_is_none(good, here):
    return text(here / "bad.zip", good.lines[0])


@broken(converting, "bad.zip holds 2 .csv files, expected one")
def zip_of_two(good, here):
    with zipfile.ZipFile(here / "bad.zip", "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, "\n".join(good.lines))
    return here / "bad.zip"


@broken(converting, "bad.zip is damaged or cut off after row", "Bad CRC-32")
def zip_with_a_byte_flipped(good, here):
    with zipfile.ZipFile(here / "bad.zip", "w") as archive:  # stored, so the text stays readable
        archive.writestr("a.csv", "\n".join(good.lines) + "\n")
    data = (here / "bad.zip").read_bytes()
    at = data.rindex(b".", 0, len(data) // 2) + 1
    digit = b"1" if data[at : at + 1] != b"1" else b"2"
    return text(here / "bad.zip", data[:at] + digit + data[at + 1 :])


def two(here: Path, second: pl.DataFrame) -> list[Path]:
    """A good first file and another second one."""
    return [here / "first.parquet", table(here / "second.parquet", second)]


def second_case(name: str, change: Callable[[Good], pl.DataFrame], *parts: str) -> None:
    """Register a good ``first.parquet`` with a broken ``second.parquet``."""

    def make(good: Good, here: Path) -> list[Path]:
        text(here / "first.parquet", good.parquet)
        return two(here, change(good))

    CASES.append(pytest.param(make, converting, ("second.parquet", *parts), id=f"second_{name}"))


second_case(
    "wrong_dtype",
    lambda g: g.train.with_columns(pl.col(COLUMN).cast(pl.String)),
    f"column '{COLUMN}' has type String, expected Float64",
)
second_case("no_column", lambda g: g.train.drop(COLUMN), f"has no column '{COLUMN}'")
second_case(
    "no_targets",
    lambda g: g.train.drop(SCHEMA.target_columns),
    "has no targets",
    "first.parquet has: convert them into two stores",
)
second_case("same_rows", lambda g: g.train, "sample_id 'train_0' in row 0 stands already in row 0")
second_case(
    "bad_value",
    lambda g: put(
        g.train.with_columns(pl.col("sample_id").str.replace("train", "more")),
        float("nan"),
        COLUMN,
        ROW,
    ),
    f"{AT} nan in row {ROW}",
)


# --- convert: places and arguments ----------------------------------------------------------------


@broken(converting, "no file", "none.csv", "give a .csv or .parquet file")
def no_such_file(good, here):
    return here / "none.csv"


@broken(converting, "is a folder", "give a .csv or .parquet file")
def folder_for_a_file(good, here):
    return here


@broken(converting, "bad.txt", "ends in '.txt'", "give a .csv or .parquet file")
def unknown_suffix(good, here):
    return text(here / "bad.txt", "sample_id\n")


@broken(
    lambda source, out: convert(source, out, SCHEMA, 0), "grid columns must be at least 1", "got 0"
)
def no_grid_columns(good, here):
    return text(here / "train.parquet", good.parquet)


@broken(
    lambda source, out: convert(source, out, SCHEMA, N_GRID, memory_limit_mb=300),
    "converting needs at least 316 MB, but got 300 MB",
)
def too_little_memory(good, here):
    return text(here / "train.parquet", good.parquet)


# --- stores ---------------------------------------------------------------------------------------

PART = "part-00000"


def opening(folder: Path, out: Path) -> None:
    Store(folder)


def verifying(folder: Path, out: Path) -> None:
    Store(folder).verify()


def copy_store(good: Good, here: Path) -> Path:
    return Path(shutil.copytree(good.store, here / "copy"))


def edit_bytes(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@broken(opening, "is not a store (no manifest.json)", "climstack data convert")
def store_without_manifest(good, here):
    folder = copy_store(good, here)
    (folder / "manifest.json").unlink()
    return folder


@broken(opening, "manifest.json was changed by hand", "convert the data again")
def store_manifest_edited(good, here):
    folder = copy_store(good, here)
    manifest = json.loads((folder / "manifest.json").read_text())
    text(folder / "manifest.json", json.dumps(manifest | {"n_grid_columns": 4}))
    return folder


@broken(opening, "manifest.json was changed by hand", "convert the data again")
def store_manifest_with_nan(good, here):
    folder = copy_store(good, here)
    text(folder / "manifest.json", '{"n_rows": NaN, "checksum": ""}')
    return folder


@broken(opening, "manifest.json is not JSON", "make it again")
def store_manifest_cut(good, here):
    folder = copy_store(good, here)
    edit_bytes(folder / "manifest.json", lambda data: data[:100])
    return folder


@broken(opening, "inputs.f64 has 213496 bytes, expected 213504 bytes", "convert the data again")
def store_part_truncated(good, here):
    folder = copy_store(good, here)
    edit_bytes(folder / PART / "inputs.f64", lambda data: data[:-8])
    return folder


@broken(opening, f"{PART}/targets.f64 is missing", "convert the data again")
def store_part_missing(good, here):
    folder = copy_store(good, here)
    (folder / PART / "targets.f64").unlink()
    return folder


@broken(
    verifying,
    "inputs.f64 is damaged (its SHA-256 differs from the manifest) in row 24, column 'state_t_0'",
    "convert the data again",
)
def store_byte_flipped(good, here):
    folder = copy_store(good, here)
    edit_bytes(folder / PART / "inputs.f64", flip)
    return folder


@broken(verifying, "index.parquet is damaged", "convert the data again")
def store_index_byte_flipped(good, here):
    folder = copy_store(good, here)
    edit_bytes(folder / PART / "index.parquet", flip)
    return folder


@broken(verifying, "index.parquet is missing", "convert the data again")
def store_index_missing(good, here):
    folder = copy_store(good, here)
    (folder / PART / "index.parquet").unlink()
    return folder


@broken(lambda folder, out: Store(folder).index, "index.parquet is missing or damaged")
def store_index_cut(good, here):
    folder = copy_store(good, here)
    edit_bytes(folder / PART / "index.parquet", lambda data: data[:-9])
    return folder


# --- folds ----------------------------------------------------------------------------------------

TIME, GRID = np.repeat(np.arange(N_TIMESTEPS), N_GRID), np.tile(np.arange(N_GRID), N_TIMESTEPS)


def fold_case(name: str, make: Callable[[], Any], *parts: str) -> None:
    CASES.append(
        pytest.param(lambda good, here: make, lambda make, out: make(), parts, id=f"folds_{name}")
    )


fold_case("too_many", lambda: time_blocks(TIME, 7), "6 timesteps", "7 folds", "use fewer folds")
fold_case("columns_too_many", lambda: column_blocks(GRID, 9), "8 grid columns", "9 folds")
fold_case("one", lambda: time_blocks(TIME, 1), "n_folds must be at least 2, but got 1")
fold_case("negative_embargo", lambda: time_blocks(TIME, 2, -1), "embargo", "at least 0", "got -1")
fold_case(
    "no_training_rows",
    lambda: time_blocks(TIME, 2, 6),
    "fold 0 of 2 has 0 training rows",
    "embargo 6",
    "smaller embargo",
)
fold_case("no_past", lambda: forward_chaining(TIME, 3, 5), "fold 0 of 3 has 0 training rows")
fold_case(
    "unknown_scheme",
    lambda: Wanted(scheme="time_block"),
    "'time_block'",
    "did you mean 'time_blocks'?",
)
fold_case(
    "regions_without_a_grid",
    lambda: blocks_plan(Wanted(scheme="regions", n_folds=2), TIME, GRID),
    "'regions' needs to know where the grid columns lie",
    "convert with --grid",
)
fold_case(
    "regions_of_another_grid",
    lambda: regions(GRID, np.zeros(6), np.zeros(6), 2),
    "grid columns 0 to 7, but the grid has columns 0 to 5",
    "give the grid of these data",
)


def loading_folds(path: Path, out: Path) -> None:
    FoldPlan.load(path)


@broken(loading_folds, "folds.parquet was changed", "delete the run")
def folds_edited(good, here):
    path = here / "folds.parquet"
    time_blocks(TIME, 3, 1).save(path)
    facts = pl.read_parquet_metadata(path)
    facts.pop("ARROW:schema", None)
    edited = pl.read_parquet(path).with_columns(pl.col("fold").reverse())
    edited.write_parquet(path, metadata=facts)
    return path


@broken(loading_folds, "folds.parquet was changed", "delete the run")
def folds_saved_by_something_else(good, here):
    path = here / "folds.parquet"
    time_blocks(TIME, 3, 1).save(path)
    pl.read_parquet(path).write_parquet(path)
    return path


@broken(loading_folds, "folds.parquet is not readable as a fold plan", "delete the run")
def folds_cut(good, here):
    path = here / "folds.parquet"
    time_blocks(TIME, 3, 1).save(path)
    edit_bytes(path, lambda data: data[:-20])
    return path


# --- experiments ----------------------------------------------------------------------------------

EXPERIMENT = """
name = "x"

[data]
train = "train.parquet"

[[models]]
family = "ridge"
"""
PARAMS, RIDGE = EXPERIMENT + "[models.params]\n", "model 'ridge' (ridge)"
EXPERIMENTS = {
    "not_toml": (EXPERIMENT + "= 3", ["is not valid TOML", "line 9"]),
    "binary": (b"\xff\xfe\x00", ["is not valid TOML"]),
    "empty": ("", ["needs the setting 'name'", "add it"]),
    "unknown_key": ("colour = 1\n" + EXPERIMENT, ["no setting 'colour'", "known: data, folds"]),
    "misspelt_key": ("sed = 1\n" + EXPERIMENT, ["no setting 'sed'", "did you mean 'seed'?"]),
    "misspelt_table": (EXPERIMENT + "[fold]\n", ["no setting 'fold'", "did you mean 'folds'?"]),
    "misspelt_setting": (
        EXPERIMENT + "[folds]\nn_fold = 3\n",
        ["[folds] has no setting 'n_fold'", "did you mean 'n_folds'?"],
    ),
    "key_of_two_lines": ('"a\\nb" = 1\n' + EXPERIMENT, [r"no setting 'a\nb'"]),
    "no_train": (EXPERIMENT.replace("train =", "test ="), ["[data] needs the setting 'train'"]),
    "no_models": (EXPERIMENT.partition("[[models]]")[0], ["no [[models]]", "add at least one"]),
    "no_family": (
        EXPERIMENT.replace('family = "ridge"', 'name = "a"'),
        ["[[models]] number 1 needs the setting 'family'"],
    ),
    "misspelt_family": (
        EXPERIMENT.replace("ridge", "ridg"),
        ["no model family 'ridg'", "did you mean 'ridge'?"],
    ),
    "misspelt_parameter": (
        PARAMS + "alpha = [1.0]\n",
        [f"{RIDGE} has no setting 'alpha'", "did you mean 'alphas'?"],
    ),
    "wrong_type": (PARAMS + 'clip = "8"\n', [f"{RIDGE} clip must be float, but got '8'"]),
    "wrong_type_in_a_list": (
        PARAMS + 'alphas = [1.0, "a"]\n',
        [f"{RIDGE} alphas must be float, but got 'a'"],
    ),
    "bool_for_int": (
        EXPERIMENT + "[folds]\nn_folds = true\n",
        ["[folds] n_folds must be int, but got True"],
    ),
    "bool_for_float": (PARAMS + "clip = true\n", ["clip must be float, but got True"]),
    "float_for_int": (
        EXPERIMENT + "[folds]\nn_folds = 3.0\n",
        ["[folds] n_folds must be int, but got 3.0"],
    ),
    "out_of_range": (
        EXPERIMENT + "[folds]\nn_folds = 1\n",
        ["[folds] n_folds must be at least 3 to stack, but got 1"],
    ),
    "parameter_out_of_range": (PARAMS + "clip = -1\n", ["clip must lie in (0, inf), but got -1"]),
    "nan_parameter": (PARAMS + "clip = nan\n", ["clip must be finite, but got nan"]),
    "negative_seed": (
        "seed = -1\n" + EXPERIMENT,
        ["the experiment seed must lie in [0, 2147483648), but got -1"],
    ),
    "text_for_the_seed": (
        'seed = "a"\n' + EXPERIMENT,
        ["the experiment seed must be int, but got 'a'"],
    ),
    "huge_seed_of_a_model": (
        EXPERIMENT + "seed = 99999999999999999999\n",
        ["[[models]] number 1 seed must lie in [0, 2147483648)"],
    ),
    "unset_variable": (
        EXPERIMENT.replace("train.parquet", "${CLIMSTACK_IS_NOT_SET}/train.parquet"),
        ["[data] train needs the environment variable CLIMSTACK_IS_NOT_SET", "set it"],
    ),
    "inputs_from_a_model_below": (
        EXPERIMENT.replace('"ridge"', '"ridge"\ninputs_from = ["trees"]')
        + '[[models]]\nname = "trees"\nfamily = "lightgbm"\n',
        ["number 1 inputs_from names 'trees', which is no model before it", "put that model first"],
    ),
    "misspelt_inputs_from": (
        EXPERIMENT + '[[models]]\nfamily = "lightgbm"\ninputs_from = ["rigde"]\n',
        ["number 2 inputs_from names 'rigde'", "did you mean 'ridge'?"],
    ),
    "inputs_from_a_word": (
        EXPERIMENT + '[[models]]\nfamily = "lightgbm"\ninputs_from = "ridge"\n',
        ["number 2 inputs_from must be a list, but got 'ridge'"],
    ),
    "two_models_of_one_name": (
        EXPERIMENT + '[[models]]\nfamily = "ridge"\n',
        ["two models are called 'ridge'", "rename one"],
    ),
    "model_called_like_a_blend": (
        EXPERIMENT + 'name = "mean"\n',
        ["a model may not be called 'mean' like a blend"],
    ),
    "misspelt_blender": (
        EXPERIMENT + '[stack]\nblenders = ["nnl"]\n',
        ["[stack] no blender 'nnl'", "did you mean 'nnls'?"],
    ),
    "blender_twice": (
        EXPERIMENT + '[stack]\nblenders = ["mean", "mean"]\n',
        ["[stack] names the blender 'mean' twice", "remove one"],
    ),
    "pooling_by_its_old_name": (
        EXPERIMENT + '[stack]\nlevels = ["group"]\n',
        ["[stack] levels is called pooling now", "rename it"],
    ),
    "misspelt_pooling": (
        EXPERIMENT + '[stack]\npooling = ["targets"]\n',
        ["[stack] pooling 'targets' is unknown", "did you mean 'target'?"],
    ),
    "misspelt_scheme": (
        EXPERIMENT + '[folds]\nscheme = "time_block"\n',
        ["[folds] scheme 'time_block'", "did you mean 'time_blocks'?"],
    ),
    "misspelt_schema": (
        EXPERIMENT.replace("[data]", '[data]\nschema = "leep"'),
        ["[data] no schema 'leep'", "did you mean 'leap'?"],
    ),
    "no_grid_columns": (
        EXPERIMENT.replace("[data]", "[data]\ngrid_columns = 0"),
        ["[data] grid_columns must be at least 1, but got 0"],
    ),
    "name_with_a_slash": (
        EXPERIMENT.replace('"x"', '"a/b"'),
        ["name 'a/b' must be letters", "it names a folder"],
    ),
    "name_above_the_runs": (EXPERIMENT.replace('"x"', '".."'), ["name '..' must be letters"]),
    "name_of_two_lines": (EXPERIMENT.replace('"x"', '"x\\n"'), [r"name 'x\n' must be letters"]),
}


def loading_experiment(path: Path, out: Path) -> None:
    load_experiment(path)


for name, (content, parts) in EXPERIMENTS.items():
    CASES.append(
        pytest.param(
            lambda good, here, content=content: text(here / "bad.toml", content),
            loading_experiment,
            ("bad.toml", *parts),
            id=f"experiment_{name}",
        )
    )


@broken(loading_experiment, "no experiment file", "none.toml", "give a .toml file")
def experiment_missing(good, here):
    return here / "none.toml"


@broken(loading_experiment, "no experiment file", "give a .toml file")
def experiment_is_a_folder(good, here):
    return here


# --- scores ---------------------------------------------------------------------------------------


def score_case(
    name: str,
    *parts: str,
    submission: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame,
    solution: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame,
    weights: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
    suffix: str = ".csv",
) -> None:
    """Register files to score, each a change of a good one."""

    def make(good: Good, here: Path) -> tuple[Any, ...]:
        return (
            table(here / f"sub{suffix}", submission(good.solution)),
            table(here / "solution.parquet", solution(good.solution)),
            SCHEMA,
            table(here / "weights.csv", weights(good.sample)) if weights else None,
        )

    CASES.append(
        pytest.param(make, lambda given, out: score_files(*given), parts, id=f"score_{name}")
    )


score_case(
    "ids_missing",
    "sub.csv lacks 2 ids of",
    "solution.parquet",
    "first 'test_6'",
    submission=lambda frame: frame.head(6),
)
score_case(
    "ids_extra",
    "sub.csv has 3 ids that",
    "solution.parquet does not have",
    "first 'test_5'",
    solution=lambda frame: frame.head(5),
)
score_case(
    "id_twice",
    "sub.csv",
    "'test_0' in row 8 stands already in row 0",
    submission=lambda frame: pl.concat([frame, frame.head(1)]),
)
score_case(
    "id_malformed",
    "sub.csv",
    "sample_id 'x' in row 0 is malformed",
    submission=lambda frame: frame.with_columns(sample_id=pl.lit("x")),
)
score_case(
    "target_missing",
    f"sub.csv has no column '{TARGET}': add it",
    submission=lambda frame: frame.drop(TARGET),
)
for suffix in (".csv", ".parquet"):
    score_case(
        f"nan{suffix}",
        f"sub{suffix}: column '{TARGET}' has nan in row 2",
        submission=lambda frame: put(frame, float("nan"), TARGET, 2),
        suffix=suffix,
    )
score_case(
    "text",
    f"sub.csv: column '{TARGET}' has 'warm' in row 2",
    submission=lambda frame: put(frame.cast({TARGET: pl.String}), "warm", TARGET, 2),
)
score_case("no_rows", "sub.csv has no rows", submission=lambda frame: frame.head(0))
score_case(
    "negative_weight",
    f"weights.csv: the weight of {TARGET} in row 0 is -1.0",
    "not negative",
    weights=lambda frame: put(frame, -1.0, TARGET, 0),
)
score_case(
    "weight_missing",
    f"weights.csv has no column '{TARGET}'",
    weights=lambda frame: frame.drop(TARGET),
)
score_case(
    "weights_without_rows",
    "weights.csv has no rows",
    "first row",
    weights=lambda frame: frame.head(0),
)

# --- submissions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submission:
    """What write_submission takes, and the suffix of the file it should write."""

    ids: pl.Series
    values: np.ndarray
    sample: Path | None = None
    suffix: str = ".csv"


def submitting(given: Submission, out: Path) -> None:
    path = out.with_suffix(given.suffix)
    write_submission(path, SCHEMA, given.ids, [given.values[:3], given.values[3:]], given.sample)


def predictions(good: Good) -> Submission:
    return Submission(good.solution["sample_id"], good.solution.drop("sample_id").to_numpy())


@broken(submitting, "out.txt", "ends in '.txt'", "give a .csv or .parquet file")
def submission_suffix(good, here):
    return replace(predictions(good), suffix=".txt")


@broken(submitting, f"prediction of {TARGET} for 'test_5' is nan", "nothing was written")
def submission_of_nan(good, here):
    given = predictions(good)
    values = given.values.copy()
    values[5, 3] = np.nan
    return replace(given, values=values)


@broken(submitting, f"prediction of {TARGET} for 'test_5' is -inf", "nothing was written")
def submission_of_infinities(good, here):
    given = predictions(good)
    values = given.values.copy()
    values[5, 3] = -np.inf
    return replace(given, values=values, suffix=".parquet")


@broken(submitting, "7 rows were predicted for 8 ids")
def submission_rows_too_few(good, here):
    given = predictions(good)
    return replace(given, values=given.values[:7])


@broken(submitting, "16 rows were predicted for 8 ids")
def submission_rows_too_many(good, here):
    given = predictions(good)
    return replace(given, values=np.concatenate([given.values, given.values]))


def with_sample(good: Good, here: Path, frame: pl.DataFrame) -> Submission:
    return replace(predictions(good), sample=table(here / "sample.csv", frame))


@broken(submitting, "the test set lacks 1 ids of", "sample.csv", "first 'test_99'")
def sample_submission_has_an_unknown_id(good, here):
    foreign = good.sample.head(1).with_columns(sample_id=pl.lit("test_99"))
    return with_sample(good, here, pl.concat([good.sample, foreign]))


@broken(submitting, "the test set has 5 ids that", "sample.csv does not have", "first 'test_0'")
def sample_submission_lacks_ids(good, here):
    return with_sample(good, here, good.sample.head(3))


@broken(submitting, "sample.csv", "'test_7' in row 8 stands already in row 0")
def sample_submission_id_twice(good, here):
    return with_sample(good, here, pl.concat([good.sample, good.sample.head(1)]))


@broken(submitting, "sample.csv has no column 'sample_id'")
def sample_submission_without_ids(good, here):
    return with_sample(good, here, good.sample.drop("sample_id"))


@broken(submitting, "no file", "none.csv")
def sample_submission_missing(good, here):
    return replace(predictions(good), sample=here / "none.csv")


# --- the tests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("breaks", "call", "parts"), CASES)
def test_broken_input_is_refused_in_one_sentence(breaks, call, parts, good, tmp_path):
    made = tmp_path / "made"
    given = breaks(good, tmp_path)
    with pytest.raises(ClimstackError) as caught:
        call(given, made / "out")
    sentence = str(caught.value)
    assert caught.type is ClimstackError
    assert len(sentence.splitlines()) == 1
    assert sentence.isprintable()
    assert [part for part in parts if part not in sentence] == [], sentence
    assert not made.exists() or list(made.iterdir()) == []
    assert list(tmp_path.rglob(".*.tmp")) == []


def test_the_corpus_is_large():
    assert len(CASES) >= 35
    assert len({case.id for case in CASES}) == len(CASES)


def test_a_place_that_is_taken_stays_as_it_was(good, tmp_path):
    source, out = text(tmp_path / "train.parquet", good.parquet), tmp_path / "out"
    out.mkdir()
    text(out / "mine.txt", "kept")
    with pytest.raises(ClimstackError, match=r"out exists: choose another place or delete it"):
        convert(source, out, SCHEMA, N_GRID)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "train.parquet"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_misordered_columns_are_harmless(suffix, good, tmp_path):
    source = table(tmp_path / f"train{suffix}", good.train.select(reversed(good.train.columns)))
    store = convert(source, tmp_path / "store", SCHEMA, N_GRID)
    assert store.data_hash == Store(good.store).data_hash


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda good: good.field("NaN", row=30), [f"{AT} nan in row 30"]),
        (lambda good: good.field("warm", row=30), [f"{AT} 'warm' in row 30"]),
        (lambda good: good.rows(30, lambda line: line + ",1"), ["row 30 has 926 fields"]),
        (lambda good: good.field("train_3", "sample_id", 30), ["row 30 has sample_id 'train_3'"]),
        (lambda good: good.field("oops", "sample_id", 30), ["'oops' in row 30 is malformed"]),
    ],
)
def test_rows_are_counted_across_blocks(change, parts, good, tmp_path, monkeypatch):
    monkeypatch.setattr("features.sources.readers.CSV_BLOCK_BYTES", 50_000)  # two or three rows
    with pytest.raises(ClimstackError) as caught:
        converting(text(tmp_path / "bad.csv", change(good)), tmp_path / "out")
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)


# --- data check -----------------------------------------------------------------------------------

FINDINGS = {
    "missing": ("error", lambda g: g.train.drop(COLUMN), f"no column '{COLUMN}'"),
    "extra": ("error", lambda g: g.train.with_columns(surprise=1.0), "column 'surprise'"),
    "missing_beside_extra": (
        "error",
        lambda g: g.train.rename({COLUMN: "surprise"}),
        f"no column '{COLUMN}'",
    ),
    "extra_beside_missing": (
        "error",
        lambda g: g.train.rename({"cam_out_SOLL": "cam_out_SOL"}),
        "column 'cam_out_SOL' that schema leap does not know: remove it (did you mean"
        " 'cam_out_SOLL'?)",
    ),
    "misordered": (
        "warning",
        lambda g: g.train.select("sample_id", COLUMN, pl.exclude("sample_id", COLUMN)),
        f"column '{COLUMN}' is out of the schema's order",
    ),
    "duplicated": (
        "error",
        lambda g: "\n".join(g.lines).replace("state_t_11,", "state_t_10,", 1),
        "column 'state_t_10' twice",
    ),
    "nan": ("error", lambda g: g.value(float("nan")), f"{AT} nan in row {ROW}"),
    "infinity": ("error", lambda g: g.field("-inf"), f"{AT} -inf in row {ROW}"),
    "empty": ("error", lambda g: g.field(""), f"{AT} no value in row {ROW}"),
    "nan_and_infinity": (
        "error",
        lambda g: put(g.value(float("nan")), float("inf"), "state_u_7", 40),
        "2 values in all are missing, infinite or beyond their limits, in state_t_10, state_u_7",
    ),
    "wrong_dtype": (
        "error",
        lambda g: g.train.cast({COLUMN: pl.String}),
        f"column '{COLUMN}' has type String, expected Float64",
    ),
    "text": ("error", lambda g: g.field("warm"), f"{AT} 'warm' in row {ROW}"),
    "short_last_row": ("error", lambda g: "\n".join(g.lines)[:-2000], "row 47 has "),
    "id_twice": (
        "error",
        lambda g: g.value("train_3", "sample_id"),
        f"row {ROW} has sample_id 'train_3', expected 'train_{ROW}'",
    ),
    "id_malformed": (
        "error",
        lambda g: g.field("oops", "sample_id"),
        f"sample_id 'oops' in row {ROW} is malformed",
    ),
    "first_id_missing": (
        "error",
        lambda g: g.value(None, "sample_id", 0),
        "sample_id in row 0 is missing",
    ),
    "rows_not_a_multiple": (
        "error",
        lambda g: g.train.head(45),
        f"45 rows, not a multiple of {N_GRID} grid columns",
    ),
    "no_rows": ("error", lambda g: g.train.head(0), "a header but no rows"),
    "not_parquet": ("error", lambda g: b"none", "is not a readable Parquet file"),
    "constant": (
        "warning",
        lambda g: g.train.with_columns(state_u_5=pl.lit(1.5)),
        "inputs are constant and teach nothing: state_u_5, ",
    ),
    "unique_key": (
        "note",
        lambda g: g.train.with_columns(pbuf_CH4_40=pl.int_range(pl.len()) * 1e-9),
        "pbuf_CH4_40",
    ),
    "lost_by_float32": (
        "warning",
        lambda g: g.value(1e-200, "state_u_5"),
        "float32 would lose",
        "(smallest 1e-200) in",
        "state_u_5",
        "keep float64",
    ),
}


def check_broken(good: Good, folder: Path, made: pl.DataFrame | str | bytes) -> list[Any]:
    if isinstance(made, pl.DataFrame):
        path = table(folder / "bad.parquet", made)
    else:
        path = text(folder / f"bad.{'csv' if isinstance(made, str) else 'parquet'}", made)
    return check_data(path, SCHEMA, N_GRID)


@pytest.mark.parametrize("name", FINDINGS)
def test_check_names_the_defect(name, good, tmp_path):
    level, change, *parts = FINDINGS[name]
    findings = check_broken(good, tmp_path, change(good))
    named = [f for f in findings if all(part in f.sentence for part in parts)]
    assert [finding.level for finding in named] == [level], findings
    assert all("bad." in f.sentence and f.sentence.isprintable() for f in findings)
    errors = [finding for finding in findings if finding.level == "error"]
    # A single defect must not be followed by others that it only seems to cause.
    expected = {"nan_and_infinity": 2, "missing_beside_extra": 2, "extra_beside_missing": 2}
    assert len(errors) == expected.get(name, level == "error"), errors
    assert findings == sorted(findings, key=lambda f: ["error", "warning", "note"].index(f.level))


def test_check_finds_no_error_in_good_files(good, tmp_path):
    assert {f.level for f in check_broken(good, tmp_path, good.train)} <= {"warning", "note"}
    assert {f.level for f in check_broken(good, tmp_path, "\n".join(good.lines))} <= {
        "warning",
        "note",
    }


def test_a_nan_does_not_hide_that_a_column_is_constant(good, tmp_path):
    frame = good.train.with_columns(state_u_5=pl.lit(1.5))
    findings = check_broken(good, tmp_path, put(frame, float("nan"), "state_u_5", ROW))
    assert any("constant" in f.sentence and "state_u_5" in f.sentence for f in findings)


def test_check_refuses_a_grid_without_columns(good, tmp_path):
    with pytest.raises(ClimstackError, match="grid columns must be at least 1, but got 0"):
        check_data(table(tmp_path / "train.parquet", good.train), SCHEMA, 0)


# --- the command line -----------------------------------------------------------------------------


def climstack(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> Any:
    monkeypatch.setattr("sys.argv", ["climstack", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (
            lambda good, here: [
                *("data", "convert", text(here / "bad.csv", good.field("warm"))),
                *("--out", here / "made", "--grid-columns", str(N_GRID)),
            ],
            ["bad.csv", f"{AT} 'warm' in row {ROW}"],
        ),
        (
            lambda good, here: ["run", text(here / "bad.toml", EXPERIMENTS["misspelt_family"][0])],
            ["bad.toml", "did you mean 'ridge'?"],
        ),
        (
            lambda good, here: [
                "score",
                table(here / "sub.csv", good.solution.head(6)),
                table(here / "solution.csv", good.solution),
            ],
            ["sub.csv lacks 2 ids of", "solution.csv"],
        ),
        (lambda good, here: ["leaderboard", here / "no-run"], ["no-run"]),
    ],
)
def test_command_line_fails_with_one_line(make, parts, good, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert climstack(monkeypatch, *make(good, tmp_path)) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("error: ")
    assert [part for part in parts if part not in printed.err] == [], printed.err
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "convert", "train.csv"],  # --out is missing
        ["data", "convert", "train.csv", "--out", "store", "--grid-columns", "many"],
        ["run", "a.toml", "--no-such-option"],
        ["no-such-command"],
    ],
)
def test_wrong_usage_exits_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert climstack(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert "Usage:" in printed.err
    assert "Traceback" not in printed.err
    assert list(tmp_path.iterdir()) == []


def test_check_command_exits_1_and_lists_findings(good, tmp_path, monkeypatch, capsys):
    path = text(tmp_path / "bad.csv", good.field("NaN"))
    assert climstack(monkeypatch, "data", "check", path, "--grid-columns", str(N_GRID)) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("error ")
    assert f"{AT} nan in row {ROW}" in printed.out
    assert printed.out.splitlines()[-1].startswith("errors: 1, ")
    assert printed.err == ""


def test_error_of_a_real_process(good, tmp_path):
    path = text(tmp_path / "bad.csv", good.lines[0] + "\n")
    command = ["data", "convert", str(path), "--out", str(tmp_path / "made")]
    code = "from ensemble.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"error: {path} has a header but no rows: nothing to convert\n"
    assert [file.name for file in tmp_path.iterdir()] == ["bad.csv"]
