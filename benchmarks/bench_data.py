"""Converting a CSV file of 6 GB beside bare Polars, and reading the store in batches.

Each measured step is a process of its own, so that its peak memory is its own. The CSV file holds
simulated columns of air, repeated with other digits; 925 columns as in LEAP. The store is larger
than the 2 GB of memory that converting and fits may take. Bare Polars writes Parquet, which holds
the same values smaller but not mapped by row.

Usage: python benchmarks/bench_data.py [--gigabytes 6] [--folder /tmp] [--fits]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import polars as pl

from features.synthetic import write_dataset

ROUNDS, READ_ROUNDS = 3, 7
LIMIT_MB = 2048
N_TIMESTEPS, N_COLUMNS = 16, 384

OURS = """
import sys
from features import convert, load_schema
convert(sys.argv[1], sys.argv[2], load_schema("leap"), memory_limit_mb=int(sys.argv[3]))
"""
BARE = """
import sys
import polars as pl
columns = pl.scan_csv(sys.argv[1], n_rows=1).collect_schema().names()
types = {name: pl.Float64() for name in columns} | {"sample_id": pl.String()}
pl.scan_csv(sys.argv[1], schema=types).sink_parquet(sys.argv[2], row_group_size=4096)
"""
COLD = """
import os, sys
from pathlib import Path
for file in Path(sys.argv[1]).glob("part-*/*.f64") if sys.argv[3] == "cold" else ():
    with open(file, "rb") as handle:
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
"""
SEQUENTIAL = (
    COLD
    + """
import time
from features import Store
store, buffer, start, size = Store(sys.argv[1]), bytearray(1 << 24), time.perf_counter(), 0
for file in sorted(store.path.glob("part-*/*.f64")):
    with open(file, "rb", buffering=0) as handle:
        while read := handle.readinto(buffer):
            size += read
print(len(store) / (time.perf_counter() - start))
"""
)
READ = (
    COLD
    + """
import time
import numpy as np
from features import Store
store, start, rows = Store(sys.argv[1]), time.perf_counter(), 0
if sys.argv[2] == "random":
    rng = np.random.default_rng(0)
    for _ in range(len(store) // 4096):
        chosen = rng.integers(0, len(store), 4096)
        rows += len(store.inputs[chosen]) + 0 * len(store.targets[chosen])
elif sys.argv[2] == "shuffled":
    for chosen, x, y in store.batches(4096, seed=0):
        rows += len(x)
else:
    for x, y in zip(store.inputs.blocks(), store.targets.blocks()):
        rows += len(x)
print(rows / (time.perf_counter() - start))
"""
)


FIT = """
import sys, time
from pathlib import Path
import models.seq2seq.batches
models.seq2seq.batches._fits = lambda *_: False  # rows are streamed, as if memory were short
from features import FoldedStore, Store, time_blocks
from models import CellStore, ModelSpec, cross_validate
store, folder = Store(sys.argv[1]), Path(sys.argv[2])
params = {
    "ridge": {},
    "lightgbm": {"n_rounds": 20, "early_stopping_rounds": 0},
    "convnext1d": {"preset": "tiny", "epochs": 1},
}[sys.argv[3]]
plan = time_blocks(store.time, 5, 1)
targets = store.schema.modelled_targets[:: 146 if sys.argv[3] == "lightgbm" else 1]
spec, start = ModelSpec(name="m", family=sys.argv[3], params=params), time.perf_counter()
data = FoldedStore(store, plan)
cross_validate(data, spec, CellStore(folder), targets=targets, folds=[0], n_jobs=1)
print(len(plan.train_rows(0)) / (time.perf_counter() - start))
"""
PEAK = """
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
with open("/proc/self/status") as status:
    print(next(line for line in status if line.startswith("VmHWM")).split()[1])
print(used.ru_utime + used.ru_stime)
"""


class Took(NamedTuple):
    """What a process took, and the number that its code printed."""

    wall: float  # s
    cpu: float  # s
    peak: int  # MB
    number: float


def apart(code: str, *arguments: object) -> Took:
    start = time.perf_counter()
    command = [sys.executable, "-c", code + PEAK, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    *said, peak, cpu = done.stdout.split()
    number = float(said[-1]) if said else float("nan")
    return Took(time.perf_counter() - start, float(cpu), int(peak) // 1024, number)


class Rows:
    """Appends simulated rows to a CSV file."""

    def __init__(self, folder: Path) -> None:
        self.frame = pl.read_parquet(
            write_dataset(folder / "base", N_TIMESTEPS, N_COLUMNS, seed=0)["train"]
        )
        self.n_rows = 0

    def grow(self, path: Path, size: float) -> None:
        """Add whole timesteps until the file is so many bytes long."""
        with path.open("ab") as file:
            while file.tell() < size:
                factor = 1.0 + 1e-4 * (self.n_rows // len(self.frame))
                rows = range(self.n_rows, self.n_rows + len(self.frame))
                block = self.frame.with_columns(
                    pl.exclude("sample_id") * factor,
                    sample_id=pl.Series([f"train_{row}" for row in rows]),
                )
                block.write_csv(file, include_header=self.n_rows == 0)
                self.n_rows += len(block)


def remove(path: Path) -> None:
    subprocess.run(["rm", "-rf", str(path)], check=True)


def middle(found: list[Took], of: str) -> float:
    return statistics.median(getattr(took, of) for took in found)


def compare_reads(store: Path, cache: str, rounds: int) -> None:
    """Readers in turn, from the page cache or, cold, from the disk."""
    reads: dict[str, list[Took]] = {"plain": [], "blocks": [], "shuffled": [], "random": []}
    for _ in range(rounds):
        for name, found in reads.items():
            found.append(apart(SEQUENTIAL if name == "plain" else READ, store, name, cache))
    plain = middle(reads.pop("plain"), "number")
    print(f"plain sequential read of the store's files, {cache}: {plain:.0f} rows/s")
    for name, found in reads.items():
        speed, peak = middle(found, "number"), max(took.peak for took in found)
        print(
            f"{name}: {speed:.0f} rows/s, {speed / plain:.2f} of that, peak {peak} MB", flush=True
        )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--gigabytes", type=float, default=6.0)
    options.add_argument("--folder")
    options.add_argument("--fits", action="store_true", help="fit a fold of three families too")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as temporary:
        folder = Path(temporary)
        csv, store, bare = folder / "train.csv", folder / "store", folder / "bare.parquet"
        rows = Rows(folder)
        rows.grow(csv, chosen.gigabytes / 4 * 1e9)
        size, took = csv.stat().st_size / 1e9, apart(OURS, csv, store, LIMIT_MB)
        print(f"convert {size:.2f} GB: peak {took.peak} MB of memory", flush=True)
        rows.grow(csv, chosen.gigabytes * 1e9)
        size = csv.stat().st_size / 1e9
        all_took: dict[str, list[Took]] = {"ours": [], "bare": []}
        for _ in range(ROUNDS):
            for name, code, out in (("ours", OURS, store), ("bare", BARE, bare)):
                remove(out)
                took = apart(code, csv, out, LIMIT_MB)
                all_took[name].append(took)
                print(f"  {name}: {took.wall:.1f} s, CPU {took.cpu:.1f} s, peak {took.peak} MB",
                      flush=True)  # fmt: skip
        ours, polars = all_took["ours"], all_took["bare"]
        wall, cpu = (middle(ours, of) / middle(polars, of) for of in ("wall", "cpu"))
        print(f"convert {size:.2f} GB ({rows.n_rows} rows, limit {LIMIT_MB} MB):")
        print(f"  {size / middle(ours, 'wall'):.3f} GB/s, bare {size / middle(polars, 'wall'):.3f}")
        print(f"  wall {wall:.2f}, CPU {cpu:.2f} times bare Polars (medians of {ROUNDS})")
        print(
            f"  182 GB would take {182 / size * middle(ours, 'wall') / 60:.0f} minutes", flush=True
        )
        remove(csv)
        for cache, rounds in (("warm", READ_ROUNDS), ("cold", ROUNDS)):
            compare_reads(store, cache, rounds)
        for name in ("ridge", "lightgbm", "convnext1d") if chosen.fits else ():
            took = apart(FIT, store, folder / name, name)
            print(f"a fold of {name}: {took.number:.0f} rows/s, peak {took.peak} MB", flush=True)


if __name__ == "__main__":
    main()
