"""Losses on standardised targets, (batch, n_targets) and (batch, n_targets) to one number."""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from torch import Tensor
from torch.nn import functional

LossName = Literal["mse", "mae", "huber", "smooth_l1"]


def elementwise(name: LossName, predicted: Tensor, truth: Tensor, beta: float) -> Tensor:
    """Loss of each element; ``beta`` is the error where huber and smooth_l1 turn linear."""
    if name == "mse":
        return (predicted - truth) ** 2
    if name == "mae":
        return (predicted - truth).abs()
    if name == "huber":
        return functional.huber_loss(predicted, truth, reduction="none", delta=beta)
    if name == "smooth_l1":
        return functional.smooth_l1_loss(predicted, truth, reduction="none", beta=beta)
    assert_never(name)


def adjacent(source: list[int], n_levels: int, n_profiles: int) -> Tensor:
    """Pairs of flat outputs that are neighbours on the levels of one profile, (n_pairs, 2).

    Args:
        source: position of each flat output in (profiles flattened, scalars).
        n_levels: length of the sequence.
        n_profiles: output profiles.
    """
    flat_of = {position: flat for flat, position in enumerate(source)}
    pairs = [
        (flat_of[position], flat_of[position + n_profiles])
        for position in range((n_levels - 1) * n_profiles)
        if position in flat_of and position + n_profiles in flat_of
    ]
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)


def mean_over(loss: Tensor, rows: Tensor | None, there: Tensor | None = None) -> Tensor:
    """Mean of (batch, n), its rows weighted by (batch, 1) if these are given.

    Args:
        loss: of each element; finite where there is no truth, too.
        rows: weight of each row, 1 in the mean of all batches.
        there: 1 where there is a truth and 0 elsewhere, same shape: of these the mean is taken, and
            it is 0 where there are none.
    """
    if rows is not None:
        loss = loss * rows
    if there is None:
        return loss.mean()
    return (loss * there).sum() / there.sum().clamp(min=1e-12)


def total(
    name: LossName,
    predicted: Tensor,
    truth: Tensor,
    weights: Tensor,
    *,
    beta: float = 1.0,
    difference: float = 0.0,
    pairs: Tensor | None = None,
    rows: Tensor | None = None,
    there: Tensor | None = None,
) -> Tensor:
    """Weighted mean over rows and targets, plus that of differences between adjacent levels.

    Args:
        name: which loss.
        predicted: (batch, n_targets).
        truth: (batch, n_targets), finite.
        weights: weight of each target, (n_targets,).
        beta: see :func:`elementwise`.
        difference: weight of the differences; 0 leaves them out.
        pairs: neighbours, (n_pairs, 2), from :func:`adjacent`.
        rows: weight of each row, (batch, 1), 1 in the mean of all batches; None where all weigh
            the same.
        there: 1 where there is a truth and 0 elsewhere, (batch, n_targets): the mean is over what
            is there, and a difference is there where both levels are; None where all are.

    Source: the second place of the LEAP competition added the loss of differences.
    """
    loss = elementwise(name, predicted, truth, beta)
    if there is None:
        loss = mean_over(loss * weights, rows) / weights.mean()
    else:
        loss = mean_over(loss, rows, there * weights)
    if difference and pairs is not None and len(pairs):
        step, true_step = (
            values.index_select(1, pairs[:, 1]) - values.index_select(1, pairs[:, 0])
            for values in (predicted, truth)
        )
        weight = weights.index_select(0, pairs[:, 0])
        between = elementwise(name, step, true_step, beta)
        if there is None:
            between = mean_over(between * weight, rows) / weight.mean().clamp(min=1e-12)
        else:
            both = there.index_select(1, pairs[:, 0]) * there.index_select(1, pairs[:, 1])
            between = mean_over(between, rows, both * weight)
        loss = loss + difference * between
    return loss
