"""Test predictions: the mean over a member's fold models, or a refit, through scratch files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from numpy.typing import NDArray

from ensemble.inference.given import read_given
from ensemble.stacking.blend import Blend
from features.core.errors import ClimstackError
from features.core.files import release, scratch_array
from features.core.folders import temporary_folder
from features.core.types import Array, Progress
from features.store.conversion import convert
from features.store.matrix import BLOCK_ROWS
from features.store.store import Store
from models.member import Member, spread
from models.oof import Cell
from models.process import naming_a_dead_process

CHUNKS_PER_WORKER = 4
PREDICT_ROWS = 16_384  # features held at once by a worker


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """A block of predicted rows.

    Attributes:
        outputs: final outputs, (n, n_targets).
        predictions: of each member of the blend, (n, n_modelled), NaN for targets that it does not
            serve; zeros for those without a say.
        heads: expected absolute errors of the members asked for them, (n, n_modelled).
        inputs: (n, n_inputs).
    """

    outputs: Array
    predictions: dict[str, Array]
    heads: dict[str, Array]
    inputs: Array


def predict(
    blend: Blend,
    members: Sequence[Member],
    rows: Store | Any,
    *,
    scratch: Path,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Array]:
    """Final outputs alone, by blocks: see :func:`predict_blocks`.

    Args:
        blend: what is done to the members' predictions.
        members: with cells on every fold; all that the blend names.
        rows: a store, a data frame with the schema's columns, or an array of the inputs in their
            order, (n_samples, n_inputs).
        scratch: folder for temporary files.
        n_jobs: worker processes of per-target families; None takes one per core.
        progress: called with (what, done, total) after each member's fold.

    Raises:
        ClimstackError: see :func:`predict_blocks`; or rows are not what the schema says.

    Example:
        >>> from pathlib import Path
        >>> blend = Blend.load(Path("runs/first/stack/blend.json"))
        >>> rows = predict(blend, members, store.inputs[:5], scratch=Path("."))
        >>> next(rows).shape
        (5, 4)
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        place = Path(folder) / "rows"
        if isinstance(rows, np.ndarray):
            rows = Store.from_arrays(place, rows, schema=blend.schema)
        elif not isinstance(rows, Store):
            rows = convert(rows, place, blend.schema)
        blocks = predict_blocks(
            blend, members, rows, scratch=scratch, n_jobs=n_jobs, progress=progress
        )
        for block in blocks:
            yield block.outputs


def predict_blocks(
    blend: Blend,
    members: Sequence[Member],
    store: Store,
    *,
    scratch: Path,
    heads: Sequence[str] = (),
    refits: Mapping[str, Member] = MappingProxyType({}),
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Predicted]:
    """Final outputs for every row of a store and what they come from, in its order, by blocks.

    Memory stays bounded: features and members' predictions lie in memory-mapped scratch files.

    Args:
        blend: what is done to the members' predictions.
        members: with cells on every fold; all that the blend names.
        store: inputs to predict.
        scratch: folder for temporary files; they are gone at the end.
        heads: members whose confidence heads are asked for expected errors.
        refits: members with one fit on all rows, which predict in place of their folds' models.
        n_jobs: worker processes of per-target families; None takes one per core.
        progress: called with (what, done, total) after each member's fold.

    Yields:
        Blocks in physical units; ``outputs`` has every column of the schema.

    Raises:
        ClimstackError: a member of the blend is missing or has other cells than those it was
            made with, the store has another schema, or a member that was fitted elsewhere comes
            without predictions of these rows.
    """
    by_name = _checked(blend, members, store)
    with mean_predictions(
        blend.members_used,
        members,
        store,
        scratch=scratch,
        heads=heads,
        refits=refits,
        n_jobs=n_jobs,
        progress=progress,
    ) as (means, errors):
        for start in range(0, len(store), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(store)))
            inputs = store.inputs[rows]
            silent = np.zeros((len(inputs), len(blend.targets)))
            predictions = dict.fromkeys(blend.members, silent)
            of_heads: dict[str, Array] = {}
            for found, scratched in ((predictions, means), (of_heads, errors)):
                for name, values in scratched.items():
                    here = np.ascontiguousarray(values[:, rows].T)
                    found[name] = spread(by_name[name], here, blend.targets)
            for mapped in (*means.values(), *errors.values()):
                release(mapped)
            yield Predicted(
                outputs=blend.apply(predictions, inputs),
                predictions=predictions,
                heads=of_heads,
                inputs=inputs,
            )


@contextmanager
def mean_predictions(
    names: Sequence[str],
    members: Sequence[Member],
    store: Store,
    *,
    scratch: Path,
    heads: Sequence[str] = (),
    refits: Mapping[str, Member] = MappingProxyType({}),
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    """What each of some members predicts for the rows of a store, while the block runs.

    Args:
        names: of the members.
        members: these and all that they build on.
        store: inputs to predict.
        scratch: see :func:`predict_blocks`, as for the arguments that follow.
        heads: of these members expected errors, too.
        refits: members with one fit on all rows.
        n_jobs: worker processes.
        progress: called with (what, done, total).

    Yields:
        By name the predictions, and the expected absolute errors of ``heads``, memory-mapped,
        (n_targets of the member, n_samples), physical units.

    Raises:
        ClimstackError: a member that one builds on is not given, or one that was fitted elsewhere
            comes without predictions of these rows.
    """
    by_name = {member.spec.name: member for member in members}
    with temporary_folder(scratch, "predict") as folder:

        def empty(what: str, name: str) -> Array:
            shape = (len(by_name[name].targets), len(store))
            return scratch_array(folder / f"{what}-{name}.npy", "<f8", shape)

        means = {name: empty("mean", name) for name in names}
        errors = {name: empty("error", name) for name in heads}
        n_folds = len(members[0].cells)
        by_folds = with_bases([name for name in names if name not in refits], by_name)
        done = read_given([by_name[name] for name in by_folds], store, folder)
        for name in means.keys() & done.keys():
            _add(means[name], done[name], 1)
        by_folds = [name for name in by_folds if name not in done]
        jobs = [(by_name[name], fold, n_folds) for fold in range(n_folds) for name in by_folds]
        jobs += [(refits[name], 0, 1) for name in names if name in refits]
        workers = n_jobs or cpu_count()
        for member, fold, n_models in jobs:
            name = member.spec.name
            asked = name in errors
            bases = _bases_of(member, by_name, done)
            done[name] = _predict_fold(
                member, fold, store, bases, n_jobs=workers, out=folder, head=asked
            )
            # A refitted member that others build on stands among the folds, too, for them alone.
            if name in means and (name not in refits or n_models == 1):
                _add(means[name], done[name], n_models)
                if name in errors:
                    _add(errors[name], _head_file(done[name]), n_models)
            if progress is not None:
                progress(f"predict {name}", fold + 1, n_models)
        yield means, errors


def _add(mean: Array, file: Path, n_models: int) -> None:
    """Add a model's share to a mean, target by target: neither is in memory as a whole."""
    values = np.load(file, mmap_mode="r")
    for target in range(len(mean)):
        mean[target] += values[target] / n_models
        release(mean)
        release(values)


def _checked(blend: Blend, members: Sequence[Member], store: Store) -> dict[str, Member]:
    """The members by name, once blend, members and store are seen to belong together."""
    if (why := blend.schema.differs(store.schema)) is not None:
        raise ClimstackError(f"{store.path} has another schema than the blend, {why}")
    by_name = {member.spec.name: member for member in members}
    missing = [name for name in blend.members if name not in by_name]
    if missing:
        raise ClimstackError(
            f"the blend needs member '{missing[0]}', but only {sorted(by_name)} are given"
        )
    for name, expected in zip(blend.members, blend.member_hashes, strict=False):
        if by_name[name].hash != expected:
            raise ClimstackError(
                f"member '{name}' is not the one that the blend was made with: run the stack again"
            )
    return by_name


def with_bases(names: Sequence[str], by_name: Mapping[str, Member]) -> list[str]:
    """The members named and all that they build on, each after its bases.

    Raises:
        ClimstackError: a base is not given.
    """
    ordered: list[str] = []
    for name in names:
        bases = [base.name for base in by_name[name].spec.inputs_from]
        for base in bases:
            if base not in by_name:
                raise ClimstackError(f"member '{name}' builds on '{base}', which is not given")
        for each in [*with_bases(bases, by_name), name]:
            if each not in ordered:
                ordered.append(each)
    return ordered


def _bases_of(
    member: Member, by_name: Mapping[str, Member], done: Mapping[str, Path]
) -> list[tuple[Path, NDArray[np.intp]]]:
    """The files of the members that one builds on, and which of their rows are its targets."""
    bases = [by_name[base.name] for base in member.spec.inputs_from]
    return [(done[b.spec.name], np.searchsorted(b.targets, member.targets)) for b in bases]


def _head_file(predictions: Path) -> Path:
    """Where expected errors lie, beside the file of the predictions."""
    return predictions.with_name(f"head-{predictions.name}")


def _predict_fold(
    member: Member,
    fold: int,
    store: Store,
    bases: Sequence[tuple[Path, NDArray[np.intp]]] = (),
    *,
    n_jobs: int,
    out: Path,
    head: bool,
) -> Path:
    """Predictions of one fold's models in a file, (n_targets, n_samples), physical units.

    Args:
        member: whose models.
        fold: which of them.
        store: inputs.
        bases: of each member that it builds on the file, made before, and which of its rows.
        n_jobs: worker processes.
        out: folder for the file and what it takes to make it.
        head: expected errors go into a file beside it.
    """
    spec, cells = member.spec, member.cells[fold]
    model = cells[0].model()
    inputs_from = [(np.load(base, mmap_mode="r"), taken) for base, taken in bases]
    features = scratch_array(out / "features.npy", "<f4", (len(store), model.n_features))
    start = 0
    for block in store.inputs.blocks():
        here = slice(start, start + len(block))
        upstream = [np.ascontiguousarray(base[taken, here].T) for base, taken in inputs_from]
        features[here] = model.features(
            block, np.concatenate(upstream, axis=1) if upstream else None
        )
        for mapped in (features, *(base for base, _ in inputs_from)):
            release(mapped)
        start += len(block)
    file = out / f"fold-{spec.name}.npy"
    shape = (len(member.targets), len(store))
    files = [file, _head_file(file)] if head else [file]
    for each in files:
        scratch_array(each, "<f8", shape)
    workers = n_jobs if spec.in_processes else 1
    size = max(1, -(-len(cells) // (workers * CHUNKS_PER_WORKER)))
    chunks = [slice(i, i + size) for i in range(0, len(cells), size)]
    with naming_a_dead_process(f"predictions of model '{spec.name}'"):
        Parallel(workers, backend="loky")(
            delayed(_predict_cells)(cells[at], member.sets[at], out / "features.npy", files)
            for at in chunks
        )
    return file


def _predict_cells(
    cells: Sequence[Cell], sets: Sequence[list[int]], features_file: Path, files: Sequence[Path]
) -> None:
    """Fill in the predictions of some cells, and of their heads if there is a second file.

    Args:
        cells: whose models.
        sets: the targets of each.
        features_file: (n_samples, n_features).
        files: of predictions and, if wanted, of expected absolute errors, same shape.
    """
    features = np.load(features_file, mmap_mode="r")
    filled = [np.load(file, mmap_mode="r+") for file in files]
    for cell, served in zip(cells, sets, strict=True):
        model = cell.model()
        for start in range(0, len(features), PREDICT_ROWS):
            here = slice(start, start + PREDICT_ROWS)
            filled[0][served, here] = model.predict_features(features[here]).T
            if len(filled) > 1 and (expected := model.uncertainty(features[here])) is not None:
                filled[1][served, here] = expected.T
            for mapped in (features, *filled):
                release(mapped)
