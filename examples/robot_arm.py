"""A table of one's own: 21 columns to the torques of 7 joints, in three commands and five lines.

Usage: python examples/robot_arm.py [FOLDER]
"""

import subprocess
import sys
from pathlib import Path

import polars as pl

from ensemble import StackedRegressor
from features.synthetic import write_table

COMMANDS = """
data describe train.csv --targets torque_* --out arm.toml
run arm_run.toml
leaderboard runs/arm
"""
EXPERIMENT = """
name = "arm"
data = { train = "train.csv", test = "test.csv", schema = "arm.toml" }
models = [{ family = "ridge" }, { family = "lightgbm", params = { n_rounds = 50 } }]
"""


def main(folder: Path) -> None:
    files = write_table("robot_arm", folder, n_rows=1000)
    (folder / "arm_run.toml").write_text(EXPERIMENT)
    for command in COMMANDS.split("\n")[1:-1]:
        climstack = Path(sys.executable).with_name("climstack")
        subprocess.run([climstack, *command.split()], cwd=folder, check=True)

    train, test = pl.read_csv(files["train"]), pl.read_csv(files["test"])
    y = train.select("^torque_.*$")
    model = StackedRegressor(["ridge", "lightgbm"]).fit(train.drop(y.columns), y)
    print(model.leaderboard_)
    print(model.predict(test).shape)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/robot_arm"))
