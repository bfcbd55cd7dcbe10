"""A fold without anything to learn is a sentence, for every family; few rows are a warning."""

import numpy as np
import polars as pl
import pytest

from features import ClimstackError, FoldedStore, convert, time_blocks
from models import CellStore, ModelSpec, available_families, cross_validate

QUICK = {"preset": "tiny", "epochs": 1, "device": "cpu"}
PARAMS = {"ridge": {}, "sklearn": {}, "lightgbm": {"n_rounds": 2}, "xgboost": {"n_rounds": 2}}
TARGET = "ptend_t_45"


@pytest.fixture
def fit(generated, schema, few_targets, tmp_path):
    """Fits a family to two folds of a table that was changed, on two targets."""

    def call(change, family="ridge", n_columns=16):
        change(pl.read_parquet(generated["train"])).write_parquet(tmp_path / "t.parquet")
        store = convert(tmp_path / "t.parquet", tmp_path / "store", schema, n_columns)
        data = FoldedStore(store, time_blocks(store.time, n_folds=2, embargo=0))
        spec = ModelSpec(name="m", family=family, params=PARAMS.get(family, QUICK))
        cells = CellStore(tmp_path / "cells")
        return cross_validate(data, spec, cells, targets=few_targets[:2], n_jobs=1)

    return call


@pytest.mark.parametrize("family", available_families())
def test_inputs_that_never_vary_are_a_sentence(family, fit, schema):
    with pytest.raises(ClimstackError, match="no input varies over the 192 training rows"):
        fit(lambda t: t.with_columns(pl.first(*schema.input_columns)), family)


@pytest.mark.parametrize("size", [1e-156, 1e-200, 1e-300])
def test_a_target_whose_squares_vanish_is_a_sentence(size, fit):
    scaled = (pl.col(TARGET) - pl.col(TARGET).mean()) / pl.col(TARGET).std() * size
    with pytest.raises(ClimstackError, match=f"target {TARGET} varies by 7.53e-"):
        fit(lambda t: t.with_columns(scaled))


def test_constant_targets_are_named(fit):
    with pytest.warns(UserWarning, match=f"1 of 2 targets are constant .* {TARGET} the first"):
        member = fit(lambda t: t.with_columns(pl.lit(0.37).alias(TARGET)))
    np.testing.assert_array_equal(member.oof(0)[:, 0], 0.37)


def test_few_rows_are_a_warning_with_their_number(fit):
    with pytest.warns(UserWarning, match="fold 0 trains on 6 rows and holds out 6"):
        fit(lambda t: t.gather_every(16).head(12), n_columns=1)  # of one place
