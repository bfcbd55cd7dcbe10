"""Scores of all contenders from one pass over held-out rows, and the sums that they come from.

Honest: the rows of fold k are scored with the blend learned from the other folds only.
In-sample: with the blend learned from all folds, the one that test rows get. One pass gives both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.evaluation.held_out import Block, HeldOut
from ensemble.evaluation.score_sums import ScoreSums
from ensemble.stacking.blend import MEAN, ZERO, Blend, follow_rules
from ensemble.stacking.contender import Contender
from features.core.metrics import Deviation, mean_of_parts
from features.core.types import Array, Progress, Rows
from features.scoring.metric import load_metric

TIE = 1e-4  # honest scores closer than this are a tie
CACHE_BYTES = 2**20  # of outputs at once: what stays in a core's cache


def evaluate(
    held_out: HeldOut,
    contenders: Sequence[Contender],
    progress: Progress | None = None,
    metric: str | None = None,
) -> ScoreSums:
    """Score all contenders in one pass over the out-of-fold predictions.

    Args:
        held_out: rows and members.
        contenders: what competes.
        progress: called with (what, rows done, rows in all).
        metric: name of what scores are of; None: the schema's.

    Example:
        >>> sums = evaluate(held_out, contenders)
        >>> sums.score("ridge") > sums.score("trees")
        True
    """
    sums = _Scoring(held_out, contenders, metric)
    held_out.walk(sums, what="scores", progress=progress)
    return sums.sums()


def choose(contenders: Sequence[Contender], scores: ScoreSums) -> Contender:
    """The contender with the best honest score; among ties the first, which is the simplest.

    Example:
        >>> chosen = choose(contenders, scores)
        >>> scores.score(chosen.name) >= scores.score("ridge") - 1e-4
        True
    """
    sign = 1 if scores.by.greater_is_better else -1
    score = {c.name: sign * scores.score(c.name) for c in contenders}
    best = max(score.values())
    tie = TIE * abs(best) if scores.by.in_units else TIE
    return next(c for c in contenders if score[c.name] >= best - tie)


class _Scoring:
    """Errors of all contenders at once, a few targets at a time.

    A blend is its weights and its intercept, clipped: a mean has no weights, a zero no room to be
    anything else. So all outputs of a target are one product of (2 n_contenders, n_members + 1)
    with (n_members + 1, n_samples), the contenders' honest blends before their final ones.
    """

    def __init__(
        self, held_out: HeldOut, contenders: Sequence[Contender], metric: str | None
    ) -> None:
        self.schema, self.metric = held_out.data.store.schema, metric
        self.absolute = load_metric(metric or self.schema.metric).absolute
        self.absent = np.nonzero(~held_out.served.T)  # (modelled target, member)
        self.names = [contender.name for contender in contenders]
        self.targets = contenders[0].final.targets
        self.members = [member.spec.name for member in held_out.members]
        finals = [contender.final for contender in contenders]
        self.blends = [
            _Stacked.of([*(c.honest[fold] for c in contenders), *finals], self.members)
            for fold in range(held_out.data.plan.n_folds)
        ]
        self.parts: dict[tuple[int, int], _Part] = {}

    def add(self, block: Block) -> None:
        """Add the rows of a block to their parts."""
        inputs, truth = block.inputs, block.truth
        fixed = follow_rules(self.schema, inputs, np.zeros_like(truth))
        parts = []
        for name, at in block.parts():
            part = self.parts.setdefault(
                (block.fold, name), _Part.empty(truth.shape[1], self.blends[0].low.shape[:2])
            )
            part.add(truth[at], fixed[at])
            parts.append((at, part))
        bounded, bound = self.schema.closed_form("lower_bound", inputs)
        bound_of = dict(zip(bounded.tolist(), bound.T, strict=True))
        own = [block.predictions[name].T for name in self.members]
        values = np.stack([*own, np.ones_like(own[0])], axis=1)  # (n_modelled, n_members + 1, n)
        values[self.absent] = 0.0  # their weights are 0, too
        y, blends = truth[:, self.targets].T, self.blends[block.fold]
        missing = np.isnan(y)
        gaps = bool(missing.any())
        step = max(1, CACHE_BYTES // (8 * len(truth) * blends.weights.shape[1]))
        for start in range(0, len(self.targets), step):
            here = slice(start, start + step)
            outputs = blends.weights[here] @ values[here]  # (n_here, 2 n_contenders, n)
            np.clip(outputs, blends.low[here], blends.high[here], out=outputs)
            for place, target in enumerate(self.targets[here].tolist()):
                if target in bound_of:
                    np.maximum(outputs[place], bound_of[target], out=outputs[place])
            outputs -= y[here, None]
            if gaps:
                np.copyto(outputs, 0.0, where=missing[here, None])
            for at, part in parts:
                errors = outputs[..., at]
                part.errors[0, here] += np.einsum("tcn,tcn->tc", errors, errors)
                if self.absolute:
                    part.errors[1, here] += np.abs(errors).sum(-1)

    def sums(self) -> ScoreSums:
        """The sums of all blocks."""
        keys = sorted(self.parts)
        fold, block = np.array(keys, dtype=np.intp).T
        parts = [self.parts[key] for key in keys]
        rows = np.array([part.truth.rows for part in parts], dtype=np.float64)
        means = np.stack([part.truth.mean for part in parts])
        within = np.stack([part.truth.squared for part in parts])
        deviation = within + rows * (means - mean_of_parts(means, rows)) ** 2
        scored = self.schema.weights > 0
        errors = np.stack([part.of_all(self.targets) for part in parts], axis=2) * scored
        (honest, final), (far, far_final) = (np.split(each, 2) for each in errors)
        absolute = dict(zip(self.names, zip(far, far_final, strict=True), strict=True))
        return ScoreSums(
            fold=fold,
            block=block,
            rows=rows,
            deviation=deviation * scored,
            squared_error=dict(zip(self.names, honest, strict=True)),
            in_sample=dict(zip(self.names, final, strict=True)),
            absolute_error=absolute if self.absolute else {},
            schema=self.schema,
            metric=self.metric,
        )


@dataclass(frozen=True)
class _Stacked:
    """Blends side by side: weights (n_modelled, n_blends, n_members + 1), low and high with 1."""

    weights: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, blends: Sequence[Blend], members: Sequence[str]) -> _Stacked:
        weights = np.zeros((len(blends[0].targets), len(blends), len(members) + 1))
        low, high = (np.stack([getattr(b, end) for b in blends], axis=1) for end in ("low", "high"))
        for place, blend in enumerate(blends):
            weights[:, place, [members.index(name) for name in blend.members]] = blend.weights.T
            weights[:, place, -1] = blend.intercept
            action = np.array(blend.action)
            weights[np.isin(action, (MEAN, ZERO)), place] = 0.0
            weights[action == MEAN, place, -1] = blend.mean[action == MEAN]
            low[action == ZERO, place] = high[action == ZERO, place] = 0.0
        return cls(weights, low[..., None], high[..., None])


@dataclass
class _Part:
    """Sums over the rows of one fold and one block of units, without the schema's weights."""

    truth: Deviation
    fixed: Array  # (2, n_targets), squared and absolute errors of what the rules alone give
    errors: Array  # (2, n_modelled, 2 n_contenders), the same of the contenders

    @classmethod
    def empty(cls, n_targets: int, shape: tuple[int, ...]) -> _Part:
        return cls(Deviation.empty(n_targets), np.zeros((2, n_targets)), np.zeros((2, *shape)))

    def add(self, truth: Array, fixed: Array) -> None:
        self.truth.add(truth)
        error = truth - fixed
        if np.isnan(error).any():
            error = np.where(np.isnan(truth), 0.0, error)
        self.fixed[0] += (error**2).sum(0)
        self.fixed[1] += np.abs(error).sum(0)

    def of_all(self, targets: Rows) -> Array:
        """Errors of every contender and target, (2, 2 n_contenders, n_targets)."""
        errors = np.repeat(self.fixed[:, None], self.errors.shape[2], axis=1)
        errors[..., targets] = np.swapaxes(self.errors, 1, 2)
        return errors
