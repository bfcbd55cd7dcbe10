"""Where the chosen blend is worst: targets, grid columns, single rows."""

from __future__ import annotations

import numpy as np

from ensemble.report.distributions import Standard
from ensemble.report.finished import Block, Finished
from ensemble.report.scoring import worst_targets
from features.pages.page import PALETTE, Cell, Figure, Section, Table

WORST = 25


class Extremes:
    """The rows with the largest errors, and the mean error of each grid column.

    A row's error is the mean over modelled targets of its squared standardised error.
    """

    def __init__(self, run: Finished, standard: Standard) -> None:
        self.run, self.standard = run, standard
        self._time, self._column = run.store.time, run.store.column
        n_columns = int(self._column.max()) + 1 if len(self._column) else 0
        self.n, self.error = np.zeros((2, n_columns))
        self.rows: list[tuple[float, int, list[Cell]]] = []  # error, row, what is shown

    def add(self, block: Block) -> None:
        """Look at a block's rows."""
        true, predicted = self.standard(block.truth), self.standard(block.predicted)
        squared = (predicted - true) ** 2
        error = squared.mean(1)
        column = self._column[block.rows]
        known = column >= 0
        size = len(self.n)
        self.n += np.bincount(column[known], minlength=size)[:size]
        self.error += np.bincount(column[known], error[known], minlength=size)[:size]
        lowest = self.rows[-1][0] if len(self.rows) == WORST else -np.inf
        found = [i for i in np.argsort(-error, kind="stable")[:WORST] if error[i] > lowest]
        for i in found:
            target = int(squared[i].argmax())
            row = self._row(block, int(i), target, error, squared)
            self.rows.append((float(error[i]), int(block.rows[i]), row))
        self.rows = sorted(self.rows, key=lambda each: -each[0])[:WORST]

    def section(self) -> Section:
        """Tables of the worst targets and rows, and the error of every grid column."""
        scores = self.run.scores
        assert scores is not None  # Standard.of says so
        ids = self.run.store.sample_ids
        head = [
            "sample", "row", "timestep", "grid column", "fold", "mean squared error / variance",
            "its worst target", "that target's share", "true", "predicted",
        ]  # fmt: skip
        rows: list[list[Cell]] = [[str(ids[place]), *row] for _, place, row in self.rows]
        table = Table(head, rows, f"The {len(rows)} rows with the largest error")
        parts: list[str | Table | Figure] = [worst_targets(self.run, scores), table]
        parts.append(self._columns() if len(self.n) else "Left out: the grid columns are unknown.")
        return Section("worst", "Worst targets, rows and grid columns", parts)

    def _columns(self) -> Figure:
        with np.errstate(invalid="ignore"):
            mean = self.error / self.n
        order = [int(i) for i in np.argsort(-np.nan_to_num(mean), kind="stable") if self.n[i]]
        latitude = self.run.latitude
        known = latitude is not None and len(latitude) == len(self.n)
        place = latitude if known and latitude is not None else np.arange(len(self.n))
        what = "latitude, degrees north" if known else "grid column"
        rows: list[list[Cell]] = [
            [i, float(place[i]) if known else None, int(self.n[i]), float(mean[i])] for i in order
        ]
        marks = {
            "type": "scatter",
            "mode": "markers",
            "x": place[order],
            "y": mean[order],
            "text": [f"grid column {i}" for i in order],
            "marker": {"size": 5, "color": PALETTE[0]},
        }
        return Figure(
            title="Error of every grid column",
            reading="Each dot is a place on the globe; its height is the mean over rows and"
            " modelled targets of squared error over variance. Lower is better.",
            data=[marks],
            table=Table(["grid column", "latitude", "rows", "error over variance"], rows),
            layout={
                "xaxis": {"title": {"text": what}},
                "yaxis": {"title": {"text": "error / variance"}},
            },
        )

    def _row(
        self, block: Block, i: int, worst: int, error: np.ndarray, squared: np.ndarray
    ) -> list[Cell]:
        target = self.standard.targets[worst]
        row = int(block.rows[i])
        return [
            row,
            int(self._time[row]),
            int(self._column[row]),
            block.fold,
            float(error[i]),
            self.run.schema.target_columns[target],
            f"{squared[i, worst] / max(squared[i].sum(), 1e-300):.3f}",
            float(block.truth[i, target]),
            float(block.predicted[i, target]),
        ]
