"""A saved network from its files, checked before memory is taken for it.

A file of a few bytes can ask for 1e7 channels or blocks. So the network is first built without
memory, no further than the weights in the file go, and its shapes are compared with theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from features.core import registry
from features.core.errors import ClimstackError
from features.core.files import read_json
from features.core.settings import check, from_table
from models.seq2seq import checkpoint
from models.seq2seq.layers import Shape
from models.seq2seq.network import PACKAGE, NetworkSpec
from models.seq2seq.settings import TrainSettings

Saved = tuple[NetworkSpec, dict[str, dict[str, Tensor]], dict[str, list[int]]]

NETWORK, WEIGHTS = "network.json", "weights.safetensors"


def read_network(folder: Path) -> Saved:
    """A network's description, its weights by group, and the outputs of each group.

    Raises:
        ClimstackError: the files are not what :meth:`models.network_family.NetworkModel.save`
            writes, or don't belong together.
    """
    from safetensors import SafetensorError

    damage = (ValueError, TypeError, LookupError, RuntimeError, OSError, SafetensorError)
    try:
        return _read(folder)
    except damage as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ClimstackError(
            f"{folder} is no network that climstack has saved ({why:.200}): delete its cell and"
            " run again"
        ) from None


def _read(folder: Path) -> Saved:
    table = read_json(folder / NETWORK)
    shapes = checkpoint.shapes_of(folder / WEIGHTS)
    by_group = checkpoint.unpack(shapes)
    filled = [shape for shape in shapes.values() if 0 not in shape]  # others may be of any size
    largest = max([len(shapes), *(size for shape in filled for size in shape)])
    spec = _spec(table["spec"], largest)
    with torch.device("meta"), _at_most(len(shapes)):
        built = spec.build().state_dict()
    wanted = {name: tuple(value.shape) for name, value in built.items()}
    groups = table["groups"]
    check("" in by_group and set(by_group) <= {"", *groups}, "its weights are of other groups")
    check(all(held == wanted for held in by_group.values()), "its weights have other shapes")
    n_outputs = len(spec.shape.out_source)
    for outputs in groups.values():
        _check_positions("groups", outputs, 0, n_outputs)
    tensors = checkpoint.read_tensors(folder / WEIGHTS)[0]
    for name, value in tensors.items():
        check(bool(torch.isfinite(value).all()), f"weight {name} is not finite")
    return spec, checkpoint.unpack(tensors), groups


def _spec(table: Any, largest: int) -> NetworkSpec:
    """The description in a table, none of whose sizes is above the largest in the weights."""
    shape = Shape(**table["shape"])
    _check_shape(shape)
    kind = registry.load(PACKAGE, table["architecture"], "Config", "architecture")
    config = asdict(from_table(kind, table["config"], "config"))
    for name, value in config.items():
        check(
            not isinstance(value, int) or value <= largest,
            f"its {name} of {value} is beyond its weights",
        )
    inputs = {name: table[name] for name in ("representations", "soft_clip")}
    settings = from_table(TrainSettings, inputs, "network")
    check(len(settings.representations) <= 3, "it repeats representations")
    check(isinstance(table["confidence"], bool), "its confidence is no truth value")
    return NetworkSpec(
        architecture=table["architecture"],
        config=config,
        shape=shape,
        confidence=table["confidence"],
        **{name: getattr(settings, name) for name in inputs},
    )


def _check_shape(shape: Shape) -> None:
    counts = (shape.n_levels, shape.n_features, shape.n_profile_targets, shape.n_scalar_targets)
    check(
        all(type(count) is int and 0 <= count < 2**31 for count in counts) and shape.n_levels > 0,
        f"its sizes are {counts}",
    )
    check(len(shape.in_profile) == shape.n_levels, "its profiles have another number of levels")
    _check_positions("in_profile", np.array(shape.in_profile).ravel(), -1, shape.n_features)
    _check_positions("in_scalar", shape.in_scalar, 0, shape.n_features)
    n_made = shape.n_levels * shape.n_profile_targets + shape.n_scalar_targets
    _check_positions("out_source", shape.out_source, 0, n_made)
    check(len(shape.out_source) > 0, "it has no outputs")
    mean, std = np.array(shape.in_mean), np.array(shape.in_std)
    right = mean.shape == std.shape == (shape.n_features,)
    check(
        right and bool(np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()),
        "means and deviations of its inputs are no finite numbers",
    )


def _check_positions(name: str, positions: Any, low: int, stop: int) -> None:
    values = np.array(positions)
    right = values.ndim == 1 and (values.dtype.kind == "i" or not values.size)
    check(
        right and bool(((values >= low) & (values < stop)).all()),
        f"its {name} is no list of positions in [{low}, {stop})",
    )


@contextmanager
def _at_most(n_parameters: int) -> Iterator[None]:
    """Stop building once there are more parameters than the file has weights."""
    left = n_parameters

    def count(module: nn.Module, name: str, parameter: Any) -> None:  # noqa: ARG001
        nonlocal left
        left -= 1
        check(left >= 0, f"it is larger than its {n_parameters} weights")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
