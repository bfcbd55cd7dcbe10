"""A base learner with its finished cells, and models that build on such members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.files import content_hash
from features.core.types import Array, Rows
from features.folds.folded import FoldedStore
from features.folds.plan import FoldPlan
from features.schemas.schema import Schema
from features.store.store import Store
from models.base import OutOfFold
from models.oof import Cell, CellKey, CellStore, TrainedModel
from models.spec import ModelSpec, load_family


@dataclass(frozen=True, kw_only=True)
class Member:
    """A base learner with all its finished cells: what the stack blends.

    Attributes:
        spec: family, parameters, seed.
        targets: indices of the targets that it serves in the store's target matrix, ascending.
        sets: which targets each cell of a fold serves, as positions in ``targets``.
        cells: for each fold, one cell per set.
        computed: number of cells that had to be fitted; the others were there.

    Example:
        >>> members[0].spec.name, members[0].oof(0).shape
        ('ridge', (52, 3))
    """

    spec: ModelSpec
    targets: NDArray[np.intp]
    sets: list[list[int]]
    cells: list[list[Cell]]
    computed: int

    def oof(self, fold: int, rows: Rows | slice = slice(None)) -> Array:
        """Out-of-fold predictions of a fold's validation rows, (n_valid, len(targets)).

        Args:
            fold: the fold, as a position in :attr:`cells`.
            rows: which of its validation rows.
        """
        return self.in_order([cell.oof()[rows] for cell in self.cells[fold]])

    def uncertainty(self, fold: int, rows: Rows | slice = slice(None)) -> Array:
        """Expected absolute errors of :meth:`oof`, (n_valid, len(targets)), physical units.

        Args:
            fold: the fold, as a position in :attr:`cells`.
            rows: which of its validation rows.

        Raises:
            ClimstackError: a model of the fold doesn't know them.
        """
        expected = [cell.uncertainty() for cell in self.cells[fold]]
        known = [values[rows] for values in expected if values is not None]
        if len(known) < len(expected):
            raise ClimstackError(
                f"member '{self.spec.name}' doesn't say how far off it expects to be in fold"
                f" {fold}: its model has no confidence head"
            )
        return self.in_order(known)

    def in_order(self, columns: Sequence[Array]) -> Array:
        """Columns of each cell, (n, n_targets of the cell), as (n, len(targets))."""
        together = np.empty((len(columns[0]), len(self.targets)))
        for served, values in zip(self.sets, columns, strict=True):
            together[:, served] = values
        return together

    def models(self, fold: int) -> list[TrainedModel]:
        """The fold's models, one per set."""
        return [cell.model() for cell in self.cells[fold]]

    @property
    def hash(self) -> str:
        """Which cells it has: another fit, fold plan or data gives another hash."""
        return content_hash([[cell.path.name for cell in fold] for fold in self.cells])

    @property
    def seconds(self) -> float:
        """CPU seconds that the fits took, summed over cells."""
        return float(sum(cell.score["seconds"] for fold in self.cells for cell in fold))

    @property
    def peak_memory_mb(self) -> int:
        """Largest resident memory of a process that fitted a cell."""
        return max(int(cell.score["peak_memory_mb"]) for fold in self.cells for cell in fold)


def spread(member: Member, values: Array, targets: NDArray[np.intp]) -> Array:
    """A member's values among those of other targets, (n, len(targets)); NaN where it has none.

    Args:
        member: serves its own targets.
        values: (n, len(member.targets)), as :meth:`Member.oof` gives them.
        targets: indices of the targets that all members serve together, ascending.

    Raises:
        ClimstackError: it serves a target that is none of them.
    """
    if np.array_equal(targets, member.targets):
        return values
    if not np.isin(member.targets, targets).all():
        raise ClimstackError(
            f"member '{member.spec.name}' serves targets that the others are not asked for"
        )
    wide = np.full((len(values), len(targets)), np.nan)
    wide[:, np.searchsorted(targets, member.targets)] = values
    return wide


def target_sets(store: Store, spec: ModelSpec, targets: NDArray[np.intp]) -> list[list[int]]:
    """Which targets each of a model's cells serves, as positions in those it serves of them."""
    return [served for part in parts_of(store, spec, targets) for served in part.sets]


@dataclass(frozen=True)
class Part:
    """Targets of a model that have the same parameters.

    Attributes:
        spec: the model with these parameters, without variants.
        sets: which targets each cell serves, as positions in all that the model serves.
    """

    spec: ModelSpec
    sets: list[list[int]]


def parts_of(store: Store, spec: ModelSpec, targets: NDArray[np.intp]) -> list[Part]:
    """A model's targets by parameters: one part, or several where it has variants.

    Raises:
        ClimstackError: see :meth:`models.spec.ModelSpec.served`.
    """
    columns, targets = store.schema.target_columns, spec.served(store.schema, targets)
    names = [columns[target] for target in targets]
    variant_of = {
        name: number for number, each in enumerate(spec.variants, 1) for name in each.targets
    }
    if spec.external is not None:
        return [Part(spec, [list(range(len(targets)))])]
    number_of = np.array([variant_of.get(name, 0) for name in names])
    family, parts = load_family(spec.family), []
    for number, own in enumerate(spec.parts or [spec]):
        here = np.flatnonzero(number_of == number)
        if len(here):
            sets = family.target_sets(store.schema, targets[here], own.parsed)
            parts.append(Part(own, [here[served].tolist() for served in sets]))
    return parts


def cell_keys(
    data: FoldedStore, spec: ModelSpec, targets: NDArray[np.intp], fold: int
) -> list[CellKey]:
    """Keys of a model's cells on one fold, one per set of those targets that it serves.

    Example:
        >>> keys = cell_keys(data, members[1].spec, members[1].targets, fold=0)
        >>> [key.targets for key in keys]  # trees have a cell for each target
        [('warmth_1',), ('warmth_2',), ('flux',)]
    """
    store = data.store
    names = [store.schema.target_columns[target] for target in spec.served(store.schema, targets)]
    of_bases = _targets_of_bases(store, spec, targets)
    upstream = [_all_keys(data, base, of_bases) for base in spec.inputs_from]
    return [
        CellKey.of(data, part.spec, fold, [names[i] for i in served], upstream)
        for part in parts_of(store, spec, targets)
        for served in part.sets
    ]


def _targets_of_bases(store: Store, spec: ModelSpec, targets: NDArray[np.intp]) -> NDArray[np.intp]:
    """The targets that the models it builds on were fitted for: all, where it serves but some."""
    return store.schema.modelled_targets if spec.targets else targets


def _all_keys(data: FoldedStore, spec: ModelSpec, targets: NDArray[np.intp]) -> str:
    """One hash for a model on all folds: what builds on it depends on all of them."""
    keys = [cell_keys(data, spec, targets, fold) for fold in range(data.plan.n_folds)]
    return content_hash([[key.hash for key in fold] for fold in keys])


def read_member(
    data: FoldedStore, spec: ModelSpec, cells: CellStore, targets: NDArray[np.intp] | None = None
) -> Member:
    """A base learner whose cells are all finished; fits nothing.

    Raises:
        ClimstackError: a cell is missing or damaged.

    Example:
        >>> read_member(data, members[0].spec, cells).oof(1).shape
        (56, 3)
    """
    targets = data.store.schema.modelled_targets if targets is None else np.asarray(targets)
    found: list[list[Cell]] = []
    for fold in range(data.plan.n_folds):
        keys = cell_keys(data, spec, targets, fold)
        have = []
        for key in keys:
            cell = cells.find(key)
            if cell is None and cells.is_there(key):
                raise ClimstackError(
                    f"the cell {cells.path / key.hash} of member '{spec.name}' in fold {fold} is"
                    " damaged: run the experiment again, which computes it anew"
                )
            have += [] if cell is None else [cell]
        if len(have) < len(keys):
            raise ClimstackError(
                f"member '{spec.name}' lacks {len(keys) - len(have)} of {len(keys)} cells in fold"
                f" {fold}: run the experiment first"
            )
        found.append(have)
    sets, served = target_sets(data.store, spec, targets), spec.served(data.store.schema, targets)
    return Member(spec=spec, targets=served, sets=sets, cells=found, computed=0)


def read_upstream(
    data: FoldedStore, spec: ModelSpec, cells: CellStore, targets: NDArray[np.intp]
) -> list[tuple[str, OutOfFold]]:
    """Name and predictions of the finished members that a model takes as inputs.

    Of each it takes the targets that it serves itself, (n, n_served).

    Raises:
        ClimstackError: one of them is not fitted on every fold, or lacks one of these targets.
    """
    store = data.store
    found: list[tuple[str, OutOfFold]] = []
    served = spec.served(store.schema, targets)
    for base in spec.inputs_from:
        member = read_member(data, base, cells, _targets_of_bases(store, spec, targets))
        check_serves(store.schema, spec, served, base, member.targets)
        taken = np.searchsorted(member.targets, served)
        found.append((base.name, partial(_out_of_fold, data.plan, member, taken)))
    return found


def check_serves(
    schema: Schema,
    spec: ModelSpec,
    targets: NDArray[np.intp],
    base: ModelSpec,
    of_base: NDArray[np.intp],
) -> None:
    """See that a model that others build on serves all of their targets.

    Args:
        schema: of the targets.
        spec: what builds on it.
        targets: that it serves.
        base: what it builds on.
        of_base: targets that this one serves.

    Raises:
        ClimstackError: names a target that it does not serve.
    """
    lacking = np.setdiff1d(targets, of_base)
    if len(lacking):
        raise ClimstackError(
            f"model '{spec.name}' builds on '{base.name}', which does not serve"
            f" {len(lacking)} of its targets, as {schema.target_columns[lacking[0]]}: give"
            f" '{spec.name}' only targets that '{base.name}' serves"
        )


def _out_of_fold(plan: FoldPlan, member: Member, taken: NDArray[np.intp], rows: Rows) -> Array:
    """Each row's prediction by the model that held it out, (n, len(taken))."""
    predicted = np.empty((len(rows), len(taken)))
    fold_of_row = plan.fold[rows]
    for fold in np.unique(fold_of_row):
        here = fold_of_row == fold
        positions = np.searchsorted(plan.valid_rows(fold), rows[here])
        predicted[here] = member.oof(fold, positions)[:, taken]
    return predicted
