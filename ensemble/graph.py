"""What is done to the members' predictions: one graph for out-of-fold rows and test rows alike.

In order: the weighted sum with its intercept; the safe constant where the blend is not trusted; the
range of the truth seen; closed-form rules in float64; lower bounds; zeros in columns of weight 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.blending import Candidate
from ensemble.moments import Array, Moments
from features.errors import ClimstackError
from features.files import read_json, write_json
from features.metrics import r2_from_sums
from features.schema import Schema, load_schema

BLEND, MEAN, ZERO = "blend", "mean", "zero"


@dataclass(frozen=True)
class Graph:
    """A blend ready to be applied.

    Attributes:
        schema_name: schema of the targets.
        blender: name of the candidate that chose the weights.
        members: names of the members, length n_members.
        targets: indices of the modelled targets, (n_modelled,).
        weights: (n_members, n_modelled).
        intercept: (n_modelled,), physical units.
        action: per modelled target ``"blend"``, or the safe constant ``"mean"`` or ``"zero"``.
        mean: (n_modelled,), mean of the truth the weights were learned from.
        low: (n_modelled,), smallest truth seen.
        high: (n_modelled,), largest truth seen.
        member_hashes: which cells each member had, length n_members; empty before it is saved.
    """

    schema_name: str
    blender: str
    members: list[str]
    targets: NDArray[np.intp]
    weights: Array
    intercept: Array
    action: list[str]
    mean: Array
    low: Array
    high: Array
    member_hashes: list[str] = field(default_factory=list)

    @cached_property
    def schema(self) -> Schema:
        """The schema of inputs and targets."""
        return load_schema(self.schema_name)

    def apply(self, predictions: Mapping[str, Array], inputs: Array) -> Array:
        """Blend rows into final outputs.

        Args:
            predictions: each member's predictions of the modelled targets, (n_samples, n_modelled).
            inputs: (n_samples, n_inputs), for the rules.

        Returns:
            (n_samples, n_targets), physical units, every column of the schema.

        Raises:
            ClimstackError: a member's predictions are missing.
        """
        missing = [name for name in self.members if name not in predictions]
        if missing:
            raise ClimstackError(
                f"the graph needs predictions of member '{missing[0]}', got {sorted(predictions)}"
            )
        blend = np.broadcast_to(self.intercept, (len(inputs), len(self.targets))).copy()
        for name, weights in zip(self.members, self.weights, strict=True):
            blend += predictions[name] * weights
        action = np.array(self.action)
        blend[:, action == MEAN] = self.mean[action == MEAN]
        np.clip(blend, self.low, self.high, out=blend)
        blend[:, action == ZERO] = 0.0

        outputs = np.zeros((len(inputs), len(self.schema.target_columns)))
        outputs[:, self.targets] = blend
        bounded, bound = self.schema.closed_form("lower_bound", inputs)
        outputs[:, bounded] = np.maximum(outputs[:, bounded], bound)
        exact, values = self.schema.closed_form("exact", inputs)
        outputs[:, exact] = values
        outputs[:, self.schema.weights == 0] = 0.0
        return outputs

    def save(self, path: Path) -> None:
        """Write ``graph.json``; numbers come back to the bit."""
        table: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        table |= {k: v.tolist() for k, v in table.items() if isinstance(v, np.ndarray)}
        write_json(path, table)

    @classmethod
    def load(cls, path: Path) -> Graph:
        """Read a graph back.

        Raises:
            ClimstackError: missing, or not a graph.
        """
        table = read_json(path)
        try:
            arrays = {
                k: np.array(table[k]) for k in ("weights", "intercept", "mean", "low", "high")
            }
            targets = np.array(table["targets"], dtype=np.intp)
            return cls(**table | arrays | {"targets": targets})
        except (TypeError, KeyError):
            raise ClimstackError(f"{path} is not a blend graph: run the stack again") from None


def fit_graph(
    schema: Schema,
    members: Sequence[str],
    targets: NDArray[np.intp],
    candidate: Candidate,
    moments: Moments,
) -> Graph:
    """Learn a graph from some folds' out-of-fold moments.

    Whether a target's blend is trusted is decided by cross-fitting inside these folds. Each fold
    stands in for the unseen period: its R2, by its own variance, with weights from the other folds,
    is averaged over folds, and the blend must beat the training mean and zero. It must also beat
    them over all rows together, but that alone would not do: a target that is alive in one fold and
    still in the next (cloud ice aloft) can have a pooled R2 above 0 and one of -1e6 where it is
    still, which would sink the whole score.

    Args:
        schema: of the targets.
        members: names, in the moments' order.
        targets: indices of the modelled targets.
        candidate: blender and level.
        moments: the folds to learn from, at least 2.
    """
    groups = [schema.target_groups[target] for target in targets]
    apart, together = np.zeros((2, 3, len(targets)))  # R2 summed over folds; errors pooled
    for fold in range(moments.n_folds):
        held = moments.folds([fold])
        others = [k for k in range(moments.n_folds) if k != fold]
        rest = moments.folds(others)
        errors = np.concatenate(
            [
                held.squared_error(*candidate.weights(rest, groups)),
                held.constant_error(rest.merged().mean[0, :, -1]),
                held.constant_error(np.zeros(len(targets))),
            ]
        )
        together += errors
        apart += r2_from_sums(errors, held.comoment[0, :, -1, -1])
    apart[0, together[0] >= together[1:].min(0)] = -np.inf
    chosen = np.argmax(apart, axis=0)
    one = moments.merged()
    weights, intercept = candidate.weights(moments, groups)
    return Graph(
        schema.name,
        candidate.name,
        list(members),
        targets,
        weights,
        intercept,
        [(BLEND, MEAN, ZERO)[choice] for choice in chosen],
        one.mean[0, :, -1],
        one.low[0],
        one.high[0],
    )
