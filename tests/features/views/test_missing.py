"""Policies for missing and extreme values."""

import numpy as np
import polars as pl
import pytest

from features import ClimstackError, Proportion, Schema, Variable, convert, load_schema
from features.views.missing import Repair, first_place

LIMITS = (0.0, 10.0)
VARIABLES = [
    Variable(name="strict", unit="1", role="input"),
    Variable(name="clipped", unit="1", role="input", n_levels=2, limits=LIMITS, policy="clip"),
    Variable(name="imputed", unit="1", role="input", n_levels=2, limits=LIMITS, policy="impute"),
]
NAN, INF = np.nan, np.inf


def test_values_are_repaired_by_their_variables_policy_and_counted():
    repair = Repair(VARIABLES)
    values = np.array([[99.0, -1.0, INF, NAN, 5.0], [-5.0, 3.0, 11.0, 1e30, -INF]])
    assert repair.apply(values) is None
    expected = np.array([[99.0, 0.0, 10.0, NAN, 5.0], [-5.0, 3.0, 10.0, NAN, NAN]])
    np.testing.assert_array_equal(values, expected)
    assert repair.apply(np.full((1, 5), -1.0)) is None
    assert repair.counts == {
        "clipped": {"clipped_0": 2, "clipped_1": 3},
        "imputed": {"imputed_0": 3, "imputed_1": 2},
    }


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ([NAN, 1.0, 1.0, 1.0, 1.0], (1, 0)),
        ([INF, 1.0, 1.0, NAN, 1.0], (1, 0)),
        ([1.0, 1.0, NAN, 1.0, 1.0], (1, 2)),  # nothing to clip it from
    ],
)
def test_the_first_refused_value_is_found_and_nothing_is_changed(row, place):
    repair = Repair(VARIABLES)
    values = np.array([[1.0, 1.0, 1.0, 1.0, 1.0], row])
    assert repair.apply(values) == place
    np.testing.assert_array_equal(values[1], row)
    assert not repair.counts


def test_limits_refuse_too():
    repair = Repair([Variable(name="t", unit="K", role="input", limits=(100.0, 400.0))])
    assert repair.apply(np.array([[300.0], [1000.0]])) == (1, 0)
    assert repair.why(1000.0, 0) == "outside the limits of t, 100 to 400 K"
    assert repair.why(np.nan, 0) is None
    share = Repair([Variable(name="share", unit="1", role="input", limits=(0.0, 1.0))])
    assert share.why(3.0, 0) == "outside the limits of share, 0 to 1"


def test_refused_values_are_found_without_changing_or_counting_any():
    repair = Repair(VARIABLES)
    values = np.array([[NAN, 11.0, NAN, NAN, 11.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    before = values.copy()
    where = repair.refused(values)
    assert where.tolist() == [[True, False, True, False, False], [False] * 5]
    assert first_place(where) == (0, 0)
    assert repair.refused(values[1:]) is None
    assert repair.refused(np.array([[1.0, 11.0, 1.0, NAN, 11.0]])) is None
    np.testing.assert_array_equal(values, before)
    assert not repair.counts


def test_a_bad_value_anywhere_in_a_long_block_is_found():
    repair = Repair([Variable(name="x", unit="1", role="input", n_levels=3)])
    for row in (0, 255, 256, 999):
        values = np.ones((1000, 3))
        values[row, 1] = NAN
        assert repair.apply(values) == (row, 1)
        assert repair.apply(np.asfortranarray(values)) == (row, 1)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Variable(name="y", unit="1", role="target", limits=LIMITS, policy="impute"),
            "target 'y' can't be imputed",
        ),
        (lambda: Variable(name="x", unit="1", role="input", policy="clip"), "'x' has no limits"),
        (
            lambda: Variable(name="x", unit="1", role="input", limits=(2.0, 2.0)),
            "low < high must hold",
        ),
        (
            lambda: Schema(
                name="s",
                variables=(
                    Variable(name="x", unit="1", role="input", policy="impute"),
                    Variable(name="y", unit="1", role="target", exact=Proportion("x", 2.0, (0, 1))),
                ),
            ),
            "'x' gives 'y' by a rule",
        ),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(make, sentence):
    with pytest.raises(ClimstackError, match=sentence):
        make()


def test_a_conversion_counts_what_it_clipped_and_names_what_it_refused(
    generated, tmp_path, monkeypatch
):
    leap = load_schema("leap")
    t = Variable(
        name="state_t", unit="K", role="input", n_levels=60, limits=(150.0, 280.0), policy="clip"
    )
    ps = Variable(name="state_ps", unit="Pa", role="input", limits=(1.0, 2.0))
    changed = {"state_t": t}

    def made() -> Schema:
        return Schema(
            name="leap",
            variables=tuple(changed.get(v.name, v) for v in leap.variables),
            n_grid_columns=16,
            id_column="sample_id",
        )

    monkeypatch.setattr("features.store.writer.PART_ROWS", 100)  # counts go on across parts
    store = convert(generated["train"], tmp_path / "clipped", made())
    counts = store.repaired["clipped"]
    plain = convert(generated["train"], tmp_path / "plain", leap, 16).inputs[:][:, :60]
    assert sum(counts.values()) == ((plain < 150) | (plain > 280)).sum() > 0
    np.testing.assert_array_equal(store.inputs[:][:, :60], plain.clip(150, 280))
    changed["state_ps"] = ps
    expected = r"'state_ps' has \d+, outside the limits of state_ps, 1 to 2 Pa, in row 0: put it"
    with pytest.raises(ClimstackError, match=expected):
        convert(generated["train"], tmp_path / "refused", made())


@pytest.mark.parametrize(
    ("column", "change", "row", "sentence"),
    [
        ("ptend_t_30", None, 100, "-9999, outside the limits of ptend_t, -0.5 to 0.5 K/s,"),
        ("state_u_30", None, 100, "-9999, outside the limits of state_u, -500 to 500 m/s,"),
        ("state_t_30", None, 100, "-9999, outside the limits of state_t, 80 to 600 K,"),
        ("state_ps", 0.01, 0, r"\d+\.?\d*, outside the limits of state_ps, 30000 to 120000 Pa,"),
    ],
)
def test_fill_values_and_other_units_in_a_table_are_refused_by_name(
    column, change, row, sentence, generated, schema, tmp_path
):
    table = pl.read_parquet(generated["train"])
    values = table[column].to_numpy().copy()
    if change is None:
        values[[100, 133, 300]] = -9999.0
    else:
        values *= change
    path = tmp_path / "bad.parquet"
    table.with_columns(pl.Series(column, values)).write_parquet(path)
    with pytest.raises(ClimstackError, match=f"'{column}' has {sentence} in row {row}: put it"):
        convert(path, tmp_path / "store", schema, 16)
    assert not (tmp_path / "store").exists()
