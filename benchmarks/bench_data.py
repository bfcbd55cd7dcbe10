"""Converting a CSV file of 6 GB beside bare Polars, and reading the store in batches.

Each measured step is a process of its own, so that its peak memory is its own. The CSV file holds
simulated columns of air, repeated with other digits; 925 columns as in LEAP. The store is larger
than the 2 GB of memory that converting and fits may take. Bare Polars writes Parquet, which holds
the same values smaller but not mapped by row.

    python benchmarks/bench_data.py [--gigabytes 6] [--folder /tmp] [--fits]
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import polars as pl
from common import Options

from features.synthetic import write_dataset

ROUNDS, READ_ROUNDS = 3, 7
LIMIT_MB = 2048
N_TIMESTEPS, N_COLUMNS, BATCH_ROWS = 16, 384, 4096

OURS = """
import sys
from features import convert, load_schema
limit, n_columns = map(int, sys.argv[3:])
convert(sys.argv[1], sys.argv[2], load_schema("leap"), n_columns, memory_limit_mb=limit)
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
size = int(sys.argv[4])
if sys.argv[2] == "random":
    rng = np.random.default_rng(0)
    for _ in range(len(store) // size):
        chosen = rng.integers(0, len(store), size)
        rows += len(store.inputs[chosen]) + 0 * len(store.targets[chosen])
elif sys.argv[2] == "shuffled":
    for chosen, x, y in store.batches(size, seed=0):
        rows += len(x)
else:
    for x, y in zip(store.inputs.blocks(size=size), store.targets.blocks(size=size)):
        rows += len(x)
print(rows / (time.perf_counter() - start))
"""
)


FIT = """
import sys, time
from pathlib import Path
if sys.argv[3] == "convnext1d":  # rows are streamed, as if memory were short
    import models.seq2seq.batches
    models.seq2seq.batches._fits = lambda *_: False
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

    def __init__(self, folder: Path, n_columns: int) -> None:
        files = write_dataset(folder / "base", N_TIMESTEPS, n_columns, seed=0)
        self.frame = pl.read_parquet(files["train"])
        self.n_rows = 0

    def grow(self, path: Path, size: float) -> None:
        """Add whole timesteps until the file is so many bytes long."""
        with path.open("ab") as file:
            while file.tell() < size:
                factor = 1.0 - 1e-4 * (self.n_rows // len(self.frame))
                rows = range(self.n_rows, self.n_rows + len(self.frame))
                block = self.frame.with_columns(
                    pl.exclude("sample_id", "cam_in_LANDFRAC") * factor,  # land stays
                    sample_id=pl.Series([f"train_{row}" for row in rows]),
                )
                block.write_csv(file, include_header=self.n_rows == 0)
                self.n_rows += len(block)


def remove(path: Path) -> None:
    subprocess.run(["rm", "-rf", str(path)], check=True)


def middle(found: list[Took], of: str) -> float:
    return statistics.median(getattr(took, of) for took in found)


def compare_reads(store: Path, cache: str, rounds: int, size: int) -> None:
    """Readers in turn, from the page cache or, cold, from the disk."""
    reads: dict[str, list[Took]] = {"plain": [], "blocks": [], "shuffled": [], "random": []}
    for _ in range(rounds):
        for name, found in reads.items():
            code = SEQUENTIAL if name == "plain" else READ
            found.append(apart(code, store, name, cache, size))
    plain = middle(reads.pop("plain"), "number")
    print(f"plain sequential read of the store's files, {cache}: {plain:.0f} rows/s")
    for name, found in reads.items():
        speed, peak = middle(found, "number"), max(took.peak for took in found)
        print(
            f"{name}: {speed:.0f} rows/s, {speed / plain:.2f} of that, peak {peak} MB", flush=True
        )


def compare_conversions(csv: Path, store: Path, bare: Path, n_columns: int, rounds: int) -> None:
    """Our conversion and bare Polars in turn; the store of the last round stays."""
    all_took: dict[str, list[Took]] = {"ours": [], "bare": []}
    for _ in range(rounds):
        for name, code, out in (("ours", OURS, store), ("bare", BARE, bare)):
            remove(out)
            took = apart(code, csv, out, LIMIT_MB, n_columns)
            all_took[name].append(took)
            print(f"  {name}: {took.wall:.1f} s, CPU {took.cpu:.1f} s, peak {took.peak} MB",
                  flush=True)  # fmt: skip
    ours, polars = all_took["ours"], all_took["bare"]
    size, each = csv.stat().st_size / 1e9, middle(ours, "wall")
    wall, cpu = (middle(ours, of) / middle(polars, of) for of in ("wall", "cpu"))
    print(f"convert {size:.2f} GB (limit {LIMIT_MB} MB):")
    print(f"  {size / each:.3f} GB/s, bare {size / middle(polars, 'wall'):.3f}")
    print(f"  wall {wall:.2f}, CPU {cpu:.2f} times bare Polars (medians of {rounds})")
    print(f"  182 GB would take {182 / size * each / 60:.0f} minutes", flush=True)


def main() -> None:
    options = Options(__doc__)
    options.add_argument("--gigabytes", type=float, default=6.0)
    options.add_argument("--folder")
    options.add_argument("--fits", action="store_true", help="fit a fold of three families too")
    asked = options.parse()
    gigabytes, n_columns, size = asked.gigabytes, N_COLUMNS, BATCH_ROWS
    rounds, caches = ROUNDS, {"warm": READ_ROUNDS, "cold": ROUNDS}
    if asked.quick:
        gigabytes, n_columns, size = 0.01, 8, 64
        rounds, caches, asked.fits = 1, {"warm": 1}, True
    with tempfile.TemporaryDirectory(dir=asked.folder) as temporary:
        folder = Path(temporary)
        csv, store = folder / "train.csv", folder / "store"
        rows = Rows(folder, n_columns)
        rows.grow(csv, gigabytes / 4 * 1e9)
        took = apart(OURS, csv, store, LIMIT_MB, n_columns)
        print(f"convert {csv.stat().st_size / 1e9:.2f} GB: peak {took.peak} MB", flush=True)
        rows.grow(csv, gigabytes * 1e9)
        print(f"{rows.n_rows} rows")
        compare_conversions(csv, store, folder / "bare.parquet", n_columns, rounds)
        remove(csv)
        for cache, n_rounds in caches.items():
            compare_reads(store, cache, n_rounds, size)
        for name in ("ridge", "lightgbm", "convnext1d") if asked.fits else ():
            took = apart(FIT, store, folder / name, name)
            print(f"a fold of {name}: {took.number:.0f} rows/s, peak {took.peak} MB", flush=True)


if __name__ == "__main__":
    main()
