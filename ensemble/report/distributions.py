"""Predicted against true, and residuals, counted on fixed bins in one pass over the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.evaluation.held_out import Block
from ensemble.report.finished import Finished, kind_of
from features.core.types import Array
from features.pages import plot
from features.pages.page import Figure, Parts, Table

TICKS = (-100, -10, -3, -1, 0, 1, 3, 10, 100)  # standard deviations
SMALL_TICKS = (-100, -10, -1, -0.1, 0, 0.1, 1, 10, 100)
QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)


@dataclass(frozen=True, kw_only=True)
class Standard:
    """Modelled targets that vary, and how they are standardised.

    Attributes:
        targets: indices, (n,).
        kind: what each is drawn with, length n.
        mean: of the truth, (n,).
        std: of the truth, (n,).
    """

    targets: NDArray[np.intp]
    kind: list[str]
    mean: Array
    std: Array

    @classmethod
    def of(cls, run: Finished) -> Standard | None:
        """The run's own; None when it keeps no scores, or when no target varies."""
        if run.scores is None:
            return None
        varies = run.scores.variance[run.blend.targets] > 0
        targets = run.blend.targets[varies]
        if not len(targets):
            return None
        kinds = kind_of(run.schema)
        std = np.sqrt(run.scores.variance[targets])
        kind, mean = [kinds[target] for target in targets], run.blend.mean[varies]
        return cls(targets=targets, kind=kind, mean=mean, std=std)

    def __call__(self, values: Array) -> Array:
        """Standardise (n_rows, n_targets of the schema): (n_rows, n)."""
        scaled: Array = (values[:, self.targets] - self.mean) / self.std
        return scaled


@dataclass(frozen=True)
class Bins:
    """Bins of equal width in asinh(scale * x): fine near 0, wide in the tails, none left out.

    Attributes:
        number: odd, so that 0 lies in the middle of a bin.
        scale: where bins turn from equal steps to equal ratios: at 1 / scale.
        reach: the ends, beyond which values count in the last bin.
    """

    number: int
    scale: float
    reach: float = 300.0

    @property
    def end(self) -> float:
        """The reach on the stretched axis."""
        return float(np.arcsinh(self.scale * self.reach))

    @property
    def stretched(self) -> Array:
        """Edges on the stretched axis, (number + 1,)."""
        return np.linspace(-self.end, self.end, self.number + 1)

    @property
    def edges(self) -> Array:
        """Edges in standard deviations, (number + 1,)."""
        return np.sinh(self.stretched) / self.scale

    @property
    def middles(self) -> Array:
        """Middles on the stretched axis, (number,)."""
        middle: Array = 0.5 * (self.stretched[1:] + self.stretched[:-1])
        return middle

    def place(self, values: Array) -> NDArray[np.intp]:
        """The bin of each value."""
        stretched = np.arcsinh(self.scale * values.astype(np.float32))
        place = ((stretched + self.end) * (self.number / (2 * self.end))).astype(np.intp)
        clipped: NDArray[np.intp] = np.clip(place, 0, self.number - 1)
        return clipped

    def axis(self, title: str, ticks: Sequence[float]) -> plot.Piece:
        """A plotly axis on the stretched scale that names values on the plain one."""
        return plot.stretched_axis(title, ticks, self.scale)


PLANE = Bins(61, 1.0)
LINE = Bins(121, 10.0)


class Distributions:
    """Counts of (true, predicted) and of residuals, by kind of target."""

    def __init__(self, standard: Standard) -> None:
        self.standard = standard
        self.kinds = list(dict.fromkeys(standard.kind))
        self._kind = np.array([self.kinds.index(kind) for kind in standard.kind])
        n = len(self.kinds)
        self.plane = np.zeros((n, PLANE.number, PLANE.number), dtype=np.int64)
        self.residual = np.zeros((n, LINE.number), dtype=np.int64)

    def add(self, block: Block) -> None:
        """Count a block's rows."""
        true, predicted = self.standard(block.truth), self.standard(block.outputs)
        there = np.isfinite(true)
        kind = self._kind
        if not there.all():  # a row that lacks a target's truth is not counted for it
            kind = np.broadcast_to(kind, true.shape)[there]
            true, predicted = true[there], predicted[there]
        row = (kind * PLANE.number + PLANE.place(true)) * PLANE.number
        _count(row + PLANE.place(predicted), self.plane)
        _count(kind * LINE.number + LINE.place(predicted - true), self.residual)

    def parts(self) -> dict[str, Parts]:
        """Predicted against true, and the residuals."""
        planes = [_plane(kind, counts) for kind, counts in zip(self.kinds, self.plane, strict=True)]
        lead = (
            "Every modelled target in its own standard deviations, by kind; all held-out rows, by"
            " models that never saw them. Axes are even near 0 and logarithmic further out."
        )
        return {"predicted": [lead, *planes], "residuals": [self._lines(), self._quantiles()]}

    def _lines(self) -> Figure:
        share = self.residual / np.maximum(self.residual.sum(1, keepdims=True), 1)
        share[share == 0] = np.nan
        data = [
            plot.trace("lines", LINE.middles, y, name=kind, line=plot.stroke(place))
            for place, (kind, y) in enumerate(zip(self.kinds, share, strict=True))
        ]
        used = np.flatnonzero(self.residual.any(0))
        columns = [LINE.edges[used], LINE.edges[used + 1], *self.residual[:, used]]
        x_axis = LINE.axis("predicted minus true, standard deviations", SMALL_TICKS)
        return Figure(
            title="Distribution of predicted minus true",
            reading="A tall, narrow peak at 0 is good; a heavy right side predicts too much. The"
            " vertical axis is logarithmic, so that rare, large misses can be seen.",
            data=data,
            table=Table.of_columns(["from", "to", *self.kinds], columns),
            layout=plot.axes(x_axis, plot.log_axis("share of values in the bin")),
        )

    def _quantiles(self) -> Table:
        rows = []
        for kind, counts in zip(self.kinds, self.residual, strict=True):
            cumulated = np.concatenate([[0.0], np.cumsum(counts) / max(counts.sum(), 1)])
            found = np.interp(QUANTILES, cumulated, LINE.edges).tolist()
            rows.append([kind, int(counts.sum()), *found])
        head = ["kind", "values", *(f"{q:.1%}" for q in QUANTILES)]
        return Table(head, rows, "Quantiles of predicted minus true, standard deviations, by bins")


def _count(place: NDArray[np.intp], counts: NDArray[np.int64]) -> None:
    """Add one to ``counts`` at each place of its flat order."""
    counts += np.bincount(place.ravel(), minlength=counts.size).reshape(counts.shape)


def _plane(kind: str, counts: NDArray[np.int64]) -> Figure:
    """``counts`` (true, predicted), each on the bins of PLANE."""
    with np.errstate(divide="ignore"):
        shade = np.where(counts > 0, np.log10(counts), np.nan)
    used = np.flatnonzero(counts.any(0) | counts.any(1))
    show = slice(max(used[0] - 1, 0), used[-1] + 2) if len(used) else slice(None)
    at, edges = PLANE.middles[show], PLANE.edges
    powers = range(int(np.log10(max(counts.max(), 1))) + 1)
    ticks = {"tickvals": list(powers), "ticktext": [f"{10**power:,}" for power in powers]}
    heat = plot.heat(at, at, shade[show, show], colorbar=plot.axis("values", **ticks))
    ends, orange = at[[0, -1]], {"color": plot.PALETTE[1], "width": 1.5}
    right = plot.trace("lines", ends, ends, line=orange, hoverinfo="skip", showlegend=False)
    rows = []
    for place in np.flatnonzero(counts.any(0)):
        true = counts[:, place]
        share = np.concatenate([[0.0], np.cumsum(true) / true.sum()])
        quantiles = np.interp([0.05, 0.5, 0.95], share, edges).tolist()
        rows.append([*edges[place : place + 2].tolist(), int(true.sum()), *quantiles])
    return Figure(
        title=kind,
        reading="On the orange line the prediction is right; above it the truth is larger."
        " Brighter means more values. The table sums each predicted bin up by quantiles of the"
        " truth.",
        data=[heat, right],
        table=Table(["predicted from", "to", "values", "true 5 %", "true 50 %", "true 95 %"], rows),
        layout=plot.axes(PLANE.axis("predicted", TICKS), PLANE.axis("true", TICKS)),
        height=400,
        wide=False,
    )
