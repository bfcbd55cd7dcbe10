"""The leaderboard: honest scores with intervals, per fold, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.evaluation.score_sums import ScoreSums
from ensemble.experiment.folder import RunFolder
from ensemble.stacking.blend import MEAN, MEMBER, ZERO
from ensemble.stacking.contender import Contender
from features.core.errors import ClimstackError
from features.core.files import read_json
from features.core.settings import check
from features.schemas.schema import Schema
from features.scoring.metric import load_metric
from models.member import Member

Row = dict[str, Any]


def leaderboard(
    schema: Schema,
    members: Sequence[Member],
    contenders: Sequence[Contender],
    scores: ScoreSums,
    chosen: Contender,
) -> list[Row]:
    """Rows of ``leaderboard.json``, best honest score first.

    Each row: model, blend (of several members), chosen, same_as (names of blends that coincide with
    it, which have no row of their own), metric, score (cross-fitted: the honest one), in_sample
    (with weights learned from all folds: optimistic), ci_low, ci_high, score_per_fold,
    score_per_group (of each group of targets; None where none of its targets counts),
    targets_fallen_back (to a constant), targets_of_member (to the best member), targets_served (by
    some member; only where one serves but some of them: the others are scored with their mean),
    seconds (CPU, of the fits), peak_memory_mb, and for blends best_member, gain, gain_low,
    gain_high over it and
    mean_gain, mean_gain_low, mean_gain_high over the plain mean of the members, where that
    competes. A gain above 0 is better, whichever way the metric goes.

    Example:
        >>> from ensemble import choose
        >>> chosen = choose(contenders, scores)
        >>> rows = leaderboard(store.schema, members, contenders, scores, chosen)
        >>> sum(row["chosen"] for row in rows)
        1
    """
    by_name = {member.spec.name: member for member in members}
    alone = [c.name for c in contenders if not c.is_blend]
    best = max(alone, key=lambda name: scores.gain(name, alone[0]))
    partial = any(len(member.targets) < len(contenders[0].final.targets) for member in members)
    rows = []
    for contender in contenders:
        name = contender.name
        low, high = scores.interval(name)
        row: Row = {
            "model": name,
            "blend": contender.is_blend,
            "chosen": contender is chosen,
            "same_as": contender.same_as,
            "metric": scores.metric or schema.metric,
            "score": scores.score(name),
            "in_sample": scores.in_sample_score(name),
            "ci_low": low,
            "ci_high": high,
            "score_per_fold": scores.fold_scores(name),
            "score_per_group": {
                group: _or_none(scores.score(name, targets))
                for group, targets in schema.targets_of_group.items()
            },
            "targets_fallen_back": sum(a in (MEAN, ZERO) for a in contender.final.action),
            "targets_of_member": sum(a == MEMBER for a in contender.final.action),
            "seconds": round(sum(by_name[member].seconds for member in contender.members), 1),
            "peak_memory_mb": max(by_name[member].peak_memory_mb for member in contender.members),
        }
        if partial:
            served = [by_name[member].targets for member in contender.members]
            row["targets_served"] = len(np.unique(np.concatenate(served)))
        if contender.is_blend:
            row["best_member"] = best
            row |= _gain("gain", name, best, scores)
            if "mean" in scores.squared_error:
                row |= _gain("mean_gain", name, "mean", scores)
        rows.append(row)
    return _best_first(rows)


def compared(rows: Sequence[Row], facts: Mapping[str, Any], others: Sequence[str]) -> list[Row]:
    """A run's rows with those of other runs, which are called ``RUN: MODEL``, best first.

    Another run may have other folds, and another scheme: its rows say which.

    Args:
        rows: of the run.
        facts: what ``run.json`` says of the run; auxiliary sources may differ, scored rows may not.
        others: folders of finished runs on the same rows.

    Raises:
        ClimstackError: another run is not finished, or was scored on other rows or by another
            metric.
    """
    found = list(rows)
    for folder in map(RunFolder, map(Path, others)):
        theirs = load_leaderboard(folder.path)
        known = folder.read_facts()
        if known["rows_hash"] != facts["rows_hash"]:
            raise ClimstackError(
                f"[stack] compare names {folder.path}, which was scored on other rows: remove it"
            )
        metric = theirs[0]["metric"]
        check(
            metric == rows[0]["metric"],
            f"[stack] compare names {folder.path}, which was scored by {metric} and not by"
            f" {rows[0]['metric']}: remove it",
        )
        name = folder.path.name
        if known["scheme"] != facts["scheme"]:
            name += f" ({known['scheme']})"
        found += [
            row | {"model": f"{name}: {row['model']}", "chosen": False} | {"run": str(folder.path)}
            for row in theirs
            if "run" not in row
        ]
    return _best_first(found)


def load_leaderboard(run: str | Path) -> list[Row]:
    """Read a run's leaderboard.

    Raises:
        ClimstackError: the run has none yet, or was made by an earlier version.

    Example:
        >>> load_leaderboard("runs/first")[-1]["model"]
        'trees'
    """
    folder = RunFolder(Path(run))
    folder.read_facts()  # refuses a run of an earlier version
    if not folder.leaderboard.is_file():
        raise ClimstackError(f"{run} has no leaderboard.json: run its experiment first")
    rows: list[Row] = read_json(folder.checked(folder.leaderboard))
    return rows


def _best_first(rows: list[Row]) -> list[Row]:
    up = load_metric(rows[0]["metric"]).greater_is_better if rows else True
    return sorted(rows, key=lambda row: ((-1 if up else 1) * row["score"], row["model"]))


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _gain(what: str, name: str, over: str, scores: ScoreSums) -> Row:
    """The difference of two scores with its interval."""
    low, high = scores.interval(name, over)
    return {what: scores.gain(name, over), f"{what}_low": low, f"{what}_high": high}
