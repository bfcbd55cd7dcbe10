"""Weights, averages and the optimiser's state in one safetensors file, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from features.core.errors import ClimstackError
from features.core.files import atomic_path
from features.core.settings import check

T = TypeVar("T")


@dataclass(kw_only=True)
class Checkpoint:
    """How far a fit has come.

    Attributes:
        epoch: epochs that are done.
        step: optimiser steps that are done.
        best_score: highest score on the inner blocks.
        best_epoch: the epoch after which it was reached.
        stopped: whether the fit has stopped early.
        best: averaged weights of that epoch.
        history: one row per epoch: epoch (from 1), loss (mean over batches), inner_r2 (None where
            no inner blocks are watched).
    """

    epoch: int = 0
    step: int = 0
    best_score: float = -1.0
    best_epoch: int = 0
    stopped: bool = False
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float | None]] = field(default_factory=list)


def save(
    path: Path,
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: Checkpoint,
) -> None:
    """Write a checkpoint; a kill leaves the one before."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for position, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"moment.{position}.{name}": value for name, value in moments.items()}
    facts = {key: value for key, value in vars(state).items() if key != "best"}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, {"state": json.dumps(facts)})


def load(
    path: Path, network: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> Checkpoint:
    """Read a checkpoint into the network, the averages and the optimiser.

    Raises:
        ClimstackError: the file is damaged, or of another network.
    """
    from safetensors import SafetensorError

    damage = (ValueError, TypeError, LookupError, RuntimeError, OSError, SafetensorError)
    try:
        return _load(path, network, average, optimizer)
    except damage as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ClimstackError(
            f"checkpoint {path} is damaged or of another network ({why:.200}): delete it, and the"
            " fit begins anew"
        ) from None


def _load(
    path: Path, network: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> Checkpoint:
    tensors, facts = read_tensors(path)
    state = json.loads(facts["state"])
    counts = [state[name] for name in ("epoch", "step", "best_epoch")]
    check(all(type(count) is int and count >= 0 for count in counts), f"its epochs are {counts}")
    shapes = {name: value.shape for name, value in average.items()}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    for part in parts.keys() & {"average", "best"}:
        there = {name: value.shape for name, value in parts[part].items()}
        check(there == shapes, f"its {part} has other shapes")
    network.load_state_dict(parts["network"])
    for name, value in average.items():
        value.copy_(parts["average"][name])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in parts.get("moment", {}).items():
        position, _, what = name.partition(".")
        moments.setdefault(int(position), {})[what] = value
    groups = optimizer.state_dict()["param_groups"]
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for number, held in moments.items():
        right = all(value.shape in ((), parameters[number].shape) for value in held.values())
        check(right and set(held) == {"step", "exp_avg", "exp_avg_sq"}, "its moments are others")
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    device = next(network.parameters()).device
    best = {name: value.to(device) for name, value in parts.get("best", {}).items()}
    return Checkpoint(**state, best=best)


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, str]) -> None:
    """Write tensors and short texts as one safetensors file, atomically."""
    from safetensors.torch import save_file

    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with atomic_path(path) as made:
        save_file(whole, made, metadata=facts)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what :func:`write_tensors` wrote."""
    from safetensors import safe_open

    file: Any
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a file, which are looked at and not read.

    Raises:
        ClimstackError: one is not of float32.
    """
    from safetensors import safe_open

    file: Any
    with safe_open(path, framework="pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
        plain = all(part.get_dtype() == "F32" for part in parts.values())
    check(plain, "it holds what is other than float32")
    return shapes


def pack(weights: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Weights by group as one table, named ``GROUP/NAME``."""
    return {
        f"{group}/{name}": value
        for group, state in weights.items()
        for name, value in state.items()
    }


def unpack(tensors: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """What :func:`pack` was given, tensors or something else of each."""
    weights: dict[str, dict[str, T]] = {}
    for path, value in tensors.items():
        group, _, name = path.rpartition("/")  # a group may be called m/s
        weights.setdefault(group, {})[name] = value
    return weights
