"""Whether a fold holds what can be learned, and whether its scores can say so."""

from __future__ import annotations

import warnings

import numpy as np

from features.core.errors import ClimstackError
from models.base import FEW_ROWS, FoldData

SMALLEST = float(np.sqrt(np.finfo(np.float64).tiny))  # a smaller deviation has no square


def check_learnable(data: FoldData) -> None:
    """Refuse a fold without anything to learn; warn where its scores will say little.

    Raises:
        ClimstackError: no input varies over the training rows, or a target does by so little that
            its squares vanish in float64.
    """
    fold, n_train = data.fold, len(data.train_rows)
    if not data.feature_names:
        raise ClimstackError(
            f"no input varies over the {n_train} training rows of fold {fold}, so nothing can be"
            " learned: add rows that differ"
        )
    names = [data.store.schema.target_columns[target] for target in data.targets]
    std, constant = data.scaler.std, data.scaler.constant
    small = np.flatnonzero(~constant & (std < SMALLEST))
    if len(small):
        raise ClimstackError(
            f"target {names[small[0]]} varies by {std[small[0]]:.3g} over the training rows of fold"
            f" {fold}, and squares of that vanish in 64 bits: give it in a smaller unit"
        )
    few = np.flatnonzero(data.too_few)
    if len(few):
        told = [f"{names[i]} ({data.own_rows[i]})" for i in few[:5]] + ["..."] * (len(few) > 5)
        warnings.warn(
            f"{len(few)} of {len(names)} targets are on fewer than {FEW_ROWS} training rows of fold"
            f" {fold}: {', '.join(told)}. They get the mean of those rows, and 0 without any",
            stacklevel=2,
        )
    constant = constant & ~data.too_few
    if constant.any():
        first = names[int(constant.argmax())]
        warnings.warn(
            f"{constant.sum()} of {len(names)} targets are constant over the training rows of fold"
            f" {fold}, {first} the first: a constant that is met scores 1 and says nothing",
            stacklevel=2,
        )
    n_valid = len(data.plan.valid_rows(fold))
    if min(n_valid, n_train) < FEW_ROWS and data.plan.scheme != "refit":
        warnings.warn(
            f"fold {fold} trains on {n_train} rows and holds out {n_valid}: scores of fewer than"
            f" {FEW_ROWS} rows say little",
            stacklevel=2,
        )
