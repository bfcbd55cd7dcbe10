"""The report of a run: one HTML file, a function of the run's folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ensemble.report import budget, latitudes
from ensemble.report.distributions import Distributions, Standard
from ensemble.report.extremes import Extremes
from ensemble.report.facts import facts_section
from ensemble.report.finished import Block, Finished
from ensemble.report.quality import Quality
from ensemble.report.reliability import intervals_section, regimes_section
from ensemble.report.scoring import (
    NO_SCORES,
    gain_section,
    leaderboard_section,
    levels_section,
    time_section,
)
from ensemble.report.training import (
    importance_section,
    learning_section,
    tuning_section,
    weights_section,
)
from features.core.types import Progress
from features.pages.page import Section, write_page

NO_OUTPUTS = (
    "Left out: the run has no stack/oof, the blend's honest outputs. 'climstack stack' on its"
    " experiment writes it."
)
FROM_ROWS = (
    (latitudes.ID, latitudes.TITLE),
    ("predicted", "Predicted against true"),
    ("residuals", "Residuals"),
    ("worst", "Worst targets, rows and grid columns"),
    (budget.ID, budget.TITLE),
    ("data", "Data"),
)


class Collector(Protocol):
    """What is shown to every block of rows."""

    def add(self, block: Block) -> None:
        """Take a block into account."""


def write_report(
    folder: str | Path, out: str | Path | None = None, progress: Progress | None = None
) -> Path:
    """Write a finished run's report, a self-contained HTML page.

    Reads the held-out rows once, by blocks; memory does not grow with their number. A section whose
    data the run lacks says so in a sentence.

    Args:
        folder: the run's folder.
        out: the file; None takes ``report.html`` in the folder.
        progress: called with (what, rows done, rows in all).

    Returns:
        The file.

    Raises:
        ClimstackError: the folder has no leaderboard, or something in it is damaged.
    """
    run = Finished(Path(folder))
    chosen, facts = run.chosen, run.facts
    minutes = sum(stage["wall_seconds"] for stage in facts["stages"]) / 60
    lead = (
        f"{chosen['model']} scores {chosen['score']:.4f} honestly"
        f" ({chosen['ci_low']:.4f} to {chosen['ci_high']:.4f}) on {len(run.plan):,} rows in"
        f" {run.plan.n_folds} folds of schema {run.schema.name}; {len(run.members)} members,"
        f" {minutes:.0f} minutes in all, climstack {facts['versions']['climstack']}."
    )
    rows = {section.id: section for section in _from_rows(run, progress)}
    sections = [
        leaderboard_section(run),
        levels_section(run),
        rows[latitudes.ID],
        weights_section(run),
        gain_section(run),
        regimes_section(run),
        intervals_section(run),
        time_section(run),
        rows["worst"],
        rows["predicted"],
        rows["residuals"],
        rows[budget.ID],
        learning_section(run),
        tuning_section(run),
        importance_section(run),
        rows["data"],
        facts_section(run),
    ]
    title = f"Report of {run.experiment.name}"
    return write_page(Path(out or run.path / "report.html"), title, lead, sections)


def _from_rows(run: Finished, progress: Progress | None) -> list[Section]:
    """Sections that need the rows themselves, all from one pass."""
    if not run.has_outputs:
        return [Section(name, title, [NO_OUTPUTS]) for name, title in FROM_ROWS]
    left_out: dict[str, str] = {}
    standard = Standard.of(run)
    distributions = extremes = places = water = None
    if standard is None:
        left_out |= dict.fromkeys(("predicted", "residuals", "worst"), NO_SCORES)
    else:
        distributions, extremes = Distributions(standard), Extremes(run, standard)
    if run.latitude is None:
        left_out[latitudes.ID] = "Left out: the store has no grid, so latitudes are unknown."
    else:
        places = latitudes.Latitudes(run, run.latitude)
    reason = budget.missing(run.schema, run.levels)
    if reason is None:
        water = budget.Budget(run)
    else:
        left_out[budget.ID] = reason
    quality = Quality(run)
    collectors: list[Collector | None] = [distributions, extremes, places, water, quality]
    used = [collector for collector in collectors if collector is not None]
    done, total = 0, int((run.plan.fold >= 0).sum())
    for block in run.blocks():
        for collector in used:
            collector.add(block)
        done += len(block.rows)
        if progress is not None:
            progress("report", done, total)
    sections = [Section(name, t, [left_out[name]]) for name, t in FROM_ROWS if name in left_out]
    sections.append(quality.section())
    if distributions is not None:
        sections += distributions.sections()
    sections += [each.section() for each in (extremes, places, water) if each is not None]
    return sections
