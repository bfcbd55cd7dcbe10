"""Data quality: what the training rows are, and each variable's range as a model meets it."""

from __future__ import annotations

import numpy as np
import polars as pl

from ensemble.evaluation.held_out import Block
from ensemble.report.finished import Finished
from features.pages.page import Parts, Table
from features.sources.findings import SMALLEST_FLOAT32, compress


class Quality:
    """Range, sum, zeros and float32 losses of every column, inputs first."""

    def __init__(self, run: Finished) -> None:
        self.run, schema = run, run.schema
        self.variables = (*schema.inputs, *schema.targets)
        self.names = np.array([name for variable in self.variables for name in variable.columns])
        self.rows, n = 0, len(self.names)
        self.low, self.high = np.full(n, np.inf), np.full(n, -np.inf)
        self.total, self.zeros, self.lost, self.missing = np.zeros((4, n))

    def add(self, block: Block) -> None:
        """Look at a block's rows."""
        values = np.concatenate([block.inputs, block.truth], axis=1)
        missing = np.isnan(values)
        size = np.abs(values)
        self.rows += len(values)
        self.missing += missing.sum(0)
        self.low = np.fmin(self.low, np.fmin.reduce(values, axis=0))
        self.high = np.fmax(self.high, np.fmax.reduce(values, axis=0))
        self.total += np.where(missing, 0.0, values).sum(0)
        self.zeros += (size == 0).sum(0)
        self.lost += ((size > 0) & (size < SMALLEST_FLOAT32)).sum(0)

    def parts(self) -> dict[str, Parts]:
        """Facts on the rows, what is odd about columns, and a table of variables."""
        store, plan = self.run.store, self.run.plan
        schema = store.schema
        sources = (", ".join(f"{k} {v}" for k, v in source.items()) for source in store.sources)
        n_inputs = len(schema.input_columns)
        facts: dict[str, object] = {
            "rows": len(store),
            **({"timesteps": len(np.unique(store.time))} if store.time.min() >= 0 else {}),
            **({} if schema.n_grid_columns is None else {"grid columns": store.n_grid_columns}),
            "held out once": self.rows,
            "of auxiliary sources, train only": int((~plan.main).sum()),
            "folds": f"{plan.n_folds}, {plan.scheme}, embargo {plan.embargo}",
            "inputs": n_inputs,
            "targets": len(schema.target_columns),
            "targets that need a model": len(schema.modelled_targets),
            "schema": schema.name,
            "sources": "; ".join(sources),
            "data hash": store.data_hash,
        }
        odd = []
        for what, here in (("inputs", slice(n_inputs)), ("targets", slice(n_inputs, None))):
            names, lost = self.names[here], self.lost[here]
            constant = names[self.low[here] == self.high[here]]
            if len(constant):
                odd.append(f"{len(constant)} {what} are constant: {compress(constant)}.")
            if lost.any():
                odd.append(
                    f"float32 would lose {lost.sum():.0f} values in {(lost > 0).sum()} {what}:"
                    f" {compress(names[lost > 0])}."
                )
        odd = odd or ["No column is constant, and float32 would lose no value."]
        return {"data": [Table(["fact", "value"], list(facts.items())), *odd, self._table()]}

    def _table(self) -> Table:
        widths = np.array([variable.n_levels for variable in self.variables])
        starts, values = np.cumsum(widths) - widths, widths * max(self.rows, 1)
        missing = np.add.reduceat(self.missing, starts)
        there = np.maximum(values - missing, 1)
        zero, lost = (100 * np.add.reduceat(n, starts) / there for n in (self.zeros, self.lost))
        columns = {
            "variable": [variable.name for variable in self.variables],
            "role": [variable.role for variable in self.variables],
            "unit": [variable.unit for variable in self.variables],
            "columns": widths,
            "smallest": np.minimum.reduceat(self.low, starts),
            "mean": np.add.reduceat(self.total, starts) / there,
            "largest": np.maximum.reduceat(self.high, starts),
            "zero, %": zero,
            "lost in float32, %": lost,
        }
        if missing.any():
            columns["missing, %"] = 100 * missing / values
        caption = "Every variable over all held-out rows and its levels"
        return Table.of(pl.DataFrame(columns), caption)
