"""Every kind of file of a run and of its stores, damaged in every way, read by every command.

What comes out is what came out before, or one sentence; and a link's target stays as it was. A
sample by default; ``CLIMSTACK_FUZZ`` takes all of it (half an hour) and prints a table.
"""

import json
import os
import re
import shutil
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from features import ClimstackError
from tests import tiny_run

FULL = int(os.environ.get("CLIMSTACK_FUZZ", "0")) > 0
SAMPLE = 12  # cases of each command
OTHERWISE = {"seconds", "peak_memory_mb", "minutes", "trials", "storage", "best_file"}
READING = ("leaderboard", "report", "submit", "explore", "stack", "run", "tune")


def flip(content: bytes, place: float) -> bytes:
    at = min(int(place * len(content)), len(content) - 1)
    return content[:at] + bytes([content[at] ^ 0x11]) + content[at + 1 :]


def zero(content: bytes) -> bytes:
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]


DAMAGES = {
    "flip first": lambda content: flip(content, 0),
    "flip early": lambda content: flip(content, 0.3),
    "flip late": lambda content: flip(content, 0.7),
    "flip last": lambda content: flip(content, 1),
    "cut": lambda content: content[: len(content) // 2],
    "zero": zero,
    "empty": lambda _: b"",
    "delete": None,
    "link": None,
}


def kind_of(file: Path) -> str:
    return re.sub(r"[0-9a-f]{64}|(?<=fold-)\d|(?<=part-)\d+", "*", str(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with a study, one file of each kind, and what each command gives."""
    folder = tmp_path_factory.mktemp("damage") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        keep_places(patch)
        tiny_run.prepare(folder)
        tiny_run.COMMANDS["run"](folder)
        run = folder / "runs" / "run"
        cells = list(run.glob("cells/*"))
        tiny_run.COMMANDS["tune"](folder)
        found = sorted(p for p in run.rglob("*") if p.is_file() and p.name != "report.html")
        kinds: dict[str, Path] = {}
        for file in found:
            relative = file.relative_to(run)
            own = relative.parts[0] != "cells" or run / "cells" / relative.parts[1] in cells
            if own and not file.name.endswith("lock"):
                kinds.setdefault(kind_of(relative), relative)
        expected = {}
        for name in READING:
            at = Path(shutil.copytree(folder, folder.parent / "copy"))
            expected[name] = repr(results(at, name, tiny_run.COMMANDS[name](at)))
            shutil.rmtree(at)
        yield folder, kinds, expected


def keep_places(patch):
    """What the tiny run sets for this process, put back at the end."""
    for place in (
        "ensemble.runs.store.run_apart",
        "models.cross_validation.cpu_count",
        "ensemble.inference.predict.cpu_count",
        "os.fsync",
    ):
        module, _, name = place.rpartition(".")
        patch.setattr(place, getattr(__import__(module, fromlist=[name]), name))


def results(at, command, given):
    run = at / "runs" / "run"
    if command == "leaderboard":
        return json.dumps(given)
    if command == "submit":
        return [(at / "out" / name).read_bytes() for name in ("s.parquet", "ends.parquet")]
    if command == "report":
        return (at / "out" / "report.html").read_bytes()
    if command == "explore":
        return (at / "explored.html").read_bytes().replace(str(at).encode(), b"")
    if command == "tune":
        study = json.loads((run / "tuning" / "trees" / "study.json").read_text())
        values = [trial["value"] for trial in study["trials"]]
        best = (run / "tuning" / "trees" / "best.toml").read_bytes()
        return {k: v for k, v in study.items() if k not in {*OTHERWISE, "checksum"}}, values, best
    files = {p.relative_to(run): p.read_bytes() for p in (run / "stack").rglob("*") if p.is_file()}
    board = json.loads((run / "leaderboard.json").read_text())
    rows = [{k: v for k, v in row.items() if k not in OTHERWISE} for row in board]
    if command == "run":
        files[Path("submission")] = (run / "submission.parquet").read_bytes()
    return files, rows, (run / "importance" / "trees.parquet").read_bytes()


def damage(file, how, elsewhere):
    content = file.read_bytes()
    if how == "link":
        elsewhere.write_bytes(content)
        file.unlink()
        file.symlink_to(elsewhere)
    elif how == "delete":
        file.unlink()
    else:
        file.write_bytes(DAMAGES[how](content))


def what_happens(finished, command, kind, how, scratch):
    """``same``, ``sentence``, or what is wrong."""
    folder, kinds, expected = finished
    damaged, elsewhere = folder.parent / "copy", scratch / "elsewhere"  # one place: paths are kept
    shutil.copytree(folder, damaged)
    damage(damaged / "runs" / "run" / kinds[kind], how, elsewhere)
    before = elsewhere.read_bytes() if how == "link" else b""
    try:
        with warnings.catch_warnings(record=True, action="always") as said:
            given = tiny_run.COMMANDS[command](damaged)
        same = repr(results(damaged, command, given)) == expected[command]
        anew = any("it begins anew" in str(each.message) for each in said)
        told = "same" if same else "sentence" if anew else "SILENT"
        if command == "report" and not same:  # said in the section that wanted the file
            page = given.read_text()
            left_out = page.count("Left out") > expected[command].count("Left out")
            if left_out or "is damaged: run the experiment again" in page:
                told = "sentence"
    except ClimstackError as error:
        told = "sentence" if len(str(error).splitlines()) == 1 else f"LINES {error}"
    except Exception as error:
        told = f"{type(error).__name__.upper()} {error}"[:200]
    finally:
        shutil.rmtree(damaged)
    if how == "link" and elsewhere.read_bytes() != before:
        told = "TARGET CHANGED"
    if how == "link" and command in ("run", "stack", "tune", "submit", "report", "leaderboard"):
        told = told if told == "sentence" else f"FOLLOWED ({told})"
    elsewhere.unlink(missing_ok=True)
    return told


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("command", READING)
def test_damage_is_healed_or_said(finished, command, tmp_path):
    cases = [(kind, how) for kind in finished[1] for how in DAMAGES]
    if not FULL:
        order = np.random.default_rng(READING.index(command)).permutation(len(cases))
        cases = [cases[i] for i in order[: SAMPLE if command != "tune" else 2]]
    told = {case: what_happens(finished, command, *case, tmp_path) for case in cases}
    counts = dict(Counter(each.split()[0] for each in told.values()))
    sys.stdout.write(f"{command}: {len(cases)} cases of {len(finished[1])} kinds: {counts}\n")
    wrong = {" | ".join(k): each for k, each in told.items() if each not in ("same", "sentence")}
    assert wrong == {}, json.dumps(wrong, indent=1)
