"""Data quality: what the training rows are, and each variable's range as a model meets it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ensemble.report.finished import Block, Finished
from features.core.types import Array
from features.pages.page import Cell, Section, Table
from features.schemas.schema import Variable
from features.sources.check import SMALLEST_FLOAT32, compress

ID, TITLE = "data", "Data"


class Quality:
    """Range, mean, zeros and float32 losses of every column."""

    def __init__(self, run: Finished) -> None:
        self.run = run
        self.rows = 0
        widths = [len(run.schema.input_columns), len(run.schema.target_columns)]
        self.low = [np.full(width, np.inf) for width in widths]
        self.high = [np.full(width, -np.inf) for width in widths]
        self.total, self.zeros, self.lost = ([np.zeros(w) for w in widths] for _ in range(3))

    def add(self, block: Block) -> None:
        """Look at a block's rows."""
        self.rows += len(block.rows)
        for i, values in enumerate((block.inputs, block.truth)):
            size = np.abs(values)
            np.minimum(self.low[i], values.min(0), out=self.low[i])
            np.maximum(self.high[i], values.max(0), out=self.high[i])
            self.total[i] += values.sum(0)
            self.zeros[i] += (size == 0).sum(0)
            self.lost[i] += ((size > 0) & (size < SMALLEST_FLOAT32)).sum(0)

    def section(self) -> Section:
        """Facts on the rows, what is odd about columns, and a table of variables."""
        store, plan = self.run.store, self.run.plan
        facts: list[list[Cell]] = [
            ["rows", len(store)],
            ["timesteps", len(np.unique(store.time))],
            ["grid columns", store.n_grid_columns],
            ["held out once", self.rows],
            ["of auxiliary sources, train only", int((~plan.main).sum())],
            ["folds", f"{plan.n_folds}, {plan.scheme}, embargo {plan.embargo}"],
            ["inputs", len(store.schema.input_columns)],
            ["targets", len(store.schema.target_columns)],
            ["targets that need a model", len(store.schema.modelled_targets)],
            ["schema", store.schema.name],
            ["sources", "; ".join(_source(source) for source in store.sources)],
            ["data hash", store.data_hash],
        ]
        names = [np.array(store.schema.input_columns), np.array(store.schema.target_columns)]
        sentences = []
        for i, what in enumerate(("inputs", "targets")):
            constant = names[i][self.low[i] == self.high[i]]
            if len(constant):
                sentences.append(f"{len(constant)} {what} are constant: {compress(constant)}.")
            lost = self.lost[i] > 0
            if lost.any():
                sentences.append(
                    f"float32 would lose {self.lost[i].sum():.0f} values in {lost.sum()} {what}:"
                    f" {compress(names[i][lost])}."
                )
        if not sentences:
            sentences = ["No column is constant, and float32 would lose no value."]
        variables = Table(
            ["variable", "role", "unit", "columns", "smallest", "mean", "largest", "zero, %",
             "lost in float32, %"],
            [self._variable(variable) for variable in store.schema.variables],
            "Every variable over all held-out rows and its levels",
        )  # fmt: skip
        return Section(ID, TITLE, [Table(["fact", "value"], facts), *sentences, variables])

    def _variable(self, variable: Variable) -> list[Cell]:
        i = 0 if variable.role == "input" else 1
        here = self.run.schema.slice_of(variable.name)

        def share(counts: Array) -> float:
            return 100.0 * float(counts[here].mean()) / max(self.rows, 1)

        role: Literal["input", "target"] = variable.role
        return [
            variable.name,
            role,
            variable.unit,
            variable.n_levels,
            float(self.low[i][here].min()),
            float(self.total[i][here].mean()) / max(self.rows, 1),
            float(self.high[i][here].max()),
            share(self.zeros[i]),
            share(self.lost[i]),
        ]


def _source(source: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in source.items())
