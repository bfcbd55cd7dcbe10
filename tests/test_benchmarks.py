"""Benchmarks run on the code as it is: each in its quick mode, on tiny generated data."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FIGURES = {
    "bench_data": r"a fold of convnext1d: \d+ rows/s, peak \d+ MB",
    "bench_evaluate": r"contenders: \S+ CPU s, \S+ us per row and contender, peak \d+ MB",
    "bench_gpu": r"(?m)^\| unet1d \| \d.* M \| \d.* G \| \d+ \|",
    "bench_intervals": r"test rows \(96\): \S+% of targets within 87 to 93 %",
    "bench_memory": r"limit \d+ MB: workers .*, planned \d+ MB; took \d+ MB",
    "bench_networks": r"\| nnls/target of convnext1d and lightgbm \|.*\| \d\.\d{3} \|",
    "bench_stack": r"nnls against scipy nnls on rows: \d+x after the pass",
    "bench_tables": r"lightgbm by default against LGBMRegressor: [+-]\S+ in the mean, [+-]\S+ at",
    "bench_tree_bases": r"\| lightgbm fed with ridge \| \d\.\d{4} \| [+-]\S+ \+- \S+ \| \S+ \|",
    "bench_tree_engine": r"(?s)stored cells: \S+ s, [+-].*\| 72 \| 8 \| \d+\.\d \| \d+\.\d \|",
    "bench_tree_settings": r"\| linear trees \| \d\.\d{4} \| \d\.\d\d \|",
    "bench_trees": r"\| climstack xgboost, default \| \d+\.\d\d \| \d+\.\d \| \d\.\d{4} \|",
    "bench_tuning": r"and a race of 4: \d+ cell fits \(\S+%\), unseen fold \d\.\d{4}",
}


def test_every_script_is_asked_for_its_figures():
    assert sorted(FIGURES) == sorted(p.stem for p in (ROOT / "benchmarks").glob("bench_*.py"))


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What each prints, as ``make bench BENCH=--quick`` runs them all."""
    folder = tmp_path_factory.mktemp("bench")
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "run_all.py", "--quick"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])


@pytest.mark.parametrize("name", FIGURES)
def test_a_benchmark_prints_its_figures(name, printed):
    assert re.search(FIGURES[name], printed[name]), printed[name]
