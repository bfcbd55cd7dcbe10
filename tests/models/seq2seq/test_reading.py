"""A network's files are read back; one that asks for too much is a sentence before it gets it."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from features import ClimstackError
from models.network_family import NetworkModel
from models.seq2seq import checkpoint
from models.seq2seq.layers import Shape
from models.seq2seq.network import NetworkSpec

SHAPE = Shape(
    n_levels=4,
    n_features=10,
    in_profile=[[0, 4], [1, 5], [2, 6], [3, -1]],
    in_scalar=[8, 9],
    in_mean=[0.5] * 10,
    in_std=[2.0] * 10,
    n_profile_targets=1,
    n_scalar_targets=1,
    out_source=[0, 1, 2, 3, 4],
)


@pytest.fixture
def saved(tmp_path):
    config = {"dim": 8, "depth": 1, "n_heads": 2, "expansion": 2}
    spec = NetworkSpec(architecture="transformer", config=config, shape=SHAPE)
    weights = {group: spec.build().state_dict() for group in ("", "wind")}
    model = NetworkModel(spec=spec, weights=weights, groups={"wind": [1, 2], "scalars": [4]})
    model.save(tmp_path)
    return tmp_path, model


def rewrite(folder, change):
    table = json.loads((folder / "network.json").read_text())
    change(table)
    (folder / "network.json").write_text(json.dumps(table))


def test_a_network_without_scalars_or_without_profiles_is_read(tmp_path):
    only_profiles = replace(SHAPE, in_scalar=[])
    config = {"dim": 8, "depth": 1, "n_heads": 2, "expansion": 2}
    spec = NetworkSpec(architecture="transformer", config=config, shape=only_profiles)
    model = NetworkModel(spec=spec, weights={"": spec.build().state_dict()}, groups={})
    model.save(tmp_path)
    x = np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32)
    np.testing.assert_array_equal(NetworkModel.load(tmp_path).predict(x), model.predict(x))


def test_what_is_saved_is_read(saved):
    folder, model = saved
    x = np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32)
    np.testing.assert_array_equal(NetworkModel.load(folder).predict(x), model.predict(x))
    with pytest.raises(ClimstackError, match="of 10 features was shown 9"):
        model.predict(x[:, 1:])


@pytest.mark.parametrize("size", [-1, 10**7, 10**15, 1.5, "8", None, True])
@pytest.mark.parametrize("name", ["dim", "depth", "expansion", "n_heads"])
def test_a_size_beyond_the_weights_is_a_sentence_at_once(name, size, saved):
    rewrite(saved[0], lambda table: table["spec"]["config"].update({name: size}))
    file = saved[0] / "weights.safetensors"
    save_file(load_file(file) | {"/nothing": torch.zeros(0, 10**7)}, file)
    start = time.process_time()
    with pytest.raises(ClimstackError, match="is no network that climstack has saved"):
        NetworkModel.load(saved[0])
    assert time.process_time() - start < 1


def test_more_blocks_than_weights_are_not_built(saved):
    """A depth that the largest weight allows, and more than there are weights for."""
    folder, _ = saved
    tensors = load_file(folder / "weights.safetensors")
    tensors["/big"] = torch.zeros(10**6)
    save_file(tensors, folder / "weights.safetensors")
    rewrite(folder, lambda table: table["spec"]["config"].update(depth=10**6))
    with pytest.raises(ClimstackError, match="it is larger than its"):
        NetworkModel.load(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_levels", 10**7),
        ("n_levels", 0),
        ("n_features", 3),
        ("n_profile_targets", 10**9),
        ("in_profile", [[0, 4]] * 3 + [[10, 1]]),
        ("in_profile", [[0, 4]] * 3 + [[1]]),
        ("in_scalar", [8, -1]),
        ("in_std", [0.0] * 10),
        ("in_mean", [float("nan")] * 10),
        ("out_source", [0, 1, 2, 3, 5]),
        ("out_source", [[0]]),
        ("out_source", [10**30]),
        ("no_such_field", 1),
    ],
)
def test_a_shape_that_is_none_is_a_sentence(name, value, saved):
    rewrite(saved[0], lambda table: table["spec"]["shape"].update({name: value}))
    with pytest.raises(ClimstackError, match="is no network that climstack has saved"):
        NetworkModel.load(saved[0])


def test_weights_that_are_none_are_a_sentence(saved):
    folder, _ = saved
    file, tensors = folder / "weights.safetensors", load_file(folder / "weights.safetensors")
    name = next(iter(tensors))
    for value, said in (
        (torch.full_like(tensors[name], torch.nan), "is not finite"),
        (tensors[name].double(), "other than float32"),
        (tensors[name][:-1], "other shapes"),
        (torch.zeros(0), "other shapes"),
    ):
        save_file(tensors | {name: value.contiguous()}, file)
        with pytest.raises(ClimstackError, match=said):
            NetworkModel.load(folder)
    file.write_bytes(b"\xff" * 8 + file.read_bytes())
    with pytest.raises(ClimstackError, match="is no network that climstack has saved"):
        NetworkModel.load(folder)


def test_a_damaged_checkpoint_is_a_sentence(tmp_path):
    network = torch.nn.Linear(3, 2)
    average = network.state_dict()
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    file = tmp_path / "all.safetensors"
    checkpoint.save(file, network, average, optimizer, checkpoint.Checkpoint(epoch=2, step=5))
    assert checkpoint.load(file, network, average, optimizer).epoch == 2
    tensors, facts = checkpoint.read_tensors(file)
    for change, state in (
        ({"average.bias": torch.zeros(1)}, facts["state"]),
        ({"network.bias": torch.zeros(3)}, facts["state"]),
        ({"moment.0.exp_avg": torch.zeros(1)}, facts["state"]),
        ({"moment.9.exp_avg": torch.zeros(1)}, facts["state"]),
        ({}, facts["state"].replace('"epoch": 2', '"epoch": -2')),
        ({}, "[" * 100_000),
        ({}, "{}"),
    ):
        checkpoint.write_tensors(file, tensors | change, {"state": state})
        with pytest.raises(ClimstackError, match=r"all.safetensors is damaged or of another"):
            checkpoint.load(file, network, average, optimizer)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ClimstackError, match=r"all.safetensors is damaged or of another"):
        checkpoint.load(file, network, average, optimizer)
