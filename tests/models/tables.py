"""Small tables without a grid, as stores in memory files: for models of any table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from features import FoldedStore, FoldPlan, Schema, Store, time_blocks
from features.schemas.variable import Variable
from features.store.matrix import Matrix

N_ROWS, N_TARGETS = 600, 5


def numbers(n: int, role: str = "input", **what: object) -> list[Variable]:
    """Scalars x_0a, x_1a ... or y_0a ..., whose names are no levels."""
    letter = "x" if role == "input" else "y"
    return [Variable(name=f"{letter}{i}", role=role, **what) for i in range(n)]


def make_folded(
    folder: Path, variables: list[Variable], inputs: np.ndarray, targets: np.ndarray
) -> FoldedStore:
    """Two folds of blocks of rows of a store that holds what is given."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store.__new__(Store)
    store.schema = Schema(name="table", variables=tuple(variables))
    for name, values in (("inputs", inputs), ("targets", targets)):
        np.save(folder / f"{name}.npy", np.ascontiguousarray(values, dtype=np.float64))
        setattr(store, name, Matrix.of_npy(folder / f"{name}.npy"))
    store.path, store.called, store.data_hash = folder, folder, str(folder)
    store.manifest, store.n_grid_columns = {"sources": []}, 1
    plan: FoldPlan = time_blocks(np.arange(len(inputs)), n_folds=2, embargo=0)
    return FoldedStore(store, plan)


def robot(n_rows: int = N_ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """12 inputs and 5 targets that depend on a few of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, 12))
    w = rng.normal(size=(12, N_TARGETS))
    return x, x @ w + 0.5 * np.sin(2 * x[:, :N_TARGETS]) + 0.3 * rng.normal(size=(n_rows, 5))
