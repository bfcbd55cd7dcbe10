"""A CSV file's text, packed or not: unpacked, in whole lines of bounded length."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import IO

from features.core.errors import ClimstackError

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
            if isinstance(error, OSError) and error.errno:
                raise  # the disk's fault, not the file's
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


def first_line_of(error: BaseException) -> str:
    """An error's message, cut to what fits in a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
