"""What a person sees: progress, tables, sentences."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from ensemble.evaluation.leaderboard import Row
from ensemble.runs.planner import RunPlan
from features.core.errors import closest
from features.core.settings import check
from features.core.types import Progress as Report
from features.sources.check import Finding, compress
from features.store.store import Store

if TYPE_CHECKING:
    from models.diagnostics.adversarial import Comparison
    from tuning import TuneResult

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
SHOWN_TRIALS = 5
SHOWN_INPUTS = 15
SECONDS_A_LINE = 10.0
LEVEL_STYLE = {"error": "red", "warning": "yellow", "note": "cyan"}


@contextmanager
def progress() -> Iterator[Report]:
    """A bar per stage on a terminal; in a pipe, a line when a stage starts and ends."""
    if not err.is_terminal:
        with _shown(lambda line: sys.stderr.write(f"{line}\n")):
            yield _plain_lines()
        return
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bars, _shown(lambda line: err.print(line, style="dim")):
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report


@contextmanager
def byte_progress() -> Iterator[Report]:
    """As :func:`progress` for bytes: with speed and the time left."""
    if not err.is_terminal:
        yield _plain_bytes()
        return
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bars:
        task = bars.add_task("", total=None)

        def report(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total)

        yield report


def _plain_bytes() -> Report:
    """A line every ten seconds, and one at the end."""
    began: list[tuple[float, int]] = []
    shown: list[float] = []

    def report(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not began:
            began.append((now, done))
            shown.append(now)
        new, seconds = done - began[0][1], now - began[0][0]
        if not new or (done < total and now - shown[-1] < SECONDS_A_LINE):
            return
        shown.append(now)
        left = (total - done) * seconds / new
        sys.stderr.write(
            f"{what}: {done / 1e9:.2f}/{total / 1e9:.2f} GB, {new / seconds / 1e9:.2f} GB/s,"
            f" {left:.0f} s left\n"
        )
        sys.stderr.flush()

    return report


@contextmanager
def _shown(write: Callable[[str], object]) -> Iterator[None]:
    """Show what long fits report: an epoch's loss, rows/s and score on inner blocks."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            write(record.getMessage())

    log, handler = logging.getLogger("models.seq2seq"), Lines()
    before = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def _plain_lines() -> Report:
    seen: dict[str, int] = {}

    def report(what: str, done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if seen.get(what) != tenth:
            seen[what] = tenth
            sys.stderr.write(f"{what}: {done}/{total}\n")
            sys.stderr.flush()

    return report


def show_converted(store: Store) -> None:
    """What a new store holds, what was repaired in it and what was left out."""
    short = store.data_hash[:12]
    out.print(f"{store.path}: {len(store)} rows, data hash {short}", soft_wrap=True)
    for what, counts in store.repaired.items():
        names = compress(counts)
        out.print(f"{what}: {sum(counts.values())} values in {names}", soft_wrap=True)
    for source in store.sources:
        for sentence in source.get("skipped", []):
            warn(f"left out: {sentence}")


def show_leaderboard(rows: Sequence[Row], sort: str = "honest", by: str = "") -> None:
    """The leaderboard as a table, the chosen model marked.

    Args:
        rows: of ``leaderboard.json``.
        sort: column; scores and gains from the highest, the others from the lowest.
        by: ``"fold"`` or ``"group"`` shows the honest scores of each instead.
    """
    wide = out if out.is_terminal else Console(width=160, highlight=False)
    columns = _score_columns(rows, by) if by else _summary_columns(wide.width < 120)
    check(sort in columns, f"no column '{sort}' to sort by: {closest(sort, columns)}")
    table = Table(title="Leaderboard: LEAP score, honest (cross-fitted)")
    for name in columns:
        left = name == "model"
        table.add_column(
            name, justify="left" if left else "right", no_wrap=True, min_width=14 if left else None
        )
    for row in sorted(rows, key=columns[sort][0]):
        name, *cells = (show(row) for _, show in columns.values())
        mark = "* " if row["chosen"] else "  "
        style = "bold" if row["chosen"] else None
        table.add_row(escape(mark + name), *cells, style=style)
    wide.print(table)
    wide.print("* what the submission uses")


Column = tuple[Callable[[Row], Any], Callable[[Row], str]]  # what it sorts by, what it shows


def _summary_columns(short: bool) -> dict[str, Column]:
    def gain(row: Row) -> str:
        if not row["blend"]:
            return ""
        ends = "" if short else f" [{row['gain_low']:+.4f}, {row['gain_high']:+.4f}]"
        return f"{row['gain']:+.4f}{ends}"

    columns: dict[str, Column] = {
        "model": (lambda row: row["model"], lambda row: row["model"]),
        "honest": (lambda row: -row["score"], lambda row: f"{row['score']:.4f}"),
        "95 % interval": (
            lambda row: -row["ci_low"],
            lambda row: f"{row['ci_low']:.4f} to {row['ci_high']:.4f}",
        ),
        "in-sample": (lambda row: -row["in_sample"], lambda row: f"{row['in_sample']:.4f}"),
        "worst fold": (
            lambda row: -min(row["score_per_fold"]),
            lambda row: f"{min(row['score_per_fold']):.4f}",
        ),
        "gain on best member": (lambda row: -row.get("gain", -np.inf), gain),
        "CPU s": (lambda row: row["seconds"], lambda row: f"{row['seconds']:.0f}"),
        "MB": (lambda row: row["peak_memory_mb"], lambda row: str(row["peak_memory_mb"])),
    }
    dropped = ("95 % interval", "worst fold", "MB") if short else ()
    return {name: column for name, column in columns.items() if name not in dropped}


def _score_columns(rows: Sequence[Row], by: str) -> dict[str, Column]:
    """The honest scores of each fold or group."""
    check(by in ("fold", "group"), f"--by must be fold or group, but got '{by}'")
    columns = {
        name: column
        for name, column in _summary_columns(short=True).items()
        if name in ("model", "honest")
    }
    name = f"score_per_{by}"
    first = max((row[name] for row in rows), key=len)  # other runs may have other folds
    for key in first if by == "group" else range(len(first)):
        short = str(key).removeprefix("cam_out_").removeprefix("ptend_")
        columns[short] = (partial(_minus_part, name, key), partial(_show_part, name, key))
    return columns


def _minus_part(name: str, key: Any, row: Row) -> float:
    there = key in row[name] if isinstance(row[name], dict) else key < len(row[name])
    return -float(row[name][key]) if there else np.inf


def _show_part(name: str, key: Any, row: Row) -> str:
    value = -_minus_part(name, key, row)
    return f"{value:.3f}" if np.isfinite(value) else ""


def show_tuning(result: TuneResult) -> None:
    """The best trials beside the defaults, and what the chosen parameters are worth."""
    wide = out if out.is_terminal else Console(width=140, highlight=False)
    complete = [row for row in result.trials if row["state"] == "complete"]
    best = sorted(complete, key=lambda row: -row["value"])[:SHOWN_TRIALS]
    defaults = next(row for row in complete if row["place"] == 0)
    table = Table(title=f"Study {result.study}: mean R2 over its steps, negatives as 0")
    table.add_column("trial")
    for name in ("value", "change", "95 % interval over folds", "minutes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("parameters", overflow="fold")
    for row in best if defaults in best else [*best, defaults]:
        start = row["place"] == 0
        table.add_row(
            f"{row['place']}{' (defaults)' if start else ''}",
            f"{row['value']:.4f}",
            "" if start else f"{row['change']:+.4f}",
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
    wide.print(f'{result.best_file}: name it in the experiment as tuned = "..."', soft_wrap=True)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:+.4f}, {high:+.4f}]"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def show_findings(findings: Sequence[Finding]) -> None:
    """One line per finding."""
    for finding in findings:
        out.print(f"[{LEVEL_STYLE[finding.level]}]{finding.level}[/] ", end="", soft_wrap=True)
        out.print(finding.sentence, markup=False, soft_wrap=True)


def show_comparison(found: Comparison) -> None:
    """How well two sets of rows are told apart, and by which inputs."""
    wide = out if out.is_terminal else Console(width=140, highlight=False)
    ours, theirs = found.n_rows
    wide.print(
        f"{theirs} rows of {found.other} against {ours} of {found.train}: AUC on blocks of time"
        " held out (.5 can't be told apart, 1 always told)"
    )
    table = Table("inputs seen")
    for name in ("AUC", "usual"):
        table.add_column(name, justify="right")
    table.add_row("all", f"{found.auc:.3f}", _auc(found.usual_auc))
    for step in found.without:
        table.add_row(f"without {', '.join(step.removed)}", f"{step.auc:.3f}", _auc(step.usual_auc))
    wide.print(table)
    table = Table()
    table.add_column("input", no_wrap=True)
    for name in ("share of gain", "AUC alone", "usual alone", "shift, sd", "outside"):
        table.add_column(name, justify="right")
    for row in found.inputs.filter(pl.col("gain") > 0).head(SHOWN_INPUTS).iter_rows(named=True):
        table.add_row(
            row["name"],
            f"{row['gain']:.1%}",
            f"{row['auc']:.3f}",
            _auc(row["usual_auc"]),
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
    table = Table(title=f"{plan.rows} rows, {plan.folds} folds, {plan.targets} modelled targets")
    table.add_column("model")
    for name in ("cells", "finished", "workers", "minutes left", "peak memory MB", "disk MB"):
        table.add_column(name, justify="right")
    for model in plan.models:
        table.add_row(
            model.model,
            str(model.cells),
            "?" if model.done is None else str(model.done),
            str(model.workers),
            f"{model.minutes:.1f}",
            str(model.memory_mb),
            str(model.disk_mb),
        )
    out.print(table)
    minutes = sum(model.minutes for model in plan.models)
    memory = max(model.memory_mb for model in plan.models)
    disk = plan.store_mb + sum(model.disk_mb for model in plan.models)
    out.print(f"together: about {minutes:.1f} minutes, {memory} MB of memory, {disk} MB of disk")


def warn(sentence: str) -> None:
    """One warning on the error stream."""
    err.print("[yellow]warning:[/] ", end="")
    err.print(sentence, markup=False, soft_wrap=True)


def fail(sentence: str) -> None:
    """One sentence on the error stream."""
    err.print("[red]error:[/] ", end="")
    err.print(sentence, markup=False, soft_wrap=True)
