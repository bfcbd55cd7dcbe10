"""An Optuna study of LightGBM on generated columns of air. About half a minute.

Usage: python examples/optuna_study.py [FOLDER]
"""

import sys
from pathlib import Path

from features import FoldedStore, convert, load_schema, time_blocks
from features.synthetic import write_dataset
from models import ModelSpec
from tuning import TuneSettings, tune


def main(folder: Path) -> None:
    files = write_dataset(folder / "data", n_timesteps=24, n_columns=16, seed=0)
    store = convert(files["train"], folder / "store", load_schema("leap"), n_grid_columns=16)
    plan = time_blocks(store.time, n_folds=3, embargo=1)
    trees = ModelSpec(name="trees", family="lightgbm", params={"n_rounds": 40, "num_leaves": 8})

    how = TuneSettings(n_trials=8, n_clusters=4, n_representatives=1)
    found = tune(FoldedStore(store, plan), trees, folder / "run", how)
    for trial in found.trials:
        print(trial["place"], trial["state"], trial["value"], trial["params"])
    print(f"claimed {found.claim.defaults:.4f} -> {found.claim.tuned:.4f}")
    print(f"unseen  {found.unseen.defaults:.4f} -> {found.unseen.tuned:.4f}: {found.adopted}")
    print(found.spec.params)  # a ModelSpec for cross_validate or an Experiment


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/optuna_study"))
