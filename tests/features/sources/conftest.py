"""What tests of NetCDF files share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features import DataWarning, Schema, Store
from features.sources.source import Batch, open_source
from tests.features.sources.pairs import Files, pair_of

Read = Callable[..., Batch]


@pytest.fixture
def files(store: Store) -> Files:
    """A pair of 16 columns, to be changed."""
    return pair_of(store, 16)


@pytest.fixture
def read(schema: Schema) -> Read:
    """The one step of a folder; what was done to its values is a warning, as in converting."""

    def step(folder: Path, n_columns: int = 16) -> Batch:
        (batch,) = open_source(folder, schema, n_columns).batches({}, 1)
        for note, path in batch.notes.items():
            warnings.warn(f"{path}: {note}", DataWarning, stacklevel=2)
        return batch

    return step


@pytest.fixture
def rows(read: Read) -> Callable[..., np.ndarray]:
    """Inputs and targets of the one step of a folder, side by side."""

    def values(folder: Path, n_columns: int = 16) -> np.ndarray:
        batch = read(folder, n_columns)
        return np.concatenate([batch.inputs, batch.targets], axis=1)

    return values
