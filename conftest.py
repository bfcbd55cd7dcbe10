"""What the examples in docstrings find: a folder with a small data set, and a finished run of it.

An example is what a person would type in a folder that holds ``toy.toml`` (a schema),
``train.parquet``, ``test.parquet``, ``sample_submission.parquet``, ``solution.parquet``,
``first.toml`` (an experiment) and ``runs/first``, its run. It finds the names of the stages by hand
in docs/python.md, too: ``store``, ``data``, ``cells``, ``members``, ``held_out``, ``moments``,
``contenders`` and ``scores``. All of it is made once, when an example first asks.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from _pytest.doctest import DoctestItem

TOY = Path(__file__).parent / "tests" / "toy.toml"
EXPERIMENT = """
name = "first"
[data]
train = "train.parquet"
test = "test.parquet"
schema = "toy.toml"
[folds]
n_folds = 3
[stack]
blenders = ["mean", "nnls"]
[[models]]
name = "ridge"
family = "ridge"
[[models]]
name = "trees"
family = "lightgbm"
params = { n_rounds = 8, num_leaves = 8 }
"""
STAGES = ("store", "data", "cells", "members", "held_out", "moments", "contenders", "scores")
ASKS = re.compile(rf"runs/first|toy\.toml|first\.toml|\b(?:{'|'.join(STAGES)})\b")


@pytest.fixture(autouse=True)
def _example(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """See that an example stands in its folder; other tests stay where they are."""
    item = request.node
    if not isinstance(item, DoctestItem):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        code = "".join(example.source for example in item.dtest.examples)
        if ASKS.search(code) is None:
            patch.chdir(tmp_path_factory.mktemp("example"))
            yield
            return
        with _in_this_process():
            desk = request.getfixturevalue("_desk")
            patch.chdir(desk["folder"])
            item.dtest.globs.update(desk)
            yield


@contextmanager
def _in_this_process() -> Iterator[None]:
    """Fit and convert without other processes, whose start takes longer than the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ensemble.runs.store.run_apart", lambda call, *args: call(*args))
        for module in ("models.cross_validation", "ensemble.inference.predict"):
            patch.setattr(f"{module}.cpu_count", lambda: 1)
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def _desk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The folder, made and run, and what the stages by hand give."""
    import ensemble
    import models
    from features import FoldedStore, Store, load_schema, time_blocks

    folder = tmp_path_factory.mktemp("desk")
    shutil.copy(TOY, folder)
    schema, rng = load_schema(folder / "toy.toml"), np.random.default_rng(0)
    for name, n in (("train", 160), ("test", 24)):
        x = rng.normal(size=(n, 4))
        y = np.stack([0 * x[:, 0], 2 * x[:, 1] + 0.1, x[:, 2] - x[:, 3], x[:, 3] ** 2], axis=1)
        ids = pl.Series(schema.id_name, [f"{name}_{i}" for i in range(n)])
        given, truth = pl.DataFrame(x, schema.input_columns), pl.DataFrame(y, schema.target_columns)
        answers = truth.insert_column(0, ids)
        given.insert_column(0, ids)
        if name == "train":
            given = pl.concat([given, answers.drop(schema.id_name)], how="horizontal")
        else:
            answers.write_parquet(folder / "solution.parquet")
            weights = zip(schema.weights.tolist(), schema.target_columns, strict=True)
            ones = [pl.lit(weight).alias(column) for weight, column in weights]
            answers.with_columns(ones).write_parquet(folder / "sample_submission.parquet")
        given.write_parquet(folder / f"{name}.parquet")
    (folder / "first.toml").write_text(EXPERIMENT, encoding="utf-8")
    experiment = ensemble.load_experiment(folder / "first.toml")
    ensemble.run_experiment(experiment, folder / "runs")
    store = Store(folder / "runs" / "first" / "store" / "train")
    data = FoldedStore(store, time_blocks(store.time, n_folds=3, embargo=1))
    cells = models.CellStore(folder / "runs" / "first" / "cells")
    members = [models.cross_validate(data, spec, cells) for spec in experiment.models]
    held_out = ensemble.HeldOut(data=data, members=members)
    moments = ensemble.collect_moments(held_out)
    blends = ensemble.candidates(["mean", "nnls"], ["group", "target"])
    contenders = ensemble.fit_contenders(store.schema, members, moments, blends)
    return {
        "folder": folder,
        "schema": store.schema,
        "store": store,
        "data": data,
        "cells": cells,
        "members": members,
        "held_out": held_out,
        "moments": moments,
        "contenders": contenders,
        "scores": ensemble.evaluate(held_out, contenders),
    }
