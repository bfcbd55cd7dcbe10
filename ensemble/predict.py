"""Test predictions: the mean over a member's fold models, streamed through scratch files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from joblib import Parallel, cpu_count, delayed

from ensemble.graph import Graph
from ensemble.moments import Array
from features.errors import ClimstackError
from features.files import scratch_array
from features.store import BLOCK_ROWS, Store
from models.base import load_family
from models.cross_validate import Member, Progress
from models.oof import Cell

CHUNKS_PER_WORKER = 4


def predict(
    graph: Graph,
    members: Sequence[Member],
    store: Store,
    *,
    scratch: Path,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Array]:
    """Final outputs for every row of a store, in its order, block by block.

    Memory stays bounded: features and members' predictions lie in memory-mapped scratch files.

    Args:
        graph: what is done to the members' predictions.
        members: with cells on every fold; all that the graph names.
        store: inputs to predict.
        scratch: folder for temporary files; they are gone at the end.
        n_jobs: worker processes of per-target families; None takes one per core.
        progress: called with (what, done, total) after each member's fold.

    Yields:
        (n, n_targets), physical units, every column of the schema.

    Raises:
        ClimstackError: a member of the graph is missing or has other cells than those it was
            made with, or the store has another schema.
    """
    if store.schema.name != graph.schema_name:
        raise ClimstackError(
            f"{store.path} has schema '{store.schema.name}', the graph has '{graph.schema_name}'"
        )
    by_name = {member.spec.name: member for member in members}
    missing = [name for name in graph.members if name not in by_name]
    if missing:
        raise ClimstackError(
            f"the graph needs member '{missing[0]}', but only {sorted(by_name)} are given"
        )
    for name, expected in zip(graph.members, graph.member_hashes, strict=False):
        if by_name[name].hash != expected:
            raise ClimstackError(
                f"member '{name}' is not the one that the blend was made with: run the stack again"
            )
    scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".predict.", suffix=".tmp", dir=scratch))
    try:
        # A member whose weight is 0 for every target has no say: its models are not run.
        used = [name for name, w in zip(graph.members, graph.weights, strict=True) if w.any()]
        sums = {
            name: _member_mean(by_name[name], store, folder / name, n_jobs or cpu_count(), progress)
            for name in used
        }
        silent = np.zeros((1, len(graph.targets)))
        for start in range(0, len(store), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(store)))
            inputs = store.inputs[rows]
            predictions = dict.fromkeys(graph.members, silent) | {
                name: np.ascontiguousarray(mean[:, rows].T) for name, mean in sums.items()
            }
            yield graph.apply(predictions, inputs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _member_mean(
    member: Member, store: Store, folder: Path, n_jobs: int, progress: Progress | None
) -> Array:
    """Mean over the fold models, (n_targets, n_samples), memory-mapped."""
    folder.mkdir()
    total = scratch_array(folder / "mean.npy", "<f8", (len(member.targets), len(store)))
    n_folds = len(member.cells)
    for fold, cells in enumerate(member.cells):
        view = cells[0].model().view
        shape = (len(store), len(view.feature_names))
        features = scratch_array(folder / "features.npy", "<f4", shape)
        start = 0
        for block in store.inputs.blocks():
            features[start : start + len(block)] = view.transform(block)
            start += len(block)
        in_processes = load_family(member.spec.family).in_processes
        workers = n_jobs if in_processes else 1
        size = max(1, -(-len(cells) // (workers * CHUNKS_PER_WORKER)))
        chunks = [cells[i : i + size] for i in range(0, len(cells), size)]
        jobs = (delayed(_predict_cells)(chunk, folder / "features.npy") for chunk in chunks)
        position = 0
        for predicted in Parallel(workers, backend="loky", return_as="generator")(jobs):
            total[position : position + len(predicted)] += predicted / n_folds
            position += len(predicted)
        if progress is not None:
            progress(f"predict {member.spec.name}", fold + 1, n_folds)
    return total


def _predict_cells(cells: Sequence[Cell], features_file: Path) -> Array:
    """Predictions of some cells' targets, (n_targets, n_samples)."""
    features = np.load(features_file, mmap_mode="r")
    predicted = []
    for cell in cells:
        model = cell.model()
        blocks = [
            model.predict_features(np.ascontiguousarray(features[start : start + BLOCK_ROWS]))
            for start in range(0, len(features), BLOCK_ROWS)
        ]
        predicted.append(np.concatenate(blocks).T)
    return np.concatenate(predicted)
