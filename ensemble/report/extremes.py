"""Where the chosen blend is worst: targets, grid columns, single rows."""

from __future__ import annotations

import numpy as np

from ensemble.evaluation.held_out import Block
from ensemble.report.distributions import Standard
from ensemble.report.finished import Finished
from ensemble.report.scoring import worst_targets
from features.core.types import Array
from features.pages import plot
from features.pages.page import Figure, Part, Parts, Table

WORST = 25
ERROR = "mean squared error / variance"


class Extremes:
    """The rows with the largest errors, and the mean error of each grid column.

    A row's error is the mean over modelled targets of its squared standardised error.
    """

    def __init__(self, run: Finished, standard: Standard) -> None:
        self.run, self.standard = run, standard
        self._time, self._column = run.store.time, run.store.column
        n_columns = int(self._column.max()) + 1 if len(self._column) else 0
        self.n, self.error = np.zeros((2, n_columns))
        self.rows: list[tuple[float, dict[str, object]]] = []  # error, what is shown

    def add(self, block: Block) -> None:
        """Look at a block's rows."""
        true, predicted = self.standard(block.truth), self.standard(block.outputs)
        squared = (predicted - true) ** 2
        there = np.isfinite(squared)  # a target that a row lacks has no error there
        squared = np.where(there, squared, 0.0)
        error = squared.sum(1) / np.maximum(there.sum(1), 1)
        column = self._column[block.rows]
        known = column >= 0
        size = len(self.n)
        self.n += np.bincount(column[known], minlength=size)[:size]
        self.error += np.bincount(column[known], error[known], minlength=size)[:size]
        lowest = self.rows[-1][0] if len(self.rows) == WORST else -np.inf
        for i in np.argsort(-error, kind="stable")[:WORST].tolist():
            if error[i] > lowest:
                shown = self._row(block, i, squared[i]) | {ERROR: float(error[i])}
                self.rows.append((float(error[i]), shown))
        self.rows = sorted(self.rows, key=lambda each: -each[0])[:WORST]

    def _row(self, block: Block, i: int, squared: Array) -> dict[str, object]:
        """What is shown of the block's row ``i``; ``squared`` errors of the modelled targets."""
        worst = int(squared.argmax())
        target, row = self.standard.targets[worst], int(block.rows[i])
        place = {"timestep": int(self._time[row]), "grid column": int(self._column[row])}
        return {
            "sample": str(self.run.store.sample_ids[row]),
            "row": row,
            **{what: at for what, at in place.items() if at >= 0},
            "fold": block.fold,
            ERROR: 0.0,  # set by who calls: over the targets that the row has
            "its worst target": self.run.schema.target_columns[target],
            "that target's share": f"{squared[worst] / max(squared.sum(), 1e-300):.3f}",
            "true": float(block.truth[i, target]),
            "predicted": float(block.outputs[i, target]),
        }

    def parts(self) -> dict[str, Parts]:
        """Tables of the worst targets and rows, and the error of every grid column."""
        scores = self.run.scores
        assert scores is not None  # Standard.of says so
        rows = [row for _, row in self.rows]
        table = Table.of_rows(rows, f"The {len(rows)} rows with the largest error")
        found: list[Part] = [worst_targets(self.run, scores), table]
        if len(self.n):
            found.append(self._columns())
        elif self.run.schema.n_grid_columns is not None:
            found.append("Left out: the grid columns are unknown.")
        return {"worst": found}

    def _columns(self) -> Figure:
        with np.errstate(invalid="ignore"):
            mean = self.error / self.n
        order = np.argsort(-np.nan_to_num(mean), kind="stable")
        order = order[self.n[order] > 0]
        latitude, what = self.run.latitude, "latitude, degrees north"
        if latitude is None or len(latitude) != len(self.n):
            latitude, what = None, "grid column"
        x = order if latitude is None else latitude[order]
        y, names = mean[order], [f"grid column {i}" for i in order]
        look = {"size": 5, "color": plot.PALETTE[0]}
        head = ["grid column", "latitude", "rows", "error over variance"]
        places = [None] * len(order) if latitude is None else x
        return Figure(
            title="Error of every grid column",
            reading="Each dot is a place on the globe; its height is the mean over rows and"
            " modelled targets of squared error over variance. Lower is better.",
            data=[plot.trace("markers", x, y, text=names, marker=look)],
            table=Table.of_columns(head, [order, places, self.n[order], y]),
            layout=plot.axes(what, "error / variance"),
        )
