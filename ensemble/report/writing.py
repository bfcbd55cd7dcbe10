"""The report of a run: one HTML file, a function of the run's folder alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ensemble.evaluation.held_out import Collector
from ensemble.experiment.folder import RunFolder
from ensemble.report import budget, reliability, scoring, training
from ensemble.report.distributions import Distributions, Standard
from ensemble.report.extremes import Extremes
from ensemble.report.facts import facts
from ensemble.report.finished import Finished
from ensemble.report.latitudes import Latitudes
from ensemble.report.quality import Quality
from features.core.types import Progress
from features.pages.page import Parts, Section, write_page

NO_OUTPUTS = (
    "Left out: the run has no stack/oof, the blend's honest outputs. 'climstack stack' on its"
    " experiment writes it."
)
NO_GRID = "Left out: the store has no grid, so latitudes are unknown."
SECTIONS: dict[str, tuple[str, Callable[[Finished], Parts] | None]] = {
    # id: title, and what makes it; None: a collector of rows
    "leaderboard": ("Leaderboard", scoring.leaderboard),
    "levels": ("R2 by level", scoring.levels),
    "latitude": ("R2 by latitude and level", None),
    "weights": ("Weights by target", training.weights),
    "gain": ("Gain of the blend", scoring.gain),
    "regimes": ("Errors by regime", reliability.regimes),
    "intervals": ("Intervals", reliability.intervals),
    "time": ("Error by block", scoring.time),
    "worst": ("Worst targets, rows and grid columns", None),
    "predicted": ("Predicted against true", None),
    "residuals": ("Residuals", None),
    "budget": ("Energy and water of the column", None),
    "learning": ("Learning curves", training.learning),
    "tuning": ("Tuning", training.tuning),
    "importance": ("Importances", training.importances),
    "data": ("Data", None),
    "facts": ("Run facts", facts),
}


class FromRows(Collector, Protocol):
    """A collector that makes parts of the report of what it has seen."""

    def parts(self) -> dict[str, Parts]:
        """What stands in its sections, by their ids, once all rows have come."""


class Report:
    """A run's report: collectors to be shown its held-out rows, and then the page.

    Args:
        folder: of a run that has a stack and a leaderboard.

    Raises:
        ClimstackError: the folder has no leaderboard, or something in it is damaged.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.run = run = Finished(folder.path)
        self._chosen = run.chosen  # a folder without a leaderboard is no run
        self.collectors: list[FromRows] = [Quality(run)]
        self._left_out: dict[str, str] = {}
        standard, no_budget = Standard.of(run), budget.missing(run.schema, run.levels)
        if standard is None:
            self._left_out |= dict.fromkeys(("predicted", "residuals", "worst"), scoring.NO_SCORES)
        else:
            self.collectors += [Distributions(standard), Extremes(run, standard)]
        if run.latitude is None:
            self._left_out["latitude"] = NO_GRID if run.schema.n_grid_columns is not None else ""
        else:
            self.collectors.append(Latitudes(run, run.latitude))
        if no_budget is None:
            self.collectors.append(budget.Budget(run))
        else:
            self._left_out["budget"] = no_budget

    def walk(self, progress: Progress | None = None) -> None:
        """Show the collectors the rows that the run keeps outputs of."""
        if self.run.held_out is None:
            self.collectors, self._left_out = [], dict.fromkeys(SECTIONS, NO_OUTPUTS)
        else:
            self.run.held_out.walk(*self.collectors, what="report", progress=progress)

    def write(self, out: Path | None = None) -> Path:
        """Write the page and say where: ``out``, or the report's place in the folder."""
        run, chosen = self.run, self._chosen
        minutes = sum(stage["wall_seconds"] for stage in run.facts["stages"]) / 60
        lead = (
            f"{chosen['model']} scores {chosen['score']:.4f} honestly, {run.score_title}"
            f" ({chosen['ci_low']:.4f} to {chosen['ci_high']:.4f}) on {len(run.plan):,} rows in"
            f" {run.plan.n_folds} folds of schema {run.schema.name}; {len(run.members)} members,"
            f" {minutes:.0f} minutes in all, climstack {run.facts['versions']['climstack']}."
        )
        of_rows: dict[str, Parts] = {
            name: [why] if why else [] for name, why in self._left_out.items()
        }
        for collector in self.collectors:
            of_rows |= collector.parts()
        of_run = {name: make(run) for name, (_, make) in SECTIONS.items() if make is not None}
        found, gridded = of_rows | of_run, run.schema.n_grid_columns is not None
        sections = [  # what a table of this kind never has is no section
            Section(
                name,
                title if gridded else title.replace(", rows and grid columns", " and rows"),
                found[name],
            )
            for name, (title, _) in SECTIONS.items()
            if found[name]
        ]
        title = f"Report of {run.experiment.name}"
        return write_page(out or run.folder.report, title, lead, sections)


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
    report = Report(RunFolder(Path(folder)))
    report.run.store.verify()
    report.walk(progress)
    return report.write(None if out is None else Path(out))
