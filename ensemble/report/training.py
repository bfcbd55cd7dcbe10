"""Sections on how the members were made: weights, learning curves, tuning, importances."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ensemble.report.finished import SURFACE, Finished, kind_of
from features.core.errors import ClimstackError
from features.core.files import read_json
from features.pages.page import DIVERGING, PALETTE, SEQUENTIAL, Cell, Figure, Section, Table
from features.schemas.schema import Schema
from models.member import read_member
from models.oof import CellStore

TOP_INPUTS = 30


def weights_section(run: Finished) -> Section:
    """The weights of the blend that test rows get, target by target."""
    name, title = "weights", "Weights by target"
    table = run.table("stack/weights.parquet")
    if table is None:
        return Section(name, title, ["Left out: the run has no stack/weights.parquet."])
    wide = table.pivot("member", index=["target", "action"], values="weight", maintain_order=True)
    kind_of_target = dict(zip(run.schema.target_columns, kind_of(run.schema), strict=True))
    kinds = np.array([kind_of_target[target] for target in wide["target"]])
    figures = [
        _weights(f"{run.chosen['model']}: {what}", wide.filter(here), kinds[here])
        for what, here in (("profiles", kinds != SURFACE), (SURFACE, kinds == SURFACE))
        if here.any()
    ]
    counts = Table.of(wide["action"].value_counts(sort=True, name="targets"))
    lead = (
        "A target is given the blend; the best member, where the blend is honestly no better; or a"
        " safe constant, the mean or zero, where no member predicts it."
    )
    if run.graph.correction is not None:
        lead += f" A second stage, {run.graph.correction.blender}, then corrects the weighted sum."
    return Section(name, title, [lead, counts, *figures])


def _weights(title: str, wide: pl.DataFrame, kinds: NDArray[np.str_]) -> Figure:
    """``wide`` holds target, action and a column of weights for each member."""
    members = wide.columns[2:]
    weights = wide.select(members).to_numpy().T
    trusted = ~wide["action"].is_in(["mean", "zero"]).to_numpy()
    bound = float(max(np.abs(weights).max(), 1e-9))
    n = len(wide)
    starts = [i for i in range(n) if i == 0 or kinds[i] != kinds[i - 1]]
    middles = [(a + b - 1) / 2 for a, b in zip(starts, [*starts[1:], n], strict=True)]
    scalars = bool((kinds == SURFACE).all())
    heat = {
        "type": "heatmap",
        "x": np.arange(n),
        "y": members,
        "z": np.where(trusted, weights, np.nan),
        "text": [wide["target"].to_list()] * len(members),
        "hovertemplate": "%{text}<br>%{y}: %{z:.3f}<extra></extra>",
        "zmin": -bound,
        "zmax": bound,
        "colorscale": DIVERGING,
        "colorbar": {"title": {"text": "weight"}},
    }
    lines = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": at - 0.5, "x1": at - 0.5, "y0": 0,
         "y1": 1, "line": {"width": 1, "color": "#57606a"}}
        for at in starts[1:]
    ]  # fmt: skip
    axis = {
        "tickvals": np.arange(n) if scalars else middles,
        "ticktext": wide["target"].to_list() if scalars else [str(kinds[i]) for i in starts],
        "tickangle": -45,
        "showgrid": False,
    }
    return Figure(
        title=title,
        reading="Blue adds, brown subtracts, white has no say. Targets run from left to right, by"
        " variable and from the top of the air down; gaps are targets that get a safe constant"
        " instead.",
        data=[heat],
        table=Table.of(wide),
        layout={"xaxis": axis, "yaxis": {"autorange": "reversed"}, "shapes": lines},
        height=200 + 34 * len(members),
    )


def learning_section(run: Finished) -> Section:
    """Loss and inner score of every network, epoch by epoch."""
    name, title = "learning", "Learning curves"
    figures: list[Figure] = []
    reasons: list[str] = []
    silent: list[str] = []
    for spec in run.experiment.models:
        try:
            member = read_member(
                run.store, run.plan, spec, CellStore(run.path / "cells"), run.graph.targets
            )
        except ClimstackError as error:
            reasons.append(f"{spec.name}: {error}.")
            continue
        curves = [
            (fold, read_json(cell.path / "model" / "learning.json"))
            for fold, cells in enumerate(member.cells)
            for cell in cells
            if (cell.path / "model" / "learning.json").is_file()
        ]
        if curves:
            figures += _curves(spec.name, curves)
        else:
            silent.append(spec.name)
    if silent:
        reasons.append(f"No learning curve is kept of {', '.join(silent)}: only networks have one.")
    return Section(name, title, [*reasons, *figures])


def tuning_section(run: Finished) -> Section:
    """Every study of the run: its trials in order, and what the best one is worth."""
    name, title = "tuning", "Tuning"
    parts: list[str | Table | Figure] = []
    for file in sorted(run.path.glob("tuning/*/study.json")):
        parts += _study(file.parent.name, read_json(file))
    if not parts:
        parts = ["Left out: no model of this run was tuned here ('climstack tune' does it)."]
    return Section(name, title, parts)


def importance_section(run: Finished) -> Section:
    """Which inputs the trees split on, by variable and target group."""
    name, title = "importance", "Importances"
    parts: list[str | Table | Figure] = []
    for file in sorted(run.path.glob("importance/*.parquet")):
        parts.append(_importance(file.stem, pl.read_parquet(file), run.schema))
    if not parts:
        parts = ["Left out: no member of this run has importances; trees have them."]
    return Section(name, title, parts)


def _curves(model: str, curves: list[tuple[int, list[dict[str, Any]]]]) -> list[Figure]:
    figures = []
    for value, what, reading in (
        (
            "loss",
            "training loss",
            "Falls while the network learns, and steps where training changes to its final loss.",
        ),
        ("inner_r2", "R2 on inner blocks", "Rises while it learns something that holds."),
    ):
        data, rows = [], []
        for fold, history in curves:
            for phase in dict.fromkeys(epoch["phase"] for epoch in history):
                own = [e for e in history if e["phase"] == phase and e[value] is not None]
                if not own:
                    continue
                data.append(
                    {
                        "type": "scatter",
                        "mode": "lines+markers",
                        "name": f"fold {fold}" + ("" if phase == "all" else f", {phase}"),
                        "x": [epoch["epoch"] for epoch in own],
                        "y": [epoch[value] for epoch in own],
                        "line": {
                            "color": PALETTE[fold % 8],
                            "dash": "solid" if phase == "all" else "dot",
                        },
                        "marker": {"size": 5},
                    }
                )
                rows += [[fold, phase, epoch["epoch"], epoch[value]] for epoch in own]
        if data:
            layout = {"xaxis": {"title": {"text": "epoch"}}, "yaxis": {"title": {"text": what}}}
            figures.append(
                Figure(
                    title=f"{model}: {what}",
                    reading=f"{reading} A line for each fold; dots are fine-tuning on a group of"
                    " targets.",
                    data=data,
                    table=Table(["fold", "phase", "epoch", what], rows),
                    layout=layout,
                    height=360,
                    wide=False,
                )
            )
    return figures


def _study(model: str, study: dict[str, Any]) -> list[str | Table | Figure]:
    trials = study["trials"]
    complete = [trial for trial in trials if trial["state"] == "complete"]
    claim, unseen = study["claim"], study["unseen"]
    sentence = (
        f"{model}: {len(trials)} trials in {study['minutes']:.1f} minutes. The study claims"
        f" {claim['tuned'] - claim['defaults']:+.4f} over the defaults; on the fold that no trial"
        f" saw it is {unseen['tuned'] - unseen['defaults']:+.4f}, so the {study['kept']} are kept."
    )
    names = sorted({name for trial in trials for name in trial["params"]})
    rows: list[list[Cell]] = [
        [t["place"], t["state"], t["value"], t["change"], t["seconds"]]
        + [t["params"].get(name) for name in names]
        for t in trials
    ]
    x = [trial["place"] for trial in complete]
    values = [trial["value"] for trial in complete]
    best = np.maximum.accumulate(values) if values else np.array([])
    data: list[dict[str, Any]] = [
        {"type": "scatter", "mode": "markers", "name": "trial", "x": x, "y": values,
         "marker": {"size": 8, "color": PALETTE[0]}},
        {"type": "scatter", "mode": "lines", "name": "best so far", "x": x, "y": best,
         "line": {"shape": "hv", "color": PALETTE[1]}},
    ]  # fmt: skip
    history = Figure(
        title=f"{model}: value of each trial",
        reading="Higher is better; trial 0 has the default parameters. Trials that ended early are"
        " in the table only.",
        data=data,
        table=Table(["trial", "state", "value", "change", "seconds", *names], rows),
        layout={"xaxis": {"title": {"text": "trial"}}, "yaxis": {"title": {"text": "mean R2"}}},
        height=340,
        wide=False,
    )
    parts: list[str | Table | Figure] = [sentence, history]
    if study["importances"]:
        shares = sorted(study["importances"].items(), key=lambda item: item[1])
        bars = {
            "type": "bar",
            "orientation": "h",
            "x": [share for _, share in shares],
            "y": [name for name, _ in shares],
            "marker": {"color": PALETTE[0]},
        }
        parts.append(
            Figure(
                title=f"{model}: what mattered",
                reading="Share of each parameter in the variance of the value over trials"
                " (fANOVA).",
                data=[bars],
                table=Table(["parameter", "share"], [[n, s] for n, s in reversed(shares)]),
                layout={"xaxis": {"title": {"text": "share"}, "rangemode": "tozero"}},
                height=340,
                wide=False,
            )
        )
    return parts


def _importance(model: str, table: pl.DataFrame, schema: Schema) -> Figure:
    shares = (
        table.group_by("variable", "group")
        .agg(pl.col("share").sum())
        .pivot("group", index="variable", values="share")
        .fill_null(0.0)
    )
    groups = [variable.name for variable in schema.targets if variable.name in shares.columns]
    shares = shares.with_columns(mean=pl.mean_horizontal(groups)).sort(
        "mean", "variable", descending=[True, False]
    )
    top = shares.head(TOP_INPUTS)
    heat = {
        "type": "heatmap",
        "x": groups,
        "y": top["variable"].to_list(),
        "z": top.select(groups).to_numpy(),
        "zmin": 0,
        "colorscale": SEQUENTIAL,
        "colorbar": {"title": {"text": "share"}},
    }
    return Figure(
        title=f"{model}: share of the gain by input variable",
        reading=f"Each column of the picture sums to 1 over all inputs; the {len(top)} variables"
        " with the largest mean share are drawn, levels taken together. The table has all.",
        data=[heat],
        table=Table.of(shares.select("variable", "mean", *groups)),
        layout={"yaxis": {"autorange": "reversed"}, "xaxis": {"tickangle": -45}},
        height=180 + 20 * len(top),
    )
