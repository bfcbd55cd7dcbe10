"""Members that were fitted elsewhere: their files, matched by id, and what is wrong with them."""

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features import ClimstackError, FoldedStore, forward_chaining
from features.core.errors import DataWarning
from models import CellStore, External, ModelSpec, cell_keys, cross_validate, read_member

RIDGE = ModelSpec(name="ridge", family="ridge")


@pytest.fixture(scope="module")
def ridge(folded, few_targets, tmp_path_factory):
    return cross_validate(
        folded, RIDGE, CellStore(tmp_path_factory.mktemp("c")), targets=few_targets
    )


@pytest.fixture(scope="module")
def frame(ridge, folded, schema):
    """What somebody else would write: ids, folds and targets of every validated row, shuffled."""
    plan, store = folded.plan, folded.store
    parts = []
    for fold in range(plan.n_folds):
        rows = plan.valid_rows(fold)
        columns = {
            schema.target_columns[t]: ridge.oof(fold)[:, i] for i, t in enumerate(ridge.targets)
        }
        ids = store.sample_ids[rows]
        parts.append(pl.DataFrame({"sample_id": ids, "fold": [fold] * len(rows), **columns}))
    return pl.concat(parts).sample(fraction=1.0, shuffle=True, seed=0)


@pytest.fixture
def member(folded, few_targets, tmp_path):
    """Writes a frame and takes it in."""

    def take(frame, suffix="parquet", **settings):
        file = tmp_path / f"oof.{suffix}"
        frame.write_csv(file) if suffix == "csv" else frame.write_parquet(file)
        targets = settings.pop("targets", ())
        data = settings.pop("data", folded)
        spec = ModelSpec(
            name="theirs",
            family="external",
            external=External(oof=str(file), **settings),
            targets=targets,
        )
        return cross_validate(data, spec, CellStore(tmp_path / "cells"), targets=few_targets)

    return take


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_rows_are_found_by_their_ids(frame, member, ridge, folded, suffix, recwarn):
    found = member(frame, suffix, folds="fold")
    for fold in range(folded.plan.n_folds):
        np.testing.assert_array_equal(found.oof(fold), ridge.oof(fold))
        ours, theirs = (each.cells[fold][0].score["r2"] for each in (ridge, found))
        np.testing.assert_allclose(theirs, ours, rtol=1e-9)
    assert found.computed == folded.plan.n_folds
    assert found.seconds == found.peak_memory_mb == 0
    again = member(frame, suffix, folds="fold")
    assert (again.computed, again.hash) == (0, found.hash)
    assert not [w for w in recwarn if issubclass(w.category, DataWarning)]
    with pytest.raises(ClimstackError):
        found.models(0)


def test_a_file_of_some_targets_serves_those(frame, member, schema, folded, few_targets):
    some = frame.drop("ptend_t_45", "cam_out_SOLS")
    with pytest.warns(DataWarning, match="lacks 2 of 5 targets, so .* serve ptend_t_45, cam_out_S"):
        found = member(some)
    assert [schema.target_columns[t] for t in found.targets] == [
        "ptend_q0001_50",
        "ptend_u_55",
        "cam_out_FLWDS",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(member(some, targets=("cam_out_FLWDS",)).targets) == 1
    with pytest.raises(ClimstackError, match="has no column 'cam_out_SOLS': did you mean"):
        member(some, targets=("cam_out_SOLS",))
    with pytest.raises(
        ClimstackError, match="has no column of a target, as ptend_t_0: its columns"
    ):
        member(frame.select("sample_id", pl.lit(1.0).alias("prediction")))


def test_another_file_is_another_member(frame, member, folded, few_targets):
    found = member(frame)
    file = found.spec.external.oof
    other = member(frame.with_columns(pl.col("ptend_u_55") * 1.001))
    assert other.hash != found.hash
    pinned = replace(other.spec, external=External(oof=file, oof_sha256="0" * 64))
    with pytest.raises(ClimstackError, match="is not the file that oof_sha256"):
        cross_validate(folded, pinned, CellStore(file + ".cells"), targets=few_targets)
    kept = replace(other.spec, external=External(oof=file, oof_sha256=other.spec.external.sha256))
    keys = [cell_keys(folded, spec, few_targets, 0) for spec in (kept, other.spec)]
    assert keys[0] == keys[1]


def swapped(frame, column, value, row=3):
    values = frame[column].to_list()
    values[row] = value
    return frame.with_columns(pl.Series(column, values, dtype=frame[column].dtype))


WRONG = {
    "missing": (lambda f: f[2:], "lacks 2 of 384 validated rows, as 'train_"),
    "twice": (lambda f: pl.concat([f, f[:3]]), "has 3 ids more than once, as 'train_.*' 2 times"),
    "unknown": (
        lambda f: swapped(swapped(f, "sample_id", "test_7"), "sample_id", "x", 9),
        "has 2 ids of 384 that are no validated rows, as 'test_7': ids are compared as text, as"
        " 'train_0'",
    ),
    "positions": (
        lambda f: f.with_columns(pl.int_range(pl.len()).alias("sample_id")),
        "has 384 ids of 384 that are no validated rows, as '0'",
    ),
    "no id": (lambda f: swapped(f, "sample_id", None), "has no sample_id in row 3"),
    "no ids": (lambda f: f.drop("sample_id"), "has no column 'sample_id'"),
    "nan": (
        lambda f: swapped(f, "ptend_u_55", float("nan")),
        "column 'ptend_u_55' has nan for 'train_.*' in row 3",
    ),
    "inf": (
        lambda f: swapped(f, "ptend_u_55", float("inf"), 0),
        "column 'ptend_u_55' has inf for 'train_.*' in row 0",
    ),
    "empty": (
        lambda f: swapped(f, "cam_out_SOLS", None, 380),
        "column 'cam_out_SOLS' has no value for 'train_.*' in row 380",
    ),
    "text": (
        lambda f: f.with_columns(pl.lit("x").alias("cam_out_SOLS")),
        "column 'cam_out_SOLS' has type String, expected Float64",
    ),
    "huge": (
        lambda f: swapped(f, "cam_out_SOLS", 1e300),
        "column 'cam_out_SOLS' has values too large to square",
    ),
    "units": (
        lambda f: f.with_columns(pl.col("cam_out_FLWDS") * 1000),
        "1 of 5 columns are in another unit than the training data, as 'cam_out_FLWDS', whose"
        " correlation with the truth is 0.9.* while the truth is 0.00.* times the prediction",
    ),
    "small units": (
        lambda f: f.with_columns(pl.col("cam_out_FLWDS") / 1000),
        "'cam_out_FLWDS', .* while the truth is 9.* times the prediction",
    ),
    "kelvin": (
        lambda f: f.with_columns(pl.col("cam_out_FLWDS") + 1e4),
        "'cam_out_FLWDS', .* standard deviations of the truth off",
    ),
    "sign": (
        lambda f: f.with_columns(-pl.col("cam_out_FLWDS")),
        "'cam_out_FLWDS', .* the truth is -0.9.* times the prediction",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_files_are_refused_by_a_sentence(what, frame, member, tmp_path):
    change, said = WRONG[what]
    with pytest.raises(ClimstackError, match=said):
        member(change(frame))
    assert not list((tmp_path / "cells").glob("*/score.json"))


def test_a_csv_with_text_names_row_and_column(frame, member):
    text = frame.with_columns(pl.col("cam_out_SOLS").cast(pl.String))
    with pytest.raises(ClimstackError, match=r"cam_out_SOLS.*'much'.*row 3"):
        member(swapped(text, "cam_out_SOLS", "much"), "csv")


def test_folds_are_compared_as_partitions(frame, member, folded):
    names = pl.col("fold").replace_strict({0: "b", 1: "c", 2: "a"})
    assert member(frame.with_columns(names), folds="fold").computed == 3
    moved = swapped(swapped(frame, "fold", 0, 5), "fold", 0, 6)
    n = sum(frame["fold"][row] != 0 for row in (5, 6))
    with pytest.raises(ClimstackError, match=f"has other folds than the run for {n} of 384 rows"):
        member(moved, folds="fold")
    random = frame.with_columns(pl.int_range(pl.len()).mod(3).alias("fold"))
    with pytest.raises(ClimstackError, match=r"for 2\d\d of 384 rows \(3 labels, 3 folds\)"):
        member(random, folds="fold")
    with pytest.raises(ClimstackError, match=r"for \d+ of 384 rows \(1 labels, 3 folds\)"):
        member(frame.with_columns(pl.lit(0).alias("fold")), folds="fold")
    with pytest.raises(ClimstackError, match="has no column 'folds' of folds: did you mean 'fold'"):
        member(frame, folds="folds")
    with pytest.raises(ClimstackError, match="column 'fold' has no value for 'train_"):
        member(swapped(frame, "fold", None), folds="fold")


def test_rows_that_are_never_validated_may_be_there(frame, member, store, schema):
    data = FoldedStore(store, forward_chaining(store.time, 3, 1))
    never = store.sample_ids.filter(pl.Series(data.plan.fold < 0))
    assert len(never)
    empty = pl.when(pl.col("sample_id").is_in(never.implode())).then(None)
    columns = [empty.otherwise(pl.col(name)).alias(name) for name in frame.columns[2:]]
    for given in (
        frame,
        frame.with_columns(columns),
        frame.filter(~pl.col("sample_id").is_in(never.implode())),
    ):
        assert member(given, data=data).computed == 3


def test_what_may_be_another_unit_is_told(frame, member):
    """Where predictions are too small by a factor that a model fitted too little may have, too."""
    with pytest.warns(DataWarning, match="'cam_out_FLWDS': the truth is 9.* times the prediction"):
        member(frame.with_columns(pl.col("cam_out_FLWDS") / 10))


def test_shuffled_rows_are_told(frame, member):
    ids = frame["sample_id"].sample(fraction=1.0, shuffle=True, seed=1)
    with pytest.warns(DataWarning, match="no column goes with the truth .* look shuffled"):
        member(frame.with_columns(ids))


def test_other_models_may_build_on_it(frame, member, folded, few_targets, tmp_path):
    theirs = member(frame)
    trees = {"n_rounds": 2, "num_leaves": 4, "early_stopping_rounds": 0}
    fed = ModelSpec(name="fed", family="lightgbm", params=trees, inputs_from=(theirs.spec,))
    cells = CellStore(tmp_path / "cells")
    found = cross_validate(folded, fed, cells, targets=few_targets, n_jobs=1)
    own = replace(fed, inputs_from=(RIDGE,))
    cross_validate(folded, RIDGE, cells, targets=few_targets)
    same = cross_validate(folded, own, cells, targets=few_targets, n_jobs=1)
    np.testing.assert_array_equal(found.oof(1), same.oof(1))
    assert read_member(folded, fed, cells, few_targets).hash == found.hash


def test_what_an_external_model_can_not_have():
    files = External(oof="oof.csv")
    with pytest.raises(ClimstackError, match=r"'m' \(external\) needs oof"):
        ModelSpec(name="m", family="external")
    with pytest.raises(ClimstackError, match="only family 'external' has files of predictions"):
        ModelSpec(name="m", family="ridge", external=files)
    with pytest.raises(ClimstackError, match="is external, so it has no params: remove them"):
        ModelSpec(name="m", family="external", external=files, params={"clip": 1.0})
    with pytest.raises(ClimstackError, match="no model family 'externl': did you mean 'external'"):
        ModelSpec(name="m", family="externl")
