"""What the report says of scores: leaderboard, R2 by pressure, the blend's gain, error by block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from ensemble.evaluation.leaderboard import Row
from ensemble.evaluation.score_sums import CONFIDENCE, N_DRAWS, ScoreSums
from ensemble.report.finished import Finished, kind_of
from features.core.types import Array, Mask, Rows
from features.pages import plot
from features.pages.page import Figure, Part, Parts, Table
from features.scoring.metric import Metric

NO_SCORES = (
    "Left out: the run has no stack/scores.parquet. 'climstack stack' on its experiment writes it."
)
WORST = 25
MOST_DRAWN = 30  # groups whose gain is drawn
HONEST = (
    "Honest means that no row's truth is in the sums that its weights were solved from; the members"
    " of other folds have seen it."
)
SPEAKS_OF = {
    "forward_chaining": "periods after the training rows",
    "column_blocks": "other places, in the periods of the training rows",
    "regions": "other places, in the periods of the training rows",
    "random_rows": "rows among the training rows, which flatters",
    "groups": "groups that no model has seen",
    "kfold": "rows like the training rows",
    "stratified": "rows like the training rows",
    "column": "the folds that the data name",
    "file": "the folds of the file that [folds] names",
    "time_blocks": "periods between the training blocks, not of a later one: that takes a run with"
    " the scheme forward_chaining",
}
CHOSEN, OTHER = plot.PALETTE[1], plot.PALETTE[0]  # colours of points


def leaderboard(run: Finished) -> Parts:
    """All contenders, best honest score first, as a table and with their intervals."""
    rows, chosen = run.board, run.chosen
    names = [row["model"] for row in rows]
    lead = (
        f"The submission uses {chosen['model']}. Its honest score, {run.score_title}, is"
        f" {chosen['score']:.4f} ({CONFIDENCE:.0%} interval {chosen['ci_low']:.4f} to"
        f" {chosen['ci_high']:.4f})."
        f" {HONEST} The in-sample score, with weights learned from all rows, is optimistic and"
        f" never stands alone. Both speak of {SPEAKS_OF[run.plan.scheme]}."
    )
    caption = f"Sort by a click on a column's head; intervals are those of {CONFIDENCE:.0%}."
    metric = run.experiment.metric
    better = "right" if metric.greater_is_better else "left"
    n_folds = max(len(row["score_per_fold"]) for row in rows)
    board = Table.of_rows([_board(row, n_folds) for row in rows], caption)
    keys = ("model", "score", "ci_low", "ci_high")
    forest = _intervals(
        Table(["model", "honest", "low", "high"], [[row[key] for key in keys] for row in rows]),
        run.score_title,
        {
            "size": 10,
            "symbol": ["circle" if row["blend"] else "square" for row in rows],
            "color": [CHOSEN if row["chosen"] else OTHER for row in rows],
        },
        title="Honest scores with their intervals",
        reading=f"Further {better} is better. Squares are members, circles blends, orange is what"
        f" the submission uses; bars are the interval from drawing whole {run.blocks_of} anew.",
        height=220 + 26 * len(rows),
        wide=False,
    )
    groups = list(run.schema.targets_of_group)
    by_group = np.array(
        [[row["score_per_group"][group] for group in groups] for row in rows], dtype=np.float64
    )
    heat = Figure(
        title="Score by group of targets",
        reading=_of_variables(metric),
        data=[plot.heat(groups, names, _colours(metric, by_group), zmin=0, zmax=1)],
        table=Table.of_columns(["model", *groups], [names, *by_group.T]),
        layout=plot.axes(plot.SLANTED, plot.REVERSED),
        height=220 + 26 * len(rows),
        wide=False,
    )
    return [lead, board, forest, heat]


def _of_variables(metric: Metric) -> str:
    if metric.is_r2:
        return (
            "Mean R2 of each group's targets; brighter is better, values below 0 have the"
            " colour of 0. Targets given by a rule count 1."
        )
    return (
        "The score of each group's targets; brighter is better, each column from its worst to"
        " its best value. The table has the values."
    )


def _colours(metric: Metric, values: Array) -> Array:
    """What is drawn, 0 to 1: R2 as it is; else each variable from its worst to its best."""
    if metric.is_r2:
        return values
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    share: Array = (values - low) / np.where(high > low, high - low, 1.0)
    return share if metric.greater_is_better else 1 - share


def levels(run: Finished) -> Parts:
    """R2 against pressure, a picture for each profile, a line for each member."""
    scores, chosen = run.scores, run.chosen["model"]
    if scores is None:
        return [NO_SCORES]
    profiles = [variable for variable in run.schema.targets if variable.n_levels > 1]
    if not profiles:
        return []
    names = dict.fromkeys([*run.members, chosen])
    scored = run.schema.weights > 0
    r2 = {name: np.where(scored, scores.r2(name), np.nan) for name in names}
    lead = (
        "The thick line is what the submission uses. R2 below -0.2 is drawn at -0.2; the tables"
        " have the values."
    ) + (" Levels stand at even steps, so pressures do not." if run.levels else "")
    parts: list[Part] = [lead]
    for variable in profiles:
        here = run.schema.slice_of(variable.name)
        own = {name: values[here] for name, values in r2.items()}
        there = np.flatnonzero(np.isfinite(list(own.values())).any(0))
        if len(there):
            parts.append(_profile(run, variable.name, own, there))
    return parts


def _profile(run: Finished, title: str, r2: dict[str, Array], there: Rows) -> Figure:
    """``r2`` has a line for each model, ``there`` the levels at which one is known."""
    data = []
    for place, (name, values) in enumerate(r2.items()):
        look = plot.stroke(place, plot.PALETTE[:6], width=1.5)
        if name == run.chosen["model"]:
            look = {"color": plot.PALETTE[6], "dash": "solid", "width": 3}
        x = np.clip(values, -0.2, None)
        data.append(plot.trace("lines", x, np.arange(len(x)), name=name, line=look))
    known = [values[there] for values in r2.values()]
    pressures = [run.pressure(level) for level in there.tolist()]
    way = "the top of the air (above) to the ground (below)"
    if run.schema.n_grid_columns is None:
        way = "the first level (above) to the last (below)"
    told = {"level": there} | ({"pressure, hPa": pressures} if any(pressures) else {})
    return Figure(
        title=title,
        reading=f"Honest R2 from {way}; further right is better. Levels of weight 0 are left out.",
        data=data,
        table=Table.of_columns([*told, *r2], [*told.values(), *known]),
        layout=plot.axes(plot.axis("R2", range=[-0.25, 1.05]), run.level_axis(int(there[0]))),
        height=460,
        wide=False,
    )


def gain(run: Finished) -> Parts:
    """What blending gives over the best member, by variable, with block-bootstrap intervals."""
    scores, blend = run.scores, run.best_blend
    if scores is None:
        return [NO_SCORES]
    if blend is None:
        return ["Left out: the run has one member, so nothing was blended."]
    pair = blend["model"], blend["best_member"]
    groups = {"all targets": np.arange(len(scores.share))} | run.schema.targets_of_group
    counts = {k: at for k, at in groups.items() if scores.share[at].any()}
    rows = [(k, scores.gain(*pair, at), *scores.interval(*pair, at)) for k, at in counts.items()]
    found = Table(["group", "gain", "low", "high"], rows)
    furthest = sorted(rows[1:], key=lambda row: -abs(row[1]))[:MOST_DRAWN]
    drawn = [row for row in rows if row is rows[0] or row in furthest]
    some = ""
    if len(drawn) < len(rows):
        some = f" Of {len(rows) - 1} groups the {MOST_DRAWN} that differ most are drawn."
    figure = _intervals(
        Table(["group", "gain", "low", "high"], drawn),
        plot.axis(f"gain in {run.score_title}", zeroline=True, zerolinewidth=2),
        {"size": 9, "color": [CHOSEN] + [OTHER] * (len(drawn) - 1)},
        title=" against ".join(pair),
        reading="Difference of honest scores; to the right of 0 the blend is better. A bar that"
        f" crosses 0 may be luck ({CONFIDENCE:.0%} intervals, {N_DRAWS} draws of whole"
        f" {run.blocks_of}).{some}",
        height=120 + 26 * len(drawn),
    )
    return [replace(figure, table=found)]


def _intervals(table: Table, x: str | plot.Piece, marker: plot.Piece, **parts: Any) -> Figure:
    """Points with their intervals, one below the other; ``table``: name, value, low, high."""
    names, *numbers = zip(*table.rows, strict=True)
    value, low, high = np.array(numbers, dtype=np.float64)
    bars = {"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low}
    data = [plot.trace("markers", value, names, error_x=bars, marker=marker)]
    return Figure(data=data, table=table, layout=plot.axes(x, plot.REVERSED), **parts)


def time(run: Finished) -> Parts:
    """The error in each block that the folds are cut from, by model and by kind of target."""
    scores, chosen = run.scores, run.chosen["model"]
    if scores is None:
        return [NO_SCORES]
    modelled = run.blend.targets[scores.variance[run.blend.targets] > 0]
    if not len(modelled):
        return ["Left out: no modelled target varies."]
    expected = np.maximum(scores.rows[:, modelled], 1) * scores.variance[modelled]
    rows = scores.rows.max(1)
    models = dict.fromkeys([chosen, *run.members])
    errors = {model: scores.squared_error[model][:, modelled] / expected for model in models}
    kinds = np.array(kind_of(run.schema))[modelled]
    each = dict.fromkeys(kinds.tolist())
    has = scores.rows[:, modelled] > 0  # a block without a target's truth has no error of it
    by_kind = {kind: _mean(errors[chosen], has & (kinds == kind)) for kind in each}
    by_model = {model: _mean(own, has) for model, own in errors.items()}
    lead = (
        f"{len(rows)} {run.blocks_of}, {rows.min():.0f} to {rows.max():.0f}"
        " rows each, in order; a block that lies in two folds stands twice."
    )
    of_models = (
        "Mean over the modelled targets of squared error over the truth's variance: 0 is perfect,"
        " 1 is as good as the mean. A block that is hard for all models is hard."
    )
    of_kinds = "The same for what the submission uses, each kind of target on its own."
    return [
        lead,
        _by_block(run, scores, by_model, title="Every model", reading=of_models),
        _by_block(run, scores, by_kind, title=f"{chosen} by kind of target", reading=of_kinds),
    ]


def _mean(errors: Array, there: Mask) -> Array:
    """Mean over the targets that are there, (n_blocks,); NaN where none is."""
    n = there.sum(1)
    with np.errstate(invalid="ignore"):
        mean: Array = np.where(there, errors, 0.0).sum(1) / np.where(n > 0, n, np.nan)
    return mean


def _by_block(run: Finished, scores: ScoreSums, lines: dict[str, Array], **parts: Any) -> Figure:
    x = np.arange(len(scores.block))
    data = [
        plot.trace("lines+markers", x, y, name=name, line=plot.stroke(place), marker={"size": 4})
        for place, (name, y) in enumerate(lines.items())
    ]
    x_axis = f"{run.blocks_of}, in order"
    return Figure(
        data=data,
        table=Table.of_columns(
            ["place", "block", "fold", "rows", *lines],
            [x, scores.block, scores.fold, scores.rows.max(1), *lines.values()],
        ),
        layout=plot.axes(x_axis, plot.axis("error over variance", rangemode="tozero")),
        wide=False,
        **parts,
    )


def worst_targets(run: Finished, scores: ScoreSums) -> Table:
    """The modelled targets with the lowest honest R2."""
    targets, chosen, schema = run.blend.targets, run.chosen["model"], run.schema
    r2 = scores.r2(chosen)
    order = np.argsort(r2[targets], kind="stable")[:WORST]
    worst = targets[order]
    members = np.array([scores.r2(name)[worst] for name in run.members])
    columns = {
        "target": [schema.target_columns[target] for target in worst],
        "pressure, hPa": [run.pressure(int(schema.target_levels[target])) for target in worst],
        "honest R2": r2[worst],
        "in-sample R2": scores.in_sample_r2(chosen)[worst],
        "best member": [run.members[best] for best in members.argmax(0)],
        "its R2": members.max(0),
        "action": [run.blend.action[place] for place in order],
        "standard deviation": np.sqrt(scores.variance[worst]),
    }
    if all(each is None for each in columns["pressure, hPa"]):
        del columns["pressure, hPa"]
    caption = f"The {len(worst)} modelled targets with the lowest honest R2"
    return Table.of(pl.DataFrame(columns), caption)


def _board(row: Row, n_folds: int) -> dict[str, object]:
    """A row of the leaderboard's table; older runs lack some figures."""
    folds = [f"{score:.4f}" for score in row["score_per_fold"]]
    gain = gain_range = None
    if row["blend"]:
        gain = _signed(row["gain"])
        gain_range = _range(_signed(row["gain_low"]), _signed(row["gain_high"]))
    return {
        "model": row["model"],
        "used": bool(row["chosen"]),
        "honest": f"{row['score']:.4f}",
        "interval": _range(f"{row['ci_low']:.4f}", f"{row['ci_high']:.4f}"),
        "in-sample": f"{row['in_sample']:.4f}",
        "gain on best member": gain,
        "its interval": gain_range,
        "gain on plain mean": _signed(row["mean_gain"]) if "mean_gain" in row else None,
        **{f"fold {k}": folds[k] if k < len(folds) else None for k in range(n_folds)},
        "targets on a constant": row["targets_fallen_back"],
        "targets of one member": row.get("targets_of_member"),
        **({"targets served": row["targets_served"]} if "targets_served" in row else {}),
        "CPU s": f"{row['seconds']:.0f}",
        "peak MB": row.get("peak_memory_mb"),
    }


def _range(low: str, high: str) -> str:
    return f"{low} to {high}".replace(" ", "\N{NO-BREAK SPACE}")


def _signed(value: float) -> str:
    return f"{round(value, 4) + 0.0:+.4f}"  # + 0.0: no "-0.0000"
