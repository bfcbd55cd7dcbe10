"""Processes and their memory: a call in a process of its own, freed memory given back."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from joblib.externals.loky import ProcessPoolExecutor, get_reusable_executor

from features.core.errors import ClimstackError

T = TypeVar("T")


def run_apart(call: Callable[..., T], *args: Any) -> T:
    """Call a function of a module in a fresh process: the memory that it takes goes with it.

    Args:
        call: the function; it and its arguments are pickled.
        *args: its arguments.

    Raises:
        Exception: what the function raises.
    """
    with naming_a_dead_process(call.__name__), ProcessPoolExecutor(1) as process:
        result: T = process.submit(_finish, call, args).result()
        return result


@contextmanager
def naming_a_dead_process(what: str) -> Iterator[None]:
    """Say in one sentence that a process which worked on something was ended from outside.

    Raises:
        ClimstackError: it was, by a signal or by the system for lack of memory.
    """
    try:
        yield
    except BrokenExecutor as error:
        found = re.search(r"SIG\w+", str(error))
        raise ClimstackError(
            f"a process for {what} was ended by {found[0] if found else 'the system'}, mostly for"
            " lack of memory: run again where more is free; what is finished stays"
        ) from None


def give_back_memory() -> None:
    """Hand freed memory to the system, where the C library can: it keeps much for later use."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_memory_mb() -> int:
    """Largest resident memory of this process so far, MB.

    ``getrusage`` would not do: a worker's figure there starts at the memory of the process that it
    was forked from.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def _finish(call: Callable[..., T], args: tuple[Any, ...]) -> T:
    try:
        return call(*args)
    finally:
        get_reusable_executor().shutdown(wait=True)  # a process can't end before its workers
