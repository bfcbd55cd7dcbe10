"""Sections on scores: the leaderboard, R2 by pressure, the blend's gain, error by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ensemble.evaluation.leaderboard import LEVEL, N_DRAWS, Row
from ensemble.report.finished import Finished, Scores, kind_of
from features.core.metrics import r2_from_sums
from features.core.types import Array
from features.pages.page import DASHES, PALETTE, Cell, Figure, Section, Table

NO_SCORES = (
    "Left out: the run has no stack/scores.parquet. 'climstack stack' on its experiment writes it."
)
WORST = 25


def leaderboard_section(run: Finished) -> Section:
    """All contenders, best honest score first, as a table and with their intervals."""
    rows, chosen = run.board, run.chosen
    groups = [variable.name for variable in run.schema.targets]
    names = [row["model"] for row in rows]
    lead = (
        f"The submission uses {chosen['model']}. Its honest score is {chosen['score']:.4f}"
        f" ({LEVEL:.0%} interval {chosen['ci_low']:.4f} to {chosen['ci_high']:.4f})."
        " Honest means that no row helped to choose the weights that scored it. The in-sample"
        " score, with weights learned from all rows, is optimistic and never stands alone."
    )
    board = Table(
        *_board(rows), f"Sort by a click on a column's head; intervals are those of {LEVEL:.0%}."
    )
    marks = {
        "type": "scatter",
        "mode": "markers",
        "x": [row["score"] for row in rows],
        "y": names,
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [row["ci_high"] - row["score"] for row in rows],
            "arrayminus": [row["score"] - row["ci_low"] for row in rows],
        },
        "marker": {
            "size": 10,
            "symbol": ["circle" if row["blend"] else "square" for row in rows],
            "color": [PALETTE[1] if row["chosen"] else PALETTE[0] for row in rows],
        },
        "showlegend": False,
    }
    forest = Figure(
        title="Honest scores with their intervals",
        reading="Further right is better. Squares are members, circles blends, orange is what the"
        f" submission uses; bars are the interval from drawing whole {run.blocks_of} anew.",
        data=[marks],
        table=Table(
            ["model", "honest", "low", "high"],
            [[row["model"], row["score"], row["ci_low"], row["ci_high"]] for row in rows],
        ),
        layout={"yaxis": {"autorange": "reversed"}, "xaxis": {"title": {"text": "score"}}},
        height=220 + 26 * len(rows),
        wide=False,
    )
    by_group = np.array([[row["score_per_group"][group] for group in groups] for row in rows])
    heat = Figure(
        title="Score by variable",
        reading="Mean R2 of each variable's targets; brighter is better, values below 0 have the"
        " colour of 0. Targets of weight 0 and those given by a rule count 1.",
        data=[{"type": "heatmap", "x": groups, "y": names, "z": by_group, "zmin": 0, "zmax": 1}],
        table=Table(
            ["model", *groups], [[n, *v] for n, v in zip(names, by_group.tolist(), strict=True)]
        ),
        layout={"yaxis": {"autorange": "reversed"}, "xaxis": {"tickangle": -45}},
        height=220 + 26 * len(rows),
        wide=False,
    )
    return Section("leaderboard", "Leaderboard", [lead, board, forest, heat])


def levels_section(run: Finished) -> Section:
    """R2 against pressure, a picture for each profile, a line for each member."""
    name, title = "levels", "R2 by pressure level"
    scores = run.scores
    if scores is None:
        return Section(name, title, [NO_SCORES])
    profiles = [variable for variable in run.schema.targets if variable.n_levels > 1]
    if not profiles:
        return Section(name, title, ["Left out: no target of this schema has levels."])
    lines = [*run.members]
    if run.chosen["model"] not in lines:
        lines.append(run.chosen["model"])
    scored = run.schema.weights > 0
    figures = []
    for variable in profiles:
        here = run.schema.slice_of(variable.name)
        r2 = np.array([np.where(scored, scores.r2(line), np.nan)[here] for line in lines])
        there = np.flatnonzero(np.isfinite(r2).any(0))
        if not len(there):
            continue
        data = [
            _line(place, line, np.clip(own, -0.2, None), line == run.chosen["model"])
            for place, (line, own) in enumerate(zip(lines, r2, strict=True))
        ]
        table = Table(
            ["level", "pressure, hPa", *lines],
            [[k, run.pressure(k), *r2[:, k].tolist()] for k in there.tolist()],
        )
        figures.append(
            Figure(
                title=variable.name,
                reading="Honest R2 from the top of the air (above) to the ground (below); further"
                " right is better. Levels of weight 0 are left out.",
                data=data,
                table=table,
                layout={
                    "yaxis": run.level_axis(int(there[0])),
                    "xaxis": {"title": {"text": "R2"}, "range": [-0.25, 1.05]},
                },
                height=460,
                wide=False,
            )
        )
    lead = (
        "The thick line is what the submission uses. R2 below -0.2 is drawn at -0.2; the tables"
        " have the values."
    ) + (" Levels stand at even steps, so pressures do not." if run.levels else "")
    return Section(name, title, [lead, *figures])


def gain_section(run: Finished) -> Section:
    """What blending gives over the best member, by variable, with block-bootstrap intervals."""
    name, title = "gain", "Gain of the blend"
    scores, blend = run.scores, run.best_blend
    if scores is None:
        return Section(name, title, [NO_SCORES])
    if blend is None:
        return Section(name, title, ["Left out: the run has one member, so nothing was blended."])
    draws = _drawn_r2(scores, blend["model"]) - _drawn_r2(scores, blend["best_member"])
    point = scores.r2(blend["model"]) - scores.r2(blend["best_member"])
    groups = {v.name: run.schema.slice_of(v.name) for v in run.schema.targets}
    rows: list[list[Cell]] = []
    for group, here in [("all targets", slice(None)), *groups.items()]:
        low, high = np.quantile(draws[:, here].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        rows.append([group, float(point[here].mean()), float(low), float(high)])
    x, low, high = np.array([row[1:] for row in rows], dtype=np.float64).T
    marks = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": [row[0] for row in rows],
        "error_x": {"type": "data", "symmetric": False, "array": high - x, "arrayminus": x - low},
        "marker": {"size": 9, "color": [PALETTE[1]] + [PALETTE[0]] * len(groups)},
    }
    figure = Figure(
        title=f"{blend['model']} against {blend['best_member']}",
        reading="Difference of honest mean R2; to the right of 0 the blend is better. A bar that"
        f" crosses 0 may be luck ({LEVEL:.0%} intervals, {N_DRAWS} draws of whole"
        f" {run.blocks_of}).",
        data=[marks],
        table=Table(["group", "gain", "low", "high"], rows),
        layout={
            "yaxis": {"autorange": "reversed"},
            "xaxis": {"title": {"text": "gain in mean R2"}, "zeroline": True, "zerolinewidth": 2},
        },
        height=120 + 26 * len(rows),
    )
    return Section(name, title, [figure])


def time_section(run: Finished) -> Section:
    """The error in each block that the folds are cut from, by model and by kind of target."""
    name, title = "time", "Error by block"
    scores = run.scores
    if scores is None:
        return Section(name, title, [NO_SCORES])
    modelled = run.graph.targets[scores.variance[run.graph.targets] > 0]
    if not len(modelled):
        return Section(name, title, ["Left out: no modelled target varies."])
    expected = scores.rows[:, None] * scores.variance[modelled]
    models = list(dict.fromkeys([run.chosen["model"], *run.members]))
    errors = {model: scores.of[model].squared_error[:, modelled] / expected for model in models}
    kinds = np.array(kind_of(run.schema))[modelled]
    chosen = errors[run.chosen["model"]]
    by_kind = {kind: chosen[:, kinds == kind].mean(1) for kind in dict.fromkeys(kinds.tolist())}
    by_model = {model: own.mean(1) for model, own in errors.items()}
    figures = [
        _by_block(
            "Every model",
            "Mean over the modelled targets of squared error over the truth's variance: 0 is"
            " perfect, 1 is as good as the mean. A block that is hard for all models is hard.",
            run,
            scores,
            by_model,
        ),
        _by_block(
            f"{run.chosen['model']} by kind of target",
            "The same for what the submission uses, each profile on its own.",
            run,
            scores,
            by_kind,
        ),
    ]
    lead = (
        f"{len(scores.rows)} {run.blocks_of}, {scores.rows.min():.0f} to {scores.rows.max():.0f}"
        " rows each, in order; a block that lies in two folds stands twice."
    )
    return Section(name, title, [lead, *figures])


def worst_targets(run: Finished, scores: Scores) -> Table:
    """The modelled targets with the lowest honest R2."""
    targets = run.graph.targets
    action = dict(zip(targets.tolist(), run.graph.action, strict=True))
    r2 = scores.r2(run.chosen["model"])
    in_sample = r2_from_sums(
        scores.of[run.chosen["model"]].in_sample.sum(0), scores.deviation.sum(0)
    )
    members = {name: scores.r2(name) for name in run.members}
    rows: list[list[Cell]] = []
    for target in targets[np.argsort(r2[targets], kind="stable")][:WORST]:
        best = max(members, key=lambda name: members[name][target])
        level = int(run.schema.target_levels[target])
        rows.append(
            [
                run.schema.target_columns[target],
                run.pressure(level),
                float(r2[target]),
                float(in_sample[target]),
                best,
                float(members[best][target]),
                action[int(target)],
                float(np.sqrt(scores.variance[target])),
            ]
        )
    head = [
        "target", "pressure, hPa", "honest R2", "in-sample R2", "best member", "its R2", "action",
        "standard deviation",
    ]  # fmt: skip
    return Table(head, rows, f"The {len(rows)} modelled targets with the lowest honest R2")


def _board(rows: Sequence[Row]) -> tuple[list[str], list[list[Cell]]]:
    """Head and rows of the leaderboard's table; older runs lack some figures."""
    n_folds = max(len(row["score_per_fold"]) for row in rows)
    head = [
        "model", "used", "honest", "interval", "in-sample", "gain on best member", "its interval",
        "gain on plain mean", *(f"fold {fold}" for fold in range(n_folds)), "targets on a constant",
        "targets of one member", "CPU s", "peak MB",
    ]  # fmt: skip
    table: list[list[Cell]] = []
    for row in rows:
        folds = [f"{score:.4f}" for score in row["score_per_fold"]]
        blend = row["blend"]
        table.append(
            [
                row["model"],
                bool(row["chosen"]),
                f"{row['score']:.4f}",
                _range(f"{row['ci_low']:.4f}", f"{row['ci_high']:.4f}"),
                f"{row['in_sample']:.4f}",
                _signed(row["gain"]) if blend else None,
                _range(_signed(row["gain_low"]), _signed(row["gain_high"])) if blend else None,
                _signed(row["mean_gain"]) if "mean_gain" in row else None,
                *folds,
                *[None] * (n_folds - len(folds)),
                row["targets_fallen_back"],
                row.get("targets_of_member"),
                f"{row['seconds']:.0f}",
                row.get("peak_memory_mb"),
            ]
        )
    return head, table


def _range(low: str, high: str) -> str:
    return f"{low} to {high}".replace(" ", "\N{NO-BREAK SPACE}")


def _signed(value: float) -> str:
    return f"{round(value, 4) + 0.0:+.4f}"  # + 0.0: no "-0.0000"


def _line(place: int, name: str, x: Array, strong: bool) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": np.arange(len(x)),
        "line": {
            "color": PALETTE[6] if strong else PALETTE[place % 6],
            "dash": "solid" if strong else DASHES[place // 6 % len(DASHES)],
            "width": 3 if strong else 1.5,
        },
    }


def _by_block(
    title: str, reading: str, run: Finished, scores: Scores, lines: dict[str, Array]
) -> Figure:
    x = np.arange(len(scores.block))
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": x,
            "y": values,
            "line": {"color": PALETTE[place % 8], "dash": DASHES[place // 8 % len(DASHES)]},
            "marker": {"size": 4},
        }
        for place, (name, values) in enumerate(lines.items())
    ]
    table = Table(
        ["place", "block", "fold", "rows", *lines],
        [
            [int(i), int(scores.block[i]), int(scores.fold[i]), int(scores.rows[i])]
            + [float(values[i]) for values in lines.values()]
            for i in x
        ],
    )
    layout = {
        "xaxis": {"title": {"text": f"{run.blocks_of}, in order"}},
        "yaxis": {"title": {"text": "error over variance"}, "rangemode": "tozero"},
    }
    return Figure(title=title, reading=reading, data=data, table=table, layout=layout, wide=False)


def _drawn_r2(scores: Scores, model: str) -> Array:
    """R2 of each target in each draw of blocks, (N_DRAWS, n_targets).

    Block bootstrap (Kuensch 1989, Annals of Statistics 17), as the leaderboard's intervals.
    """
    n_blocks = len(scores.rows)
    drawn = np.random.default_rng(0).integers(0, n_blocks, (N_DRAWS, n_blocks))
    times = np.stack([np.bincount(draw, minlength=n_blocks) for draw in drawn]).astype(np.float64)
    return r2_from_sums(times @ scores.of[model].squared_error, times @ scores.deviation)
