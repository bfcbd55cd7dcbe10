"""Trees on the members' predictions: each target corrected by what it and its levels nearby say.

A booster sees every member's prediction and the blend at its own level and the two beside it, the
inputs at its level, and the scalars.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed

from ensemble.stacking.correction import StackRows
from features.core.files import read_json, write_json
from features.core.types import Array, Float32, Mask
from features.views.tabular import Kind

N_ROUNDS = 60
PARAMS = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.6,
    "lambda_l2": 10.0,
    "max_bin": 63,
    "num_threads": 1,  # targets are fitted side by side
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Boosters:
    """One booster per corrected target.

    Attributes:
        n_targets: how many targets there are.
        models: for each corrected target its position, its features' positions and its booster's
            text.
    """

    n_targets: int
    models: list[tuple[int, list[int], str]]

    def predict(self, features: Float32) -> Array:
        """Corrections, (n, n_targets); 0 for targets without a booster."""
        out = np.zeros((len(features), self.n_targets))

        def one(seen: list[int], booster: Any) -> Array:
            own = np.array(features[:, seen], order="C")
            return np.asarray(booster.predict(own, num_threads=1))

        jobs = (
            delayed(one)(seen, booster)
            for (_, seen, _), booster in zip(self.models, self._boosters, strict=True)
        )
        found = Parallel(cpu_count(), prefer="threads")(jobs)
        for (target, _, _), predicted in zip(self.models, found, strict=True):
            out[:, target] = predicted
        return out

    @cached_property
    def _boosters(self) -> list[Any]:
        import lightgbm

        return [lightgbm.Booster(model_str=text) for _, _, text in self.models]

    def save(self, folder: Path) -> None:
        """Write ``boosters.json``."""
        write_json(folder / "boosters.json", {"n_targets": self.n_targets, "models": self.models})


class Gbdt:
    """LightGBM on the residual of the linear blend, target by target."""

    complexity = 8
    has_levels = False
    view: Kind = "trees"

    def fit(self, rows: StackRows, wanted: Mask, seed: int, scratch: Path) -> Boosters:
        """Boosters for the wanted targets; threads share the features."""
        targets = np.flatnonzero(wanted)
        jobs = (delayed(_fit)(rows, int(target), seed) for target in targets)
        models = Parallel(cpu_count(), prefer="threads")(jobs)
        return Boosters(len(wanted), list(models))

    def load(self, folder: Path) -> Boosters:
        """Read ``boosters.json``."""
        table = read_json(folder / "boosters.json")
        models = [(target, seen, text) for target, seen, text in table["models"]]
        return Boosters(table["n_targets"], models)


def _fit(rows: StackRows, target: int, seed: int) -> tuple[int, list[int], str]:
    import lightgbm

    seen = _features_of(rows, target)
    own, label = np.array(rows.features[:, seen], order="C"), rows.residual[:, target].copy()
    data = lightgbm.Dataset(own, label=label)
    params = PARAMS | {"seed": seed}
    return target, seen, lightgbm.train(params, data, N_ROUNDS).model_to_string()


def _features_of(rows: StackRows, target: int) -> list[int]:
    """Predictions at the target's level and beside it, inputs at its level, scalars."""
    n_targets = len(rows.targets)
    level, groups = rows.target_levels[target], np.array(rows.target_groups)
    beside = np.abs(rows.target_levels - level) <= 1
    near = np.flatnonzero((groups == groups[target]) & beside).tolist() if level >= 0 else [target]
    first_input = rows.n_blocks * n_targets
    own = np.flatnonzero(np.isin(rows.levels[first_input:], [-1, level])) + first_input
    return [block * n_targets + t for block in range(rows.n_blocks) for t in near] + own.tolist()


BLENDER = Gbdt()
