"""Hostile cells: whatever is done to a model's files, it predicts or says what is wrong."""

import shutil

import numpy as np
import pytest

from models import CellStore, ModelSpec, cross_validate
from tests.mutations import attack, n_mutations

PARAMS = {
    "ridge": {},
    "lightgbm": {"n_rounds": 6, "num_leaves": 7, "min_data_in_leaf": 5},
    "xgboost": {"n_rounds": 6, "max_depth": 3},
    "convnext1d": {"preset": "tiny", "epochs": 1, "batch_size": 64, "device": "cpu"},
}


@pytest.mark.parametrize(
    ("family", "file"),
    [
        ("lightgbm", "model/model.txt"),
        ("xgboost", "model/model.ubj"),
        ("convnext1d", "model/weights.safetensors"),
        ("convnext1d", "model/network.json"),
        ("ridge", "model/ridge.npz"),
        ("ridge", "view.npz"),
    ],
)
def test_a_damaged_model_predicts_or_is_a_sentence(family, file, folded, few_targets, tmp_path):
    spec = ModelSpec(name="m", family=family, params=PARAMS[family])
    cells = CellStore(tmp_path / "cells")
    member = cross_validate(folded, spec, cells, targets=few_targets[:1], folds=[0], n_jobs=1)
    cell = tmp_path / "cell"
    shutil.copytree(member.cells[0][0].path, cell)
    np.save(cell / "inputs.npy", folded.store.inputs[:64])
    found = attack("tests.mutations:predict", cell, file, tmp_path, n_mutations(30))
    assert set(found) <= {"fine", "a sentence"}, found
    assert found["a sentence"] > 0
