"""What the report says of how members were made: weights, learning curves, tuning, importances."""

from __future__ import annotations

from itertools import accumulate, groupby, pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ensemble.report.finished import SURFACE, Finished, kind_of
from features.core.errors import ClimstackError
from features.core.files import read_json
from features.core.sealed import read_sealed
from features.pages import plot
from features.pages.page import Figure, Parts, Table
from features.schemas.schema import Schema
from models.member import read_member
from models.oof import CellStore

Histories = list[tuple[int, list[dict[str, Any]]]]  # fold and epochs of each cell

TOP_INPUTS = 30
MOST_NAMES = 40  # of targets under a picture
AGAIN = "tune the model again, or delete the study's folder"
CURVES = {  # of a network's epochs: title, and how to read it
    "loss": (
        "training loss",
        "Falls while the network learns, and steps where training changes to its final loss.",
    ),
    "inner_r2": ("R2 on inner blocks", "Rises while it learns something that holds."),
}


def weights(run: Finished) -> Parts:
    """The weights of the blend that test rows get, target by target."""
    table = run.table(run.folder.weights)
    if table is None:
        return ["Left out: the run has no stack/weights.parquet."]
    wide = table.pivot("member", index=["target", "action"], values="weight", maintain_order=True)
    kind_of_target = dict(zip(run.schema.target_columns, kind_of(run.schema), strict=True))
    kinds = np.array([kind_of_target[target] for target in wide["target"]])
    level_of = dict(zip(run.schema.target_columns, run.schema.target_levels, strict=True))
    levels = np.array([level_of[target] for target in wide["target"]])
    scalars = SURFACE if run.schema.n_grid_columns is not None else "targets without levels"
    figures = [
        _weights(f"{run.chosen['model']}: {what}", wide.filter(here), kinds[here])
        for what, here in (("profiles", levels >= 0), (scalars, levels < 0))
        if here.any()
    ]
    counts = Table.of(wide["action"].value_counts(sort=True, name="targets"))
    lead = (
        "A target is given the blend; the best member, where the blend is honestly no better; or a"
        " safe constant, the mean or zero, where no member predicts it."
    )
    return [lead, counts, *figures]


def _weights(title: str, wide: pl.DataFrame, kinds: NDArray[np.str_]) -> Figure:
    """``wide`` holds target, action and a column of weights for each member."""
    members, targets, n = wide.columns[2:], wide["target"].to_list(), len(wide)
    weights = wide.select(members).to_numpy().T
    trusted = ~wide["action"].is_in(["mean", "zero"]).to_numpy()
    bound = float(max(np.abs(weights).max(), 1e-9))
    z, ends = np.where(trusted, weights, np.nan), {"zmin": -bound, "zmax": bound}
    text, hover = [targets] * len(members), "%{text}<br>%{y}: %{z:.3f}<extra></extra>"
    look = {"colorscale": plot.DIVERGING, "text": text, "hovertemplate": hover, **ends}
    starts = [i for i in range(n) if i == 0 or kinds[i] != kinds[i - 1]]
    step = -(-n // MOST_NAMES)
    at, names = list[float](range(0, n, step)), targets[::step]
    if len(starts) > 1 or n > MOST_NAMES:  # a name in the middle of each kind
        at = [(a + b - 1) / 2 for a, b in pairwise([*starts, n])]
        names = kinds[starts].tolist()
    lines = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": start - 0.5, "x1": start - 0.5,
         "y0": 0, "y1": 1, "line": {"width": 1, "color": "#57606a"}}
        for start in starts[1:]
    ]  # fmt: skip
    x_axis = {"tickvals": at, "ticktext": names, "showgrid": False, **plot.SLANTED}
    return Figure(
        title=title,
        reading="Blue adds, brown subtracts, white has no say. Targets run from left to right, by"
        " variable and level; gaps are targets that get a safe constant"
        " instead.",
        data=[plot.heat(np.arange(n), members, z, "weight", **look)],
        table=Table.of(wide),
        layout=plot.axes(x_axis, plot.REVERSED) | {"shapes": lines},
        height=200 + 34 * len(members),
    )


def learning(run: Finished) -> Parts:
    """Loss and inner score of every network, epoch by epoch."""
    figures: list[Figure] = []
    reasons, silent = list[str](), list[str]()
    for spec in run.experiment.models:
        try:
            member = read_member(run.data, spec, CellStore(run.folder.cells))
        except ClimstackError as error:
            reasons.append(f"{spec.name}: {error}.")
            continue
        histories = [
            (fold, read_json(file))
            for fold, cells in enumerate(member.cells)
            for cell in cells
            if (file := cell.path / "model" / "learning.json").is_file()
        ]
        if histories:
            figures += [figure for key in CURVES for figure in _curves(spec.name, key, histories)]
        else:
            silent.append(spec.name)
    if silent:
        reasons.append(f"No learning curve is kept of {', '.join(silent)}: only networks have one.")
    return [*reasons, *figures]


def _curves(model: str, key: str, histories: Histories) -> list[Figure]:
    """A line for each fold and phase, of what epochs call ``key``; none where none knows it."""
    what, reading = CURVES[key]
    data: list[plot.Piece] = []
    rows: list[tuple[Any, ...]] = []
    for fold, history in histories:
        known = [epoch for epoch in history if epoch[key] is not None]
        for phase, epochs in groupby(known, lambda epoch: epoch["phase"]):
            points = [(fold, phase, epoch["epoch"], epoch[key]) for epoch in epochs]
            *_, x, y = zip(*points, strict=True)
            name, dash = f"fold {fold}", "solid"
            if phase != "all":
                name, dash = f"{name}, {phase}", "dot"
            look = {"line": plot.stroke(fold % 8) | {"dash": dash}, "marker": {"size": 5}}
            data.append(plot.trace("lines+markers", x, y, name=name, **look))
            rows += points
    figure = Figure(
        title=f"{model}: {what}",
        reading=f"{reading} A line for each fold; dots are fine-tuning on a group of targets.",
        data=data,
        table=Table(["fold", "phase", "epoch", what], rows),
        layout=plot.axes("epoch", what),
        height=360,
        wide=False,
    )
    return [figure] if data else []


def tuning(run: Finished) -> Parts:
    """Every study of the run: its trials in order, and what the best one is worth."""
    files = sorted(run.path.glob("tuning/*/study.json"))
    parts = [part for file in files for part in _study(file.parent.name, read_sealed(file, AGAIN))]
    return parts or ["Left out: no model of this run was tuned here ('climstack tune' does it)."]


def _study(model: str, study: dict[str, Any]) -> Parts:
    trials, claim, unseen = study["trials"], study["claim"], study["unseen"]
    sentence = (
        f"{model}: {len(trials)} trials in {study['minutes']:.1f} minutes. The study claims"
        f" {claim['tuned'] - claim['defaults']:+.4f} over the defaults; on the fold that no trial"
        f" saw it is {unseen['tuned'] - unseen['defaults']:+.4f}, so the {study['adopted']} are"
        " kept."
    )
    names = sorted({name for trial in trials for name in trial["params"]})
    facts = ("place", "state", "value", "change", "seconds")
    complete = [trial for trial in trials if trial["state"] == "complete"]
    x, values = ([trial[key] for trial in complete] for key in ("place", "value"))
    best = list(accumulate(values, max))
    look = {"size": 8, "color": plot.PALETTE[0]}
    steps = {"shape": "hv", "color": plot.PALETTE[1]}
    history = Figure(
        title=f"{model}: value of each trial",
        reading="Higher is better; trial 0 has the default parameters. Trials that ended early are"
        " in the table only.",
        data=[
            plot.trace("markers", x, values, name="trial", marker=look),
            plot.trace("lines", x, best, name="best so far", line=steps),
        ],
        table=Table(
            ["trial", *facts[1:], *names],
            [[t[k] for k in facts] + [t["params"].get(name) for name in names] for t in trials],
        ),
        layout=plot.axes("trial", "mean R2"),
        height=340,
        wide=False,
    )
    if not study["importances"]:
        return [sentence, history]
    shares = sorted(study["importances"].items(), key=lambda item: item[1])
    parameters, share = zip(*shares, strict=True)
    mattered = Figure(
        title=f"{model}: what mattered",
        reading="Share of each parameter in the variance of the value over trials (fANOVA).",
        data=[plot.bars(share, parameters, orientation="h")],
        table=Table(["parameter", "share"], shares[::-1]),
        layout={"xaxis": plot.axis("share", rangemode="tozero")},
        height=340,
        wide=False,
    )
    return [sentence, history, mattered]


def importances(run: Finished) -> Parts:
    """Which inputs the trees split on, by variable and target group."""
    files = sorted(run.folder.importance("").parent.glob("*.parquet"))
    parts = [
        _importance(file.stem, table, run.schema)
        for file in files
        if (table := run.table(file)) is not None
    ]
    return parts or ["Left out: no member of this run has importances; trees have them."]


def _importance(model: str, table: pl.DataFrame, schema: Schema) -> Figure:
    shares = table.pivot("group", index="variable", values="share", aggregate_function="sum")
    shares = shares.fill_null(0.0)
    known = dict.fromkeys(schema.target_groups)
    groups = [name for name in known if name in shares.columns]
    groups += [name for name in shares.columns if name not in ("variable", *known)]
    shares = shares.select("variable", pl.mean_horizontal(groups).alias("mean"), *groups)
    shares = shares.sort("mean", "variable", descending=[True, False])
    top = shares.head(TOP_INPUTS)
    z = top.select(groups).to_numpy()
    return Figure(
        title=f"{model}: share of the gain by input variable",
        reading=f"Each column of the picture sums to 1 over all inputs; the {len(top)} variables"
        " with the largest mean share are drawn, levels taken together. The table has all.",
        data=[plot.heat(groups, top["variable"].to_list(), z, "share", zmin=0)],
        table=Table.of(shares),
        layout=plot.axes(plot.SLANTED, plot.REVERSED),
        height=180 + 20 * len(top),
    )
