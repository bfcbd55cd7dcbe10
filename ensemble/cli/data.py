"""Commands that look at data: ``climstack data describe``, ``explore`` and ``compare``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ensemble.cli import console, tables
from features.core.errors import ClimstackError
from features.core.files import write_text
from features.schemas.known import load_schema
from features.sources.grid import Grid
from features.store.conversion import as_store

if TYPE_CHECKING:
    from features.explore.description import Description

MOST_SHOWN = 30  # variables of a description
SchemaName = Annotated[str, typer.Option("--schema", help="Schema of what is no store.")]
Columns = Annotated[
    int | None, typer.Option("--grid-columns", help="Rows per timestep, if not the schema's.")
]


def describe(
    source: Annotated[Path, typer.Argument(metavar="TABLE", show_default=False)],
    out: Annotated[Path, typer.Option(help="FILE.toml")],
    targets: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A target; * stands for any letters.")
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", help="Column of the row ids.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of a row's time.")] = None,
    place: Annotated[str | None, typer.Option(help="Column of a row's place.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of rows that belong together.")] = None,
    fold: Annotated[str | None, typer.Option(help="Column of the fold of a row.")] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column that is not read.")
    ] = None,
) -> None:
    """Write a schema file of what the columns of a CSV or Parquet file seem to be.

    Example: climstack data describe wind.csv --targets 'power_*' --time date --out wind.toml
    """
    from features.explore.description import look_over

    if out.suffix != ".toml":
        raise ClimstackError(f"{out} ends in '{out.suffix}': give a .toml file")
    if out.exists():
        raise ClimstackError(f"{out} exists: give another name, or delete it first")
    about = {"id": id_, "time": time, "place": place, "group": group, "fold": fold}
    found = look_over(source, targets or (), about=about, ignore=ignore or (), name=out.stem)
    write_text(out, found.to_toml())
    _show(found)
    console.out.print(
        f"{out} written: read it, correct it, and give --schema {out}", soft_wrap=True
    )


def _show(found: Description) -> None:
    table = Table()
    for name in ("variable", "role", "kind", "columns", "found"):
        table.add_column(name, overflow="fold")
    for variable in found.schema.variables[:MOST_SHOWN]:
        cells = variable.name, variable.role, variable.kind, str(variable.n_levels)
        table.add_row(*map(escape, (*cells, found.remarks[variable.name])))
    console.out.print(table)
    if (more := len(found.schema.variables) - MOST_SHOWN) > 0:
        console.out.print(f"and {more} more")
    for note in found.notes:
        console.out.print(escape(note), soft_wrap=True)


def explore(
    source: Annotated[Path, typer.Argument(metavar="SRC", show_default=False)],
    out: Annotated[Path, typer.Option(help="FILE.html")],
    test: Annotated[Path | None, typer.Option(help="Test data to compare with.")] = None,
    grid: Annotated[Path | None, typer.Option(help="Grid file, if a store holds none.")] = None,
    schema: SchemaName = "leap",
    grid_columns: Columns = None,
) -> None:
    """Write a page on what a store, a table or a folder of NetCDF pairs holds, from a sample.

    What is no store is converted beside the page, and removed afterwards.

    Example: climstack data explore stores/train --out train.html --test stores/test
    """
    from features.explore.exploration import explore_store
    from features.explore.page import write_exploration

    with ExitStack() as stack:
        report = stack.enter_context(console.progress())
        known = load_schema(schema), grid_columns, out.parent
        stores = [stack.enter_context(as_store(path, *known)) for path in (source, test) if path]
        found = explore_store(
            stores[0],
            stores[1] if test is not None else None,
            None if grid is None else Grid.read(grid),
            progress=report,
        )
    tables.show_findings(found.findings)
    console.out.print(f"{write_exploration(found, out)} written", soft_wrap=True)


def compare(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", show_default=False)],
    other: Annotated[
        Path,
        typer.Argument(metavar="OTHER", show_default=False, help="Data, or a source of TRAIN."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    schema: SchemaName = "leap",
    grid_columns: Columns = None,
) -> None:
    """Say how far an auxiliary source or a test set lies from training data, and by which inputs.

    Example: climstack data compare stores/train stores/test
    """
    from models.diagnostics.adversarial import compare_stores

    with ExitStack() as stack:
        report = stack.enter_context(console.progress())
        known = load_schema(schema), grid_columns, Path()
        ours = stack.enter_context(as_store(train, *known))
        is_source = str(other) in [source["file"] for source in ours.sources]
        theirs = str(other) if is_source else stack.enter_context(as_store(other, *known))
        found = compare_stores(ours, theirs, progress=report)
    if as_json:
        typer.echo(json.dumps(found.to_table(), indent=2))
    else:
        tables.show_comparison(found)
