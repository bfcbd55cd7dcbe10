"""Settings of a study that takes seconds."""

import pytest

from models import ModelSpec
from tuning import TuneSettings

RANGES = {"n_rounds": [4, 16], "num_leaves": [4, 12], "min_data_in_leaf": [5, 40]}


@pytest.fixture(scope="session")
def trees() -> ModelSpec:
    return ModelSpec(
        name="trees",
        family="lightgbm",
        params={"n_rounds": 8, "num_leaves": 7, "linear_tree": False},
    )


@pytest.fixture(scope="session")
def ranges() -> dict[str, list[int]]:
    return RANGES


@pytest.fixture(scope="session")
def quick() -> TuneSettings:
    return TuneSettings(n_trials=6, n_clusters=5, n_representatives=2)
