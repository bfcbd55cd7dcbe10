"""Atomic files and content hashes: what is on disk is whole, or it is not there."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.folders import temporary_folder


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and exact floats: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: Any) -> str:
    """SHA-256 of a JSON-able value, 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    Works for a file or a folder that the block makes. A finished ``path`` is never seen half-made;
    a folder that is there already stays (somebody else finished the same content first). Without
    ``sync`` a power cut may leave it damaged: only for what carries checksums and can be remade.

    Raises:
        ClimstackError: ``path`` is a device, a pipe or a socket, which a file must not replace.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ClimstackError(f"{path} is neither a file nor a folder: give another place")
    with temporary_folder(path.parent, path.name) as holder:
        made = holder / path.name
        with _naming_a_full_disk(path.parent):
            yield made
        if sync:
            _sync(made)
        try:
            made.replace(path)
        except OSError:
            if not (made.is_dir() and path.is_dir()):  # a folder can't replace a filled one
                raise
        if sync:
            _sync_folder(path.parent)


def scratch_array(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A new memory-mapped ``.npy`` file whose disk space is there, all zeros.

    Raises:
        OSError: the disk is full; writing into a sparse map would kill the process instead.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


@contextmanager
def npy_rows(
    path: Path, dtype: str, shape: tuple[int, ...]
) -> Iterator[Callable[[NDArray[Any]], Any]]:
    """Write a new ``.npy`` file of this shape: gives a function that appends rows.

    What is written through a memory map counts as the process's memory; this does not.
    """
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda rows: file.write(np.ascontiguousarray(rows, dtype=dtype).data)


def release(array: NDArray[Any]) -> None:
    """Let go of a memory map's pages: they stay in the page cache, no longer this process's.

    Nothing is lost; what is used again is mapped again. Other arrays are left alone.
    """
    if isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as made:
        made.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """Indented JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json_text(value))


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ClimstackError: no such file, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ClimstackError(f"no file {path}") from None
    except (ValueError, RecursionError) as error:  # no text, no JSON, or no end of it
        raise ClimstackError(f"{path} is not JSON ({error}): delete it and make it again") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read TOML.

    Raises:
        ClimstackError: not TOML, or a number or a nesting beyond what Python reads.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ClimstackError(f"{path} is not valid TOML: it nests too deep") from None
    except ValueError as error:
        raise ClimstackError(f"{path} is not valid TOML: {error}") from None


@contextmanager
def exclusive_lock(path: Path, busy: str) -> Iterator[None]:
    """Hold a file lock while the block runs; the system frees it even after a SIGKILL.

    Raises:
        ClimstackError: with the sentence ``busy``, when another process holds it; or something
            else than a file has the lock's name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ClimstackError(f"{path} is no regular file, as a lock is: remove it")
    try:
        held = FileLock(path, fallback_to_soft=False).acquire(blocking=False)
    except Timeout:
        raise ClimstackError(busy) from None
    with held, _naming_a_full_disk(path.parent):
        yield


@contextmanager
def _naming_a_full_disk(folder: Path) -> Iterator[None]:
    """Say where no space is left: writing to an open file does not know its name."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            error.filename = str(folder)
        raise


def _sync(path: Path) -> None:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
