"""Contract tests: every family passes them, new ones too: trees, linear models, networks."""

import shutil
import subprocess
import sys
from dataclasses import fields

import numpy as np
import polars as pl
import pytest

from features import Auxiliary, ClimstackError, FoldedStore, convert, enrich, r2_score, time_blocks
from features.core import registry
from models import (
    CellStore,
    FitContext,
    FoldData,
    ModelSpec,
    TrainedModel,
    available_families,
    cross_validate,
    load_family,
)
from models.base import TableShape

FAMILIES = available_families()
NETWORKS = registry.names("models.seq2seq.architectures")
TINY = {"preset": "tiny", "epochs": 12, "batch_size": 64, "learning_rate": 5e-3, "device": "cpu"}
QUICK = dict.fromkeys(NETWORKS, TINY) | {
    "lightgbm": {"n_rounds": 12, "num_leaves": 7, "min_data_in_leaf": 5},
    "xgboost": {"n_rounds": 12, "max_depth": 3, "learning_rate": 0.3},
    "sklearn": {"estimator": "sklearn.linear_model.Ridge", "params": {"alpha": 100.0}},
}


def spec_of(family, seed=0):
    return ModelSpec(name=family, family=family, params=QUICK.get(family, {}), seed=seed)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def member(family, folded, few_targets, tmp_path_factory):
    cells = CellStore(tmp_path_factory.mktemp(f"cells_{family}"))
    return cross_validate(folded, spec_of(family), cells, targets=few_targets, n_jobs=1)


def predict(member, fold, inputs):
    return member.in_order([model.predict(inputs) for model in member.models(fold)])


def test_shapes_and_units(member, store, plan, few_targets):
    for fold in range(plan.n_folds):
        rows = plan.valid_rows(fold)
        assert member.oof(fold).shape == (len(rows), len(few_targets))
    truth = np.concatenate([store.targets[plan.valid_rows(k)] for k in range(plan.n_folds)])
    oof = np.concatenate([member.oof(k) for k in range(plan.n_folds)])
    assert r2_score(truth[:, few_targets], oof).max() > 0.3


def test_stored_models_give_the_stored_predictions(member, store, plan):
    inputs = store.inputs[plan.valid_rows(1)]
    np.testing.assert_array_equal(predict(member, 1, inputs), member.oof(1))


def test_row_order_and_batch_do_not_matter(member, store, plan):
    inputs = store.inputs[plan.valid_rows(0)]
    whole = predict(member, 0, inputs)
    order = np.random.default_rng(0).permutation(len(inputs))
    scale = np.abs(whole).max(0)
    atol = 1e-5 if member.spec.family in NETWORKS else 1e-12  # networks compute in 32 bits
    np.testing.assert_allclose(
        predict(member, 0, inputs[order]) / scale, whole[order] / scale, atol=atol
    )
    one = np.concatenate([predict(member, 0, inputs[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(one / scale, whole[:9] / scale, atol=atol)


def test_inputs_are_not_modified(member, store):
    inputs = store.inputs[:20]
    before = inputs.copy()
    predict(member, 0, inputs)
    np.testing.assert_array_equal(inputs, before)


def test_bad_inputs_raise_with_names(member, store):
    inputs = store.inputs[:4]
    with pytest.raises(ClimstackError, match="556"):
        predict(member, 0, inputs[:, :-1])
    inputs[2, 0] = np.nan
    with pytest.raises(ClimstackError, match="'state_t_0' is nan in row 2"):
        predict(member, 0, inputs)


def test_unknown_parameter_raises(family):
    with pytest.raises(ClimstackError, match="has no setting 'no_such_parameter'"):
        ModelSpec(name="m", family=family, params={"no_such_parameter": 1})


def test_every_parameter_refuses_a_wrong_type(family):
    for field in fields(load_family(family).Params):
        with pytest.raises(ClimstackError, match=field.name):
            ModelSpec(name="m", family=family, params={field.name: {"a": "table"}})


def test_saved_models_hold_no_pickle(member):
    for fold in member.cells:
        for cell in fold:
            for file in cell.path.rglob("*"):
                assert file.suffix not in {".pkl", ".pickle", ".joblib", ".pt"}
            TrainedModel.load(cell.path)


def test_same_seed_gives_the_same_in_another_process_and_its_workers(
    family, member, store, plan, few_targets, tmp_path
):
    plan.save(tmp_path / "folds.parquet")
    script = f"""
import numpy as np
from pathlib import Path
from features import FoldedStore, FoldPlan, Store
from models import CellStore, ModelSpec, cross_validate
if __name__ == "__main__":
    spec = ModelSpec(name="other", family={family!r}, params={QUICK.get(family, {})!r})
    plan = FoldPlan.load(Path({str(tmp_path / "folds.parquet")!r}))
    member = cross_validate(
        FoldedStore(Store({str(store.path)!r}), plan), spec,
        CellStore({str(tmp_path / "cells")!r}), targets=np.array({few_targets.tolist()}),
        folds=[1], n_jobs=2,
    )
    np.save({str(tmp_path / "oof.npy")!r}, member.oof(0))
"""
    (tmp_path / "script.py").write_text(script)
    subprocess.run([sys.executable, tmp_path / "script.py"], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "oof.npy"), member.oof(1))


def test_a_model_does_not_depend_on_the_sets_fitted_with_it(
    family, member, folded, few_targets, tmp_path
):
    kept = CellStore(member.cells[0][0].path.parent)
    here = CellStore(tmp_path)
    for cell in member.cells[0][1:]:  # all but the first set are there already
        shutil.copytree(cell.path, here.path / cell.path.name)
    again = cross_validate(folded, spec_of(family), here, targets=few_targets, folds=[0])
    assert again.computed == 1
    first = member.cells[0][0].path.name
    for file in sorted((kept.path / first).rglob("*")):
        if file.is_file() and file.name != "score.json":  # which holds seconds
            assert (
                file.read_bytes()
                == (here.path / first / file.relative_to(kept.path / first)).read_bytes()
            )


def test_sets_hold_each_target_once(family, schema):
    targets = schema.modelled_targets
    sets = load_family(family).target_sets(schema, targets, spec_of(family).parsed)
    assert sorted(position for together in sets for position in together) == list(range(292))


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_scale_of_the_targets_does_not_matter(
    family, member, store, plan, few_targets, tmp_path, factor
):
    class Scaled:
        """The same store with its targets multiplied."""

        def __init__(self, store):
            self.schema, self.inputs, self.path = store.schema, store.inputs, store.path
            self.data_hash = f"times {factor}"
            self.levels = self.levels_hash = None
            self._targets = store.targets

        def __len__(self):
            return len(self.inputs)

        def require_targets(self):
            return self

        def __getitem__(self, rows):
            return self._targets[rows] * factor

        def blocks(self, rows):
            for block in self._targets.blocks(rows):
                yield block * factor

    scaled = cross_validate(
        FoldedStore(Scaled(store), plan),
        spec_of(family),
        CellStore(tmp_path),
        targets=few_targets,
        folds=[0],
        n_jobs=1,
    )
    truth = store.targets[plan.valid_rows(0)][:, few_targets]
    r2 = r2_score(truth, member.oof(0))
    np.testing.assert_allclose(r2_score(truth * factor, scaled.oof(0)), r2, atol=1e-6)


def test_no_leak_a_memorising_model_scores_chance_out_of_fold(family, noise, schema, tmp_path):
    """Only a leak could score above chance."""
    plan = time_blocks(noise.time, 3, 1)
    targets = schema.modelled_targets[::60]
    member = cross_validate(
        FoldedStore(noise, plan), spec_of(family), CellStore(tmp_path), targets=targets, n_jobs=1
    )
    oof = np.concatenate([member.oof(k) for k in range(3)])
    truth = np.concatenate([noise.targets[plan.valid_rows(k)] for k in range(3)])[:, targets]
    assert r2_score(truth, oof).max() < 0.05


class Watched:
    """A store that notes which rows are read."""

    def __init__(self, store):
        self._store, self.schema, self.path = store, store.schema, store.path
        self.asked, self.levels = [], store.levels
        self.inputs = WatchedMatrix(store.inputs, self.asked)
        self.targets = WatchedMatrix(store.targets, self.asked)

    def __len__(self):
        return len(self._store)

    def require_targets(self):
        return self.targets


class WatchedMatrix:
    def __init__(self, matrix, asked):
        self._matrix, self._asked, self.shape = matrix, asked, matrix.shape

    def __len__(self):
        return len(self._matrix)

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self._matrix)))
        self._asked.append(rows)
        return self._matrix[rows]

    def blocks(self, rows=None, size=4096):
        yield self[slice(None) if rows is None else rows]


def test_a_family_reads_no_validation_rows(family, store, plan, few_targets, tmp_path):
    """View, scaler, preparation and fit together read training rows of the fold alone."""
    watched = Watched(store)
    model = load_family(family)
    data = FoldData(data=FoldedStore(watched, plan), fold=0, targets=few_targets, kind=model.view)
    params = model.settle(spec_of(family).parsed, TableShape.of(store))
    sets = model.target_sets(store.schema, few_targets, params)
    list(model.fit(model.prepare(data, params, tmp_path), sets, params, FitContext()))
    assert set(np.concatenate(watched.asked)) <= set(plan.train_rows(0))
    assert not set(np.concatenate(watched.asked)) & set(plan.valid_rows(0))


@pytest.fixture(scope="module")
def turned(generated, schema, tmp_path_factory):
    """The generated rows, and once more with targets turned round; folds of the former."""
    table, targets = pl.read_parquet(generated["train"]), pl.col(schema.target_columns)
    copies = table.with_columns(
        pl.col("state_t_30") * (1 + 1e-9),  # no copies to the bit
        targets.min() + targets.max() - targets,  # within what can be true
        sample_id=pl.lit("turned_") + pl.col("sample_id"),
    )
    folder = tmp_path_factory.mktemp("turned")
    files = [folder / "main.parquet", folder / "turned.parquet"]
    for file, rows in zip(files, (table, copies), strict=True):
        rows.write_parquet(file)
    store = convert(files, folder / "store", schema, 16)
    return store, time_blocks(store.time[store.source == 0], n_folds=3, embargo=1)


def test_weights_of_an_auxiliary_source_count(family, turned, few_targets, tmp_path):
    """Rows whose targets are turned round do harm by their weight."""
    store, ours = turned
    cells, scores = CellStore(tmp_path / "cells"), []
    if not load_family(family).weighted:
        half = enrich(
            ours, store, [Auxiliary(source="turned.parquet", weight=0.5, time="separate")]
        )
        with pytest.raises(
            ClimstackError, match="which can't weigh rows: give every auxiliary source"
        ):
            cross_validate(FoldedStore(store, half), spec_of(family), cells, targets=few_targets)
        return
    for weight in (1e-6, 1.0):
        auxiliary = Auxiliary(source="turned.parquet", weight=weight, time="separate")
        plan = enrich(ours, store, [auxiliary])
        fit = cross_validate(
            FoldedStore(store, plan),
            spec_of(family),
            cells,
            targets=few_targets,
            folds=[0],
            n_jobs=1,
        )
        truth = store.targets[plan.valid_rows(0)][:, few_targets]
        scores.append(r2_score(truth, fit.oof(0)))
    assert scores[0].max() > 0.3
    assert scores[1].max() < 0.15
