"""Damage to files, each kind by a seed, and what climstack makes of it in a process apart."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

CHUNK = 500  # mutations of one process
SECONDS = 5  # of a CPU that one may take
MEMORY = 4 * 2**30  # bytes of address space that loading may take beyond what libraries have
EXTREME = [b"-1", b"0", b"1e999", b"nan", b"-inf", b"99999999999", b"2147483648", b"1e7", b""]
EXTREME += [b"-2147483649", b"16777216", b"9" * 5000, b"null", b'"a"', b"[]", b"true"]
VALUES = [*EXTREME, b"-inf", b"1" + b"0" * 400, b"[" * 3000, b"{a=" * 3000, b"{a = 1}", b"[[1]]"]
VALUES += [
    '"\U0001f600\u202e"'.encode(),
    b'[""]',
    b"1979-05-27",
    b"[data]",
    b"[[models]]",
    b"[a.b]",
]
VALUES += [
    b"a." * 3000 + b"b",
    b'""',
    b'"\\u0000"',
    b'"' + b"y" * 9000 + b'"',
    b"0x7fffffffffffffff",
]
VALUES += [b"params", b"folds", b'["ridge"]', b'"../.."', b'"/"', b'"${HOME}"', b"0.5", b"-0.0"]
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def n_mutations(sample: int) -> int:
    """How many to try: a sample, or as many as ``CLIMSTACK_FUZZ`` says."""
    return int(os.environ.get("CLIMSTACK_FUZZ", sample))


def mutated(data: bytes, seed: int) -> bytes:
    """The same bytes with one to three pieces of damage."""
    rng = np.random.default_rng(seed)
    for _ in range(rng.integers(1, 4)):
        damage = DAMAGES[rng.integers(len(DAMAGES))]
        data = damage(data, rng)
    return data


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(0, max(len(data), 1), rng.integers(1, 5)):
        changed[at : at + 1] = bytes([rng.integers(256)])
    return bytes(changed)


def _bit(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    if data:
        changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return bytes(changed)


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data) + 1)]


def _without(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = _block(data, rng)
    return data[:start] + data[start + length :]


def _double(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = _block(data, rng)
    return data[: start + length] + data[start:]


def _zero(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = _block(data, rng)
    return data[:start] + bytes(length) + data[start + length :]


def _ones(data: bytes, rng: np.random.Generator) -> bytes:
    start = rng.integers(len(data) + 1)
    return data[:start] + b"\xff" * 8 + data[start + 8 :]


def _digit(data: bytes, rng: np.random.Generator) -> bytes:
    digits = [at for at, byte in enumerate(data) if 48 <= byte < 58]
    if not digits:
        return data
    changed = bytearray(data)
    changed[digits[rng.integers(len(digits))]] = 48 + rng.integers(10)
    return bytes(changed)


def _number(data: bytes, rng: np.random.Generator) -> bytes:
    numbers = [found.span() for found in NUMBER.finditer(data)]
    if not numbers:
        return data
    start, stop = numbers[rng.integers(len(numbers))]
    return data[:start] + EXTREME[rng.integers(len(EXTREME))] + data[stop:]


def _value(data: bytes, rng: np.random.Generator) -> bytes:
    """Another value, or another key, in a line like ``key = value``."""
    lines = data.split(b"\n")
    at = rng.integers(len(lines))
    key, sign, value = lines[at].partition(b"=")
    other = VALUES[rng.integers(len(VALUES))]
    if rng.integers(4) == 0:
        lines.insert(at, lines[rng.integers(len(lines))])
    elif sign:
        lines[at] = key + sign + other if rng.integers(4) else other + sign + value
    else:
        lines[at] = other
    return b"\n".join(lines)


def _swap(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.split(b"\n")
    one, other = rng.integers(0, len(lines), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def _block(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(len(data) + 1))
    return start, min(int(2 ** rng.uniform(0, 10)), len(data) - start)


DAMAGES = [
    _flip,
    _bit,
    _cut,
    _without,
    _double,
    _zero,
    _ones,
    _digit,
    _number,
    _number,
    _value,
    _value,
    _swap,
]


def predict(cell: Path) -> None:
    """Load a cell's model and predict the rows in its ``inputs.npy``."""
    from models import TrainedModel

    inputs = np.load(cell / "inputs.npy")
    assert len(TrainedModel.load(cell).predict(inputs)) == len(inputs)


def read_experiment(folder: Path) -> None:
    """Read the experiment in a folder."""
    from ensemble import Experiment, load_experiment

    assert isinstance(load_experiment(folder / "experiment.toml"), Experiment)


def attack(call: str, pristine: Path, file: str, scratch: Path, n: int) -> Counter[str]:
    """What happens to mutations of a file, counted.

    Args:
        call: ``module:function``, handed a folder; a return and a ClimstackError are right.
        pristine: the folder as it should be.
        file: the file in it that is damaged.
        scratch: an empty folder.
        n: how many mutations.
    """
    found: Counter[str] = Counter()
    for start in range(0, n, CHUNK):
        at = start
        while at < min(start + CHUNK, n):
            stop = min(start + CHUNK, n)
            args = [call, pristine, file, scratch, at, stop]
            command = [sys.executable, "-m", "tests.mutations", *map(str, args)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = list(map(json.loads, (scratch / "results").read_text().splitlines()))
            found.update(result for _, result in lines)
            at = stop
            if done.returncode:
                at = max([seed for seed, _ in lines], default=start - 1) + 2
                found[
                    f"seed {at - 1} of {file}: ended by {done.returncode} {done.stderr[-300:]}"
                ] += 1
    return found


def main(call: str, pristine: str, file: str, scratch: str, first: str, stop: str) -> None:
    """Try some seeds and print what happened to each."""
    from importlib import import_module

    from features import ClimstackError

    module, _, name = call.partition(":")
    function = getattr(import_module(module), name)
    data = (Path(pristine) / file).read_bytes()
    with suppress(ClimstackError):
        function(Path(pristine))  # what it imports is not counted
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    here, results = Path(scratch) / "here", Path(scratch) / "results"
    results.write_text("")
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(pristine, here)
    for seed in range(int(first), int(stop)):
        (here / file).write_bytes(mutated(data, seed))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # it kills
        try:
            result = function(here) or "fine"
        except ClimstackError as error:
            result = (
                "a sentence" if "\n" not in str(error) else f"seed {seed}: not one line {error}"
            )
        except Exception as error:
            result = f"seed {seed} of {file}: {type(error).__name__} {error}"[:300]
        signal.setitimer(signal.ITIMER_PROF, 0)
        with results.open("a") as out:
            out.write(json.dumps([seed, result]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
