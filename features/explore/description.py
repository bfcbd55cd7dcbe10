"""A schema from the table itself: what its columns seem to be, for a person to read and correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import numpy as np

from features.core.errors import ClimstackError, closest
from features.explore.column_kinds import Seen, look_at
from features.schemas.known import load_schema
from features.schemas.schema import Schema
from features.schemas.variable import Variable
from features.sources.frames import as_files
from features.sources.ids import shown
from features.sources.readers import TableFile
from features.sources.tables.values import common_step

SETS = ("leap", "v2_rh_mc", "v1")  # largest first


@dataclass(frozen=True, kw_only=True)
class Description:
    """A schema that fits a table, and what was seen of it.

    Attributes:
        schema: what the columns seem to mean.
        n_rows: rows of the table.
        remarks: of each variable, by name, what was seen: range, missing share, words.
        notes: sentences on the schema as a whole.
    """

    schema: Schema
    n_rows: int
    remarks: dict[str, str]
    notes: list[str]

    def to_toml(self) -> str:
        """The text of a schema file, with what was seen as comments."""
        lines = [*(f"# {note}" for note in self.notes), *self.schema.to_toml().splitlines()]
        variables = iter(self.schema.inputs + self.schema.targets)
        for at, line in enumerate(lines):
            if line.startswith("  {"):
                lines[at] = f"{line}  # {self.remarks[next(variables).name]}"
        return "\n".join([*lines, ""])


def describe(
    table: Any,
    targets: Sequence[str],
    *,
    id: str | None = None,
    time: str | None = None,
    place: str | None = None,
    group: str | None = None,
    fold: str | None = None,
    ignore: Sequence[str] = (),
    name: str | None = None,
) -> Schema:
    """A schema of what the columns of a table seem to be; reads all rows in bounded memory.

    Args:
        table: a path, or what :func:`features.sources.frames.as_frame` takes.
        targets: names of the targets; ``*`` and ``?`` stand for others.
        id: column of the row ids.
        time: column of a row's time, dates or numbers.
        place: column that says where a row was taken.
        group: column of rows that belong together.
        fold: column of the fold that holds a row out.
        ignore: columns that are not read, likewise with ``*`` and ``?``.
        name: of the schema; None takes the file's.

    Raises:
        ClimstackError: no target, no such column, or a column that can't be an input.

    Example:
        >>> import polars as pl
        >>> table = pl.DataFrame({"t_0": [1.0, 2.5], "t_1": [2.0, 0.5], "site": ["a", "b"],
        ...     "power_1": [1.0, 2.0], "power_2": [3.0, None]})
        >>> found = describe(table, ["power_*"], name="wind")
        >>> [(v.name, v.n_levels, v.kind) for v in found.inputs]
        [('t', 2, 'number'), ('site', 1, 'category')]
        >>> [(v.name, v.policy, v.group) for v in found.targets]
        [('power_1', 'refuse', 'power'), ('power_2', 'skip', 'power')]
    """
    about = {"id": id, "time": time, "place": place, "group": group, "fold": fold}
    return look_over(table, targets, about=about, ignore=ignore, name=name).schema


def look_over(
    table: Any,
    targets: Sequence[str],
    *,
    about: dict[str, str | None] | None = None,
    ignore: Sequence[str] = (),
    name: str | None = None,
) -> Description:
    """The same with what was seen; ``about`` names the columns of ``id``, ``time`` and so on.

    Raises:
        ClimstackError: see :func:`describe`.
    """
    [source] = as_files([table], load_schema("leap"))
    file = source if isinstance(source, TableFile) else TableFile.open(source)
    if isinstance(targets, str):
        targets = [targets]
    wanted = _target_columns(file, targets)
    rows = {what: column for what, column in (about or {}).items() if column is not None}
    for column in rows.values():
        _need(file, column)
    if (known := _known_set(file)) is not None and set(wanted) == set(known.target_columns):
        note = f"these are the columns of the schema {known.name}: give --schema {known.name}"
        remarks = {v.name: "as ClimSim has it" for v in known.variables}
        return Description(schema=known, n_rows=0, remarks=remarks, notes=[note])
    left_out = [c for c in file.columns if any(fnmatchcase(c, each) for each in ignore)]
    skipped = {*left_out, *(c for what, c in rows.items() if what != "time")} - set(wanted)
    columns = [c for c in file.columns if c not in skipped]
    seen = look_at(file, columns, rows.get("time"), rows.get("place"))
    if not seen.n_rows:
        raise ClimstackError(f"{file.path} has a header but no rows: nothing to describe")
    return _described(file, seen, wanted, rows, ignore=ignore, name=name)


def _described(
    file: TableFile,
    seen: Seen,
    wanted: list[str],
    rows: dict[str, str],
    *,
    ignore: Sequence[str],
    name: str | None,
) -> Description:
    remarks: dict[str, str] = {}
    variables: list[Variable] = []
    is_target = set(wanted)
    inputs = [c for c in seen.columns if c not in is_target and c != rows.get("time")]
    if "time" in rows and rows["time"] not in is_target and not inputs:
        inputs = [rows["time"]]
    targets = [c for c in seen.columns if c in is_target]
    if not inputs:
        raise ClimstackError(f"{file.path} has no column left for an input: ignore fewer")
    groups = _groups([name for name, n in _profiles(targets) if n == 1])
    sides: tuple[tuple[Literal["input", "target"], list[str]], ...]
    sides = ("input", inputs), ("target", targets)
    for role, columns in sides:
        for variable, n_levels in _profiles(columns):
            own = [variable] if n_levels == 1 else [f"{variable}_{at}" for at in range(n_levels)]
            facts = [seen.columns[column] for column in own]
            kind, words = facts[0].kind(file.path, role)
            if n_levels > 1:
                kinds = {each.kind(file.path, role)[0] for each in facts}
                if kinds != {"number"}:
                    raise ClimstackError(
                        f"{file.path}: columns {own[0]} to {own[-1]} are a profile, but not all"
                        " numbers: rename or ignore them"
                    )
            misses = any(each.n_missing for each in facts)
            if role == "target" and any(each.n_missing == seen.n_rows for each in facts):
                raise ClimstackError(
                    f"{file.path}: target '{variable}' has no value in any row: leave it out of"
                    " --targets, and ignore it"
                )
            made: dict[str, Any] = {"kind": kind, "categories": words}
            if misses:
                made["policy"] = "impute" if role == "input" else "skip"
            made["static"] = role == "input" and all(each.is_static for each in facts)
            made["group"] = groups.get(variable) if role == "target" else None
            variables.append(Variable(name=variable, role=role, n_levels=n_levels, **made))
            remarks[variable] = _remark(facts, seen.n_rows, kind)
    time_step, notes = (
        None,
        [f"{file.path.name}: {seen.n_rows} rows; units are not known, so say them"],
    )
    if "time" in rows:
        time_step = common_step(seen.times)
        notes.append(f"time_step: the most common step between times of '{rows['time']}'")
    else:
        notes.append("independent: no time is named, so any row may validate any; if rows follow")
        notes.append("each other in time, name time_column and time_step in its place")
    schema = Schema(
        name=name or Path(file.path.name.partition(".")[0]).name,
        variables=tuple(variables),
        time_step=time_step,
        independent="time" not in rows,
        ignore=tuple(ignore),
        **{f"{what}_column": column for what, column in rows.items()},  # type: ignore[arg-type]
    )
    return Description(schema=schema, n_rows=seen.n_rows, remarks=remarks, notes=notes)


def _target_columns(file: TableFile, patterns: Sequence[str]) -> list[str]:
    if not patterns:
        last = file.columns[-1]
        raise ClimstackError(
            f"{file.path}: which columns are targets is not said: name them, as --targets"
            f" {shown(last)}, or several at once, as --targets 'y_*'"
        )
    for pattern in patterns:
        if not any(fnmatchcase(column, pattern) for column in file.columns):
            raise ClimstackError(
                f"{file.path} has no column '{pattern}' for a target:"
                f" {closest(pattern, file.columns)}"
            )
    return [c for c in file.columns if any(fnmatchcase(c, pattern) for pattern in patterns)]


def _need(file: TableFile, column: str) -> None:
    if column not in file.columns:
        raise ClimstackError(
            f"{file.path} has no column '{column}': {closest(column, file.columns)}"
        )


def _known_set(file: TableFile) -> Schema | None:
    there = set(file.columns)
    for schema in map(load_schema, SETS):
        if there >= {*schema.input_columns, *schema.target_columns}:
            return schema
    return None


def _profiles(columns: Sequence[str]) -> list[tuple[str, int]]:
    """Variables and how many levels each has: ``a_0 .. a_n``, all there, is one of n + 1."""
    there, found = set(columns), []
    taken: set[str] = set()
    for column in columns:
        if column in taken:
            continue
        stem, _, level = column.rpartition("_")
        n_levels = 0
        if stem and level.isdigit() and stem not in there:
            while f"{stem}_{n_levels}" in there:
                n_levels += 1
            named = sum(
                c.rpartition("_")[0] == stem and c.rpartition("_")[2].isdigit() for c in there
            )
            n_levels = n_levels if n_levels == named else 0
        if n_levels >= 2:
            taken |= {f"{stem}_{at}" for at in range(n_levels)}
            found.append((stem, n_levels))
        else:
            found.append((column, 1))
    return found


def _groups(names: Sequence[str]) -> dict[str, str]:
    """Of scalars, those that share what stands before a number at their end."""
    stems: dict[str, list[str]] = {}
    for name in names:
        stem = name.rstrip("0123456789")
        if stem != name:
            stems.setdefault(stem.rstrip("_- ."), []).append(name)
    alike = {stem: found for stem, found in stems.items() if stem and len(found) > 1}
    return {name: stem for stem, found in alike.items() for name in found}


def _remark(facts: Sequence[Any], n_rows: int, kind: str) -> str:
    low, high = (f(getattr(each, b) for each in facts) for f, b in ((min, "low"), (max, "high")))
    parts = []
    if kind == "date" and np.isfinite(low):
        days = (str(np.datetime64(int(at), "D")) for at in (low, high))
        parts.append(" to ".join(days))
    elif kind == "number" and np.isfinite(low):
        parts.append(f"{low:.6g} to {high:.6g}")
    missing = sum(each.n_missing for each in facts)
    if missing:
        parts.append(f"{missing / (n_rows * len(facts)):.2%} missing")
    if facts[0].is_static:
        parts.append("never changes at a place")
    return ", ".join(parts or ["nothing missing"])
