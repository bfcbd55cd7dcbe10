"""The page of ``climstack data explore``: an exploration as sections of tables and pictures."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from features.explore import figures
from features.explore.column_facts import FAR
from features.explore.exploration import Exploration
from features.pages.page import Part, Parts, Section, Table, write_page
from features.sources.findings import compress

N_DRIFTING = 40  # columns listed
N_HISTOGRAMS = 60  # drawn
DRIFT_TOP = 0.5  # distances beyond are as bright


def write_exploration(exploration: Exploration, out: str | Path) -> Path:
    """Write an exploration as one self-contained HTML page.

    Args:
        exploration: from :func:`features.explore.exploration.explore_store`.
        out: the HTML file; replaced when it is there.

    Example:
        >>> from features import explore_store
        >>> write_exploration(explore_store(store), "store.html").name
        'store.html'
    """
    e = exploration
    read = dict(e.facts)["read for this page"]
    lead = f"{e.path}: {dict(e.facts)['rows']} rows of schema {e.schema.name}. Read: {read}."
    if not e.everything:
        lead += " Every number below is of these rows, and what is rarer may be missed."
    sections = [
        Section("check", "Check", _check(e)),
        Section("profiles", "Profiles", _profiles(e)),
        Section("distributions", "Distributions and tails", _distributions(e)),
        Section("places", "Places", _places(e)),
        Section("time", "Time", _time(e)),
        Section("correlations", "Inputs against targets", _correlations(e)),
        Section("repeats", "Constant and repeated inputs", _repeats(e)),
        Section("float32", "What float32 would lose", _float32(e)),
        Section("outliers", "Outliers", _outliers(e)),
        Section("drift", "Drift between blocks of time", _blocks(e)),
        Section("test", "Training against test", _test(e)),
    ]
    told = [section for section in sections if section.parts]  # what a table can have
    return write_page(Path(out), f"What {e.path.name} holds", lead, told)


def _check(e: Exploration) -> Parts:
    prefix = f"{e.path}: "
    found = [(f.level, f.sentence.removeprefix(prefix)) for f in e.findings]
    first: Part = Table(("level", "finding"), found) if found else "Nothing to say."
    return [first, Table(("fact", "value"), e.facts)]


def _profiles(e: Exploration) -> Parts:
    return [
        figures.profile(variable, of, e.schema.n_grid_columns is not None)
        for variable in e.schema.variables
        if variable.n_levels > 1 and len(of := e.columns.filter(pl.col("group") == variable.name))
    ]


def _distributions(e: Exploration) -> Parts:
    parts: list[Part] = []
    is_profile = pl.col("group").is_in([v.name for v in e.schema.variables if v.n_levels > 1])
    for role in ("input", "target"):
        tail = e.tails.filter(is_profile & (pl.col("role") == role))
        if len(tail):
            parts.append(figures.tails(f"Profiles among the {role}s", tail))
    varying = e.columns.filter(pl.col("std") > 0)
    furthest = varying.group_by("group", maintain_order=True).agg(
        pl.col("role").first(),
        pl.col("far").sum().alias(f"values beyond {FAR:.0f} sd"),
        pl.col("reach").max().alias("furthest, sd"),
        pl.col("name").get(pl.col("reach").arg_max()).alias("in column"),
    )
    if len(furthest):
        parts.append(Table.of(furthest, "Tails of each variable: sd is a column's own"))
    if len(e.words):
        parts.append(Table.of(e.words, "Words of each category"))
    missing = e.columns.filter(pl.col("bad") > 0)
    if len(missing):
        share = (pl.col("bad") / pl.lit(e.n_read)).alias("share")
        parts.append(
            Table.of(
                missing.select("name", "role", missing=pl.col("bad"), share=share), "Missing values"
            )
        )
    of_scalars = dict(furthest.filter(~is_profile).select("group", "furthest, sd").iter_rows())
    drawn = sorted(of_scalars, key=lambda name: -of_scalars[name])[:N_HISTOGRAMS]
    if len(drawn) < len(of_scalars):
        parts.append(
            f"Drawn are the {N_HISTOGRAMS} of {len(of_scalars)} scalars with the furthest values."
        )
    for variable in (v for v in e.schema.variables if v.name in drawn):
        bins = e.histograms.filter(pl.col("group") == variable.name)
        if len(bins):
            parts.append(figures.histogram(variable, bins))
    return parts or ["No column varies."]


def _places(e: Exploration) -> Parts:
    if e.schema.n_grid_columns is None:
        return []
    if e.by_column is None:
        return ["The grid column of these rows is not known (a test file?): there is no map."]
    return [figures.map_by_column(e.by_column)]


def _time(e: Exploration) -> Parts:
    if e.by_time is None and e.schema.n_grid_columns is None:
        return []
    if e.by_time is None:
        return ["The time of these rows is not known (a test file?): there are no time series."]
    weighted = e.by_column is not None and "lat" in e.by_column.columns
    return [figures.series(e.by_time, weighted)]


def _correlations(e: Exploration) -> Parts:
    if e.correlations is None:
        return ["This store holds no targets."]
    figure = figures.heat_map(
        e.correlations.select("target_group", "input_group", "strength"),
        top=1.0,
        title="Rank correlation of target groups with input groups",
        reading="For each target its largest absolute rank correlation (Spearman) with an input of"
        " the group, averaged over the targets of the group. Rank correlation sees rising and"
        " falling together, not sums or products of inputs: a dark cell may still matter.",
        table=Table.of(e.correlations.sort("strength", descending=True)),
    )
    return [figure]


def _repeats(e: Exploration) -> Parts:
    constant = e.columns.filter((pl.col("role") == "input") & (pl.col("distinct") == 1))
    parts: list[Part] = []
    if len(constant):
        still = [
            (group, len(of), compress(of["name"]), of["mean"].min(), of["mean"].max())
            for (group,), of in constant.group_by("group", maintain_order=True)
        ]
        head = ("variable", "inputs", "names", "smallest value", "largest value")
        parts.append(Table(head, still, "Inputs with one value in all rows read"))
    for groups, caption in (
        (e.equal, "Inputs equal in every row read"),
        (e.almost, "Inputs of a rank correlation of at least .9999 (up or down)"),
    ):
        if groups:
            rows = [(group[0], len(group) - 1, compress(group[1:])) for group in groups]
            parts.append(Table(("input", "repeated by", "names"), rows, caption))
    return parts or ["No input is constant or repeats another one."]


def _float32(e: Exploration) -> Parts:
    lost = e.columns.filter(pl.col("lost") + pl.col("subnormal") > 0)
    if not len(lost):
        return ["float32 would keep every value read to about 7 digits."]
    of_nonzero = (pl.col("lost") / pl.col("nonzero")).alias("share lost")
    shown = ["name", "nonzero", "lost", "subnormal", of_nonzero, "smallest", "std"]
    return [
        "Values smaller than 1.2e-38 have fewer digits in float32 (subnormal), those below 7e-46"
        " become 0 (lost). The store keeps float64.",
        Table.of(lost.select(shown), "Columns with such values"),
    ]


def _outliers(e: Exploration) -> Parts:
    if not len(e.outliers):
        return [f"No value lies more than {FAR:.0f} standard deviations from its column's mean."]
    unknown = [] if e.by_time is not None else ["time"]
    unknown += [] if e.schema.n_grid_columns is not None else ["column"]
    names = {"apart": "sd from the mean", "far": "far values", "column": "grid column"}
    far, rows = (
        table.drop(unknown).rename(names, strict=False) for table in (e.outliers, e.outlying_rows)
    )
    parts: list[Part] = [
        Table.of(far, "The furthest values of each variable, with their rows in the store"),
        Table.of(rows, f"Rows with the most values beyond {FAR:.0f} standard deviations"),
    ]
    profiles = e.columns.filter(pl.col("level") >= 0)
    if not len(profiles):
        return parts
    by_level = figures.heat_map(
        profiles.select("level", "group", "reach"),
        top=100.0,
        title="Furthest value by level",
        reading="Largest distance from the column's mean in standard deviations, on each level of"
        " each profile; colours end at 100.",
    )
    return [by_level, *parts]


def _blocks(e: Exploration) -> Parts:
    if e.blocks is None and e.schema.n_grid_columns is None:
        return []
    if e.blocks is None or not len(e.blocks):
        return ["Time is unknown, or there is a single timestep: no blocks to compare."]
    by_group = (
        e.blocks.join(e.columns.select("name", "group"), on="name", maintain_order="left")
        .group_by("group", "block", maintain_order=True)
        .agg(pl.col("ks").mean())
    )
    distances = figures.heat_map(
        by_group.select(pl.format("block {}", "block"), "group", "ks"),
        top=DRIFT_TOP,
        title="Distance of each block of time from the others",
        reading="Kolmogorov-Smirnov distance (0 the same distribution, 1 no overlap) of the rows of"
        " a block against all others, averaged over levels; colours end at 0.5. Blocks are"
        " contiguous, as the default folds: a bright cell is a variable that a validation block"
        " does not share with its training rows.",
        table=Table.of(by_group),
    )
    worst = e.blocks.sort("ks", descending=True, nulls_last=True)
    worst = worst.unique("name", keep="first", maintain_order=True).head(N_DRIFTING)
    caption = "Columns that drift most, with the block where they do; shift: of the mean, in sd"
    return [distances, Table.of(worst, caption)]


def _test(e: Exploration) -> Parts:
    if e.test is None:
        return ["No test store was given: --test STORE compares one with this store."]
    test = e.test.join(
        e.columns.select("name", "role", "group", "level"), on="name", maintain_order="left"
    )
    if e.blocks is not None and len(e.blocks):
        usual = e.blocks.group_by("name").agg(pl.col("ks").max().alias("ks between blocks"))
        test = test.join(usual, on="name", how="left", maintain_order="left")
    lead = (
        f"Compared with {e.test_path}, input by input. 'ks between blocks' is the largest distance"
        " of a block of this store's own time from the others: what exceeds it is more than the"
        " weather's usual change. 'outside' is the share of test values beyond the range read here."
    )
    furthest = test.drop("role", "group", "level").sort("ks", descending=True, nulls_last=True)
    table = Table.of(furthest.head(N_DRIFTING), f"The {N_DRIFTING} inputs furthest apart")
    profiles = test.filter((pl.col("role") == "input") & (pl.col("level") >= 0))
    if not len(profiles):
        return [lead, table]
    by_level = figures.heat_map(
        profiles.select("level", "group", "ks"),
        top=DRIFT_TOP,
        title="Distance of the test set by level",
        reading="Kolmogorov-Smirnov distance of the test set's values from the training values: 0"
        " the same distribution, 1 no overlap; colours end at 0.5.",
    )
    return [lead, by_level, table]
