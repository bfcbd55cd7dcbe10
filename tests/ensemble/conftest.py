"""Two members over shared folds, stacked: what the tests of the roof start from."""

from __future__ import annotations

import pytest

from ensemble import candidates, collect_moments, evaluate, fit_contenders
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
def moments(store, plan, members):
    return collect_moments(store, plan, members)


@pytest.fixture(scope="session")
def contenders(store, plan, members, moments):
    blends = candidates(["mean", "best", "nnls"], ["group", "target"])
    return fit_contenders(store, plan, members, moments, blends)


@pytest.fixture(scope="session")
def errors(store, plan, members, contenders):
    return evaluate(store, plan, members, contenders)
