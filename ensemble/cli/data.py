"""Commands that look at stores: ``climstack data explore`` and ``climstack data compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ensemble.cli import console, tables
from features.sources.grid import Grid
from features.store.store import Store


def explore(
    store: Annotated[Path, typer.Argument(metavar="STORE", show_default=False)],
    out: Annotated[Path, typer.Option(help="FILE.html")],
    test: Annotated[Path | None, typer.Option(help="Store to compare with, as test data.")] = None,
    grid: Annotated[Path | None, typer.Option(help="Grid file, if the store holds none.")] = None,
) -> None:
    """Write a page on what a store holds, from a sample of its rows.

    Example: climstack data explore stores/train --out train.html --test stores/test
    """
    from features.explore.exploration import explore_store
    from features.explore.page import write_exploration

    with console.progress() as report:
        found = explore_store(
            Store(store),
            None if test is None else Store(test),
            None if grid is None else Grid.read(grid),
            progress=report,
        )
    tables.show_findings(found.findings)
    console.out.print(f"{write_exploration(found, out)} written", soft_wrap=True)


def compare(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", show_default=False)],
    other: Annotated[
        Path,
        typer.Argument(metavar="OTHER", show_default=False, help="Store, or a source of TRAIN."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how far an auxiliary source or a test set lies from training data, and by which inputs.

    Example: climstack data compare stores/train stores/test
    """
    from models.diagnostics.adversarial import compare_stores

    ours = Store(train)
    is_source = str(other) in [source["file"] for source in ours.sources]
    with console.progress() as report:
        found = compare_stores(ours, str(other) if is_source else Store(other), progress=report)
    if as_json:
        typer.echo(json.dumps(found.to_table(), indent=2))
    else:
        tables.show_comparison(found)
