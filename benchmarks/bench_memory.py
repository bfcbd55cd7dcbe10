"""Is the plan right? Minutes and peak memory of a run beside what was planned, free and limited.

Memory is the sum of the resident memory of all processes of the run, looked at ten times a second.
The free run is complete; the one within half of what that took is stopped after a quarter of its
cells, unless --whole is given. Needs CLIMSTACK_REAL_DATA.

Usage: python benchmarks/bench_memory.py [--whole]
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ensemble import load_experiment, plan_run
from models.diagnostics.probe import tree_memory_mb

EXPERIMENT = Path(__file__).parents[1] / "configs" / "leap_real.toml"


def watch(runs: Path, limit: int | None, share: float) -> tuple[float, float]:
    """Peak memory, MB, and minutes of a run; it is stopped after a share of its cells."""
    command = [sys.executable, "-c", "from ensemble.cli.app import main; main()", "run",
               str(EXPERIMENT), "--runs", str(runs)]  # fmt: skip
    if limit is not None:
        command += ["--memory-limit", f"{limit}MB"]
    start, peak, fitting = time.perf_counter(), 0.0, False
    log = runs / "log.txt"
    runs.mkdir(parents=True)
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        while process.poll() is None:
            time.sleep(0.1)
            said = log.read_text()
            fitting = fitting or "ridge: 0/" in said  # the limit is for fits, not for conversion
            peak = max(peak, tree_memory_mb(process.pid)) if fitting else peak
            if share < 1 and any(f"lightgbm: {n}/" in said for n in range(365, 730)):
                process.terminate()
                break
        process.wait()
    return peak, (time.perf_counter() - start) / 60


def main(arguments: list[str]) -> None:
    share = 1.0 if "--whole" in arguments else 0.25
    with tempfile.TemporaryDirectory() as temporary:
        experiment = load_experiment(EXPERIMENT)
        plan = plan_run(experiment, Path(temporary) / "none")
        planned = max(model.memory_mb for model in plan.models)
        minutes = sum(model.minutes for model in plan.models)
        peak, wall = watch(Path(temporary) / "free", None, 1.0)
        print(f"free: planned {planned} MB, {minutes:.1f} min; took {peak:.0f} MB, {wall:.1f} min")
        rows = json.loads((Path(temporary) / "free/leap_real/leaderboard.json").read_text())
        for row in rows:
            gain = ""
            if row["blend"]:
                gain = f" {row['gain']:+.4f} [{row['gain_low']:+.4f}, {row['gain_high']:+.4f}]"
            print(
                f"  {row['model']}: {row['score']:.4f} [{row['ci_low']:.4f}, {row['ci_high']:.4f}],"
                f" in-sample {row['in_sample']:.4f}, {row['seconds']:.0f} CPU s,"
                f" chosen {row['chosen']}{gain}",
                flush=True,
            )
        limit = int(peak) // 2
        limited = plan_run(experiment, Path(temporary) / "none", limit).models
        held, wall = watch(Path(temporary) / "held", limit, share)
        workers = {model.model: model.workers for model in limited}
        expected = max(model.memory_mb for model in limited)
        print(f"limit {limit} MB: workers {workers}, planned {expected} MB; took {held:.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
