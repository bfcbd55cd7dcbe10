from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from ensemble.evaluation.regime_errors import RegimeSums, write_errors
from features import ClimstackError, bias, mae, r2_score, regime_masks, rmse


@pytest.fixture(scope="module")
def held_out(rows, contenders, latitude):
    contender = next(c for c in contenders if c.name == "nnls/group")
    return at_latitudes(replace(rows, honest=contender.honest), latitude)


def at_latitudes(held_out, latitude):
    """The same rows, with a grid whose columns lie there."""
    store = copy(held_out.data.store)
    store.grid = SimpleNamespace(lat=latitude)
    return replace(held_out, data=replace(held_out.data, store=store))


@pytest.fixture(scope="module")
def latitude():
    return np.linspace(-75, 75, 16)


@pytest.fixture(scope="module")
def table(held_out, tmp_path_factory):
    path = tmp_path_factory.mktemp("errors") / "errors.parquet"
    written = write_errors(held_out, path)
    assert pl.read_parquet(path).equals(written)
    return written


def test_every_figure_equals_that_of_its_rows(held_out, table, latitude):
    schema, targets = held_out.data.store.schema, held_out.targets
    blocks = list(held_out.blocks())
    inputs = np.concatenate([block.inputs for block in blocks])
    rows = np.concatenate([block.rows for block in blocks])
    y = np.concatenate([block.truth for block in blocks])[:, targets]
    predicted = {
        "blend": np.concatenate([block.outputs for block in blocks])[:, targets],
        "trees": np.concatenate([block.predictions["trees"] for block in blocks]),
    }
    masks = regime_masks(schema, inputs, latitude[held_out.data.store.column[rows]])
    assert table["regime"].unique(maintain_order=True).to_list() == [
        name for name, mask in masks.items() if mask.any()
    ]
    for model, y_pred in predicted.items():
        for regime, mask in masks.items():
            own = table.filter((pl.col("model") == model) & (pl.col("regime") == regime))
            assert own["target"].to_list() == [schema.target_columns[t] for t in targets]
            assert set(own["rows"]) == {mask.sum()}
            for name, score in (("r2", r2_score), ("rmse", rmse), ("mae", mae), ("bias", bias)):
                expected = score(y[mask], y_pred[mask])
                np.testing.assert_allclose(own[name], expected, rtol=1e-7, atol=1e-25)


def test_blocks_of_any_size_give_the_same(held_out, table, monkeypatch, tmp_path):
    monkeypatch.setattr("ensemble.evaluation.held_out.BLOCK_ROWS", 37)
    again = write_errors(held_out, tmp_path / "errors.parquet")
    for name in ("r2", "rmse", "mae", "bias"):
        np.testing.assert_allclose(again[name], table[name], rtol=1e-9, atol=1e-20)


def test_sunlight_at_night_is_met_or_not(table):
    """Its truth is 0 all night: R2 is 1 where the prediction is too, else 0, never noise."""
    night = table.filter((pl.col("regime") == "night") & (pl.col("target") == "cam_out_SOLS"))
    assert night["model"].to_list() == ["blend", "linear", "trees"]
    assert set(night["r2"]) <= {0.0, 1.0}


def test_a_row_alone_has_no_r2():
    sums = RegimeSums.empty(2, ["m"])
    sums.add(np.array([[1.0, 2.0]]), {"m": np.array([[0.5, -0.5]])})
    assert list(sums.scores("m")["r2"]) == [None, None]
    assert list(sums.scores("m")["bias"]) == [0.5, -0.5]
    sums.add(np.array([[3.0, 2.0]]), {"m": np.array([[0.5, 0.0]])})
    assert list(sums.scores("m")["r2"]) == [0.75, 0.0]


def test_empty_regimes_are_left_out_and_names_must_differ(held_out, tmp_path):
    table = write_errors(at_latitudes(held_out, np.full(16, 60.0)), tmp_path / "errors.parquet")
    assert set(table.filter(pl.col("kind") == "latitude")["regime"]) == {"extratropics"}
    first = held_out.members[0]
    named = replace(first, spec=replace(first.spec, name="blend"))
    with pytest.raises(ClimstackError, match="a member is named 'blend'"):
        write_errors(
            replace(held_out, members=[named, held_out.members[1]]), tmp_path / "errors.parquet"
        )
