"""Two members over shared folds, stacked: what the tests of the roof start from."""

from __future__ import annotations

import pytest

from ensemble import HeldOut, candidates, collect_moments, evaluate, fit_contenders
from models import CellStore, ModelSpec, cross_validate

TREES = {"n_rounds": 8, "num_leaves": 7, "learning_rate": 0.3, "early_stopping_rounds": 0}


@pytest.fixture(scope="session")
def cells(tmp_path_factory):
    return CellStore(tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="session")
def some_targets(schema):
    return schema.modelled_targets[::8]


@pytest.fixture(scope="session")
def members(folded, cells, some_targets):
    specs = [
        ModelSpec(name="linear", family="ridge"),
        ModelSpec(name="trees", family="lightgbm", params=TREES),
    ]
    return [cross_validate(folded, spec, cells, targets=some_targets, n_jobs=1) for spec in specs]


@pytest.fixture(scope="session")
def rows(folded, members):
    """The members' held-out rows, without a chosen blend."""
    return HeldOut(data=folded, members=members)


@pytest.fixture(scope="session")
def moments(rows):
    return collect_moments(rows)


@pytest.fixture(scope="session")
def contenders(schema, members, moments):
    blends = candidates(["mean", "best", "nnls"], ["group", "target"])
    return fit_contenders(schema, members, moments, blends)


@pytest.fixture(scope="session")
def scores(rows, contenders):
    return evaluate(rows, contenders)
