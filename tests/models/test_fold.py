"""Models that build on others: honest predictions in, and out."""

import numpy as np
import polars as pl
import pytest

from ensemble.inference.predict import _predict_fold, _with_bases
from features import ClimstackError, FoldedStore, convert, forward_chaining, r2_score, time_blocks
from models import CellStore, FoldData, ModelSpec, cell_keys, cross_validate
from models.diagnostics.importance import importance
from models.member import read_bases

TREES = {"n_rounds": 12, "num_leaves": 7, "min_data_in_leaf": 5}
RIDGE = ModelSpec(name="ridge", family="ridge")
RESIDUAL = ModelSpec(name="rest", family="lightgbm", params=TREES, residual_of=RIDGE)
STACKED = ModelSpec(name="fed", family="lightgbm", params=TREES, inputs_from=(RIDGE,))
BOTH = ModelSpec(
    name="both", family="lightgbm", params=TREES, residual_of=RIDGE, inputs_from=(RIDGE,)
)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return CellStore(tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="module")
def fit(folded, few_targets, cells):
    return lambda spec: cross_validate(folded, spec, cells, targets=few_targets, n_jobs=1)


@pytest.fixture(scope="module")
def ridge(fit):
    return fit(RIDGE)


def r2_of(member, store, plan):
    folds = range(plan.n_folds)
    truth = np.concatenate([store.targets[plan.valid_rows(k)][:, member.targets] for k in folds])
    return r2_score(truth, np.concatenate([member.oof(k) for k in folds]))


def test_a_training_row_shows_the_prediction_of_the_fold_that_held_it_out(
    ridge, folded, store, plan, few_targets, cells
):
    bases = read_bases(folded, BOTH, cells, few_targets)
    data = FoldData(data=folded, fold=1, targets=few_targets, kind="trees", bases=bases)
    rows = np.sort(np.random.default_rng(0).permutation(data.train_rows)[:90])
    ((name, upstream),) = bases.upstream
    assert name == "ridge"
    shown = upstream(rows)
    for row, values in zip(rows, shown, strict=True):
        fold = int(plan.fold[row])
        assert fold != 1
        position = int(np.searchsorted(plan.valid_rows(fold), row))
        np.testing.assert_array_equal(values, ridge.oof(fold)[position])
    valid = plan.valid_rows(1)
    np.testing.assert_array_equal(upstream(valid), ridge.oof(1))
    targets = store.targets[rows][:, few_targets]
    _, standardised = data.arrays(rows)
    np.testing.assert_allclose(data.scaler.inverse(standardised), targets - shown, rtol=1e-9)


class LineAndStep:
    """The same store with a target that is a line plus a step: one for ridge, one for trees."""

    data_hash = "a line and a step"
    levels = levels_hash = None

    def __init__(self, store):
        self.schema, self.inputs, self.path, self._n = (
            store.schema, store.inputs, store.path, len(store),
        )  # fmt: skip
        x = store.inputs[:]
        line, step = x[:, store.schema.column_index("state_t", 45)], x[:, 345]
        line, step = (line - line.mean()) / line.std(), (step - step.mean()) / step.std()
        self.step = np.abs(step)
        self.values = np.tile((3 * line + self.step)[:, None], (1, 368))

    def __len__(self):
        return self._n

    def require_targets(self):
        return self.values

    @property
    def targets(self):
        return self.values


def test_a_residual_model_adds_what_ridge_can_not_learn(store, plan, few_targets, tmp_path):
    made, cells = LineAndStep(store), CellStore(tmp_path)
    firm = ModelSpec(name="ridge", family="ridge", params={"alphas": [300.0]})
    trees = TREES | {"n_rounds": 60, "linear_tree": False}
    rest = ModelSpec(name="rest", family="lightgbm", params=trees, residual_of=firm)
    base, member = (
        cross_validate(FoldedStore(made, plan), spec, cells, targets=few_targets[:1], n_jobs=1)
        for spec in (firm, rest)
    )
    for fold in range(plan.n_folds):
        step = made.step[plan.valid_rows(fold)]
        added = (member.oof(fold) - base.oof(fold))[:, 0]
        assert np.corrcoef(added, step)[0, 1] > 0.4
        assert abs(np.corrcoef(base.oof(fold)[:, 0], step)[0, 1]) < 0.3


@pytest.mark.parametrize("spec", [RESIDUAL, STACKED, BOTH], ids=lambda spec: spec.name)
def test_stored_models_give_the_out_of_fold_predictions(ridge, fit, store, plan, spec, tmp_path):
    members = {"ridge": ridge, spec.name: fit(spec)}
    assert _with_bases([spec.name], members) == ["ridge", spec.name]
    done = {}
    for name in ("ridge", spec.name):
        done[name] = _predict_fold(members[name], 1, store, tmp_path, done, 1)
    valid = plan.valid_rows(1)
    predicted = np.load(done[spec.name])[:, valid].T
    np.testing.assert_allclose(predicted, members[spec.name].oof(1), rtol=1e-9, atol=1e-25)
    with pytest.raises(ClimstackError, match="builds on others"):
        members[spec.name].models(0)[0].predict(store.inputs[:2])
    with pytest.raises(ClimstackError, match="builds on 'ridge', which is not given"):
        _with_bases([spec.name], {spec.name: members[spec.name]})


def test_another_base_is_another_cell(folded, few_targets):
    other = ModelSpec(name="ridge", family="ridge", params={"clip": 5.0})
    specs = [
        ModelSpec(name="m", family="lightgbm", params=TREES),
        *(
            ModelSpec(name="m", family="lightgbm", params=TREES, residual_of=base)
            for base in (RIDGE, other)
        ),
        *(
            ModelSpec(name="m", family="lightgbm", params=TREES, inputs_from=(base,))
            for base in (RIDGE, other)
        ),
    ]
    hashes = {cell_keys(folded, spec, few_targets, 0)[0].hash for spec in specs}
    assert len(hashes) == 5


def test_a_base_must_be_there(folded, few_targets, tmp_path):
    with pytest.raises(ClimstackError, match="member 'ridge' lacks 1 of 1 cells"):
        cross_validate(folded, RESIDUAL, CellStore(tmp_path), targets=few_targets)


def test_rows_without_an_out_of_fold_prediction_do_not_train(store, few_targets, tmp_path):
    plan = forward_chaining(store.time, 3, 1)
    cells = CellStore(tmp_path)
    folded = FoldedStore(store, plan)
    cross_validate(folded, RIDGE, cells, targets=few_targets, n_jobs=1)
    bases = read_bases(folded, RESIDUAL, cells, few_targets)
    rows = FoldData(data=folded, fold=2, targets=few_targets, kind="trees", bases=bases).train_rows
    assert len(rows)
    assert (plan.fold[rows] >= 0).all()
    with pytest.raises(ClimstackError, match="no training row of fold 0"):
        _ = FoldData(data=folded, fold=0, targets=few_targets, kind="trees", bases=bases).train_rows


def test_no_leak_through_a_memorising_base(schema, tmp_path):
    """Targets are noise: a base that fits its training rows closely must not help what follows."""
    rng = np.random.default_rng(7)
    values = rng.normal(size=(600, 556 + 368))
    values[:, schema.slice_of("state_t")] += 270.0
    values[:, schema.column_index("state_ps")] += 1e5
    names = [*schema.input_columns, *schema.target_columns]
    frame = pl.DataFrame(dict(zip(names, values.T, strict=True)))
    ids = pl.Series("sample_id", [f"train_{i}" for i in range(600)])
    frame.insert_column(0, ids).write_parquet(tmp_path / "noise.parquet")
    noise = convert(tmp_path / "noise.parquet", tmp_path / "store", schema, 10)
    plan = time_blocks(noise.time, 3, 1)
    targets = schema.modelled_targets[::60]
    deep = ModelSpec(
        name="deep", family="lightgbm", params={"num_leaves": 63, "min_data_in_leaf": 2}
    )
    cells = CellStore(tmp_path / "cells")
    cross_validate(FoldedStore(noise, plan), deep, cells, targets=targets, n_jobs=1)
    for spec in (
        ModelSpec(name="rest", family="lightgbm", params=TREES, residual_of=deep),
        ModelSpec(name="fed", family="lightgbm", params=TREES, inputs_from=(deep,)),
    ):
        member = cross_validate(FoldedStore(noise, plan), spec, cells, targets=targets, n_jobs=1)
        assert r2_of(member, noise, plan).max() < 0.05


def test_importance_sums_over_groups_and_names_the_base(ridge, fit, schema):
    table = importance(fit(STACKED), schema)
    assert set(table["group"]) == {
        "ptend_t", "ptend_q0001", "ptend_u", "cam_out_FLWDS", "cam_out_SOLS",
    }  # fmt: skip
    shares = table.group_by("group").agg(pl.col("share").sum())["share"]
    np.testing.assert_allclose(shares, 1.0)
    assert "ridge.ptend_t_45" in set(table["variable"])
    assert table.filter(pl.col("variable") == "state_t")["level"].max() == 59
    assert importance(ridge, schema) is None
