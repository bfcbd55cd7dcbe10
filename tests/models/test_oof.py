import json
import logging
import shutil

import numpy as np
import pytest

from features import ClimstackError, FoldedStore, Grid, Store, time_blocks
from features.climate import physics
from features.core.sealed import write_sealed
from features.synthetic import synthetic_grid
from models import CellStore, ModelSpec, cell_keys, cross_validate
from models.member import read_member
from models.oof import _hashes

SPEC = ModelSpec(name="trees", family="lightgbm", params={"n_rounds": 3, "num_leaves": 4})


@pytest.fixture(scope="module")
def fitted(folded, few_targets, tmp_path_factory):
    cells = CellStore(tmp_path_factory.mktemp("fitted") / "cells")
    return cells, cross_validate(folded, SPEC, cells, targets=few_targets, n_jobs=1)


@pytest.fixture
def filled(fitted, folded, few_targets, tmp_path):
    """Cells of its own for each test, and the member that they are of."""
    shutil.copytree(fitted[0].path, tmp_path / "cells")
    cells = CellStore(tmp_path / "cells")
    return cells, run(folded, few_targets, cells)


def run(folded, few_targets, cells, spec=SPEC):
    return cross_validate(folded, spec, cells, targets=few_targets, n_jobs=1)


def test_a_finished_cell_is_never_computed_again(fitted, folded, few_targets):
    cells, member = fitted
    assert member.computed == 15
    before = {p: p.stat().st_mtime_ns for p in cells.path.rglob("*")}
    again = run(folded, few_targets, cells)
    assert again.computed == 0
    assert {p: p.stat().st_mtime_ns for p in cells.path.rglob("*")} == before
    np.testing.assert_array_equal(again.oof(2), member.oof(2))


def test_a_cell_is_shared_by_whatever_asks_for_the_same(filled, folded, few_targets):
    cells, _ = filled
    renamed = ModelSpec(
        name="another name", family="lightgbm", params={"num_leaves": 4, "n_rounds": 3}
    )
    assert run(folded, few_targets, cells, renamed).computed == 0
    assert run(folded, few_targets[1:4], cells).computed == 0


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec(name="m", family="lightgbm", params={"n_rounds": 4, "num_leaves": 4}),
        ModelSpec(name="m", family="lightgbm", params={"n_rounds": 3, "num_leaves": 4}, seed=1),
    ],
)
def test_another_parameter_or_seed_is_another_cell(filled, folded, few_targets, spec):
    assert run(folded, few_targets, filled[0], spec).computed == 15


def test_other_folds_are_other_cells(filled, store, few_targets):
    other = time_blocks(store.time, n_folds=3, embargo=2)
    assert run(FoldedStore(store, other), few_targets, filled[0]).computed == 15


@pytest.mark.parametrize("file", ["oof.npy", "model/model.txt", "view.npz", "scaler.npz"])
@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_a_damaged_cell_is_not_read(filled, folded, few_targets, file, damage, caplog):
    cells, member = filled
    path = member.cells[1][2].path / file
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    with caplog.at_level(logging.WARNING):
        again = run(folded, few_targets, cells)
    assert again.computed == 1
    assert "damaged or foreign" in caplog.text
    assert path.read_bytes() != content or damage == "delete"


def test_a_foreign_cell_is_not_read(filled, folded, few_targets):
    cells, member = filled
    params = member.cells[0][0].path / "params.json"
    table = json.loads(params.read_text())
    params.write_text(json.dumps(table | {"seed": 5}))
    assert run(folded, few_targets, cells).computed == 1


def changed_score(path, **values):
    """As somebody would change it who knows about the checksum."""
    file = path / "score.json"
    table = {k: v for k, v in json.loads(file.read_text()).items() if k != "checksum"}
    write_sealed(file, table | values)


def test_a_cell_whose_arrays_are_not_its_keys_is_damaged(filled, folded, few_targets):
    cells, member = filled
    wide, few = member.cells[0][0].path, member.cells[1][0].path
    np.save(wide / "oof.npy", np.zeros((128, 2)))
    changed_score(wide, sha256=_hashes(wide))
    changed_score(few, r2=[0.5, 0.5])
    assert run(folded, few_targets, cells).computed == 2


def test_a_changed_score_is_a_damaged_cell(filled, folded, few_targets):
    cells, member = filled
    file = member.cells[0][0].path / "score.json"
    file.write_text(file.read_text().replace('"seconds": ', '"seconds": 1'))
    assert run(folded, few_targets, cells).computed == 1


def test_no_cell_is_written_with_other_targets_than_its_keys(filled, folded, few_targets, tmp_path):
    cells, member = filled
    key = cell_keys(folded, SPEC, few_targets, 0)[0]
    np.save(tmp_path / "oof.npy", np.zeros((128, 5)))
    with pytest.raises(ValueError, match="not predictions of 1 targets"):
        cells.write(key, member.cells[0][0].model(), tmp_path, {"r2": [0.0]})


def test_reading_deletes_nothing(filled, folded, few_targets):
    """Whoever only reads says which cell is damaged; a run takes its place."""
    cells, member = filled
    file = member.cells[1][2].path / "oof.npy"
    file.write_bytes(file.read_bytes()[:-8])
    before = sorted(path for path in cells.path.rglob("*"))
    with pytest.raises(ClimstackError, match=r"cell .* of member 'trees' in fold 1 is dam"):
        read_member(folded, SPEC, cells, few_targets)
    assert sorted(path for path in cells.path.rglob("*")) == before


def with_levels(store, monkeypatch, change):
    """The same rows with a grid whose hybrid coefficients are ClimSim's, changed."""
    given, own = synthetic_grid(store.n_grid_columns), physics.hybrid_levels()
    changed = physics.HybridLevels(**{name: change(values) for name, values in vars(own).items()})
    monkeypatch.setattr(
        Store, "grid", Grid(lat=given.lat, lon=given.lon, area=given.area, levels=changed)
    )
    return Store(store.path)


def test_a_grid_with_climsims_own_levels_changes_no_cell(
    filled, folded, store, plan, few_targets, monkeypatch
):
    cells, member = filled
    assert "levels" not in json.loads((member.cells[0][0].path / "params.json").read_text())
    for change in (np.copy, lambda values: values.astype(np.float32).astype(np.float64)):
        same = with_levels(store, monkeypatch, change)
        assert same.levels is None
        assert run(FoldedStore(same, plan), few_targets, cells).computed == 0


def test_other_levels_are_other_cells_and_are_kept_with_them(
    filled, folded, store, plan, few_targets, monkeypatch
):
    cells, member = filled
    other = with_levels(store, monkeypatch, lambda values: 0.95 * values)
    again = run(FoldedStore(other, plan), few_targets, cells)
    assert again.computed == 15
    assert not {c.path for f in member.cells for c in f} & {c.path for f in again.cells for c in f}
    assert run(FoldedStore(other, plan), few_targets, cells).computed == 0
    monkeypatch.undo()  # without the store's grid: the view knows
    cell = again.cells[1][0]
    inputs = store.inputs[plan.valid_rows(1)]
    np.testing.assert_array_equal(cell.model().predict(inputs), cell.oof())
    view = cell.model().view
    np.testing.assert_array_equal(view.hybrid.hyai, 0.95 * physics.hybrid_levels().hyai)


def test_keys_name_everything(folded, few_targets):
    keys = cell_keys(folded, SPEC, few_targets, 1)
    assert len({key.hash for key in keys}) == 5
    assert keys[0].targets == ("ptend_t_45",)
    assert keys[0].params["n_rounds"] == 3
    assert set(keys[0].versions) == {"climstack", "lightgbm"}
    assert keys[0].params["learning_rate"] > 0
    ridge = cell_keys(folded, ModelSpec(name="r", family="ridge"), few_targets, 1)
    assert len(ridge) == 1
    assert len(ridge[0].targets) == 5
