"""What the benchmarks share: the flag ``--quick``, the rows, and some of their targets."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from features import Store
    from features.core.types import Rows


class Options(argparse.ArgumentParser):
    """Arguments of a script; with ``--quick`` it runs on one core and takes no real rows."""

    def __init__(self, doc: str | None) -> None:
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument(
            "--quick", action="store_true", help="the same lines from tiny generated data"
        )

    def parse(self) -> argparse.Namespace:
        """The arguments."""
        asked = self.parse_args()
        if asked.quick:
            os.environ["LOKY_MAX_CPU_COUNT"] = "1"
            os.environ.pop("CLIMSTACK_REAL_DATA", None)
        return asked


def make_store(folder: Path, quick: bool) -> tuple[Store, int]:
    """A store and the embargo that its folds need: real rows where they are named, else generated.

    Args:
        folder: where it may be made.
        quick: a few hundred generated rows.
    """
    from features import convert, load_schema  # bench_gpu runs where Polars is not installed
    from features.synthetic import write_dataset

    schema = load_schema("leap")
    if "CLIMSTACK_REAL_DATA" in os.environ:
        real = Path(os.environ["CLIMSTACK_REAL_DATA"]) / "train.parquet"
        return convert(real, folder / "store", schema), 0
    n_timesteps, n_columns, embargo = (24, 12, 1) if quick else (40, 384, 2)
    files = write_dataset(folder / "data", n_timesteps, n_columns, seed=0)
    return convert(files["train"], folder / "store", schema, n_columns), embargo


def spread_targets(store: Store, n_targets: int) -> Rows:
    """So many modelled targets, evenly spread over all."""
    modelled = store.schema.modelled_targets
    return modelled[np.linspace(0, len(modelled) - 1, n_targets).round().astype(int)]
