"""Run a call in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from joblib.externals.loky import ProcessPoolExecutor, get_reusable_executor

T = TypeVar("T")


def run_apart(call: Callable[..., T], *args: Any) -> T:
    """Call a function of a module in a fresh process: the memory that it takes goes with it.

    Args:
        call: the function; it and its arguments are pickled.
        *args: its arguments.

    Raises:
        Exception: what the function raises.
    """
    with ProcessPoolExecutor(1) as process:
        result: T = process.submit(_finish, call, args).result()
        return result


def _finish(call: Callable[..., T], args: tuple[Any, ...]) -> T:
    try:
        return call(*args)
    finally:
        get_reusable_executor().shutdown(wait=True)  # a process can't end before its workers
