"""The out-of-fold store: content-addressed cells, written atomically, checksummed.

A cell is one model on one fold for one set of targets. Its folder's name is the hash of everything
that its predictions depend on, so a finished cell is never computed again, and a half-written,
damaged or foreign one is never read.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from features.core.arrays import read_npz
from features.core.errors import ClimstackError
from features.core.files import (
    atomic_path,
    content_hash,
    file_hash,
    read_json,
    write_json,
)
from features.core.sealed import read_sealed, write_sealed
from features.core.types import Array, Float32
from features.folds.folded import FoldedStore
from features.views.tabular import TabularView
from features.views.transforms import OF_SCALER, Scaler
from models.base import Fitted, TableShape
from models.spec import ModelSpec, load_family

SCORE = "score.json"  # written last

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CellKey:
    """Everything that a cell's predictions depend on.

    Attributes:
        versions: of climstack and of what fits: a new one may fit differently.
        data: the store's data hash.
        schema: hash of the store's schema.
        folds: the fold plan's hash.
        family: the model family.
        params: its parameters, complete.
        seed: the model's seed.
        fold: which fold.
        targets: names of the target columns.
        upstream: hashes of the models whose predictions are inputs.
        levels: hash of the hybrid levels that features are computed with; None for ClimSim's own.

    Example:
        >>> from models import cell_keys
        >>> key = cell_keys(data, members[0].spec, members[0].targets, fold=0)[0]
        >>> key.family, key.fold, key.targets
        ('ridge', 0, ('warmth_1', 'warmth_2', 'flux'))
    """

    versions: dict[str, str]
    data: str
    schema: str
    folds: str
    family: str
    params: dict[str, Any]
    seed: int
    fold: int
    targets: tuple[str, ...]
    upstream: list[str]
    levels: str | None = None

    @classmethod
    def of(
        cls,
        data: FoldedStore,
        spec: ModelSpec,
        fold: int,
        targets: Iterable[str],
        upstream: list[str],
    ) -> CellKey:
        """The key of a model on a fold."""
        packages, params = ["climstack"], {}
        if spec.external is None:
            family = load_family(spec.family)
            packages.append(family.package)
            params = asdict(family.settle(spec.parsed, TableShape.of(data.store)))
        else:
            params = {"oof": spec.external.sha256, "folds": spec.external.folds}
        return cls(
            versions={package: _version(package) for package in packages},
            data=data.store.data_hash,
            schema=data.store.schema.hash,
            folds=data.plan.hash,
            family=spec.family,
            params=params,
            seed=spec.seed,
            fold=fold,
            targets=tuple(targets),
            upstream=upstream,
            levels=data.store.levels_hash,
        )

    @property
    def hash(self) -> str:
        """SHA-256 of the key: the cell's folder name."""
        return content_hash(self.to_table())

    def to_table(self) -> dict[str, Any]:
        """What ``params.json`` holds; ClimSim's own levels are not named."""
        table = asdict(self)
        if self.levels is None:
            del table["levels"]
        return table


@dataclass(frozen=True)
class Cell:
    """A finished cell on disk.

    Attributes:
        path: its folder.
        score: what ``score.json`` says: seconds, r2 per target, checksums.

    Example:
        >>> cell = members[0].cells[0][0]
        >>> cell.oof().shape, len(cell.score["r2"])
        ((52, 3), 3)
    """

    path: Path
    score: dict[str, Any]

    def oof(self) -> Array:
        """Predictions of the fold's validation rows in physical units, (n_valid, n_targets)."""
        values: Array = np.load(self.path / "oof.npy", mmap_mode="r")
        return values

    @property
    def has_uncertainty(self) -> bool:
        """Whether its model says how far off it expects to be."""
        return (self.path / "uncertainty.npy").is_file()

    def uncertainty(self) -> Array | None:
        """Expected absolute errors of :meth:`oof`, same shape and unit; None where unknown."""
        file = self.path / "uncertainty.npy"
        return np.load(file, mmap_mode="r") if file.is_file() else None

    def model(self) -> TrainedModel:
        """The cell's model, ready to predict.

        Raises:
            ClimstackError: the cell is damaged, or of an external member, which has no model.
        """
        return TrainedModel.load(self.path)


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model with the view and the scalers of its training rows: raw inputs to physical units.

    Attributes:
        family: the family it belongs to.
        fitted: the fitted model, on standardised features and targets.
        view: encodes the inputs.
        scaler: scales its targets back.
        upstream_scaler: standardises other models' predictions, when they are inputs of it.

    Example:
        >>> model = members[0].models(0)[0]
        >>> model.predict(store.inputs[:2]).shape
        (2, 3)
    """

    family: str
    fitted: Fitted
    view: TabularView
    scaler: Scaler
    upstream_scaler: Scaler | None = None

    def predict(self, inputs: Array) -> Array:
        """Predict (n_samples, n_inputs) float64 inputs: (n_samples, n_targets), physical units.

        Raises:
            ClimstackError: wrong width, a value is not finite, or the model builds on others and
                can only be run with them.
        """
        if self.upstream_scaler is not None:
            raise ClimstackError("this model builds on others: predict with the run's 'submit'")
        return self.predict_features(self.view.transform(inputs))

    def features(self, inputs: Array, upstream: Array | None = None) -> Float32:
        """Standardised features from raw inputs and, where it takes them, others' predictions."""
        features = self.view.transform(inputs)
        if self.upstream_scaler is None or upstream is None:
            return features
        added = self.upstream_scaler.transform(upstream)
        return np.concatenate([features, added], axis=1, dtype=np.float32)

    def predict_features(self, features: Float32) -> Array:
        """Predict from what :meth:`features` has made, (n_samples, n_targets).

        Raises:
            ClimstackError: model, view and scaler don't belong together.
        """
        scaled = self.fitted.predict(features)
        if scaled.shape[1:] != self.scaler.mean.shape:
            raise ClimstackError(
                f"a model of {scaled.shape[1]} targets has scales of {len(self.scaler.mean)}: its"
                " cell is damaged, delete it and run again"
            )
        return self.scaler.inverse(scaled)

    def uncertainty(self, features: Float32) -> Array | None:
        """Expected absolute errors, (n_samples, n_targets), physical units; None where unknown."""
        expected = self.fitted.uncertainty(features)
        return None if expected is None else expected * self.scaler.std

    def save(self, folder: Path) -> None:
        """Write the model into a folder."""
        (folder / "model").mkdir(parents=True)
        self.fitted.save(folder / "model")
        self.view.save(folder / "view.npz")
        if (gain := self.fitted.importance(self.n_features)) is not None:
            np.save(folder / "importance.npy", gain.astype(np.float32))
        parts = asdict(self.scaler)
        if self.upstream_scaler is not None:
            parts |= {f"upstream_{part}": a for part, a in asdict(self.upstream_scaler).items()}
        parts["family"] = np.array(self.family)
        with (folder / "scaler.npz").open("wb") as file:
            np.savez(file, allow_pickle=False, **parts)

    @property
    def n_features(self) -> int:
        """Width of its features."""
        added = 0 if self.upstream_scaler is None else len(self.upstream_scaler.mean)
        return len(self.view.feature_names) + added

    @classmethod
    def load(cls, folder: Path) -> TrainedModel:
        """Read a model back; no pickle.

        Raises:
            ClimstackError: a file of it is damaged.
        """
        file = folder / "scaler.npz"
        parts = read_npz(file, (*OF_SCALER, "family"))
        family = str(parts["family"])
        upstream = Scaler.read(file, parts, "upstream_") if "upstream_mean" in parts else None
        return cls(
            family=family,
            fitted=load_family(family).load(folder / "model"),
            view=TabularView.load(folder / "view.npz"),
            scaler=Scaler.read(file, parts),
            upstream_scaler=upstream,
        )


class CellStore:
    """The folder of cells of a run, or of several runs that share data and folds.

    Example:
        >>> from models import cell_keys
        >>> key = cell_keys(data, members[0].spec, members[0].targets, fold=0)[0]
        >>> CellStore("runs/first/cells").find(key).score["r2"][0] > 0.99
        True
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def find(self, key: CellKey) -> Cell | None:
        """A finished, undamaged cell, or None; :meth:`write` takes a damaged one's place."""
        folder = self.path / key.hash
        if not folder.is_dir():
            return None
        try:
            score = read_sealed(folder / SCORE, "")
            whole = (
                content_hash(read_json(folder / "params.json")) == key.hash
                and score["sha256"] == _hashes(folder)
                and all(shape[1:] == (len(key.targets),) for shape in _shapes(folder))
                and len(score["r2"]) == len(key.targets)
            )
        except (ClimstackError, KeyError, TypeError, ValueError, OSError):
            whole = False
        if not whole:
            log.warning("cell %s is damaged or foreign: a run computes it anew", folder)
            return None
        return Cell(folder, score)

    def is_there(self, key: CellKey) -> bool:
        """Whether there is something where a cell belongs, damaged or not."""
        return (self.path / key.hash).exists()

    def holds(self, key: CellKey) -> bool:
        """Whether a finished cell lies there; it is not looked into."""
        return (self.path / key.hash / SCORE).is_file()

    def unfinished(self, keys: Iterable[CellKey]) -> Path:
        """Where a fit of these cells leaves its checkpoints."""
        return self.path / f".unfinished.{content_hash([key.hash for key in keys])[:16]}"

    def write(
        self, key: CellKey, model: TrainedModel | None, predictions: Path, score: dict[str, Any]
    ) -> Cell:
        """Store a finished cell atomically, in the place of a damaged one.

        Args:
            key: what its predictions depend on.
            model: what predicted; None where that was elsewhere.
            predictions: a folder of ``oof.npy`` and, where the model has a
                head for it, ``uncertainty.npy``; they are moved from there.
            score: seconds, memory and R2.

        Raises:
            ValueError: the predictions are not those of the key's targets.
        """
        folder = self.path / key.hash
        if any(shape[1:] != (len(key.targets),) for shape in _shapes(predictions)):
            raise ValueError(f"{predictions} are not predictions of {len(key.targets)} targets")
        with atomic_path(folder, sync=False) as made:
            if model is None:
                made.mkdir()
            else:
                model.save(made)
            for file in predictions.iterdir():
                shutil.move(file, made / file.name)
            write_json(made / "params.json", key.to_table())
            score = score | {"sha256": _hashes(made)}
            write_sealed(made / SCORE, score)
            if folder.exists() and self.find(key) is None:
                shutil.rmtree(folder)
        return Cell(folder, score)


@cache
def _version(package: str) -> str:
    return version(package)


def _shapes(folder: Path) -> list[tuple[int, ...]]:
    """Of a cell's predictions and, where there are any, of their expected errors."""
    files = [folder / "oof.npy", *folder.glob("uncertainty.npy")]
    return [np.load(file, mmap_mode="r").shape for file in files]


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name != SCORE)
    return {str(file.relative_to(folder)): file_hash(file) for file in files}
