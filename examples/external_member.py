"""A forest that scikit-learn fitted alone joins a stack by the ids of its rows. About a minute.

Usage: python examples/external_member.py [FOLDER]
"""

import sys
from pathlib import Path

import polars as pl
from sklearn.ensemble import ExtraTreesRegressor

from ensemble import load_experiment, run_experiment, write_members
from features.synthetic import write_dataset

RIDGE = 'grid_columns = 32\n[[models]]\nfamily = "ridge"\n'
THEIRS = '[[models]]\nname = "forest"\nfamily = "external"\noof = "oof.parquet"\nfolds = "fold"\n'


def main(folder: Path) -> None:
    files = write_dataset(folder / "data", n_timesteps=24, n_columns=32, seed=0)
    head = f'name = "NAME"\n[data]\ntrain = "{files["train"].resolve()}"\n' + RIDGE
    (folder / "alone.toml").write_text(head.replace("NAME", "alone"))
    run_experiment(load_experiment(folder / "alone.toml"), folder)
    split = pl.read_parquet(write_members(folder / "alone", folder / "split.parquet"))
    rows = pl.read_parquet(files["train"]).join(split.select("sample_id", "fold"), on="sample_id")
    targets, parts = split.columns[2:], []
    for fold in range(5):
        seen, held = rows.filter(pl.col("fold") != fold), rows.filter(pl.col("fold") == fold)
        x, x_held = (part.select(pl.col("^(state|pbuf|cam_in)_.*$")) for part in (seen, held))
        forest = ExtraTreesRegressor(20, min_samples_leaf=3, max_features=0.1, random_state=0)
        y = forest.fit(x.to_numpy(), seen.select(targets).to_numpy()).predict(x_held.to_numpy())
        parts.append(held.select("sample_id", "fold").hstack(pl.from_numpy(y, targets)))
    pl.concat(parts).write_parquet(folder / "oof.parquet")
    (folder / "both.toml").write_text(head.replace("NAME", "both") + THEIRS)
    print("honest", run_experiment(load_experiment(folder / "both.toml"), folder)[0]["score"])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/external_member"))
