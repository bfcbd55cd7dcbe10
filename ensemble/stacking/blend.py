"""What is done to the members' predictions: one blend for out-of-fold rows and test rows alike.

In order: the weighted sum with its intercept; the safe constant where the blend is not trusted; the
range of the truth seen; lower bounds; closed-form rules in float64; zeros in columns of weight 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.stacking.candidate import Candidate
from ensemble.stacking.moments import Moments
from features.core.errors import ClimstackError
from features.core.files import json_text, read_json, write_text
from features.core.metrics import r2_from_sums
from features.core.types import Array, Mask, Rows
from features.schemas.schema import Schema

BLEND, MEMBER, MEAN, ZERO = "blend", "member", "mean", "zero"  # actions
FEWEST = 2  # truths in each of as many folds: a target with fewer gets its mean


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Members' predictions into final outputs.

    Attributes:
        schema: of inputs and targets.
        blender: name of the candidate that chose the weights.
        members: names of the members, length n_members.
        targets: indices of the modelled targets, (n_modelled,).
        weights: (n_members, n_modelled).
        intercept: (n_modelled,), physical units.
        action: per modelled target ``"blend"``, ``"member"`` where the blend is no better than the
            best member, which then has all the weight, or the safe constant ``"mean"`` or
            ``"zero"``; the mean, too, where no member serves the target.
        mean: (n_modelled,), mean of the truth the weights were learned from.
        low: (n_modelled,), smallest truth seen.
        high: (n_modelled,), largest truth seen.
        member_hashes: which cells each member had, length n_members; empty before it is saved.

    Example:
        >>> from pathlib import Path
        >>> blend = Blend.load(Path("runs/first/stack/blend.json"))
        >>> blend.members, blend.weights.shape
        (['ridge', 'trees'], (2, 3))
    """

    schema: Schema
    blender: str
    members: list[str]
    targets: Rows
    weights: Array
    intercept: Array
    action: list[str]
    mean: Array
    low: Array
    high: Array
    member_hashes: list[str] = field(default_factory=list)

    @property
    def members_used(self) -> list[str]:
        """Members with a say: one whose weight is 0 for every target has none."""
        pairs = zip(self.members, self.weights, strict=True)
        return [name for name, weights in pairs if weights.any()]

    def apply(self, predictions: Mapping[str, Array], inputs: Array) -> Array:
        """Blend rows into final outputs.

        Args:
            predictions: each member's predictions of the modelled targets, (n_samples, n_modelled);
                NaN where it does not serve one.
            inputs: (n_samples, n_inputs), for the rules.

        Returns:
            (n_samples, n_targets), physical units, every column of the schema.

        Raises:
            ClimstackError: a member's predictions are missing, or NaN where it has a say.
        """
        missing = [name for name in self.members if name not in predictions]
        if missing:
            raise ClimstackError(
                f"the blend needs predictions of member '{missing[0]}', got {sorted(predictions)}"
            )
        total = self.intercept + np.zeros((len(inputs), len(self.targets)))
        for name, weights in zip(self.members, self.weights, strict=True):
            say = weights != 0
            if say.all():
                total += predictions[name] * weights
            else:  # never 0 * NaN
                total[:, say] += predictions[name][:, say] * weights[say]
        action = np.array(self.action)
        total[:, action == MEAN] = self.mean[action == MEAN]
        if np.isnan(total).any():
            column = self.schema.target_columns[self.targets[np.isnan(total).any(0).argmax()]]
            raise ClimstackError(
                f"a member of {self.blender} has no number for {column} in some rows: a blend needs"
                " all of them"
            )
        np.clip(total, self.low, self.high, out=total)
        total[:, action == ZERO] = 0.0

        outputs = np.zeros((len(inputs), len(self.schema.target_columns)))
        outputs[:, self.targets] = total
        return follow_rules(self.schema, inputs, outputs)

    @property
    def text(self) -> str:
        """As JSON; numbers come back to the bit."""
        table: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        table["schema"] = self.schema.to_table()
        return json_text(
            {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in table.items()}
        )

    def save(self, path: Path) -> None:
        """Write :attr:`text`."""
        write_text(path, self.text)

    @classmethod
    def load(cls, path: Path) -> Blend:
        """Read a blend back.

        Raises:
            ClimstackError: missing, or not a blend.
        """
        table = read_json(path)
        try:
            arrays: dict[str, Any] = {
                k: np.array(table[k]) for k in ("weights", "intercept", "mean", "low", "high")
            }
            arrays["schema"] = Schema.from_table(table["schema"])
            return cls(**table | arrays | {"targets": np.array(table["targets"], dtype=np.intp)})
        except (TypeError, KeyError):
            raise ClimstackError(f"{path} is not a blend: run the stack again") from None


def follow_rules(schema: Schema, inputs: Array, outputs: Array) -> Array:
    """Put lower bounds, closed-form targets and zeros of weight 0 into outputs, and return them.

    Args:
        schema: knows the rules.
        inputs: (n_samples, n_inputs).
        outputs: (n_samples, n_targets), changed in place.
    """
    bounded, bound = schema.closed_form("lower_bound", inputs)
    outputs[:, bounded] = np.maximum(outputs[:, bounded], bound)
    exact, values = schema.closed_form("exact", inputs)
    outputs[:, exact] = values
    outputs[:, schema.weights == 0] = 0.0
    return outputs


def fit_blend(
    schema: Schema, members: Sequence[str], targets: Rows, candidate: Candidate, moments: Moments
) -> Blend:
    """Learn a blend from some folds' out-of-fold moments.

    Whether a target's blend is trusted is decided by cross-fitting inside these folds: each stands
    in for the unseen period, with weights from the others. The blend must have a smaller error than
    the best member (the one with the smallest error on the other folds), by more than the
    difference's standard error over blocks of time; else that member takes its place. What is left
    must beat the training mean and zero, twice: over all rows, and in R2 averaged over folds, each
    by its own variance. Pooled rows alone would not do: a target that is alive in one fold and
    still in the next (cloud ice aloft) can have a pooled R2 above 0 and one of -1e6 where it is
    still, which would sink the whole score.

    A target that no member serves, and one with too few truths to cross-fit (:func:`learnable`),
    gets its training mean.

    Args:
        schema: of the targets.
        members: names, in the moments' order.
        targets: indices of the modelled targets.
        candidate: blender and pooling.
        moments: the folds to learn from, at least 2.

    Raises:
        ClimstackError: fewer than 2 folds.
    """
    if len(moments.fold_names) < 2:
        raise ClimstackError("a blend needs at least 2 folds to learn from: plan at least 3")
    groups = [schema.target_groups[target] for target in targets]
    best = Candidate("best", "target")
    by_fold = moments.by_fold()
    apart, together = np.zeros((2, 4, len(targets)))  # R2 summed over folds; errors pooled
    gained = []
    for fold in by_fold.fold_names:
        held, rest = moments.folds([fold]), by_fold.without(fold)
        parts = np.stack(
            [
                held.squared_error(*candidate.weights(rest, groups)),
                held.squared_error(*best.weights(rest, groups)),
                held.constant_error(rest.merged().mean[0, :, -1]),
                held.constant_error(np.zeros(len(targets))),
            ]
        )
        errors = parts.sum(1)
        together += errors
        apart += r2_from_sums(errors, by_fold.folds([fold]).comoment[0, :, -1, -1])
        gained.append(parts[1] - parts[0])
    gain = np.concatenate(gained)  # (n_parts, n_targets)
    use_member = gain.sum(0) <= np.sqrt(len(gain)) * gain.std(0)
    weights, intercept = candidate.weights(by_fold, groups)
    alone, none = best.weights(by_fold, groups)
    weights = np.where(use_member, alone, weights)
    intercept = np.where(use_member, none, intercept)
    apart[0] = np.where(use_member, apart[1], apart[0])
    together[0] = np.where(use_member, together[1], together[0])
    apart[0, together[0] >= together[2:].min(0)] = -np.inf
    chosen = np.argmax(apart[[0, 2, 3]], axis=0)
    one = moments.merged()
    actions = [
        (MEMBER if member else BLEND, MEAN, ZERO)[choice]
        for choice, member in zip(chosen, use_member & (len(members) > 1), strict=True)
    ]
    known = one.count[0] > 0
    for target in np.flatnonzero(~(learnable(moments) & moments.served.any(1))):
        actions[target], weights[:, target], intercept[target] = MEAN, 0.0, one.mean[0, target, -1]
    return Blend(
        schema=schema,
        blender=candidate.name,
        members=list(members),
        targets=targets,
        weights=weights,
        intercept=intercept,
        action=actions,
        mean=one.mean[0, :, -1],
        low=np.where(known, one.low[0], 0.0),
        high=np.where(known, one.high[0], 0.0),
    )


def learnable(moments: Moments) -> Mask:
    """Whether a target has at least FEWEST truths in each of FEWEST folds, (n_targets,)."""
    enough: Mask = (moments.by_fold().count >= FEWEST).sum(0) >= FEWEST
    return enough
