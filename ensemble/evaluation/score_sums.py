"""Sums that every score of a contender comes from, by fold and block; scores and their intervals.

Honest: the rows of fold k are scored with the blend learned from the other folds only.
In-sample: with the blend learned from all folds, the one that test rows get.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from features.core.errors import ClimstackError
from features.core.files import atomic_path
from features.core.metrics import r2_from_sums
from features.core.types import Array, Mask, Rows
from features.schemas.schema import Schema
from features.scoring.metric import Metric, Sums, aggregate, load_metric, values_of

CONFIDENCE = 0.95
N_DRAWS = 400
KEPT = ("fold", "block", "rows", "deviation", "squared_error", "in_sample")  # columns of a table
ABSOLUTE = ("absolute_error", "in_sample_absolute")


@dataclass(frozen=True, kw_only=True)
class ScoreSums:
    """Sums that every score comes from, kept apart by fold and block of the plan's units.

    A target of weight 0 has no errors and no deviation: its R2 is 1.

    Attributes:
        fold: (n_parts,), the fold of each part.
        block: (n_parts,), its block of units; one that straddles two folds stands twice.
        rows: (n_parts, n_targets), rows of each part that have the truth.
        deviation: (n_parts, n_targets), squared deviations of the truth from its mean over all.
        squared_error: by contender (n_parts, n_targets), with honest blends.
        in_sample: by contender (n_parts, n_targets), with the final blend.
        absolute_error: the same two of absolute errors, honest and in-sample, by contender; empty
            where the metric doesn't ask for them.
        schema: of the targets.
        metric: name of the metric that scores are of; None: the schema's.

    Example:
        >>> low, high = scores.interval("ridge")
        >>> low <= scores.score("ridge") <= high
        True
    """

    fold: Rows
    block: Rows
    rows: Array
    deviation: Array
    squared_error: Mapping[str, Array]
    in_sample: Mapping[str, Array]
    absolute_error: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)
    schema: Schema
    metric: str | None = None

    @cached_property
    def by(self) -> Metric:
        """The metric that scores are of."""
        return load_metric(self.metric or self.schema.metric)

    @cached_property
    def share(self) -> Array:
        """How much each target counts in the score, (n_targets,)."""
        return self.by.share(self.schema)

    def values(self, name: str) -> Array:
        """Honest value of each target by the metric, (n_targets,); NaN without rows."""
        return values_of(self.by, self._sums(name, slice(None)))

    def score(self, name: str, targets: slice | Rows = slice(None)) -> float:
        """Honest score: the targets' values as one number; NaN where none counts."""
        return float(aggregate(self.values(name)[targets], self.share[targets]))

    def in_sample_score(self, name: str) -> float:
        """The same with the final blend: optimistic."""
        sums = self._sums(name, slice(None), in_sample=True)
        return float(aggregate(values_of(self.by, sums), self.share))

    def gain(self, name: str, over: str, targets: slice | Rows = slice(None)) -> float:
        """By how much a contender's score is better than another's, whichever way is better."""
        return self._sign * (self.score(name, targets) - self.score(over, targets)) + 0.0  # no -0

    @property
    def _sign(self) -> int:
        return 1 if self.by.greater_is_better else -1

    def _sums(self, name: str, at: Mask | slice, *, in_sample: bool = False) -> Sums:
        """Sums of a contender over some parts."""
        of = (self.in_sample if in_sample else self.squared_error)[name]
        pair = self.absolute_error.get(name)
        return Sums(
            rows=self.rows[at].sum(0),
            deviation=self.deviation[at].sum(0),
            squared_error=of[at].sum(0),
            absolute_error=None if pair is None else pair[in_sample][at].sum(0),
        )

    def r2(self, name: str) -> Array:
        """Honest R2 of each target, (n_targets,)."""
        return self._r2(self.squared_error[name])

    def in_sample_r2(self, name: str) -> Array:
        """R2 of each target with the final blend, (n_targets,): optimistic."""
        return self._r2(self.in_sample[name])

    def _r2(self, errors: Array) -> Array:
        r2 = r2_from_sums(errors.sum(0), self.deviation.sum(0))
        return np.where(self.rows.sum(0) > 0, r2, np.nan)

    @property
    def variance(self) -> Array:
        """Variance of each target over all rows, (n_targets,)."""
        variance: Array = self.deviation.sum(0) / np.maximum(self.rows.sum(0), 1)
        return variance

    def fold_scores(self, name: str) -> list[float]:
        """Score of each fold, with the truth's variance taken over all folds.

        Weighted by their rows R2s average to the score: no fold's own tiny variance sinks it.
        """
        scores = []
        for fold in np.unique(self.fold):
            sums = self._sums(name, self.fold == fold)
            sums = replace(sums, deviation=self.variance * sums.rows)
            scores.append(float(aggregate(values_of(self.by, sums), self.share)))
        return scores

    def _drawn(self, name: str, targets: slice | Rows) -> Array:
        """Score in each draw, (N_DRAWS,)."""
        times, rows, deviation = self._draws
        pair = self.absolute_error.get(name)
        sums = Sums(
            rows=rows[:, targets],
            deviation=deviation[:, targets],
            squared_error=times @ self.squared_error[name][:, targets],
            absolute_error=None if pair is None else times @ pair[0][:, targets],
        )
        return aggregate(values_of(self.by, sums), self.share[targets])

    def interval(
        self, name: str, over: str | None = None, targets: slice | Rows = slice(None)
    ) -> tuple[float, float]:
        """Interval of a score, or of its gain over another's, at the confidence CONFIDENCE.

        Whole blocks of units are drawn with replacement, because rows of one block are not
        independent (block bootstrap; Kuensch 1989, Annals of Statistics 17). All contenders are
        drawn alike.

        Args:
            name: the contender.
            over: the contender to compare with.
            targets: whose score; all without.
        """
        scores = self._drawn(name, targets)
        if over is not None:
            scores = self._sign * (scores - self._drawn(over, targets)) + 0.0
        low, high = np.nanquantile(scores, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return float(low), float(high)

    @cached_property
    def _draws(self) -> tuple[Array, Array, Array]:
        """How often each draw holds each part, (N_DRAWS, n_parts), its rows and its deviations."""
        n_parts = len(self.rows)
        drawn = np.random.default_rng(0).integers(0, n_parts, (N_DRAWS, n_parts))
        times = np.stack([np.bincount(draw, minlength=n_parts) for draw in drawn])
        as_float: Array = times.astype(np.float64)
        return as_float, as_float @ self.rows, as_float @ self.deviation

    def save(self, path: Path, targets: Sequence[str]) -> None:
        """Write a Parquet table: model, target, fold, block, rows and the sums.

        ``absolute_error`` and ``in_sample_absolute`` are there where the metric asks for them.
        """
        n_parts, n_targets = self.deviation.shape
        parts = pl.DataFrame(
            {
                "target": list(targets) * n_parts,
                "fold": np.repeat(self.fold, n_targets),
                "block": np.repeat(self.block, n_targets),
                "rows": self.rows.ravel(),
                "deviation": self.deviation.ravel(),
            }
        )
        tables = [
            parts.select(
                pl.lit(name).alias("model"),
                pl.all(),
                pl.Series("squared_error", errors.ravel()),
                pl.Series("in_sample", self.in_sample[name].ravel()),
                *(
                    pl.Series(what, sums.ravel())
                    for what, sums in zip(ABSOLUTE, self.absolute_error.get(name, ()), strict=False)
                ),
            )
            for name, errors in self.squared_error.items()
        ]
        with atomic_path(path) as made:
            pl.concat(tables).write_parquet(made)

    @classmethod
    def load(cls, path: Path, schema: Schema, metric: str | None = None) -> ScoreSums:
        """Read what :meth:`save` wrote.

        Args:
            path: of the table.
            schema: of its targets.
            metric: see :attr:`metric`.

        Raises:
            ClimstackError: the table is not one of these targets.
        """
        errors, in_sample, absolute, table = {}, {}, {}, pl.read_parquet(path)
        targets, more = schema.target_columns, [name for name in ABSOLUTE if name in table.columns]
        for (name,), own in table.group_by("model", maintain_order=True):
            parts = own.to_dict()
            if parts["target"].to_list() != list(targets) * (len(own) // len(targets)):
                raise ClimstackError(f"{path} is not a table of these targets: run the stack again")
            arrays = {
                what: parts[what].to_numpy().reshape(-1, len(targets)) for what in (*KEPT, *more)
            }
            if more:
                absolute[str(name)] = (arrays[ABSOLUTE[0]], arrays[ABSOLUTE[1]])
            errors[str(name)] = arrays["squared_error"]
            in_sample[str(name)] = arrays["in_sample"]
        return cls(
            fold=arrays["fold"][:, 0].astype(np.intp),
            block=arrays["block"][:, 0].astype(np.intp),
            rows=arrays["rows"].astype(np.float64),
            deviation=arrays["deviation"],
            squared_error=errors,
            in_sample=in_sample,
            absolute_error=absolute,
            schema=schema,
            metric=metric,
        )
