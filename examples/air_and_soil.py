"""Profiles of 30 and of 20 levels: in three commands, and in five lines.

Usage: python examples/air_and_soil.py [FOLDER]
"""

import shutil
import subprocess
import sys
from pathlib import Path

from ensemble import DataSettings, Experiment, run_experiment
from features import describe
from features.synthetic import write_table
from models import ModelSpec

COMMANDS = """
data describe train.csv --targets out_* --time date --out column.toml
run air_and_soil.toml
leaderboard runs/column
"""


def main(folder: Path) -> None:
    files = write_table("air_and_soil", folder, n_rows=900)
    shutil.copy(Path(__file__).with_suffix(".toml"), folder)
    climstack = Path(sys.executable).with_name("climstack")
    for command in COMMANDS.strip().split("\n"):
        subprocess.run([climstack, *command.split()], cwd=folder, check=True)

    table = describe(files["train"], ["out_*"], time="date")
    data = DataSettings(train=str(files["train"]), test=str(files["test"]), schema=table)
    models = (ModelSpec(name="ridge", family="ridge"),)
    rows = run_experiment(Experiment(name="five", data=data, models=models), runs=folder)
    print(f"{rows[0]['model']} scores {rows[0]['score']:.3f}; see {folder}/five")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/air_and_soil"))
