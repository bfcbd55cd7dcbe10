"""A CSV file's text, packed or not: unpacked, in whole lines, and what is wrong with a line."""

from __future__ import annotations

import csv
import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any

import polars as pl

from features.core.errors import ClimstackError
from features.sources.ids import shown

LINE_BYTES = 1 << 26  # a line beyond 64 MiB is no row: 2,000 columns of 25 digits take 50 kB
DAMAGED = (EOFError, OSError, LZMAError, zlib.error, zipfile.BadZipFile)
# What Python can't unpack: other methods, ciphers, missing modules, headers that make no sense.
UNABLE = (RuntimeError, ValueError, OverflowError, struct.error)


class Unreadable(Exception):
    """A packed file can't be read on; the caller knows the row."""


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A CSV file's text, and the file on disk whose position tells how far it is.

    Raises:
        ClimstackError: an archive that does not hold one CSV file, or that Python can't unpack.
        Unreadable: it is damaged or cut off, there or wherever the text is read.
    """
    with path.open("rb") as raw:
        if path.suffix not in (".gz", ".zip"):
            yield raw, raw
            return
        try:
            with _gzip(raw) if path.suffix == ".gz" else _zip(path, raw) as file:
                yield file, raw
        except ClimstackError:
            raise
        except DAMAGED as error:
            raise Unreadable(first_line_of(error)) from None
        except UNABLE as error:
            raise ClimstackError(
                f"{path} is packed in a way that Python can't unpack ({first_line_of(error)}):"
                " unpack it and give the .csv file"
            ) from None


def _gzip(raw: IO[bytes]) -> IO[bytes]:
    return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]  # reads like any binary file


@contextmanager
def _zip(path: Path, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(raw) as archive:
        names = [n for n in archive.namelist() if n.endswith(".csv") and "__MACOSX" not in n]
        if len(names) != 1:
            raise ClimstackError(f"{path} holds {len(names)} .csv files, expected one: unpack it")
        with archive.open(names[0]) as file:
            yield file


def read_line(file: IO[bytes], path: Path, where: str) -> bytes:
    """The rest of a line with its line break, if it has one.

    Raises:
        ClimstackError: it is longer than ``LINE_BYTES``.
    """
    line = file.readline(LINE_BYTES)
    if len(line) == LINE_BYTES and not line.endswith(b"\n"):
        raise ClimstackError(
            f"{path}: {where} has no line break within {LINE_BYTES >> 20} MiB: is it a table of"
            " text, one row a line?"
        )
    return line


@dataclass(kw_only=True)
class Lines:
    """Whole lines of a file; a last one without a line break, perhaps cut off, comes alone."""

    file: IO[bytes]
    path: Path
    seekable: bool
    rows: int

    def blocks(self, offset: int, size: int) -> Iterator[bytes]:
        """From an offset on, ``size`` bytes or a little more at a time."""
        while text := self._read(offset, size):
            offset += len(text)
            cut = text.rfind(b"\n") + 1
            pieces = [text[:cut], text[cut:]] if 0 < cut < len(text) else [text]
            del text
            while pieces:
                yield pieces.pop(0)

    def _read(self, offset: int, size: int) -> bytes:
        """The next lines; a plain file is read in one piece, since joining many MB takes time."""
        where = f"a line after row {self.rows}"
        if not self.seekable:
            return self.file.read(size) + read_line(self.file, self.path, where)
        self.file.seek(offset + size)
        size += len(read_line(self.file, self.path, where))
        self.file.seek(offset)
        return self.file.read(size)


def explain_csv(path: Path, block: bytes, types: dict[str, Any], first_row: int) -> str | None:
    """A sentence on the first line that polars can't take for a row, or None."""
    for row, line in enumerate(block.removesuffix(b"\n").split(b"\n"), first_row):
        try:
            text = line.decode().rstrip("\r")
        except UnicodeDecodeError as error:
            return (
                f"{path}: row {row} is not UTF-8 text (byte 0x{line[error.start]:02x}):"
                " write the file in UTF-8"
            )
        if text.count('"') % 2:
            return f"{path}: row {row} has a quote that is not closed: close or remove it"
        if not text.strip():
            return f"{path}: row {row} is empty: remove the line"
        try:
            fields = next(csv.reader([text])) if '"' in text else text.split(",")
        except csv.Error as error:
            return f"{path}: row {row} is not a row of CSV ({error}): put it right"
        if len(fields) > len(types):
            return (
                f"{path}: row {row} has {len(fields)} fields, the header has {len(types)}:"
                " remove the extra ones"
            )
        for value, (column, dtype) in zip(fields, types.items(), strict=False):
            if dtype == pl.Float64 and value and not is_number(value):
                return (
                    f"{path}: column '{column}' has {shown(value)} in row {row}: expected a number"
                )
        if len(fields) < len(types):
            return (
                f"{path}: row {row} has {len(fields)} fields, the header has {len(types)}: was the"
                " row or the file cut off?"
            )
    return None


def is_number(text: str) -> bool:
    """Whether a field is a number as Polars reads them."""
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text and text == text.rstrip()


def first_line_of(error: BaseException) -> str:
    """An error's message, cut to what fits in a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "".join(mark if mark.isprintable() else "?" for mark in lines[0][:200])
