"""Damages tables in many ways and reads them: run in a process of its own, since one may die.

``python -m tests.features.sources.fuzz_tables KIND FIRST STOP FOLDER`` prints a line for each
mutation: its number and what came of it ("same", "other", "refused", or a fault in words).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import shutil
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from features import ClimstackError, convert, load_schema
from features.sources.readers import TableFile
from features.synthetic import write_dataset

COLUMNS = ["sample_id", *(f"x_{i}" for i in range(7))]
N_ROWS, BLOCK_BYTES = 60, 700
ODD = [
    b'"', b'""', b",", b",,", b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\xe9", b"\x1a", b"\t", b" ", b";", b"#", b"'", b"nan", b"inf", b"-", b"+", b"1e999", b"1_0",
    b"0x1p3", b"1d5", b"NA", b"null", b"true", b"1,5", b"\xc2\xa0", b"9" * 400, b"x" * 3000,
    b'"' + b"y" * 140_000 + b'"', b'"1\n2"', b'"a""b"', b"-0", b"1e-400", b".5", b"5.", b"1e5",
]  # fmt: skip
Mutation = Callable[[bytes, np.random.Generator], bytes]


def table() -> pl.DataFrame:
    """What is damaged."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(N_ROWS, 7)) * 10.0 ** rng.integers(-200, 3, (N_ROWS, 7))
    ids = pl.Series("sample_id", [f"train_{row}" for row in range(N_ROWS)])
    return pl.DataFrame(
        [ids, *(pl.Series(n, v) for n, v in zip(COLUMNS[1:], values.T, strict=True))]
    )


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    made = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        made[rng.integers(len(made))] ^= 1 << int(rng.integers(8))
    return bytes(made)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data))]


def zero(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    n = int(rng.integers(1, 60))
    return data[:start] + bytes(len(data[start : start + n])) + data[start + n :]


def remove(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 60)) :]


def repeat(data: bytes, rng: np.random.Generator) -> bytes:
    start, to = rng.integers(len(data), size=2)
    return data[:to] + data[start : start + int(rng.integers(1, 300))] + data[to:]


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    to = int(rng.integers(len(data)))
    return data[:to] + ODD[rng.integers(len(ODD))] + data[to:]


def in_fields(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three fields become something else, or two change places."""
    rows = [line.split(b",") for line in data.split(b"\n")]
    for _ in range(rng.integers(1, 4)):
        row = rows[rng.integers(len(rows))]
        at, other = rng.integers(len(row), size=2)
        kind = rng.integers(4)
        if kind == 0:
            row[at] = ODD[rng.integers(len(ODD))]
        elif kind == 1:
            row[at], row[other] = row[other], row[at]
        elif kind == 2:
            row[at] = b'"' + row[at] + b'"'
        else:
            row[at] += ODD[rng.integers(len(ODD))]
    return b"\n".join(b",".join(row) for row in rows)


def in_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """Lines end otherwise, lack, stand twice, or change places."""
    lines = data.split(b"\n")
    at, other = rng.integers(len(lines), size=2)
    kind = rng.integers(5)
    if kind == 0:
        ends = [b"\r\n" if odd else b"\n" for odd in rng.integers(2, size=len(lines))]
        return b"".join(line + end for line, end in zip(lines, ends, strict=True))
    if kind == 1:
        del lines[at]
    elif kind == 2:
        lines.insert(at, lines[other])
    elif kind == 3:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines.insert(at, b" " * int(rng.integers(3)))
    return b"\n".join(lines)


def encoded(data: bytes, rng: np.random.Generator) -> bytes:
    codec = ["utf-16", "utf-8-sig", "utf-32-le", "utf-7", "cp037"][rng.integers(5)]
    return data.decode("latin-1").encode(codec)


TEXT: list[Mutation] = [flip, cut, zero, remove, repeat, insert, in_fields, in_lines, encoded]
BINARY: list[Mutation] = [flip, cut, zero, remove, repeat, insert]


def as_text(data: bytes) -> list[list[str]] | None:
    """What Python's own reader makes of a CSV file; None where it makes nothing of it."""
    csv.field_size_limit(2**24)
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b" ")  # alone it is a blank, no line's end
    try:
        return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None


def read(path: Path) -> pl.DataFrame:
    """A whole table by the reader under test, block by block."""
    file = TableFile.open(path)
    columns = [name for name in COLUMNS if name in file.columns]
    if columns != COLUMNS:
        raise ClimstackError("other columns")
    blocks = list(file.blocks(COLUMNS, block_bytes=BLOCK_BYTES if file.is_csv else 2**20))
    for before, after in pairwise(blocks):
        assert after.first_row == before.first_row + len(before.frame), "rows are miscounted"
        if file.is_csv:
            assert after.offset == before.offset_after(len(before.frame)), "offset is not a row's"
    return pl.concat([block.frame for block in blocks]) if blocks else pl.DataFrame()


def fault(frame: pl.DataFrame, data: bytes, columns: list[str] = COLUMNS) -> str | None:
    """How what was read differs from what Python's reader reads of the same bytes."""
    rows = as_text(data)
    if rows is None:
        return "was read, and Python's reader refuses it"
    header, *lines = rows
    names = [name.strip().strip('"') for name in header]
    if len(lines) != len(frame):
        return f"{len(frame)} rows were read, not {len(lines)}"
    for number, (line, row) in enumerate(zip(lines, frame.rows(), strict=True)):
        if len(line) != len(names) and line:
            return f"row {number} has {len(line)} fields and was read"
        for name, value in zip(columns, row, strict=True):
            text = line[names.index(name)] if line else ""
            text = text if name == columns[0] else text.strip()
            wanted: object = text or None
            if name != columns[0] and text:
                try:
                    wanted = float(text)
                except ValueError:
                    return f"row {number}: {text!r} was read as {value}"
            if wanted != value and not (isinstance(wanted, float) and math.isnan(wanted)):
                return f"row {number}: {text!r} was read as {value}"
    return None


def converted(rng: np.random.Generator, number: int, folder: Path) -> str:
    """What came of converting a damaged file of test rows."""
    text, schema = rows_of_leap(), load_schema("leap")
    damaged = TEXT[rng.integers(len(TEXT))](text, rng)
    path, out = folder / "t.csv", folder / f"store-{number}"
    path.write_bytes(damaged)
    try:
        store = convert(path, out, schema)
    except ClimstackError as error:
        left = out.exists() or out.with_name(f"{out.name}.partial").exists()
        return "left something behind" if left else sentence(error)
    found = pl.DataFrame(store.inputs[:], schema=schema.input_columns)
    found = found.select(store.sample_ids.alias("sample_id"), pl.all())
    shutil.rmtree(out)
    whole = pl.read_csv(text, schema_overrides=dict.fromkeys(schema.input_columns, pl.Float64))
    columns = [schema.id_column, *schema.input_columns]
    return fault(found, damaged, columns) or ("same" if found.equals(whole) else "other")


@cache
def rows_of_leap() -> bytes:
    """Twelve generated test rows, as CSV."""
    with TemporaryDirectory() as folder:
        test = pl.read_parquet(write_dataset(Path(folder), 2, 12, 0, 1)["test"])
    return test.head(12).write_csv().encode()


def sentence(error: ClimstackError) -> str:
    """ "refused", if it is one line for a reader."""
    return "refused" if str(error).isprintable() else f"is no sentence: {error!r}"


def try_one(kind: str, number: int, folder: Path) -> str:
    """Damage a table by one mutation of this number; what came of reading it."""
    rng, frame = np.random.default_rng([number, len(kind)]), table()
    if kind == "convert":
        return converted(rng, number, folder)
    if kind == "parquet":
        path, buffer = folder / "t.parquet", io.BytesIO()
        packing = ["uncompressed", "zstd", "snappy", "lz4", "gzip"][number % 5]
        frame.write_parquet(buffer, compression=packing, row_group_size=25)  # type: ignore[arg-type]
        data = BINARY[rng.integers(len(BINARY))](buffer.getvalue(), rng)
        path.write_bytes(data)
        try:
            found = read(path)
        except ClimstackError as error:
            return sentence(error)
        if len(found) != len(frame):
            return f"{len(found)} rows were read, not {len(frame)}"
        return "same" if found.equals(frame) else "other"
    text = frame.write_csv().encode()
    form = ["csv", "csv", "csv", "csv", "csv", "csv", "gz", "zip", "damaged gz", "damaged zip"]
    packed = form[number % 10]
    damaged = text if packed.startswith("damaged") else TEXT[rng.integers(len(TEXT))](text, rng)
    data = damaged
    if packed.endswith("gz"):
        middle = int(rng.integers(len(damaged) + 1))  # two members are one file
        data = gzip.compress(damaged[:middle], mtime=0) + gzip.compress(damaged[middle:], mtime=0)
    elif packed.endswith("zip"):
        buffer, method = io.BytesIO(), [0, 8, 12, 14][rng.integers(4)]
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr(zipfile.ZipInfo("t.csv"), damaged, method)
        data = buffer.getvalue()
    if packed.startswith("damaged"):
        data = BINARY[rng.integers(len(BINARY))](data, rng)
    path = folder / f"t.{packed.split()[-1]}"
    path.write_bytes(data)
    try:
        found = read(path)
    except ClimstackError as error:
        return sentence(error)
    wrong = fault(found, damaged)
    return wrong or ("same" if found.equals(frame) else "other")


def main(kind: str, first: int, stop: int, folder: Path) -> None:
    """Print what came of each mutation."""
    for number in range(first, stop):
        sys.stdout.write(f"{number} ")
        sys.stdout.flush()
        try:
            came = try_one(kind, number, folder)
        except BaseException as error:
            came = f"{type(error).__name__}: {error}"
        sys.stdout.write(json.dumps(came) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
