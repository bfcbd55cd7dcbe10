"""Self-contained HTML pages: sections of sentences, tables and figures, each figure with its table.

A page is one file without links to others: styles, script and one copy of plotly.js (MIT licence)
stand in it. Figures are plain dictionaries in plotly's JSON form (``data`` and ``layout``); the
script beside this module draws them when they come near the screen, and all of them before
printing. Without JavaScript the sentences and tables can still be read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.core.files import write_text
from features.pages.plot import PALETTE, SEQUENTIAL

DIGITS = 5  # significant digits of the numbers in figures
DASH = "\N{EN DASH}"  # where there is no number


@dataclass(frozen=True)
class Table:
    """A table that a click on a column's head sorts.

    Attributes:
        columns: names, length n_columns.
        rows: cells, length n_columns each; numbers are shown with 4 significant digits, None and
            NaN as a dash, other things as text.
        caption: what it holds; none when empty.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table has {len(self.columns)} columns, but a row is {row}")

    @classmethod
    def of(cls, frame: pl.DataFrame, caption: str = "") -> Table:
        """The rows and columns of a data frame."""
        return cls(frame.columns, frame.rows(), caption)

    @classmethod
    def of_columns(cls, names: Sequence[str], columns: Sequence[Any]) -> Table:
        """Columns of equal length: arrays or lists."""
        plain = [each.tolist() if isinstance(each, np.ndarray) else each for each in columns]
        return cls(names, list(zip(*plain, strict=True)))

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, object]], caption: str = "") -> Table:
        """Rows of the same cells by column."""
        return cls(list(rows[0]) if rows else [], [list(row.values()) for row in rows], caption)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture with the sentence that says how to read it and the numbers it shows.

    Attributes:
        title: what is shown.
        reading: how to read it.
        data: plotly traces; arrays may be NumPy's, NaN and infinities leave a gap.
        layout: plotly layout; fonts, margins and colours have defaults.
        table: the numbers, folded away under the picture.
        height: px.
        wide: takes the page's whole width; two narrow figures stand side by side on a wide screen.
    """

    title: str
    reading: str
    data: Sequence[Mapping[str, Any]]
    table: Table
    layout: Mapping[str, Any] = field(default_factory=dict)
    height: int = 420
    wide: bool = True


Part = str | Table | Figure
Parts = Sequence[Part]


@dataclass(frozen=True)
class Section:
    """A heading that the contents list, and what stands under it.

    Attributes:
        id: anchor: lower-case letters, digits and hyphens.
        title: heading.
        parts: sentences, tables and figures in order.
    """

    id: str
    title: str
    parts: Parts

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.id):
            raise ValueError(f"an id needs lower-case letters and hyphens, got '{self.id}'")


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> Path:
    """Write a page.

    Args:
        path: the HTML file; replaced only when the new one is whole.
        title: of the page.
        lead: sentence under the title.
        sections: in order.

    Raises:
        ValueError: two sections share an id.
    """
    ids = [section.id for section in sections]
    if len(set(ids)) != len(ids):
        raise ValueError(f"two sections share an id: {ids}")
    figures: list[dict[str, Any]] = []
    body = "\n".join(_section(section, figures) for section in sections)
    links = "".join(f'<li><a href="#{s.id}">{escape(s.title)}</a></li>' for s in sections)
    folder = resources.files("features.pages")
    style, script = (folder.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    look = {"palette": PALETTE, "scale": SEQUENTIAL, "figures": figures}
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header><h1>{escape(title)}</h1><p>{escape(lead)}</p></header>
<noscript><p>Pictures need JavaScript. The tables under them hold the same numbers.</p></noscript>
<nav aria-label="Contents"><ul>{links}</ul></nav>
<main>
{body}
</main>
<script type="application/json" id="page-data">{safe_json(look)}</script>
<script>{_plotly()}</script>
<script>
{script}</script>
</body>
</html>
"""
    write_text(path, page)
    return path


def safe_json(value: Any) -> str:
    r"""JSON for a script element: NumPy's arrays as lists, NaN and infinities as null.

    >>> print(safe_json({"x": np.array([1.0, np.nan]), "name": "</script>"}))
    {"x":[1.0,null],"name":"\u003c/script\u003e"}
    """
    text = json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def number(value: float) -> str:
    """A number for people; a dash where there is none.

    >>> number(0.123456), number(1234567.0), number(-2.9e-58), number(float("nan")) == DASH
    ('0.1235', '1234567', '-2.9e-58', True)
    """
    if not math.isfinite(value):
        return DASH
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.4g}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, str | int | None):
        return value
    raise TypeError(f"a figure can't hold a {type(value).__name__}: {value!r}")


def _section(section: Section, figures: list[dict[str, Any]]) -> str:
    parts = "\n".join(_part(part, figures) for part in section.parts)
    return (
        f'<section id="{section.id}"><h2>{escape(section.title)}</h2>\n'
        f'<div class="parts">\n{parts}\n</div></section>'
    )


def _part(part: Part, figures: list[dict[str, Any]]) -> str:
    if isinstance(part, str):
        return f"<p>{escape(part)}</p>"
    if isinstance(part, Table):
        return _table(part)
    place = len(figures)
    figures.append({"data": part.data, "layout": part.layout})
    return (
        f'<figure class="{"wide" if part.wide else "half"}"><h3>{escape(part.title)}</h3>'
        f"<p>{escape(part.reading)}</p>"
        f'<div class="plot" id="plot-{place}" data-figure="{place}" role="img"'
        f' aria-label="{escape(part.title)}" style="height:{part.height}px"></div>'
        f"<details><summary>Numbers</summary>{_table(part.table)}</details></figure>"
    )


def _table(table: Table) -> str:
    numeric = [
        all(_is_number(row[column]) for row in table.rows) for column in range(len(table.columns))
    ]
    mark = [' class="n"' if each else "" for each in numeric]
    head = "".join(
        f'<th scope="col"{m}><button type="button">{escape(name)}</button></th>'
        for name, m in zip(table.columns, mark, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(f"<td{m}>{_cell(v)}</td>" for v, m in zip(row, mark, strict=True))
        + "</tr>"
        for row in table.rows
    )
    caption = f'<p class="caption">{escape(table.caption)}</p>' if table.caption else ""
    label = escape(table.caption or "Table")
    return (
        f'<div>{caption}<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div></div>"
    )


def _cell(value: object) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | float | np.number):
        return number(float(value)) if not isinstance(value, int) else str(value)
    return escape(str(value))


def _is_number(value: object) -> bool:
    if not isinstance(value, str):
        return not isinstance(value, bool | np.bool_)
    try:
        float(value or 0)
    except ValueError:
        return value == DASH
    return True


def _plotly() -> str:
    """The bundled plotly.min.js, read without importing the package (which takes a second)."""
    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("pages need the package plotly: pip install plotly")
    folder = Path(spec.submodule_search_locations[0])
    text = (folder / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")
