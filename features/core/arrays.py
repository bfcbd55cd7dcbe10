"""Small arrays from files that somebody may have changed: whole, of plain numbers, or refused."""

from __future__ import annotations

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.settings import check

KINDS = "biufU"  # booleans, whole numbers, real ones, text
_DAMAGE = (
    *(ValueError, TypeError, EOFError, LookupError, SyntaxError, RecursionError, MemoryError),
    *(NotImplementedError, RuntimeError, OSError, ArithmeticError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, ClimstackError),
)


def read_npy(path: Path) -> NDArray[Any]:
    """The array in a ``.npy`` file.

    Raises:
        ClimstackError: there is no such file, or it is not one array of plain numbers.
    """
    try:
        return _array(path.read_bytes())
    except _DAMAGE as error:
        raise _refusal(path, error) from None


def read_npz(path: Path, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """The arrays in an uncompressed ``.npz`` file, by name.

    Args:
        path: the file.
        names: of arrays that must be there.

    Raises:
        ClimstackError: there is no such file, one is missing, or it holds something else.
    """
    try:
        with zipfile.ZipFile(path) as held:
            entries = held.infolist()
            size = sum(entry.file_size for entry in entries)
            check(size <= path.stat().st_size, "it would unpack to more than it is")
            found = {entry.filename[: -len(".npy")]: _array(held.read(entry)) for entry in entries}
            check(set(names) <= set(found), f"it holds {sorted(found)} instead of {list(names)}")
            return found
    except _DAMAGE as error:
        raise _refusal(path, error) from None


def check_numbers(
    path: Path, arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """See that arrays of a file are finite numbers of 64 bits, in these shapes.

    Raises:
        ClimstackError: one is not.
    """
    for name, shape in shapes.items():
        held = arrays.get(name, np.empty(0, np.bool_))
        right = held.shape == shape and held.dtype == np.float64
        if not (right and np.isfinite(held).all()):
            raise ClimstackError(
                f"{path} is damaged ({name} is no array {shape} of finite numbers): delete its cell"
                " and run again"
            )


def _array(data: bytes) -> NDArray[Any]:
    file = io.BytesIO(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers as Python 2 wrote them
        version = np.lib.format.read_magic(file)
        check(version == (1, 0), f"its format is {version}")
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        check(kind.kind in KINDS and kind.itemsize > 0, f"it holds {kind}")
        n_bytes = math.prod(shape) * kind.itemsize
        check(n_bytes == len(data) - file.tell(), f"its shape {shape} is not its size")
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _refusal(path: Path, error: BaseException) -> ClimstackError:
    if isinstance(error, FileNotFoundError):
        return ClimstackError(f"no file {path}")
    return ClimstackError(
        f"{path} is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__}):"
        " delete its cell and run again"
    )
