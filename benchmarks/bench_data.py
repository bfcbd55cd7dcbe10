"""Seconds to generate 20k rows, and to convert a CSV beside a bare Polars copy of it."""

import statistics
import tempfile
import time
from pathlib import Path

import polars as pl

from features import convert, load_schema
from features.synthetic import write_dataset

ROUNDS = 3
N_TIMESTEPS, N_COLUMNS = 52, 384


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wall = seconds(lambda: write_dataset(folder / "data", N_TIMESTEPS, N_COLUMNS, seed=0))
        print(f"generate and write {N_TIMESTEPS * N_COLUMNS} rows: {wall:.1f} s")
        csv = folder / "train.csv"
        frame = pl.read_parquet(folder / "data" / "train.parquet")
        frame.write_csv(csv)
        schema, types = load_schema("leap"), frame.schema
        ours, bare = [], []
        for turn in range(ROUNDS):
            ours.append(seconds(lambda t=turn: convert(csv, folder / f"store{t}", schema)))
            lazy = pl.scan_csv(csv, schema=types)
            out = folder / f"bare{turn}.parquet"
            bare.append(seconds(lambda q=lazy, o=out: q.sink_parquet(o, row_group_size=4096)))
        a, b = statistics.median(ours), statistics.median(bare)
        size = csv.stat().st_size / 1e6
        print(f"convert {size:.0f} MB of CSV: store {a:.2f} s, bare Polars to Parquet {b:.2f} s,")
        print(f"ratio {a / b:.2f} (median of {ROUNDS}, alternating)")


if __name__ == "__main__":
    main()
