"""Small changes of a training batch, composable; all off unless asked for.

Each takes standardised inputs (batch, n_features) and targets (batch, n_targets), gives the same,
and draws from torch's own generator, which the trainer seeds for each epoch. A target that is
missing (NaN) stays so; the mean of two of which one is missing is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Augment = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def input_noise(size: float) -> Augment:
    """Normal noise of ``size`` standard deviations of each input."""

    def apply(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return inputs + size * torch.randn_like(inputs), targets

    return apply


@dataclass(frozen=True, kw_only=True)
class Component:
    """What changes its sign when one horizontal axis is mirrored.

    Attributes:
        inputs: positions in the inputs.
        input_zeros: what a value of 0 in physical units is there, standardised.
        targets: positions in the targets.
        target_zeros: the same of them.
    """

    inputs: list[int]
    input_zeros: list[float]
    targets: list[int]
    target_zeros: list[float]


def mirror(component: Component) -> Augment:
    """For half of the rows, winds and stresses along an axis, and their tendencies, turn round.

    The physics of a column has no preferred horizontal direction: what the Earth's rotation does to
    the wind happens between columns. So the mirrored column of air is as true as the given one.
    """
    inputs_at, targets_at = (
        torch.tensor(at, dtype=torch.long) for at in (component.inputs, component.targets)
    )
    input_zeros = torch.tensor(component.input_zeros)
    target_zeros = torch.tensor(component.target_zeros)

    def turned(values: Tensor, rows: Tensor, at: Tensor, zeros: Tensor) -> Tensor:
        at, zeros = at.to(values.device), zeros.to(values)
        here = values.index_select(1, at)
        return values.index_copy(1, at, torch.where(rows, 2 * zeros - here, here))

    def apply(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.rand(len(inputs), 1, device=inputs.device) < 0.5
        return (
            turned(inputs, rows, inputs_at, input_zeros),
            turned(targets, rows, targets_at, target_zeros),
        )

    return apply


def mixup(alpha: float) -> Augment:
    """Mean of each row and another with a weight from Beta(alpha, alpha); one weight per batch.

    Source: Zhang et al. (2018), arXiv 1710.09412.
    """

    def apply(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # Beta(alpha, alpha) from two gamma draws, on torch's own generator.
        draws = torch._standard_gamma(torch.full((2,), alpha))
        share = float(draws[0] / draws.sum().clamp(min=1e-12))
        other = torch.randperm(len(inputs), device=inputs.device)
        return inputs.lerp(inputs[other], share), targets.lerp(targets[other], share)

    return apply


def level_mask(rate: float, levels: Tensor) -> Augment:
    """For each row, levels drawn with probability ``rate`` show the mean, 0, in every profile.

    Args:
        rate: share of levels.
        levels: level of each input, (n_features,), -1 for a scalar, which is never masked.
    """
    n_levels = int(levels.max()) + 1

    def apply(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        shown = (torch.rand(len(inputs), n_levels + 1, device=inputs.device) >= rate).to(inputs)
        shown[:, n_levels] = 1.0  # the place of scalars
        place = torch.where(levels < 0, n_levels, levels).to(inputs.device)
        return inputs * shown.index_select(1, place), targets

    return apply
