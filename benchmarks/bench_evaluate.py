"""Scoring all contenders on held-out rows: processor time per row and contender, peak memory.

    python benchmarks/bench_evaluate.py [--rows 12288 49152] [--contenders 19 30]

Six members' predictions and a store of random rows lie on disk, as in a run. Each size is measured
in a process of its own, so that its peak is its own; solving the blends is not timed.
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
from common import Options

from ensemble import Candidate, HeldOut, evaluate, fit_contenders
from ensemble.evaluation.moments import MomentsOfBlocks
from ensemble.stacking.candidate import POOLINGS
from features import FoldedStore, Store, load_schema, time_blocks
from features.store.writer import StoreWriter
from models.process import run_apart

N_GRID, N_MEMBERS, N_FOLDS = 384, 6, 4
BLENDERS = ("nnls", "ridge", "simplex", "hill_climb", "hill_climb_signed")
CANDIDATES = [
    Candidate("mean", "all"),
    *(Candidate(blender, pooling) for blender in BLENDERS for pooling in POOLINGS),
    *(Candidate("best", pooling) for pooling in POOLINGS[1:]),
]


@dataclass(frozen=True)
class Member:
    """Predictions in a file per fold."""

    spec: SimpleNamespace
    targets: np.ndarray
    folder: Path

    cells = ()

    def file(self, fold: int) -> Path:
        """Where a fold's predictions lie."""
        return self.folder / f"{self.spec.name}-{fold}.npy"

    def oof(self, fold: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Predictions of a fold's rows."""
        return np.array(np.load(self.file(fold), mmap_mode="r")[rows])


def write(folder: Path, n_rows: int) -> None:
    """A store of random rows, and members that know the truth with shared and own errors."""
    schema, rng = load_schema("leap"), np.random.default_rng(0)
    row = np.arange(n_rows)
    plan = time_blocks(row // N_GRID, N_FOLDS, 0)
    members = members_of(folder)
    with StoreWriter(folder / "store", schema, True, N_GRID) as writer:
        for start in range(0, n_rows, N_GRID):
            here = row[start : start + N_GRID]
            x = rng.random((len(here), len(schema.input_columns)))
            y = rng.normal(size=(len(here), len(schema.target_columns)))
            places = {"time": here // N_GRID, "column": here % N_GRID, "source": 0 * here}
            ids = {"sample_id": [f"row_{i}" for i in here]}
            writer.append(pl.DataFrame(ids | places), x, y)
        writer.close([])
    truth = Store(folder / "store").require_targets()
    for fold in range(N_FOLDS):
        valid = plan.valid_rows(fold)
        y = truth[valid][:, schema.modelled_targets]
        shared = rng.normal(size=y.shape)
        for place, member in enumerate(members):
            own = rng.normal(size=y.shape)
            np.save(member.file(fold), y + 0.7 * shared + (0.5 + 0.1 * place) * own)


def members_of(folder: Path) -> list[Member]:
    """The members whose files lie there."""
    targets = load_schema("leap").modelled_targets
    return [Member(SimpleNamespace(name=f"m{i}"), targets, folder) for i in range(N_MEMBERS)]


def measure(folder: Path, n_contenders: int) -> tuple[float, float, float]:
    """CPU seconds, peak MB and the mean honest score, in this process."""
    store = Store(folder / "store")
    data = FoldedStore(store, time_blocks(store.time, N_FOLDS, 0))
    held_out = HeldOut(data=data, members=members_of(folder))
    sums = MomentsOfBlocks(held_out.members[0].targets)
    held_out.walk(sums, what="moments")
    wanted = CANDIDATES[: n_contenders - N_MEMBERS]
    contenders = fit_contenders(store.schema, held_out.members, sums.moments(), wanted)
    start = time.process_time()
    scores = evaluate(held_out, contenders)
    seconds = time.process_time() - start
    score = float(np.mean([scores.r2(c.name).mean() for c in contenders]))
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, score


def main() -> None:
    """Measure every size."""
    options = Options(__doc__)
    options.add_argument("--rows", type=int, nargs="+", default=[12_288, 49_152])
    options.add_argument("--contenders", type=int, nargs="+", default=[19, 30])
    asked = options.parse()
    rows, contenders = ([1536], [10]) if asked.quick else (asked.rows, asked.contenders)
    for n_rows in rows:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), n_rows)
            for n in contenders:
                seconds, peak, score = run_apart(measure, Path(folder), n)
                each = seconds / n_rows / n * 1e6
                print(
                    f"{n_rows} rows, {n} contenders: {seconds:.2f} CPU s, {each:.2f} us per row and"
                    f" contender, peak {peak:.0f} MB, mean honest R2 {score:.6f}"
                )


if __name__ == "__main__":
    main()
