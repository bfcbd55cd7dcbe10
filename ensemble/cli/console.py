"""What a person sees: progress, tables, sentences."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from features.core.types import Progress

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
SECONDS_A_LINE = 10.0


@contextmanager
def progress() -> Iterator[Progress]:
    """A bar per stage on a terminal; in a pipe, a line when a stage starts and ends."""
    if not err.is_terminal:
        with _shown(lambda line: sys.stderr.write(f"{line}\n")):
            yield _plain_lines()
        return
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=err) as bars, _shown(lambda line: err.print(line, style="dim")):
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show


@contextmanager
def byte_progress() -> Iterator[Progress]:
    """As :func:`progress` for bytes: with speed and the time left."""
    if not err.is_terminal:
        yield _plain_bytes()
        return
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=err) as bars:
        task = bars.add_task("", total=None)

        def show(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total)

        yield show


def _plain_bytes() -> Progress:
    """A line every ten seconds, and one at the end."""
    began: list[tuple[float, int]] = []
    shown: list[float] = []

    def show(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not began:
            began.append((now, done))
            shown.append(now)
        new, seconds = done - began[0][1], now - began[0][0]
        if not new or (done < total and now - shown[-1] < SECONDS_A_LINE):
            return
        shown.append(now)
        left = (total - done) * seconds / new
        sys.stderr.write(
            f"{what}: {done / 1e9:.2f}/{total / 1e9:.2f} GB, {new / seconds / 1e9:.2f} GB/s,"
            f" {left:.0f} s left\n"
        )
        sys.stderr.flush()

    return show


@contextmanager
def _shown(write: Callable[[str], object]) -> Iterator[None]:
    """Show what long fits report: an epoch's loss, rows/s and score on inner blocks."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            write(record.getMessage())

    log, handler = logging.getLogger("models.seq2seq"), Lines()
    before = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def _plain_lines() -> Progress:
    seen: dict[str, int] = {}

    def show(what: str, done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if seen.get(what) != tenth:
            seen[what] = tenth
            sys.stderr.write(f"{what}: {done}/{total}\n")
            sys.stderr.flush()

    return show


def warn(sentence: str) -> None:
    """One warning on the error stream."""
    err.print("[yellow]warning:[/] ", end="")
    err.print(sentence, markup=False, soft_wrap=True)


def fail(sentence: str) -> None:
    """One sentence on the error stream."""
    err.print("[red]error:[/] ", end="")
    err.print(sentence, markup=False, soft_wrap=True)
