"""How the program starts and ends: signals, warnings, one sentence for what went wrong.

Only this module is imported before signals are handled: the libraries behind the commands take
seconds to load.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from types import FrameType

AGAIN = 0.5  # seconds after which a signal is another one
RESUMABLE = ("demo", "run", "fit", "tune", "stack", "data convert")


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM; not a KeyboardInterrupt, which Typer would end silently."""


def main() -> None:
    """Run the command line; exit 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    stop = Stop(arguments)
    from ensemble.cli import console
    from ensemble.cli.app import app
    from features.core.errors import ClimstackError

    warnings.showwarning = lambda message, *_, **__: console.warn(str(message))
    stop.began = True
    try:
        app(arguments)
    except Interrupted:
        console.fail(stop.sentence)
        sys.exit(128 + stop.number)
    except Exception as error:
        if debug:
            raise
        is_ours = isinstance(error, ClimstackError)
        console.fail(str(error) if is_ours else _sentence(error))
        sys.exit(1)


class Stop:
    """What SIGINT and SIGTERM do: end the children, then the command by an exception.

    Attributes:
        began: whether the command has begun; before, and when told again, the process just ends.
        number: of the signal that came.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments, self.began, self.number, self._at = arguments, False, 0, -AGAIN
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self)

    def __call__(self, number: int, _: FrameType | None) -> None:
        """A signal came."""
        now = time.monotonic()
        if now - self._at < AGAIN:
            return  # one Ctrl-C comes from the terminal and from the process that started this one
        is_second, self.number, self._at = bool(self.number), number, now
        if self.began and not is_second:
            _end_children()
            raise Interrupted
        if not is_second:
            os.write(2, f"error: {self.sentence}\n".encode())
        os._exit(128 + number)

    @property
    def sentence(self) -> str:
        """What came, and what the same command does next."""
        words = " ".join([word for word in self.arguments if not word.startswith("-")][:2])
        resumes = words.startswith(RESUMABLE) and "--dry-run" not in self.arguments
        what = "interrupted" if self.number == signal.SIGINT else "ended by SIGTERM"
        then = "goes on where it stopped" if resumes else "starts from the beginning"
        return f"{what}: the same command {then}"


def _end_children() -> None:
    """Tell all processes that this one started to end; they would hold it up."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            # joblib's tracker of shared memory tidies up, and ends by itself.
            if not any("resource_tracker" in word for word in child.cmdline()):
                child.terminate()
        except psutil.Error:
            continue  # it has ended


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}: put that right and run the same command again"
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message} (--debug shows where)"
