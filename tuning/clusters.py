"""Clusters of targets that want the same parameters, and the few that stand for each.

A study over hundreds of targets fits its trials for representatives only. Targets are alike when
they belong to the same variable, lie on neighbouring levels, depend on the inputs alike and have
tails of the same weight: what decides how flexible a model may be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering

from features.core.types import Array
from features.folds.folded import FoldedStore
from features.views.fill import Fill
from features.views.tabular import TabularView
from features.views.transforms import Scaler

MAX_ROWS = 8_192  # of the training rows, evenly spread: enough for a correlation
N_DIRECTIONS = 16  # principal directions of the inputs that responses are told along
LEVEL_WEIGHT, TAIL_WEIGHT = 1.0, 0.5


@dataclass(frozen=True)
class Cluster:
    """Targets that share parameters.

    Attributes:
        targets: positions in the targets that the model serves, ascending.
        representatives: those of them that a study fits, the most central first.

    Example:
        >>> Cluster(targets=[0, 1, 4], representatives=[1]).representatives
        [1]
    """

    targets: list[int]
    representatives: list[int]


def cluster_targets(
    data: FoldedStore,
    targets: NDArray[np.intp],
    *,
    n_clusters: int,
    n_representatives: int,
    unseen: int,
) -> list[Cluster]:
    """Group targets by variable, level, response to the inputs and tails (Ward's method).

    Args:
        data: training rows and their folds.
        targets: indices of the targets in the store's target matrix.
        n_clusters: how many clusters at most.
        n_representatives: targets that stand for each, at most.
        unseen: the fold whose held-out rows are not looked at.

    Example:
        >>> clusters = cluster_targets(
        ...     data, np.array([1, 2, 3]), n_clusters=2, n_representatives=1, unseen=2
        ... )
        >>> sorted(target for cluster in clusters for target in cluster.targets)
        [0, 1, 2]
    """
    described = describe(data, targets, unseen)
    n_clusters = min(n_clusters, len(targets))
    if n_clusters == 1:
        labels = np.zeros(len(targets), dtype=int)
    else:
        labels = AgglomerativeClustering(n_clusters).fit_predict(described)
    clusters = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        clusters.append(
            Cluster(members.tolist(), _representatives(described, members, n_representatives))
        )
    return sorted(clusters, key=lambda cluster: cluster.targets[0])


def describe(data: FoldedStore, targets: NDArray[np.intp], unseen: int) -> Array:
    """What makes targets alike, (n_targets, n_numbers)."""
    store, plan = data.store, data.plan
    rows = plan.train_rows(unseen)
    rows = rows[plan.main[rows]]
    rows = rows[:: max(1, -(-len(rows) // MAX_ROWS))]
    inputs = store.inputs[rows]
    fill = Fill.fit(store.schema, [inputs])
    view = TabularView.fit(store.schema, [inputs], "linear", fill, store.levels)
    x = view.transform(inputs).astype(np.float64)
    values = store.require_targets()[rows][:, targets]
    z = Scaler.fit([values]).transform(values)
    _, vectors = np.linalg.eigh(x.T @ x / len(x))
    along = x @ vectors[:, ::-1][:, :N_DIRECTIONS]
    spread = along.std(0)
    response = z.T @ (along / np.where(spread > 0, spread, 1.0)) / len(x)
    groups = [store.schema.target_groups[target] for target in targets]
    same = np.array([[group == other for other in sorted(set(groups))] for group in groups])
    level = store.schema.target_levels[targets]
    n_levels = max(int(level.max()), 1)
    place = np.where(level < 0, 1.0, level / n_levels)[:, None]
    tails = np.log10(np.maximum((z**4).mean(0), 1.0))[:, None]
    return np.concatenate(
        [same.astype(np.float64), LEVEL_WEIGHT * place, response, TAIL_WEIGHT * tails], axis=1
    )


def _representatives(described: Array, members: NDArray[np.intp], n_wanted: int) -> list[int]:
    """The most central member, then each time the one farthest from those chosen."""
    own = described[members]
    chosen = [int(((own - own.mean(0)) ** 2).sum(1).argmin())]
    while len(chosen) < min(n_wanted, len(members)):
        gap = ((own[:, None] - own[chosen][None]) ** 2).sum(-1).min(1)
        chosen.append(int(gap.argmax()))
    return [int(members[i]) for i in chosen]
