"""The program's first process: it starts the command in a second one, and says how that ended.

The libraries behind a command are native code, which a damaged file may crash and the system may
kill for lack of memory. Nobody can say a sentence in the process that this happens to.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

from ensemble.cli.main import main

PASSED_ON = {signal.SIGINT, signal.SIGTERM}
PR_SET_PDEATHSIG = 1  # from Linux's prctl.h


def start() -> None:
    """Run the command line; its exit status, or 1 where a signal ended it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    parent, command = os.getpid(), os.fork()
    if command == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _die_with(parent)
        main()
        sys.exit(0)
    while True:
        number = signal.sigwait({*PASSED_ON, signal.SIGCHLD})
        if number in PASSED_ON:
            os.kill(command, number)
            continue
        ended, status = os.waitpid(command, os.WNOHANG)
        if ended:
            os._exit(_said(status))


def _said(status: int) -> int:
    """The exit status to end with; where a signal ended the command, a sentence."""
    if not os.WIFSIGNALED(status):
        return os.waitstatus_to_exitcode(status)
    name = signal.Signals(os.WTERMSIG(status)).name
    sentence = (
        f"error: {name} ended the command: a library could not cope with a damaged file, or the"
        " system had no memory left; 'climstack data check' tells whether it is the data\n"
    )
    os.write(2, sentence.encode())
    return 1


def _die_with(parent: int) -> None:
    """See that the command does not outlive the process that was started, and may be killed."""
    with suppress(AttributeError, OSError):  # another system than Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
