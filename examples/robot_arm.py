"""The torques of an arm's 7 joints: in three commands, and in five lines.

Usage: python examples/robot_arm.py [FOLDER]
"""

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl

from ensemble import StackedRegressor
from features.synthetic import write_table

COMMANDS = """
data describe train.csv --targets torque_* --out arm.toml
run robot_arm.toml
leaderboard runs/arm
"""


def main(folder: Path) -> None:
    files = write_table("robot_arm", folder, n_rows=1000)
    shutil.copy(Path(__file__).with_suffix(".toml"), folder)
    climstack = Path(sys.executable).with_name("climstack")
    for command in COMMANDS.strip().split("\n"):
        subprocess.run([climstack, *command.split()], cwd=folder, check=True)

    train, test = pl.read_csv(files["train"]), pl.read_csv(files["test"])
    y = train.select("^torque_.*$")
    model = StackedRegressor(["ridge", "lightgbm"]).fit(train.drop(y.columns), y)
    print(f"scores {model.leaderboard_[0]['score']:.3f}")
    print(model.predict(test)[0])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/robot_arm"))
