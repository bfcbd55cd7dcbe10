"""How far another set of rows lies from the training rows: can a small classifier tell them apart?

Adversarial validation: an auxiliary source or a test set that a classifier can't tell from the
training data (AUC near .5) may be trained on, or scored on, without a thought; one that it tells
at once has inputs that give it away. Neighbours in time are nearly equal, so the classifier is
scored on blocks of time that it has not seen, of both sets. Where the other set's time is unknown
(a shuffled test file) its blocks are cut in file order, and near copies on both sides raise the
score. So the same is done to the later half of the training data, its time hidden likewise: what
the classifier makes of that is the yardstick.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Array, Progress
from features.explore.drift import sample_drift
from features.explore.relations import normal_ranks
from features.explore.sample import Sample, draw_rows, read
from features.folds.enrichment import Auxiliary, main_rows
from features.folds.plan import FoldPlan
from features.folds.schemes import time_blocks
from features.store.store import Store

N_ROWS = 10_000  # of each set
N_FOLDS = 3
N_REMOVED = 3  # variables taken away one after the other
TOLD_APART = 0.55  # an AUC below this leaves nothing to take away
N_ROUNDS = 60
TREES = {
    "objective": "binary",
    "learning_rate": 0.1,
    "num_leaves": 15,
    "max_bin": 63,
    "feature_fraction": 0.3,
    "min_data_in_leaf": 20,
    "lambda_l2": 1.0,
    "num_threads": 1,  # several spin where cores are shared
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Step:
    """What is left to tell the sets apart when variables are taken away.

    Attributes:
        removed: variables taken away, the most telling first.
        auc: without them.
        usual_auc: of the halves of the training data without them.
    """

    removed: list[str]
    auc: float
    usual_auc: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sets of rows, compared.

    Attributes:
        train: folder of the training store.
        other: folder of the other one, or name of the source.
        n_rows: rows drawn from each.
        auc: area under the ROC curve on blocks of time held out, mean over folds: .5 can't be told
            apart, 1 always told.
        auc_per_fold: its parts.
        usual_auc: of the later half of the training data against the earlier, by the same
            classifier and with as much known of its time; None where the training data have too few
            timesteps.
        without: the same without the most telling variable, without the two most telling, ...
        variables: ``variable`` and ``gain`` (its share of what the trees gained), largest first.
        inputs: ``name``, ``variable``, ``gain``, what :func:`features.explore.drift.sample_drift`
        says of
            each input alone, and ``usual_auc`` of that input alone; largest gain first.
        timed: whether the other set's time is known. Where it is not, the AUC means something only
            beside ``usual_auc``.

    Example:
        >>> found = compare_stores(store, store)
        >>> found.n_rows
        (80, 160)
    """

    train: Path
    other: Path
    n_rows: tuple[int, int]
    auc: float
    auc_per_fold: list[float]
    usual_auc: float | None
    without: list[Step]
    variables: pl.DataFrame
    inputs: pl.DataFrame
    timed: bool

    def to_table(self) -> dict[str, Any]:
        """All of it for JSON; None where a number can't be had."""
        finite = pl.when(cs.float().is_finite()).then(cs.float())
        return {
            "train": str(self.train),
            "other": str(self.other),
            "rows": list(self.n_rows),
            "auc": self.auc,
            "auc_per_fold": self.auc_per_fold,
            "usual_auc": self.usual_auc,
            "without": [asdict(step) for step in self.without],
            "variables": self.variables.to_dicts(),
            "inputs": self.inputs.with_columns(finite).to_dicts(),
            "time_known": self.timed,
        }


def compare_stores(
    train: Store,
    other: Store | str,
    *,
    n_rows: int = N_ROWS,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Comparison:
    """Tell another set of rows from the training rows, by their inputs.

    Args:
        train: training data.
        other: test data or other training data, of the same schema; or the name of one of
            ``train``'s sources, which is compared with the rows of all others.
        n_rows: rows drawn at random from each.
        seed: of the draw and of the trees.
        progress: called with (what, done, total) after each classifier.

    Returns:
        See :class:`Comparison`.

    Raises:
        ClimstackError: the schemas differ, there is no such source, or a set has too few timesteps
            (or rows, where time is unknown) to hold blocks out.

    Example:
        >>> found = compare_stores(store, store)  # the same rows: half of the guesses are right
        >>> 0.3 < found.auc < 0.7
        True
    """
    schema, rng = train.schema, np.random.default_rng(seed)
    if isinstance(other, str):
        main = main_rows(train, [Auxiliary(source=other)])
        there = np.setdiff1d(np.arange(len(train)), main)
        place, held = Path(other), train
    else:
        main, there = np.arange(len(train)), np.arange(len(other))
        place, held = other.called, other
    if (why := schema.differs(held.schema)) is not None:
        raise ClimstackError(
            f"{place} has another schema than {train.called}, {why}: compare stores of one schema"
        )
    # All of these serve to compare the halves; half of them to compare with the other set.
    wide = read(train, main[draw_rows(len(main), 2 * n_rows, rng)], targets=False)
    theirs = read(held, there[draw_rows(len(there), n_rows, rng)], targets=False)
    ours = wide.take(draw_rows(len(wide), (len(wide) + 1) // 2, rng))
    timed = bool(theirs.time.min() >= 0)
    pair = _Pair(ours, theirs, (train.called, place), seed)
    halves, usual = _halves(wide), None
    drift = sample_drift(ours, theirs).with_columns(usual_auc=pl.lit(None, pl.Float64))
    if halves is not None:
        unusual = sample_drift(*halves)["auc"]
        drift = drift.with_columns(usual_auc=unusual)
        earlier, later = halves
        later = later if timed else _hide_time(later, seed)
        usual = _Pair(earlier, later, (train.called, train.called), seed)

    group = np.array([v.name for v in schema.inputs for _ in range(v.n_levels)])
    left = np.arange(len(group))
    removed: list[str] = []
    steps: list[Step] = []
    while True:
        progress("compare", len(steps), N_REMOVED + 1)
        aucs, gain = pair.tell(left)
        if not removed:
            aucs_per_fold, all_gain = aucs, gain / (gain.sum() or 1.0)
        usual_auc = None if usual is None else float(np.mean(usual.tell(left)[0]))
        steps.append(Step(list(removed), float(np.mean(aucs)), usual_auc))
        names = [v.name for v in schema.inputs if v.name in group[left]]
        if steps[-1].auc < TOLD_APART or len(removed) == N_REMOVED or len(names) == 1:
            break
        removed.append(max(names, key=lambda name: gain[group[left] == name].sum()))
        left = left[group[left] != removed[-1]]
    progress("compare", N_REMOVED + 1, N_REMOVED + 1)
    inputs = pl.DataFrame({"name": ours.names, "variable": group, "gain": all_gain})
    variables = inputs.group_by("variable", maintain_order=True).agg(pl.col("gain").sum())
    return Comparison(
        train=train.called,
        other=place,
        n_rows=(len(ours), len(theirs)),
        auc=steps[0].auc,
        auc_per_fold=aucs_per_fold,
        usual_auc=steps[0].usual_auc,
        without=steps[1:],
        variables=variables.sort("gain", descending=True),
        inputs=inputs.join(drift, on="name").sort("gain", "auc", descending=True),
        timed=timed,
    )


class _Pair:
    """Two samples, ranked together, with blocks of time to hold out of each."""

    def __init__(self, ours: Sample, theirs: Sample, paths: tuple[Path, Path], seed: int) -> None:
        # Trees see only the order of values, and float32 holds ranks where it loses 1e-45.
        self._ranks = normal_ranks(np.concatenate([ours.values, theirs.values]))
        self._plans = (_plan(ours, paths[0]), _plan(theirs, paths[1]))
        self._seed = seed

    def tell(self, columns: NDArray[np.intp]) -> tuple[list[float], Array]:
        """AUC of each fold by some columns, and gain of each of these, (n_columns,)."""
        import lightgbm as lgb
        from sklearn.metrics import roc_auc_score

        features, first = self._ranks[:, columns], len(self._plans[0])
        label = np.repeat([0.0, 1.0], [first, len(self._plans[1])])
        ours, theirs = self._plans
        binned = lgb.Dataset(features, label, params=TREES).construct()
        aucs, gain = [], np.zeros(len(columns))
        for k in range(N_FOLDS):
            fit = np.concatenate([ours.train_rows(k), first + theirs.train_rows(k)])
            valid = np.concatenate([ours.valid_rows(k), first + theirs.valid_rows(k)])
            data = binned.subset(fit.tolist()).construct()
            share = label[fit].mean()  # sets of unequal size count the same
            data.set_weight(np.where(label[fit] > 0, 1 - share, share))
            booster = lgb.train(TREES | {"seed": self._seed}, data, N_ROUNDS)
            aucs.append(float(roc_auc_score(label[valid], booster.predict(features[valid]))))
            gain += booster.feature_importance("gain")
        return aucs, gain


def _plan(sample: Sample, path: Path) -> FoldPlan:
    """Blocks of time with a timestep kept free; in file order where time is unknown."""
    known = sample.time.min() >= 0
    unit = sample.time if known else np.arange(len(sample))
    n_units = len(np.unique(unit))
    if n_units < 2 * N_FOLDS:
        raise ClimstackError(
            f"{path} has {n_units} {'timesteps' if known else 'rows'}, and a comparison needs at"
            f" least {2 * N_FOLDS} to hold blocks of time out: convert more data"
        )
    # Timesteps by their place, as a draw of single rows leaves gaps between them.
    return time_blocks(np.unique(unit, return_inverse=True)[1], N_FOLDS, embargo=int(known))


def _halves(sample: Sample) -> tuple[Sample, Sample] | None:
    """The earlier and the later half of a sample's time; None if there is too little of it."""
    times = np.unique(sample.time)
    if times[0] < 0 or len(times) < 4 * N_FOLDS:
        return None
    later = sample.time >= times[len(times) // 2]
    return sample.take(np.flatnonzero(~later)), sample.take(np.flatnonzero(later))


def _hide_time(sample: Sample, seed: int) -> Sample:
    shuffled = np.random.default_rng(seed).permutation(len(sample))
    return replace(sample.take(shuffled), time=np.full(len(shuffled), -1))
