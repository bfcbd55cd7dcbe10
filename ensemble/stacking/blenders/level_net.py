"""A small convolution over the levels of the members' predictions, as LEAP's fourth place stacked.

Every member's profiles, the blend's and the inputs are channels; the network predicts what the
linear blend leaves over, for all targets at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.stacking.correction import StackRows
from features.core.types import Mask
from features.views.tabular import Kind
from models.seq2seq.layout import Layout

if TYPE_CHECKING:
    from models.network_family import NetworkModel

CONFIG: dict[str, Any] = {"dim": 64, "depth": 2, "kernel": 5, "expansion": 2, "dropout": 0.1}
SETTINGS: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "loss": "mse",
    "input_noise": 0.1,
}


class LevelNet:
    """Two ConvNeXt blocks, trained by the trainer of all networks."""

    complexity = 9
    has_levels = False
    view: Kind = "networks"

    def fit(self, rows: StackRows, wanted: Mask, seed: int, scratch: Path) -> NetworkModel:
        """One network for all targets, wanted or not: they teach each other."""
        from models.network_family import NetworkModel
        from models.seq2seq.layers import Shape
        from models.seq2seq.network import NetworkSpec
        from models.seq2seq.settings import TrainSettings
        from models.seq2seq.trainer import Job, train

        np.save(scratch / "fit_features.npy", np.ascontiguousarray(rows.features))
        np.save(scratch / "fit_targets.npy", np.ascontiguousarray(rows.residual))
        n_levels = int(max(rows.levels.max(), rows.target_levels.max())) + 1
        given = Layout.of(rows.names, rows.levels.tolist(), n_levels)
        asked = Layout.of(rows.targets, rows.target_levels.tolist(), n_levels)
        shape = Shape(
            n_levels=n_levels,
            n_features=given.n_columns,
            in_profile=given.profile.tolist(),
            in_scalar=given.scalar.tolist(),
            in_mean=[0.0] * given.n_columns,
            in_std=[1.0] * given.n_columns,
            n_profile_targets=len(asked.channels),
            n_scalar_targets=len(asked.scalar),
            out_source=asked.source.tolist(),
        )
        spec = NetworkSpec(architecture="convnext1d", config=CONFIG, shape=shape)
        job = Job(
            spec=spec,
            settings=TrainSettings(**SETTINGS),
            seed=seed,
            folder=scratch,
            name="level_net",
        )
        return NetworkModel(spec=spec, weights=train(job), groups={})

    def load(self, folder: Path) -> NetworkModel:
        """Read the network."""
        from models.network_family import NetworkModel

        return NetworkModel.load(folder)


BLENDER = LevelNet()
