import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

CODE = "from ensemble.cli.main import main; main()"


def started(*arguments, code=CODE):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )


def test_the_entry_point_loads_nothing_heavy_before_signals_are_handled():
    code = "import sys, ensemble.cli.start; print([m for m in ('numpy','polars','typer','rich')"
    done = subprocess.run(
        [sys.executable, "-c", code + " if m in sys.modules])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"
    scripts = Path(__file__).parents[3].joinpath("pyproject.toml").read_text(encoding="utf-8")
    assert 'climstack = "ensemble.cli.start:start"' in scripts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_libraries_are_loaded_is_one_sentence(number, tmp_path):
    ready = tmp_path / "ready"
    code = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'numpy':\n"
        f"            open({str(ready)!r}, 'w').close()\n"
        "            time.sleep(60)\n"
        f"sys.meta_path.insert(0, Slow())\n{CODE}"
    )
    process = started("leaderboard", "nowhere", code=code)
    deadline = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    what = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
    assert said == f"error: {what}: the same command starts from the beginning\n"


@pytest.mark.parametrize(
    ("words", "then"),
    [
        (["run", "a.toml"], "goes on where it stopped"),
        (["run", "a.toml", "--dry-run"], "starts from the beginning"),
        (["data", "convert", "a.csv"], "goes on where it stopped"),
        (["tune", "a.toml"], "goes on where it stopped"),
        (["data", "check", "a.csv"], "starts from the beginning"),
        (["report", "runs/a"], "starts from the beginning"),
        (["submit", "runs/a"], "starts from the beginning"),
        (["data", "generate", "a"], "starts from the beginning"),
    ],
)
def test_an_interrupted_command_promises_what_is_so(words, then):
    from ensemble.cli.main import Stop

    stop = Stop(words)
    stop.number = signal.SIGINT
    assert stop.sentence == f"interrupted: the same command {then}"


def test_sigterm_ends_children_and_says_so(generated, tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(
        f'name = "small"\n[data]\ntrain = "{generated["train"]}"\ngrid_columns = 16\n[folds]\n'
        'n_folds = 3\n[[models]]\nfamily = "lightgbm"\nparams = {n_rounds = 500}\n',
        encoding="utf-8",
    )
    process = started("run", file, "--runs", tmp_path)
    own, children = psutil.Process(process.pid), []
    deadline = time.monotonic() + 90
    while len(children) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
        if list((tmp_path / "small" / "cells").glob("*")):
            children = own.children(recursive=True)
    assert children
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "error: ended by SIGTERM: the same command goes on where it stopped" in said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(children, timeout=10)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
