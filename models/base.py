"""What a model family is: the protocol that every file in ``models/families`` fulfils.

A family file defines ``MODEL``, one object. climstack finds it by the file's name; no other edit is
needed. The fold loop (:mod:`models.cross_validate`) calls it in this order, for each fold:

1. ``prepare`` once, in the main process, with everything that may be seen of the fold: costly work
   that all targets share (binning, sums) happens here.
2. ``fit`` with a list of targets, as often as needed and, when ``in_processes``, in several worker
   processes. It yields each finished model with the targets it serves, so that each is stored at
   once and an interrupted fold loses one model at most.
3. ``predict`` of the fitted model on the fold's validation features; the loop scales back to units.

A family never sees validation targets, and never scales: features and targets arrive standardised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from features import registry
from features.folds import FoldPlan, Rows
from features.settings import from_table
from features.store import BLOCK_ROWS, Store
from features.tabular import TabularView
from features.transforms import Scaler

Float32 = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class FoldData:
    """What a family may see of one fold.

    Attributes:
        store: the data.
        plan: the split.
        fold: which fold.
        targets: indices of the modelled targets, in the store's target matrix.
        both: whether the view shows log-encoded variables in both forms.
    """

    store: Store
    plan: FoldPlan
    fold: int
    targets: NDArray[np.intp]
    both: bool

    @cached_property
    def train_rows(self) -> Rows:
        """All rows the fold may learn from."""
        return self.plan.train_rows(self.fold)

    @cached_property
    def view(self) -> TabularView:
        """The tabular view, fitted on the training rows alone."""
        blocks = self.store.inputs.blocks(self.train_rows)
        return TabularView.fit(self.store.schema, blocks, self.both)

    @cached_property
    def scaler(self) -> Scaler:
        """The targets' scaler, fitted on the training rows alone, over ``targets``."""
        matrix = self.store.require_targets()
        return Scaler.fit(block[:, self.targets] for block in matrix.blocks(self.train_rows))

    def inner_rows(self, stop_early: int, fraction: float) -> tuple[Rows, Rows]:
        """Rows to fit on and rows to watch; without early stopping all rows and none."""
        if not stop_early:
            return self.train_rows, self.train_rows[:0]
        return self.plan.inner_rows(self.fold, fraction)

    def blocks(self, rows: Rows, size: int = BLOCK_ROWS) -> Iterator[tuple[Float32, Array]]:
        """Features (n, n_features) and standardised targets (n, len(targets)), block by block."""
        matrix = self.store.require_targets()
        for start in range(0, len(rows), size):
            here = rows[start : start + size]
            scaled = self.scaler.transform(matrix[here][:, self.targets])
            yield self.view.transform(self.store.inputs[here]), scaled

    def arrays(self, rows: Rows) -> tuple[Float32, Array]:
        """Features and standardised targets of all ``rows`` at once."""
        blocks = list(self.blocks(rows))
        return np.concatenate([x for x, _ in blocks]), np.concatenate([z for _, z in blocks])


class Fitted(Protocol):
    """A fitted model of one or more targets."""

    def predict(self, features: Float32) -> Array:
        """Standardised predictions, (n_samples, n_features) -> (n_samples, n_targets)."""

    def save(self, folder: Path) -> None:
        """Write the model into an existing, empty folder; data only, nothing that runs code."""


class Family(Protocol):
    """A kind of model; see the module's docstring for when each method is called.

    Attributes:
        Params: frozen dataclass of its parameters; refuses bad values with a ClimstackError.
        per_target: targets are fitted one by one (True), or all together (False).
        package: the distribution that does the fitting; its version is part of a cell's key.
        in_processes: what ``prepare`` returns can be handed to worker processes.
        both: whether its view shows log-encoded variables in both forms.
    """

    Params: ClassVar[type[Any]]
    per_target: ClassVar[bool]
    package: ClassVar[str]
    in_processes: ClassVar[bool]
    both: ClassVar[bool]

    def prepare(self, data: FoldData, params: Any, folder: Path) -> Any:
        """Work that the fold's targets share.

        Args:
            data: what may be seen of the fold.
            params: an instance of ``Params``.
            folder: scratch space for what workers need; deleted after the fold.

        Returns:
            A handle for ``fit``; with ``in_processes`` a picklable one: paths, no large arrays.
        """

    def fit(
        self, prepared: Any, targets: Sequence[int], params: Any, seed: int
    ) -> Iterator[tuple[list[int], Fitted]]:
        """Fit targets, given as positions in ``FoldData.targets``; yield each model when done.

        What a target's model is must not depend on which other targets are fitted with it, unless
        the family fits all together.
        """

    def load(self, folder: Path) -> Fitted:
        """Read back what :meth:`Fitted.save` wrote; predictions are equal to the bit."""


@dataclass(frozen=True)
class ModelSpec:
    """A base learner of an experiment: family, parameters and seed.

    Attributes:
        name: how the experiment calls it.
        family: file name in ``models/families``.
        params: values that differ from the family's defaults; unknown ones raise.
        seed: of everything random in it.
    """

    name: str
    family: str
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        self.parsed  # noqa: B018 - a bad parameter should raise here, not hours later

    @cached_property
    def parsed(self) -> Any:
        """The family's ``Params``, complete."""
        where = f"model '{self.name}' ({self.family})"
        return from_table(load_family(self.family).Params, self.params, where)


def available_families() -> list[str]:
    """Names of the model families, found by file name in ``models/families``."""
    return registry.names("models.families")


def load_family(name: str) -> Family:
    """A family by its name.

    Raises:
        ClimstackError: no such file in ``models/families``.
    """
    family: Family = registry.load("models.families", name, "MODEL", "model family")
    return family
