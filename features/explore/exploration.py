"""What a store holds, from a sample of its rows: the numbers behind ``climstack data explore``.

A sample of at most 49,152 rows is looked at, whole timesteps spread over the store's time; of the
other rows only the checksums are compared. What is rarer than one row in some thousands may be
missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.types import Progress
from features.explore.column_facts import FAR, describe, words
from features.explore.drift import block_drift, cut_time, sample_drift
from features.explore.relations import copies, group_correlations, normal_ranks
from features.explore.sample import SAMPLE_ROWS, Sample, draw
from features.explore.sample_check import check_sample
from features.schemas.schema import Schema
from features.sources.findings import Finding, worst_first
from features.sources.grid import Grid
from features.store.odd.oddities import oddities, said_shared
from features.store.store import Label, Store

N_OUTLIERS = 3  # values named per variable, at most
N_OUTLYING_ROWS = 20
UPPER_LEVEL = 0.6  # a profile is mapped at the ground and at this share of its levels: 530 hPa


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """What was found in a store.

    Attributes:
        path: the store's folder.
        schema: of its columns.
        facts: name and value, for a table.
        findings: what is wrong or odd, errors first.
        n_read: rows read.
        everything: whether these are all.
        columns: one row per column: name, group, role, level, counts, moments, quantiles.
        tails: group, role, low, high, share: values by distance from the mean of their column, in
            standard deviations, over all levels of a variable.
        histograms: group, role, low, high, share: values of each scalar number.
        words: variable, word, rows, share: of each category.
        by_column: ``column``, with ``lat`` and ``lon`` where a grid is known, and the mean over
            time of each mapped name; None where columns are unknown.
        by_time: ``time`` and the mean over the grid of each mapped name; None where time is.
        correlations: see :func:`features.explore.relations.group_correlations`; None without
        targets.
        equal: groups of inputs that are equal in every row.
        almost: groups of inputs that almost are.
        outliers: the values furthest from their column's mean, with their rows.
        outlying_rows: rows with the most such values.
        blocks: see :func:`features.explore.drift.block_drift`; None where time is unknown.
        test: see :func:`features.explore.drift.sample_drift`; None without a test store.
        test_path: its folder.

    Example:
        >>> found = explore_store(store)
        >>> found.n_read, found.everything, found.columns["name"][0]
        (160, True, 'state_0')
    """

    path: Path
    schema: Schema
    facts: list[tuple[str, str]]
    findings: list[Finding]
    n_read: int
    everything: bool
    columns: pl.DataFrame
    tails: pl.DataFrame
    histograms: pl.DataFrame
    words: pl.DataFrame
    by_column: pl.DataFrame | None
    by_time: pl.DataFrame | None
    correlations: pl.DataFrame | None
    equal: list[list[str]]
    almost: list[list[str]]
    outliers: pl.DataFrame
    outlying_rows: pl.DataFrame
    blocks: pl.DataFrame | None
    test: pl.DataFrame | None
    test_path: Path | None


def explore_store(
    store: Store,
    test: Store | None = None,
    grid: Grid | None = None,
    *,
    n_rows: int = SAMPLE_ROWS,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Exploration:
    """Look at a sample of a store.

    Args:
        store: training or test data.
        test: another store of the same schema, to tell how far it lies from the first.
        grid: of the store's columns: maps are drawn by place, and global means weighted by area.
            None takes the store's own, if it has one.
        n_rows: rows read at most.
        seed: of the draw.
        progress: called with (what, done, total).

    Raises:
        ClimstackError: the stores' schemas differ, one is damaged, or the grid has another number
            of columns.

    Example:
        >>> found = explore_store(store)
        >>> found.columns.filter(pl.col("role") == "target")["name"].to_list()
        ['warmth_0', 'warmth_1', 'warmth_2', 'flux']
    """
    schema = store.schema
    if test is not None and (why := schema.differs(test.schema)) is not None:
        raise ClimstackError(
            f"{test.called} has another schema than {store.called}, {why}: compare stores of one"
            " schema"
        )
    grid = store.grid if grid is None else grid
    if grid is not None and len(grid) != store.n_grid_columns:
        raise ClimstackError(
            f"the grid has {len(grid)} columns, but {store.called} has {store.n_grid_columns} rows"
            " per timestep: give the grid of these data"
        )
    numbers, total = count(), 6 if test is None else 7

    def step() -> None:
        progress("explore", next(numbers), total)

    step()
    for each in (store, test):
        if each is not None:
            each.verify()
    sample = draw(store, n_rows, seed)
    step()
    columns, tails, histograms = describe(sample, schema)
    step()
    inputs, targets = np.split(normal_ranks(sample.values), [len(schema.input_columns)], axis=1)
    there = np.isfinite(sample.values)
    gaps = None if there.all() else there
    correlations = group_correlations(schema, inputs, targets, gaps) if targets.size else None
    equal, almost = copies(sample, inputs)
    del inputs, targets
    odd = [*oddities(store), *(said_shared(store, test) if test is not None else ())]
    findings = worst_first(
        [
            *check_sample(store, sample, columns, (equal, almost)),
            *(Finding("warning", sentence) for sentence in odd),
        ]
    )
    step()
    time_known, column_known = sample.time.min() >= 0, sample.column.min() >= 0
    by_column = _means(sample, schema, "column", grid) if column_known else None
    by_time = _means(sample, schema, "time", grid) if time_known else None
    step()
    outliers, outlying_rows = _outliers(sample, columns, store.sample_ids)
    step()
    blocks = block_drift(sample, cut_time(sample.time)) if time_known else None
    step()
    drift = None
    if test is not None:
        drift = sample_drift(sample, draw(test, n_rows, seed))
        step()
    return Exploration(
        path=store.called,
        schema=schema,
        facts=_facts(store, sample),
        findings=findings,
        n_read=len(sample),
        everything=sample.everything,
        columns=columns,
        tails=tails,
        histograms=histograms,
        words=words(sample, schema),
        by_column=by_column,
        by_time=by_time,
        correlations=correlations,
        equal=equal,
        almost=almost,
        outliers=outliers,
        outlying_rows=outlying_rows,
        blocks=blocks,
        test=drift,
        test_path=None if test is None else test.called,
    )


def mapped_columns(schema: Schema) -> dict[str, str]:
    """Columns that maps and time series show: column name -> what it is called there.

    Scalars, and of each profile its lowest level and one in the middle of the atmosphere.
    """
    shown = {}
    for variable in schema.variables:
        if variable.n_levels == 1:
            shown[variable.name] = variable.name
            continue
        for level in sorted({int(UPPER_LEVEL * variable.n_levels), variable.n_levels - 1}):
            shown[variable.columns[level]] = f"{variable.name}, level {level}"
    return shown


def _means(
    sample: Sample, schema: Schema, by: Literal["column", "time"], grid: Grid | None
) -> pl.DataFrame:
    """Mean of each mapped column at each place or timestep, by area in time; NaN where none is."""
    there, position = np.unique(getattr(sample, by), return_inverse=True)
    weights = np.ones(len(sample))
    means: dict[str, NDArray[Any]] = {by: there}
    if grid is not None and by == "column":
        means |= {"lat": grid.lat[there], "lon": grid.lon[there]}
    elif grid is not None:
        weights = grid.area[sample.column]
    places = {name: place for place, name in enumerate(sample.names)}
    for name, title in mapped_columns(schema).items():
        if name in places:
            values = sample.values[:, places[name]]
            known = np.isfinite(values)
            weight = np.where(known, weights, 0.0)
            total = np.bincount(position, weight * np.where(known, values, 0.0))
            with np.errstate(invalid="ignore"):
                means[title] = total / np.bincount(position, weight)
    return pl.DataFrame(means)


def _outliers(
    sample: Sample, columns: pl.DataFrame, ids: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The furthest values of each variable, and the rows with the most far ones."""
    far_per_row = np.zeros(len(sample), dtype=np.int64)
    found = []
    facts = zip(columns["group"], columns["mean"], columns["std"], strict=True)
    for place, (group, mean, std) in enumerate(facts):
        if not std > 0:
            continue
        apart = np.abs((sample.values[:, place] - mean) / std)
        apart[~np.isfinite(apart)] = 0.0
        far_per_row += apart > FAR
        top = np.argpartition(apart, -min(N_OUTLIERS, len(apart)))[-N_OUTLIERS:]
        found += [(group, float(apart[row]), int(row), place) for row in top if apart[row] > FAR]
    kinds = {"group": pl.String, "apart": pl.Float64, "row": pl.Int64, "place": pl.Int64}
    best = (
        pl.DataFrame(found, schema=kinds, orient="row")
        .sort("apart", "row", "place", descending=True)
        .unique(["group", "row"], keep="first", maintain_order=True)  # a row once per variable
        .filter(pl.int_range(pl.len()).over("group") < N_OUTLIERS)
    )
    rows, places = best["row"].to_numpy(), best["place"].to_numpy()
    outliers = _where(sample, rows, ids).with_columns(
        columns["name", "mean", "std"][places]
        .with_columns(value=pl.Series(sample.values[rows, places]), apart=best["apart"])
        .select("name", "value", "mean", "std", "apart")
    )
    worst = np.argsort(-far_per_row, kind="stable")[:N_OUTLYING_ROWS]
    worst = worst[far_per_row[worst] > 0]
    return outliers, _where(sample, worst, ids).with_columns(far=pl.Series(far_per_row[worst]))


def _where(sample: Sample, rows: NDArray[np.intp], ids: pl.Series) -> pl.DataFrame:
    there, time, column = sample.rows[rows], sample.time[rows], sample.column[rows]
    return pl.DataFrame(
        {"row": there, "sample_id": ids.gather(there), "time": time, "column": column}
    )


def _facts(store: Store, sample: Sample) -> list[tuple[str, str]]:
    n_times, n_columns = len(np.unique(sample.time)), len(np.unique(sample.column))
    repaired = [f"{sum(counts.values())} {what}" for what, counts in store.repaired.items()]
    width = len(sample.names)
    read = f"{len(sample)} rows"
    if sample.time.min() >= 0:
        of = "" if store.schema.n_grid_columns is None else f" of {n_columns} grid columns"
        read += f": {n_times} timesteps{of}"
    times = store.time
    known = times.min() >= 0
    about = []
    if known or store.schema.n_grid_columns is not None or store.schema.time_column is not None:
        about.append(("timesteps", f"{len(np.unique(times))}" if known else "unknown"))
    if store.schema.n_grid_columns is not None:
        about.append(("rows per timestep", f"{store.n_grid_columns}" if known else "unknown"))
    kinds: tuple[Label, ...] = ("place", "group", "fold")
    for what in kinds:
        if (labels := store.labels(what)) is not None:
            about.append((f"{what}s", f"{labels.n_unique()}"))
    return [
        ("store", str(store.called)),
        ("schema", store.schema.name),
        ("rows", f"{len(store)}"),
        *about,
        ("inputs", f"{len(store.schema.input_columns)}"),
        ("targets", f"{width - len(store.schema.input_columns)}"),
        ("size", f"{len(store) * width * 8 / 1e9:.2f} GB in {len(store.manifest['parts'])} parts"),
        ("sources", ", ".join(f"{each['file']} ({each['rows']} rows)" for each in store.sources)),
        ("values repaired in converting", ", ".join(repaired) or "none"),
        ("data hash", store.data_hash[:12]),
        ("read for this page", ("all " if sample.everything else "a sample of ") + read),
    ]
