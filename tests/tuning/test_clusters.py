"""Clusters of targets: every target in one, alike ones together, the unseen fold not looked at."""

import numpy as np

from features import FoldedStore
from tuning import cluster_targets
from tuning.clusters import describe


def test_every_target_is_in_one_cluster_with_its_representatives(folded, store):
    targets = store.schema.modelled_targets
    clusters = cluster_targets(folded, targets, n_clusters=8, n_representatives=3, unseen=2)
    assert len(clusters) == 8
    assert sorted(t for c in clusters for t in c.targets) == list(range(len(targets)))
    for cluster in clusters:
        assert 1 <= len(set(cluster.representatives)) == len(cluster.representatives) <= 3
        assert set(cluster.representatives) <= set(cluster.targets)
    assert clusters == cluster_targets(folded, targets, n_clusters=8, n_representatives=3, unseen=2)


def test_fewer_targets_than_clusters(folded, few_targets):
    clusters = cluster_targets(folded, few_targets, n_clusters=20, n_representatives=2, unseen=2)
    assert [c.targets for c in clusters] == [[i] for i in range(len(few_targets))]
    (one,) = cluster_targets(folded, few_targets, n_clusters=1, n_representatives=2, unseen=2)
    assert one.targets == list(range(len(few_targets)))


def test_neighbours_are_closer_than_other_variables(folded, store):
    schema, targets = store.schema, store.schema.modelled_targets
    described = describe(folded, targets, unseen=2)
    at = {schema.target_columns[t]: i for i, t in enumerate(targets)}

    def gap(one, other):
        return np.linalg.norm(described[at[one]] - described[at[other]])

    assert gap("ptend_t_40", "ptend_t_41") < gap("ptend_t_40", "ptend_v_40")
    assert gap("ptend_u_50", "ptend_u_51") < gap("ptend_u_50", "cam_out_SOLS")


def test_the_unseen_fold_s_rows_are_not_looked_at(store, plan):
    class Watched:
        def __init__(self, matrix):
            self.matrix, self.seen = matrix, []

        def __getitem__(self, rows):
            self.seen.append(np.asarray(rows))
            return self.matrix[rows]

    class WatchedStore:
        schema, levels = store.schema, None
        inputs, targets = Watched(store.inputs), Watched(store.targets)

        def __len__(self):
            return len(store)

        def require_targets(self):
            return self.targets

    watched = WatchedStore()
    describe(FoldedStore(watched, plan), store.schema.modelled_targets, unseen=1)
    seen = np.concatenate(watched.inputs.seen + watched.targets.seen)
    assert len(seen)
    assert not np.isin(seen, plan.valid_rows(1)).any()
