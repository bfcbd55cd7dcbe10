"""Scores of all contenders from one pass over held-out rows, and the sums that they come from.

Honest: the rows of fold k are scored with the blend learned from the other folds only.
In-sample: with the blend learned from all folds, the one that test rows get. One pass gives both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from ensemble.evaluation.held_out import Block, HeldOut
from ensemble.stacking.blend import MEAN, ZERO, Blend, follow_rules
from ensemble.stacking.contender import Contender
from features.core.errors import ClimstackError
from features.core.files import atomic_path
from features.core.metrics import Deviation, mean_of_parts, r2_from_sums
from features.core.types import Array, Progress, Rows

TIE = 1e-4  # honest scores closer than this are a tie
CONFIDENCE = 0.95
N_DRAWS = 400
CACHE_BYTES = 2**20  # of outputs at once: what stays in a core's cache


@dataclass(frozen=True, kw_only=True)
class ScoreSums:
    """Sums that every R2 comes from, kept apart by fold and block of the plan's units.

    Errors are multiplied by the schema's weights: a target of weight 0 has none, and scores 1.

    Attributes:
        fold: (n_parts,), the fold of each part.
        block: (n_parts,), its block of units; one that straddles two folds stands twice.
        rows: (n_parts,), rows of each part.
        deviation: (n_parts, n_targets), squared deviations of the truth from its mean over all.
        squared_error: by contender (n_parts, n_targets), with honest blends.
        in_sample: by contender (n_parts, n_targets), with the final blend.
    """

    fold: Rows
    block: Rows
    rows: Array
    deviation: Array
    squared_error: Mapping[str, Array]
    in_sample: Mapping[str, Array]

    def r2(self, name: str) -> Array:
        """Honest R2 of each target, (n_targets,)."""
        return r2_from_sums(self.squared_error[name].sum(0), self.deviation.sum(0))

    def in_sample_r2(self, name: str) -> Array:
        """R2 of each target with the final blend, (n_targets,): optimistic."""
        return r2_from_sums(self.in_sample[name].sum(0), self.deviation.sum(0))

    @property
    def variance(self) -> Array:
        """Variance of each target over all rows, (n_targets,)."""
        variance: Array = self.deviation.sum(0) / self.rows.sum()
        return variance

    def fold_scores(self, name: str) -> list[float]:
        """Score of each fold, with the truth's variance taken over all folds.

        Weighted by their rows they average to the score: no fold's own tiny variance sinks it.
        """
        folds = [self.fold == fold for fold in np.unique(self.fold)]
        return [
            float(
                r2_from_sums(
                    self.squared_error[name][at].sum(0), self.variance * self.rows[at].sum()
                ).mean()
            )
            for at in folds
        ]

    def _drawn(self, name: str, targets: slice) -> Array:
        """Mean R2 in each draw, (N_DRAWS,)."""
        times, deviation = self._draws
        errors = times @ self.squared_error[name][:, targets]
        mean: Array = r2_from_sums(errors, deviation[:, targets]).mean(axis=1)
        return mean

    def interval(
        self, name: str, over: str | None = None, targets: slice = slice(None)
    ) -> tuple[float, float]:
        """Interval of a mean R2, or of its difference to another's, at the confidence CONFIDENCE.

        Whole blocks of units are drawn with replacement, because rows of one block are not
        independent (block bootstrap; Kuensch 1989, Annals of Statistics 17). All contenders are
        drawn alike.

        Args:
            name: the contender.
            over: the contender to compare with.
            targets: whose R2; all without.
        """
        scores = self._drawn(name, targets)
        if over is not None:
            scores = scores - self._drawn(over, targets)
        low, high = np.quantile(scores, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return float(low), float(high)

    @cached_property
    def _draws(self) -> tuple[Array, Array]:
        """How often each draw holds each part, (N_DRAWS, n_parts), and the deviations it has."""
        n_parts = len(self.rows)
        drawn = np.random.default_rng(0).integers(0, n_parts, (N_DRAWS, n_parts))
        times = np.stack([np.bincount(draw, minlength=n_parts) for draw in drawn])
        as_float: Array = times.astype(np.float64)
        return as_float, as_float @ self.deviation

    def save(self, path: Path, targets: Sequence[str]) -> None:
        """Write a Parquet table: model, target, fold, block, rows and the three sums."""
        n_parts, n_targets = self.deviation.shape
        parts = pl.DataFrame(
            {
                "target": list(targets) * n_parts,
                "fold": np.repeat(self.fold, n_targets),
                "block": np.repeat(self.block, n_targets),
                "rows": np.repeat(self.rows, n_targets),
                "deviation": self.deviation.ravel(),
            }
        )
        tables = [
            parts.select(
                pl.lit(name).alias("model"),
                pl.all(),
                pl.Series("squared_error", errors.ravel()),
                pl.Series("in_sample", self.in_sample[name].ravel()),
            )
            for name, errors in self.squared_error.items()
        ]
        with atomic_path(path) as made:
            pl.concat(tables).write_parquet(made)

    @classmethod
    def load(cls, path: Path, targets: Sequence[str]) -> ScoreSums:
        """Read what :meth:`save` wrote.

        Raises:
            ClimstackError: the table is not one of these targets.
        """
        errors, in_sample, table = {}, {}, pl.read_parquet(path)
        for (name,), own in table.group_by("model", maintain_order=True):
            parts = own.to_dict()
            if parts["target"].to_list() != list(targets) * (len(own) // len(targets)):
                raise ClimstackError(f"{path} is not a table of these targets: run the stack again")
            arrays = {
                what: parts[what].to_numpy().reshape(-1, len(targets))
                for what in ("fold", "block", "rows", "deviation", "squared_error", "in_sample")
            }
            errors[str(name)] = arrays["squared_error"]
            in_sample[str(name)] = arrays["in_sample"]
        return cls(
            fold=arrays["fold"][:, 0].astype(np.intp),
            block=arrays["block"][:, 0].astype(np.intp),
            rows=arrays["rows"][:, 0].astype(np.float64),
            deviation=arrays["deviation"],
            squared_error=errors,
            in_sample=in_sample,
        )


def evaluate(
    held_out: HeldOut, contenders: Sequence[Contender], progress: Progress | None = None
) -> ScoreSums:
    """Score all contenders in one pass over the out-of-fold predictions.

    Args:
        held_out: rows and members.
        contenders: what competes.
        progress: called with (what, rows done, rows in all).
    """
    sums = _Scoring(held_out, contenders)
    held_out.walk(sums, what="scores", progress=progress)
    return sums.sums()


def choose(contenders: Sequence[Contender], scores: ScoreSums) -> Contender:
    """The contender with the best honest score; among ties the first, which is the simplest."""
    score = {c.name: scores.r2(c.name).mean() for c in contenders}
    best = max(score.values())
    return next(c for c in contenders if score[c.name] >= best - TIE)


class _Scoring:
    """Squared errors of all contenders at once, a few targets at a time.

    A blend is its weights and its intercept, clipped: a mean has no weights, a zero no room to be
    anything else. So all outputs of a target are one product of (2 n_contenders, n_members + 1)
    with (n_members + 1, n_samples), the contenders' honest blends before their final ones.
    """

    def __init__(self, held_out: HeldOut, contenders: Sequence[Contender]) -> None:
        self.schema = held_out.data.store.schema
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
        y, blends = truth[:, self.targets].T, self.blends[block.fold]
        step = max(1, CACHE_BYTES // (8 * len(truth) * blends.weights.shape[1]))
        for start in range(0, len(self.targets), step):
            here = slice(start, start + step)
            outputs = blends.weights[here] @ values[here]  # (n_here, 2 n_contenders, n)
            np.clip(outputs, blends.low[here], blends.high[here], out=outputs)
            for place, target in enumerate(self.targets[here].tolist()):
                if target in bound_of:
                    np.maximum(outputs[place], bound_of[target], out=outputs[place])
            outputs -= y[here, None]
            for at, part in parts:
                errors = outputs[..., at]
                part.errors[here] += np.einsum("tcn,tcn->tc", errors, errors)

    def sums(self) -> ScoreSums:
        """The sums of all blocks."""
        keys = sorted(self.parts)
        fold, block = np.array(keys, dtype=np.intp).T
        parts = [self.parts[key] for key in keys]
        rows = np.array([float(part.truth.rows) for part in parts])
        means = np.stack([part.truth.mean for part in parts])
        within = np.stack([part.truth.squared for part in parts])
        deviation = within + rows[:, None] * (means - mean_of_parts(means, rows)) ** 2
        errors = np.stack([part.squared_error(self.targets) for part in parts], axis=1)
        honest, final = np.split(errors * self.schema.weights**2, 2)
        return ScoreSums(
            fold=fold,
            block=block,
            rows=rows,
            deviation=deviation * self.schema.weights**2,
            squared_error=dict(zip(self.names, honest, strict=True)),
            in_sample=dict(zip(self.names, final, strict=True)),
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
    fixed: Array  # (n_targets,), squared errors of what the rules alone give
    errors: Array  # (n_modelled, 2 n_contenders)

    @classmethod
    def empty(cls, n_targets: int, shape: tuple[int, ...]) -> _Part:
        return cls(Deviation.empty(n_targets), np.zeros(n_targets), np.zeros(shape))

    def add(self, truth: Array, fixed: Array) -> None:
        self.truth.add(truth)
        self.fixed += ((truth - fixed) ** 2).sum(0)

    def squared_error(self, targets: Rows) -> Array:
        """Of every contender and target, (2 n_contenders, n_targets)."""
        errors = np.tile(self.fixed, (self.errors.shape[1], 1))
        errors[:, targets] = self.errors.T
        return errors
