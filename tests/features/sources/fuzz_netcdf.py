"""Damage a NetCDF pair in many ways and read it: ``python fuzz_netcdf.py FOLDER FIRST LAST``.

Prints one line for each: number, kind of damage, outcome. A process of its own, for a library may
crash it or never come back; whoever started it sees at which number.
"""

from __future__ import annotations

import resource
import signal
import sys
import warnings
from pathlib import Path

import numpy as np

from features import ClimstackError, load_schema
from features.sources.netcdf import Pair, find_pairs, read_pair

LIMIT_S = 5.0  # of processor time
N_COLUMNS = 4
HEADER_BYTES = 2500  # where most of the damage is done
NUMBERS = (0, 1, 2, 6, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63)
KINDS = ("flip", "bits", "cut", "zeros", "insert", "remove", "number", "copy")


def damaged(data: bytes, number: int) -> tuple[str, bytes]:
    """The bytes after the damage of that number, and its kind."""
    chance = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    whole = chance.random() < 0.15
    at = int(chance.integers(len(data) if whole else min(HEADER_BYTES, len(data))))
    n = int(chance.integers(1, 65))
    made = bytearray(data)
    if kind == "flip":
        for place in (at + chance.integers(0, 256, chance.integers(1, 4))) % len(data):
            made[place] = chance.integers(256)
    elif kind == "bits":
        made[at] ^= 1 << int(chance.integers(8))
    elif kind == "cut":
        del made[at:]
    elif kind == "zeros":
        made[at : at + n] = bytes(len(made[at : at + n]))
    elif kind == "insert":
        made[at:at] = chance.bytes(n)
    elif kind == "remove":
        del made[at : at + n]
    elif kind == "number":
        size, order = int(chance.choice([2, 4, 8])), str(chance.choice(["big", "little"]))
        value = int(chance.choice(np.array(NUMBERS, dtype=object))) % 256**size
        at -= at % 4
        made[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]
    else:
        other = int(chance.integers(min(HEADER_BYTES, len(data))))
        made[at : at + n] = data[other : other + n]
    return kind, bytes(made)


def outcome(pair: Pair, right: np.ndarray) -> str:
    """What reading gives: ``"same"`` or ``"other"`` rows, ``"refused"``, or another exception."""
    try:
        step = read_pair(pair, load_schema("leap"), len(right))
    except ClimstackError as error:
        sentence = str(error)
        if "\n" in sentence or not sentence.startswith(str(pair.before.parent)):
            return f"odd sentence: {sentence!r}"
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")
    rows = np.concatenate([step.inputs, step.targets], axis=1)
    if not np.isfinite(rows).all():
        return "refused"  # when they are stored, by row and column
    return "same" if np.array_equal(rows, right) and not step.notes else "other"


def main(folder: Path, first: int, last: int) -> None:
    """All numbers from the first to before the last."""
    warnings.simplefilter("error")
    pair = find_pairs(folder)[0]
    step = read_pair(pair, load_schema("leap"), N_COLUMNS)
    right = np.concatenate([step.inputs, step.targets], axis=1)
    files = [(file, file.read_bytes()) for file in (pair.before, pair.after)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, last):
        file, data = files[number // len(KINDS) % 2]
        kind, made = damaged(data, number)
        file.write_bytes(made)
        sys.stdout.write(f"{number} {kind} ")
        sys.stdout.flush()
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        said = outcome(pair, right)
        signal.setitimer(signal.ITIMER_PROF, 0)
        file.write_bytes(data)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
        sys.stdout.write(f"{said}\n" if grown < 100_000 else f"{grown} kB more\n")
        peak += grown


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
