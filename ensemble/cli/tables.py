"""Results as tables and sentences on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ensemble.cli import console
from ensemble.evaluation.leaderboard import Row
from ensemble.runs.planner import RunPlan
from features.core.errors import closest
from features.core.settings import check
from features.scoring.metric import load_metric
from features.sources.findings import Finding, compress
from features.store.store import Store

if TYPE_CHECKING:
    from models.diagnostics.adversarial import Comparison
    from tuning import TuneResult

SHOWN_TRIALS = 5
SHOWN_INPUTS = 15
LEVEL_STYLE = {"error": "red", "warning": "yellow", "note": "cyan"}


def _table(title: str | None, first: str, *others: str) -> Table:
    """An empty table: names to the left, figures to the right."""
    table = Table(title=title)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def show_converted(store: Store) -> None:
    """What a new store holds, what was repaired in it and what was left out."""
    short = store.data_hash[:12]
    console.out.print(f"{store.path}: {len(store)} rows, data hash {short}", soft_wrap=True)
    for what, counts in store.repaired.items():
        names = compress(counts)
        console.out.print(f"{what}: {sum(counts.values())} values in {names}", soft_wrap=True)
    for source in store.sources:
        for sentence in source.get("skipped", []):
            console.warn(f"left out: {sentence}")


def show_leaderboard(
    rows: Sequence[Row], sort: str = "honest", by: str = "", *, score: str = "score"
) -> None:
    """The leaderboard as a table, the chosen model marked.

    Args:
        rows: of ``leaderboard.json``.
        sort: column; scores and gains from the best, the others from the lowest.
        by: ``"fold"`` or ``"group"`` shows the honest scores of each instead.
        score: what the score is called.
    """
    wide = console.out if console.out.is_terminal else Console(width=160, highlight=False)
    columns = _score_columns(rows, by) if by else _summary_columns(rows, wide.width < 120)
    check(sort in columns, f"no column '{sort}' to sort by: {closest(sort, columns)}")
    table = _table(f"Leaderboard: {score}, honest (cross-fitted)", *columns)
    table.columns[0].min_width = 14
    for row in sorted(rows, key=columns[sort][0]):
        name, *cells = (show(row) for _, show in columns.values())
        mark = "* " if row["chosen"] else "  "
        style = "bold" if row["chosen"] else None
        table.add_row(escape(mark + name), *cells, style=style)
    wide.print(table)
    wide.print("* what the submission uses")


Column = tuple[Callable[[Row], Any], Callable[[Row], str]]  # what it sorts by, what it shows


def _summary_columns(rows: Sequence[Row], short: bool) -> dict[str, Column]:
    sign = _sign(rows)

    def gain(row: Row) -> str:
        if not row["blend"]:
            return ""
        ends = "" if short else f" [{row['gain_low']:+.4f}, {row['gain_high']:+.4f}]"
        return f"{row['gain']:+.4f}{ends}"

    columns: dict[str, Column] = {
        "model": (lambda row: row["model"], lambda row: row["model"]),
        "honest": (lambda row: sign * row["score"], lambda row: f"{row['score']:.4f}"),
        "95 % interval": (
            lambda row: sign * row["ci_low"],
            lambda row: f"{row['ci_low']:.4f} to {row['ci_high']:.4f}",
        ),
        "in-sample": (lambda row: sign * row["in_sample"], lambda row: f"{row['in_sample']:.4f}"),
        "worst fold": (
            lambda row: max(sign * score for score in row["score_per_fold"]),
            lambda row: f"{max(row['score_per_fold'], key=lambda score: sign * score):.4f}",
        ),
        "gain on best member": (lambda row: -row.get("gain", -np.inf), gain),
        "targets served": (
            lambda row: -row.get("targets_served", 0),
            lambda row: str(row.get("targets_served", "")),
        ),
        "CPU s": (lambda row: row["seconds"], lambda row: f"{row['seconds']:.0f}"),
        "MB": (lambda row: row["peak_memory_mb"], lambda row: str(row["peak_memory_mb"])),
    }
    dropped = ["95 % interval", "worst fold", "MB"] if short else []
    if not any("targets_served" in row for row in rows):
        dropped.append("targets served")
    return {name: column for name, column in columns.items() if name not in dropped}


def _score_columns(rows: Sequence[Row], by: str) -> dict[str, Column]:
    """The honest scores of each fold or group."""
    check(by in ("fold", "group"), f"--by must be fold or group, but got '{by}'")
    columns = {
        name: column
        for name, column in _summary_columns(rows, short=True).items()
        if name in ("model", "honest")
    }
    name = f"score_per_{by}"
    first = max((row[name] for row in rows), key=len)  # other runs may have other folds
    for key in first if by == "group" else range(len(first)):
        short = str(key).removeprefix("cam_out_").removeprefix("ptend_")
        columns[short] = (
            partial(_rank_part, name, key, _sign(rows)),
            partial(_show_part, name, key),
        )
    return columns


def _sign(rows: Sequence[Row]) -> int:
    """What makes the best score the lowest number: -1, or 1 for errors."""
    up = not rows or load_metric(rows[0].get("metric", "r2")).greater_is_better
    return -1 if up else 1


def _rank_part(name: str, key: Any, sign: int, row: Row) -> float:
    value = _part(name, key, row)
    return np.inf if value is None else sign * value


def _part(name: str, key: Any, row: Row) -> float | None:
    there = key in row[name] if isinstance(row[name], dict) else key < len(row[name])
    return float(row[name][key]) if there and row[name][key] is not None else None


def _show_part(name: str, key: Any, row: Row) -> str:
    value = _part(name, key, row)
    return "" if value is None else f"{value:.3f}"


def show_tuning(result: TuneResult) -> None:
    """The best trials beside the defaults, and what the chosen parameters are worth."""
    wide = console.out if console.out.is_terminal else Console(width=140, highlight=False)
    complete = [row for row in result.trials if row["state"] == "complete"]
    best = sorted(complete, key=lambda row: -row["value"])[:SHOWN_TRIALS]
    defaults = next(row for row in complete if row["place"] == 0)
    table = _table(
        f"Study {result.study}: {result.score} over its steps, negatives as 0",
        *("trial", "value", "change", "95 % interval over folds", "minutes"),
    )
    table.add_column("parameters", overflow="fold")
    for row in best if defaults in best else [*best, defaults]:
        start = row["place"] == 0
        change = "" if start else f"{row['change']:+.4f}"
        table.add_row(
            *(f"{row['place']}{' (defaults)' if start else ''}", f"{row['value']:.4f}", change),
            "" if start else _interval(row["change_low"], row["change_high"]),
            f"{row['seconds'] / 60:.1f}",
            ", ".join(f"{name} {_short(value)}" for name, value in row["params"].items()),
        )
    wide.print(table)
    pruned = len(result.trials) - len(complete)
    wide.print(
        f"{len(result.trials)} trials ({pruned} ended early), {result.minutes:.1f} minutes;"
        f" {result.cells_fitted} cell fits where tuning every target would take"
        f" {result.cells_full}"
    )
    if result.importances:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in result.importances.items())
        wide.print(f"What mattered: {shares}")
    for what, gain in (("claimed", result.claim), ("on the unseen fold", result.unseen)):
        wide.print(
            f"{what:<19} {gain.defaults:.4f} by the defaults, {gain.tuned:.4f} tuned:"
            f" {gain.gain:+.4f} {_interval(gain.low, gain.high)}"
        )
    if result.adopted == "tuned":
        n_own = sum(len(choice.targets) for choice in result.choices[1:])
        wide.print(f"Kept: the tuned parameters; {n_own} targets have others than the rest")
    else:
        wide.print("Kept: the defaults, because the tuned parameters lose on the unseen fold")
    file = str(Path(result.best_file).resolve())  # found from an experiment in any folder
    wide.print("In the experiment, instead of this model's params:", soft_wrap=True)
    wide.print(f"tuned = {json.dumps(file, ensure_ascii=False)}", markup=False, soft_wrap=True)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:+.4f}, {high:+.4f}]"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def show_findings(findings: Sequence[Finding]) -> None:
    """One line per finding."""
    for finding in findings:
        console.out.print(
            f"[{LEVEL_STYLE[finding.level]}]{finding.level}[/] ", end="", soft_wrap=True
        )
        console.out.print(finding.sentence, markup=False, soft_wrap=True)


def show_comparison(found: Comparison) -> None:
    """How well two sets of rows are told apart, and by which inputs."""
    wide = console.out if console.out.is_terminal else Console(width=140, highlight=False)
    ours, theirs = found.n_rows
    wide.print(
        f"{theirs} rows of {found.other} against {ours} of {found.train}: AUC on blocks of time"
        " held out (.5 can't be told apart, 1 always told)"
    )
    table = _table(None, "inputs seen", "AUC", "usual")
    table.add_row("all", f"{found.auc:.3f}", _auc(found.usual_auc))
    for step in found.without:
        table.add_row(f"without {', '.join(step.removed)}", f"{step.auc:.3f}", _auc(step.usual_auc))
    wide.print(table)
    heads = ("input", "share of gain", "AUC alone", "usual alone", "shift, sd", "outside")
    table = _table(None, *heads)
    for row in found.inputs.filter(pl.col("gain") > 0).head(SHOWN_INPUTS).iter_rows(named=True):
        alone = f"{row['auc']:.3f}", _auc(row["usual_auc"])
        table.add_row(
            row["name"],
            f"{row['gain']:.1%}",
            *alone,
            f"{row['shift']:+.2f}",
            f"{row['outside']:.1%}",
        )
    wide.print(table)
    wide.print(
        "usual: the later half of the training data told from its earlier half, what the change"
        " of the weather alone makes of it. outside: values beyond the range of the training rows."
    )
    if not found.timed:
        wide.print(
            "The other set's time is unknown, so near copies may stand on both sides of a fold:"
            " read its AUC beside the usual one, whose time was hidden likewise."
        )


def _auc(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def show_plan(plan: RunPlan) -> None:
    """The plan as a table."""
    table = _table(
        f"{plan.rows} rows, {plan.folds} folds, {plan.targets} modelled targets",
        *("model", "cells", "finished", "workers", "minutes left", "peak memory MB", "disk MB"),
    )
    for model in plan.models:
        done = "?" if model.done is None else model.done
        left = f"{model.minutes:.1f}"
        cells = [model.cells, done, model.workers, left, model.memory_mb, model.disk_mb]
        table.add_row(model.model, *map(str, cells))
    console.out.print(table)
    minutes = sum(model.minutes for model in plan.models)
    memory = max(model.memory_mb for model in plan.models)
    disk = plan.store_mb + sum(model.disk_mb for model in plan.models)
    console.out.print(
        f"together: about {minutes:.1f} minutes, {memory} MB of memory, {disk} MB of disk"
    )
