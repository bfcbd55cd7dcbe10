"""The first process says what its command can't: that a signal ended it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

CODE = """
import os, sys
import ensemble.cli.start as program

def command():
    print("begun", flush=True)
    {body}

program.main = command
program.start()
"""


def started(body: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CODE.format(body=body)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "body", ["os.abort()", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 11)"]
)
def test_a_command_that_a_signal_ends_is_one_sentence(body):
    process = started(body)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert said.startswith("error: SIG")
    assert "ended the command" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("status", [0, 1, 2, 143])
def test_the_exit_status_is_the_command_s(status):
    process = started(f"sys.exit({status})")
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on(number):
    process = started(
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {2, 15}); print('ready',"
        " flush=True); sys.exit(signal.sigwait({2, 15}))"
    )
    assert [process.stdout.readline() for _ in range(2)] == ["begun\n", "ready\n"]
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == number


def test_the_command_does_not_outlive_the_first_process():
    process = started("import time; print(os.getpid(), flush=True); time.sleep(60)")
    process.stdout.readline()
    command = psutil.Process(int(process.stdout.readline()))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    command.wait(timeout=10)
