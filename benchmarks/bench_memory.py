"""Is the plan right? Minutes and peak memory of a run beside what was planned, free and limited.

Memory is the sum of the resident memory of all processes while models are fitted, looked at ten
times a second. The free run is complete; the one within half of what that took is stopped after a
quarter of its last model's cells, unless --whole is given. Needs CLIMSTACK_REAL_DATA, but with
--quick, which allows more than was taken: a small run's memory is that of the libraries.

    python benchmarks/bench_memory.py [--whole]
"""

import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from common import Options

from ensemble import load_experiment, load_leaderboard, plan_run
from features import load_schema
from features.synthetic import write_dataset
from models.diagnostics.probe import tree_memory_mb

REAL = Path(__file__).parents[1] / "configs" / "leap_real.toml"
QUICK = """
name = "small"
[data]
train = "{train}"
schema = "v1"
grid_columns = 8
[folds]
n_folds = 3
[[models]]
family = "ridge"
[[models]]
name = "again"
family = "ridge"
[models.params]
clip = 5.0
[stack]
blenders = ["mean", "nnls"]
pooling = ["target"]
"""


def write_small(folder: Path) -> Path:
    """An experiment on generated rows of a schema with few targets."""
    train, schema = write_dataset(folder / "data", 24, 8, seed=0)["train"], load_schema("v1")
    columns = [schema.id_column, *schema.input_columns, *schema.target_columns]
    pl.read_parquet(train, columns=columns).write_parquet(folder / "train.parquet")
    (folder / "small.toml").write_text(QUICK.format(train=folder / "train.parquet"))
    return folder / "small.toml"


def watch(file: Path, runs: Path, limit: int | None, share: float) -> tuple[float, float]:
    """Peak memory, MB, and minutes of a run; it is stopped after a share of its last model."""
    first, *_, last = [model.name for model in load_experiment(file).models]
    command = [sys.executable, "-c", "from ensemble.cli.app import main; main()", "run",
               str(file), "--runs", str(runs)]  # fmt: skip
    if limit is not None:
        command += ["--memory-limit", f"{limit}MB"]
    start, peak = time.perf_counter(), 0.0
    log = runs / "log.txt"
    runs.mkdir(parents=True)
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        while process.poll() is None:
            time.sleep(0.1)
            said = log.read_text()
            if f"{first}: 0/" in said and "moments: 0/" not in said:
                peak = max(peak, tree_memory_mb(process.pid))
            cells = re.findall(rf"^{last}: (\d+)/(\d+)", said, re.MULTILINE)
            if share < 1 and cells and int(cells[-1][0]) >= share * int(cells[-1][1]):
                process.terminate()
                break
        if process.wait() not in (0, 128 + signal.SIGTERM):
            sys.exit(log.read_text())
    return peak, (time.perf_counter() - start) / 60


def main(file: Path, folder: Path, part: float, share: float) -> None:
    """Run an experiment freely, then within a part of what that took, for a share of it."""
    experiment = load_experiment(file)
    plan = plan_run(experiment, folder / "none")
    planned = max(model.memory_mb for model in plan.models)
    minutes = sum(model.minutes for model in plan.models)
    peak, wall = watch(file, folder / "free", None, 1.0)
    print(f"free: planned {planned} MB, {minutes:.1f} min; took {peak:.0f} MB, {wall:.1f} min")
    for row in load_leaderboard(folder / "free" / experiment.name):
        gain = ""
        if row["blend"]:
            gain = f" {row['gain']:+.4f} [{row['gain_low']:+.4f}, {row['gain_high']:+.4f}]"
        print(
            f"  {row['model']}: {row['score']:.4f} [{row['ci_low']:.4f}, {row['ci_high']:.4f}],"
            f" in-sample {row['in_sample']:.4f}, {row['seconds']:.0f} CPU s,"
            f" chosen {row['chosen']}{gain}",
            flush=True,
        )
    limit = int(part * peak)
    limited = plan_run(experiment, folder / "none", limit).models
    held, wall = watch(file, folder / "held", limit, share)
    workers = {model.model: model.workers for model in limited}
    expected = max(model.memory_mb for model in limited)
    print(f"limit {limit} MB: workers {workers}, planned {expected} MB; took {held:.0f} MB")


if __name__ == "__main__":
    options = Options(__doc__)
    options.add_argument("--whole", action="store_true", help="the limited run to its end, too")
    asked = options.parse()
    with tempfile.TemporaryDirectory() as temporary:
        file, folder = REAL, Path(temporary)
        if asked.quick:
            file = write_small(folder)
        main(file, folder, 1.5 if asked.quick else 0.5, 1.0 if asked.whole else 0.25)
