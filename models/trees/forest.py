"""What holds of every boosted forest, whoever wrote it: checked before a library walks its nodes.

LightGBM and XGBoost follow the numbers in a model file without a look at them: a child that does
not exist ends the process, one that leads back never ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core.arrays import read_npy
from features.core.errors import ClimstackError
from features.core.settings import check
from features.core.types import Float32

Ints = NDArray[np.integer]


def check_forest(n_nodes: Ints, n_inner: Ints, parents: Ints, children: Ints) -> None:
    """See that each tree is one: node 0 its root, each other node the child of one before it.

    Args:
        n_nodes: nodes of each tree, (n_trees,).
        n_inner: inner nodes of each tree, (n_trees,).
        parents: the inner nodes, numbered within their tree, tree after tree, (n,).
        children: left and right child of each, (n, 2).

    Raises:
        ClimstackError: one is not; says which tree.
    """
    tree = np.repeat(np.arange(len(n_nodes)), n_inner)
    later = (children > parents[:, None]) & (children < n_nodes[tree, None])
    check(bool(later.all()), f"tree {tree[~later.all(1)][:1]} has a child that is not a later node")
    start = np.cumsum(n_nodes) - n_nodes
    times = np.bincount((children + start[tree, None]).ravel(), minlength=int(n_nodes.sum()))
    times[start] += 1  # a root is nobody's child
    once = np.minimum.reduceat(times == 1, start)
    check(bool(once.all()), f"tree {np.flatnonzero(~once)[:1]} has a node with no or two parents")


def check_range(what: str, values: NDArray[Any], low: int, stop: int) -> None:
    """See that all values lie in [low, stop).

    Raises:
        ClimstackError: one does not.
    """
    bad = values[(values < low) | (values >= stop)]
    check(not len(bad), f"a {what} is {bad[:1]}, which must lie in [{low}, {stop})")


def read_columns(folder: Path) -> NDArray[np.intp]:
    """Which features of the view a model's trees see, from its ``columns.npy``.

    Raises:
        ClimstackError: it is no list of whole numbers.
    """
    columns = read_npy(folder / "columns.npy")
    check(
        columns.ndim == 1 and columns.dtype == np.int32,
        f"{folder / 'columns.npy'} is no list of columns: delete its cell and run again",
    )
    return columns.astype(np.intp)


def seen_features(features: Float32, columns: NDArray[np.intp]) -> Float32:
    """The features that a model's trees see, (n_samples, n_features) -> (n_samples, n_seen).

    Raises:
        ClimstackError: there is no such feature.
    """
    check_range("column of a tree model", columns, 0, features.shape[1])
    return features[:, columns]


def unreadable(library: str, error: Exception) -> ClimstackError:
    """The sentence for trees that a library refuses."""
    why = str(error).splitlines()[0]
    return ClimstackError(
        f"{library} can't read stored trees ({why:.200}): delete their cell and run again"
    )
