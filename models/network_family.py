"""Any architecture as a model family: the bridge from folds and cells to the trainer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, make_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
import torch

from features.core import registry
from features.core.files import npy_rows, read_json, write_json
from features.core.settings import check
from features.core.types import Array, Float32, Rows
from features.schemas.variable import AXES
from models.base import Family, FitContext, Fits, Fitted, FoldData, Sets, check_width
from models.seq2seq import checkpoint
from models.seq2seq.augment import Component
from models.seq2seq.layers import Network, Shape
from models.seq2seq.layout import Layout
from models.seq2seq.network import PACKAGE, NetworkSpec
from models.seq2seq.reading import NETWORK, WEIGHTS, read_network
from models.seq2seq.settings import TrainSettings
from models.seq2seq.trainer import HISTORY, Job, State, predict, train

LEARNING = "learning.json"
PRESET_NAMES = ("tiny", "laptop", "gpu")


def params_class(architecture: str) -> type[Any]:
    """Parameters of an architecture and its training as one frozen dataclass.

    What is not given comes from the preset, and then from the defaults of ``Config`` and
    :class:`TrainSettings`; an instance holds the complete values.
    """
    config = registry.load(PACKAGE, architecture, "Config", "architecture")
    presets = registry.load(PACKAGE, architecture, "PRESETS", "architecture")
    parts = (config, TrainSettings)
    defaults = {f.name: f.default for part in parts for f in fields(part)}
    hints: dict[str, Any] = {}
    for part in parts:
        hints |= get_type_hints(part, include_extras=True)

    def resolve(self: Any) -> None:
        check(
            self.preset in PRESET_NAMES,
            f"preset must be one of {', '.join(PRESET_NAMES)}, but got {self.preset!r}",
        )
        for name, value in (defaults | presets[self.preset]).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for part in parts:
            part_of(part, self)

    return make_dataclass(
        f"{architecture.title().replace('_', '')}Params",
        [
            ("preset", Literal["tiny", "laptop", "gpu"], "laptop"),
            *((name, hints[name] | None, None) for name in defaults),
        ],
        frozen=True,
        kw_only=True,
        namespace={"__post_init__": resolve},
    )


def part_of(part: type[Any], params: Any) -> Any:
    """The ``Config`` or the :class:`TrainSettings` in an architecture's parameters."""
    return part(**{f.name: getattr(params, f.name) for f in fields(part)})


@dataclass(frozen=True, kw_only=True)
class NetworkModel(Fitted):
    """Trained networks: one for all targets, or one per group of targets.

    Attributes:
        spec: the network.
        weights: by group; ``""`` for all targets.
        groups: positions of each group's targets.
        history: one row per epoch: phase (``"all"``, or the group that is fine-tuned), epoch, loss,
            inner_r2.
    """

    spec: NetworkSpec
    weights: Mapping[str, State]
    groups: Mapping[str, list[int]]
    history: Sequence[Mapping[str, Any]] = ()

    def predict(self, features: Float32) -> Array:
        """Standardised predictions, (n_samples, n_targets)."""
        return self._predict(features)[0]

    def uncertainty(self, features: Float32) -> Array | None:
        """Expected absolute errors, standardised, (n_samples, n_targets); None without the head."""
        return self._predict(features)[1]

    def save(self, folder: Path) -> None:
        """Write ``network.json``, ``weights.safetensors`` and ``learning.json``."""
        table = {"spec": self.spec.to_table(), "groups": dict(self.groups)}
        (folder / NETWORK).write_text(json.dumps(table), encoding="utf-8")
        tensors = checkpoint.pack(self.weights)
        checkpoint.write_tensors(folder / WEIGHTS, tensors, {})
        write_json(folder / LEARNING, list(self.history))

    @classmethod
    def load(cls, folder: Path) -> NetworkModel:
        """Read what :meth:`save` wrote.

        Raises:
            ClimstackError: the files are not what it writes.
        """
        spec, weights, groups = read_network(folder)
        return cls(spec=spec, weights=weights, groups=groups, history=read_json(folder / LEARNING))

    @cached_property
    def _networks(self) -> dict[str, Network]:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        built = {}
        for group, state in self.weights.items():
            with torch.random.fork_rng([]):
                network = self.spec.build()
            network.load_state_dict(state)
            built[group] = network.to(device)
        return built

    def _predict(self, features: Float32) -> tuple[Array, Array | None]:
        check_width(features, self.spec.shape.n_features)
        device = next(self._networks[""].parameters()).device
        values, errors = predict(self._networks[""], features, device)
        for group, outputs in self.groups.items():
            if group in self._networks:
                tuned, tuned_errors = predict(self._networks[group], features, device)
                values[:, outputs] = tuned[:, outputs]
                if errors is not None and tuned_errors is not None:
                    errors[:, outputs] = tuned_errors[:, outputs]
        return values.astype(np.float64), None if errors is None else errors.astype(np.float64)


class NetworkFamily(Family):
    """The family of one architecture; see :class:`models.base.Family`."""

    package = "torch"
    view = "networks"
    prepared_by = ("patience", "inner_fraction")
    of_levels = ("kernel", "n_halvings")

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self.Params = params_class(architecture)
        self.config = registry.load(PACKAGE, architecture, "Config", "architecture")

    def prepare(self, data: FoldData, params: Any, folder: Path) -> Job:
        """Lay the fold's rows out on disk, as the view for networks."""
        settings = part_of(TrainSettings, params)
        fit, watch = data.inner_rows(settings.inner_fraction if settings.patience else 0.0)
        for name, rows in (("fit", fit), ("watch", watch)):
            if len(rows):
                _write_rows(data, folder, name, rows)
        names = [data.store.schema.target_columns[target] for target in data.targets]
        groups: dict[str, list[int]] = {}
        for position, target in enumerate(data.targets):
            is_scalar = data.target_levels[position] < 0
            group = "scalars" if is_scalar else data.store.schema.target_groups[target]
            groups.setdefault(group, []).append(position)
        return Job(
            spec=self._spec(params, _shape(data, names)),
            settings=settings,
            folder=folder,
            components=components_of(data),
            groups=groups,
            misses=bool(data.misses.any()),
            name=f"{self.architecture}, fold {data.fold}",
        )

    def fit(self, prepared: Job, sets: Sets, params: Any, context: FitContext) -> Fits:
        """Train one network for all targets; a fit that was killed goes on."""
        job = replace(
            prepared,
            spec=self._spec(params, prepared.spec.shape),
            settings=part_of(TrainSettings, params),
            seed=context.seed,
            checkpoints=context.checkpoints,
            on_epoch=context.on_epoch,
        )
        for targets in sets:
            weights = train(job)
            history = read_json(job.folder / HISTORY)
            model = NetworkModel(spec=job.spec, weights=weights, groups=job.groups, history=history)
            yield targets, model

    def _spec(self, params: Any, shape: Shape) -> NetworkSpec:
        settings = part_of(TrainSettings, params)
        return NetworkSpec(
            architecture=self.architecture,
            config=asdict(part_of(self.config, params)),
            shape=shape,
            representations=settings.representations,
            soft_clip=settings.soft_clip,
            confidence=settings.confidence > 0,
        )

    def load(self, folder: Path) -> NetworkModel:
        """Read ``network.json`` and ``weights.safetensors``."""
        return NetworkModel.load(folder)

    def search_space(self, trial: Any) -> dict[str, Any]:
        """Parameters worth searching: the architecture's own, and those of training."""
        space = registry.load(PACKAGE, self.architecture, "search_space", "architecture")
        own: dict[str, Any] = space(trial)
        return own | {
            "learning_rate": trial.suggest_float("learning_rate", 5e-4, 5e-3, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.2, log=True),
            "batch_size": trial.suggest_categorical("batch_size", [16, 32, 64, 128, 256]),
            "beta": trial.suggest_float("beta", 0.1, 2.0, log=True),
        }

    def n_epochs(self, params: Any) -> int:
        """Those over all targets: fine-tuning is not watched."""
        return int(params.epochs)

    def probe(self, params: Any) -> tuple[dict[str, Any], float]:
        """A cheap fit and how many times as long the whole one takes: one epoch of all."""
        settings = part_of(TrainSettings, params)
        n_groups = 7  # as many as LEAP has: six profiles, and scalars together
        epochs = settings.epochs + settings.fine_tune_epochs * n_groups
        return {"epochs": 1, "fine_tune_epochs": 0}, float(epochs)


def _write_rows(data: FoldData, folder: Path, name: str, rows: Rows) -> None:
    if (weights := data.weights(rows)) is not None:
        np.save(folder / f"{name}_weights.npy", (weights / weights.mean())[:, None])
    features, targets = (
        npy_rows(folder / f"{name}_{what}.npy", "<f4", (len(rows), width))
        for what, width in (("features", len(data.feature_names)), ("targets", len(data.targets)))
    )
    with features as add_features, targets as add_targets:
        for x, z in data.blocks(rows):
            add_features(x)
            add_targets(z)


def components_of(data: FoldData) -> tuple[Component, ...]:
    """What changes its sign in a mirror, for each axis that the schema knows components of."""
    found = []
    mean, std = _input_scale(data)
    for axis in AXES:
        inputs = [i for i, of in enumerate(data.feature_axes) if of == axis]
        targets = [i for i, of in enumerate(data.target_axes) if of == axis]
        if inputs:
            found.append(
                Component(
                    inputs=inputs,
                    input_zeros=(-mean[inputs] / std[inputs]).tolist(),
                    targets=targets,
                    target_zeros=(-data.scaler.mean[targets] / data.scaler.std[targets]).tolist(),
                )
            )
    return tuple(found)


def _input_scale(data: FoldData) -> tuple[Array, Array]:
    """Mean and standard deviation of each feature, (n_features,) each."""
    upstream = [] if data.upstream_scaler is None else [data.upstream_scaler]
    scalers = [data.view.visible_scaler, *upstream]
    mean, std = (
        np.concatenate([getattr(scaler, part) for scaler in scalers]) for part in ("mean", "std")
    )
    return mean, std


def _shape(data: FoldData, target_names: list[str]) -> Shape:
    n_levels = max(variable.n_levels for variable in data.store.schema.variables)
    given = Layout.of(data.feature_names, data.feature_levels.tolist(), n_levels)
    wanted = Layout.of(target_names, data.target_levels.tolist(), n_levels)
    mean, std = _input_scale(data)
    return Shape(
        n_levels=n_levels,
        n_features=given.n_columns,
        in_profile=given.profile.tolist(),
        in_scalar=given.scalar.tolist(),
        in_mean=mean.tolist(),
        in_std=std.tolist(),
        n_profile_targets=len(wanted.channels),
        n_scalar_targets=len(wanted.scalar),
        out_source=wanted.source.tolist(),
    )
