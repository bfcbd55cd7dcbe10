"""SIGKILL before a write: the same command then gives the same bytes, and leaves nothing dead.

Python tells of every file that it opens for writing, renames or deletes before it does so (audit
events); a child process is killed at one of them. A few kills by default; ``CLIMSTACK_FUZZ``
takes seventeen of each command.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 17 if "CLIMSTACK_FUZZ" in os.environ else 2
COMMANDS = ("convert", "run", "stack", "submit", "report", "tune")
WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.move")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_before_any_write_costs_nothing(command, tmp_path):
    call = [sys.executable, "-m", "tests.test_kills", command, str(tmp_path), str(KILLS)]
    done = subprocess.run(call, check=False, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["killed"] == KILLS
    assert report["wrong"] == []


def in_child(call, kill_at=0):
    """Run in a forked process, killed before its n-th write; (exit status, number of writes)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        count, code = [0], 1

        def hook(event, args):
            opened = event == "open" and isinstance(args[0], str | bytes | os.PathLike)
            writes = opened and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes or event in WRITES:
                count[0] += 1
                if count[0] == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            call()
            code = 0
        except BaseException as error:  # told to the parent
            os.write(write, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os.write(write, f"\n{count[0]}".encode())
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        text = told.read().decode()
    return os.waitpid(child, 0)[1], text


def bytes_of(folder):
    """What must be equal: all but what holds seconds or the time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        times = ("run.json", "leaderboard.json", "score.json", "checksums.json", "study.json")
        if path.is_file() and path.name not in (*times, "report.html", "task.json", "study.db"):
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def leftovers(folder):
    ends = (".tmp", ".partial", ".new")
    return [str(path) for path in folder.rglob("*") if path.name.endswith(ends)]


def main(command, scratch, n_kills):
    import shutil

    from tests import tiny_run

    start = scratch / "start"
    wrong, killed = [], 0
    status, text = in_child(lambda: tiny_run.prepare(start, network=False))
    assert status == 0, text
    tiny_run.know()
    do = tiny_run.COMMANDS[command]
    if command in ("stack", "submit", "report"):
        status, text = in_child(lambda: tiny_run.COMMANDS["run"](start))
        assert status == 0, text
    at = scratch / "at"  # always one place: resolved paths are part of what is written

    def begin():
        shutil.rmtree(at, ignore_errors=True)
        shutil.copytree(start, at)

    begin()
    status, text = in_child(lambda: do(at))
    assert status == 0, text
    expected, n_writes = bytes_of(at), int(text.rpartition("\n")[2])
    for number in range(n_kills):
        kill_at = 1 + round(number * (n_writes - 1) / max(1, n_kills - 1))
        begin()
        status, text = in_child(lambda: do(at), kill_at)
        killed += os.WIFSIGNALED(status)
        status, text = in_child(lambda: do(at))
        found = bytes_of(at)
        if status and not (command == "convert" and "exists: choose another" in text):
            wrong.append(f"{kill_at} of {n_writes}: {text}")
        elif differ := [k for k in expected | found if expected.get(k) != found.get(k)]:
            wrong.append(f"{kill_at} of {n_writes}: {differ} differ")
        if left := leftovers(at):
            wrong.append(f"{kill_at} of {n_writes}: left {left}")
    sys.stdout.write(json.dumps({"killed": killed, "of": n_writes, "wrong": wrong}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
