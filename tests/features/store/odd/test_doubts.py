"""What rows say against themselves is said, and nothing of good ones."""

from __future__ import annotations

import numpy as np
import pytest

from features import convert
from features.sources.findings import few_digits
from features.store.odd.doubts import ROWS, Sample


def doubts_of(schema, inputs, targets, known=frozenset()):
    sample = Sample()
    sample.add(0, inputs, targets)
    return sample.doubts(schema, set(known))


def test_a_sample_is_spread_over_all_rows():
    sample, values = Sample(), np.arange(10_000.0)[:, None]
    for start in range(0, 10_000, 300):
        sample.add(start, values[start : start + 300], None)
    rows = np.concatenate(sample.rows)
    assert ROWS <= len(rows) <= 2 * ROWS
    assert len(set(np.diff(rows))) == 1
    assert np.array_equal(rows, np.concatenate(sample.inputs)[:, 0])


def test_values_that_are_refused_do_no_harm(schema, store):
    inputs, targets = store.inputs[:], store.targets[:]
    inputs[3], targets[5] = np.nan, np.inf
    assert doubts_of(schema, inputs, targets) == []


def test_a_few_rows_of_one_place_tell_nothing_of_levels(schema, store):
    turned = store.inputs[:8]
    turned[:, :60] = turned[:, 59::-1]
    assert doubts_of(schema, turned, None) == []


def test_few_digits_that_are_known_are_not_said_again(schema, store):
    inputs = store.inputs[:]
    at = schema.column_index("state_ps")
    inputs[:, at] = inputs[:, at].astype("f4")
    (said,) = doubts_of(schema, inputs, None)
    assert "float32" in said
    assert "state_ps" in said
    assert doubts_of(schema, inputs, None, {"state_ps"}) == []


@pytest.mark.parametrize(
    ("values", "how"),
    [
        (np.random.default_rng(0).normal(size=500), None),
        (np.random.default_rng(0).normal(size=500).astype("f4").astype("f8"), "float32"),
        (np.random.default_rng(0).normal(size=500).round(9), "decimals of at most 12 digits"),
        (np.random.default_rng(0).normal(size=500) * 1e-300, None),
        (np.tile([0.0, 1.0, 0.5, np.nan], 100), None),
        (np.full(500, 0.25), None),
    ],
)
def test_few_digits_are_told_from_float64(values, how):
    assert few_digits(values) == how


@pytest.mark.real
def test_nothing_is_said_of_any_timestep_of_the_real_rows(real_folder, schema, tmp_path):
    store = convert(real_folder / "train.parquet", tmp_path / "s", schema)
    for step in np.unique(store.time):
        rows = np.flatnonzero(store.time == step)
        assert doubts_of(schema, store.inputs[rows], store.targets[rows]) == []
