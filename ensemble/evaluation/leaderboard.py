"""The leaderboard: honest scores with intervals, per fold, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.stacking.graph import MEAN, MEMBER, ZERO
from ensemble.stacking.stack import Contender, Errors
from features.core.errors import ClimstackError
from features.core.files import read_json, write_json
from features.core.metrics import r2_from_sums
from features.core.types import Array
from features.schemas.schema import Schema
from models.member import Member

N_DRAWS = 400
LEVEL = 0.95
Row = dict[str, Any]


def interval(errors: Errors, other: Errors | None = None, seed: int = 0) -> tuple[float, float]:
    """Confidence interval of a score, or of its difference to another's, at 95 %.

    Whole blocks of time are drawn with replacement, because rows of one block are not independent
    (block bootstrap; Kuensch 1989, Annals of Statistics 17).

    Args:
        errors: the contender's sums.
        other: the contender to compare with, drawn alike.
        seed: of the draws.
    """
    n_blocks = len(errors.fold)
    drawn = np.random.default_rng(seed).integers(0, n_blocks, (N_DRAWS, n_blocks))
    times = np.stack([np.bincount(draw, minlength=n_blocks) for draw in drawn]).astype(np.float64)
    scores = _score(times, errors)
    if other is not None:
        scores = scores - _score(times, other)
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def leaderboard(
    schema: Schema,
    members: Sequence[Member],
    contenders: Sequence[Contender],
    errors: Mapping[str, Errors],
    chosen: Contender,
) -> list[Row]:
    """Rows of ``leaderboard.json``, best honest score first.

    Each row: model, blend (of several members), chosen, score (cross-fitted: the honest one),
    in_sample (with weights learned from all folds: optimistic), ci_low, ci_high, score_per_fold,
    score_per_group (mean R2 of each variable), targets_fallen_back (to a constant),
    targets_of_member (to the best member), seconds (CPU, of the fits), peak_memory_mb, and for
    blends best_member, gain, gain_low, gain_high over it and mean_gain, mean_gain_low,
    mean_gain_high over the plain mean of the members, where that competes.
    """
    by_name = {member.spec.name: member for member in members}
    scores = {c.name: float(errors[c.name].r2().mean()) for c in contenders}
    alone = [c.name for c in contenders if not c.is_blend]
    best = max(alone, key=lambda name: scores[name])
    rows = []
    for contender in contenders:
        own = errors[contender.name]
        low, high = interval(own)
        row: Row = {
            "model": contender.name,
            "blend": contender.is_blend,
            "chosen": contender is chosen,
            "score": scores[contender.name],
            "in_sample": float(own.in_sample_r2().mean()),
            "ci_low": low,
            "ci_high": high,
            "score_per_fold": own.fold_scores(),
            "score_per_group": _by_group(schema, own.r2()),
            "targets_fallen_back": sum(a in (MEAN, ZERO) for a in contender.final.action),
            "targets_of_member": sum(a == MEMBER for a in contender.final.action),
            "seconds": round(sum(by_name[name].seconds for name in contender.members), 1),
            "peak_memory_mb": max(by_name[name].peak_memory_mb for name in contender.members),
        }
        if contender.is_blend:
            row["best_member"] = best
            row |= _gain("gain", contender.name, best, errors)
            if "mean" in errors:
                row |= _gain("mean_gain", contender.name, "mean", errors)
        rows.append(row)
    return sorted(rows, key=lambda row: (-row["score"], row["model"]))


def compared(rows: Sequence[Row], facts: Mapping[str, Any], others: Sequence[str]) -> list[Row]:
    """A run's rows with those of other runs, which are called ``RUN: MODEL``, best first.

    Args:
        rows: of the run.
        facts: what ``run.json`` says of the run; auxiliary sources may differ, scored rows may not.
        others: folders of finished runs on the same rows.

    Raises:
        ClimstackError: another run is not finished, or was scored on other rows.
    """
    found = list(rows)
    for path in map(Path, others):
        theirs = load_leaderboard(path)
        their_facts = read_json(path / "run.json")
        key = "rows_hash" if "rows_hash" in their_facts else "data_hash"  # of an earlier version
        if their_facts[key] != facts[key]:
            raise ClimstackError(
                f"[stack] compare names {path}, which was scored on other rows: remove it"
            )
        found += [
            row | {"model": f"{path.name}: {row['model']}", "chosen": False, "run": str(path)}
            for row in theirs
            if "run" not in row
        ]
    return sorted(found, key=lambda row: (-row["score"], row["model"]))


def save_leaderboard(run: Path, rows: list[Row]) -> None:
    """Write ``leaderboard.json``."""
    write_json(run / "leaderboard.json", rows)


def load_leaderboard(run: str | Path) -> list[Row]:
    """Read a run's leaderboard.

    Raises:
        ClimstackError: the run has none yet.
    """
    path = Path(run) / "leaderboard.json"
    if not path.is_file():
        raise ClimstackError(f"{run} has no leaderboard.json: run its experiment first")
    rows: list[Row] = read_json(path)
    return rows


def _gain(what: str, name: str, over: str, errors: Mapping[str, Errors]) -> Row:
    """The difference of two scores with its interval."""
    low, high = interval(errors[name], errors[over])
    gain = float(errors[name].r2().mean() - errors[over].r2().mean())
    return {what: gain, f"{what}_low": low, f"{what}_high": high}


def _score(times: Array, errors: Errors) -> Array:
    """Score of each draw: ``times`` (n_draws, n_blocks) says how often a block was drawn."""
    r2 = r2_from_sums(times @ errors.squared_error, times @ errors.deviation)
    mean: Array = r2.mean(axis=1)
    return mean


def _by_group(schema: Schema, r2: Array) -> dict[str, float]:
    return {v.name: float(r2[schema.slice_of(v.name)].mean()) for v in schema.targets}
