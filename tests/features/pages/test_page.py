"""Pages: escaping, odd numbers, what a browser sees on a wide screen and on a phone."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.pages.page import DASH, Figure, Section, Table, safe_json, write_page

EVIL = "<script>alert('x')</script> & \"quotes\" </script>"
TABLE = Table.of(pl.DataFrame({"name": ["b", "a", EVIL], "value": [2.0, 10.0, float("nan")]}))


def figure(title: str, wide: bool = True) -> Figure:
    line = {"x": np.arange(4), "y": np.array([1.0, np.inf, np.nan, 4.0]), "name": EVIL}
    heat = {"type": "heatmap", "z": np.eye(3), "xaxis": "x2", "yaxis": "y2"}
    layout = {"grid": {"rows": 1, "columns": 2, "pattern": "independent"}}
    return Figure(
        title=title, reading="Up is more.", data=[line, heat], table=TABLE, layout=layout, wide=wide
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    wide = Table([f"a long column name {i}" for i in range(40)], [range(40)] * 3)
    sections = [
        Section("first", "First", ["A sentence.", TABLE, wide]),
        Section("figures", EVIL, [figure("One", wide=False), figure("Two", wide=False)]),
        Section("far", "Far down", [figure(f"Figure {i}") for i in range(6)]),
    ]
    path = tmp_path_factory.mktemp("page") / "page.html"
    return write_page(path, f"Title {EVIL}", "Lead.", sections)


def test_text_from_outside_is_escaped_and_json_is_whole(page):
    text = page.read_text()
    assert EVIL not in text
    found = re.search(r'id="page-data">(.*?)</script>', text, re.DOTALL)
    figures = json.loads(found[1])["figures"]
    assert len(figures) == 8
    assert figures[0]["data"][0]["y"] == [1, None, None, 4]
    assert figures[0]["data"][0]["name"] == EVIL


def test_one_copy_of_the_library_and_no_link_outside(page):
    text = page.read_text()
    assert text.count("plotly.js v") == 1
    assert len(text.encode()) < 8e6
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=\"(?!data:)", text)


def test_figures_have_their_numbers_behind_them(page):
    text = page.read_text()
    assert text.count("<details>") == 8
    assert f'<td class="n">{DASH}</td>' in text  # NaN


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Table(["a", "b"], [[1]]), "2 columns"),
        (lambda: Section("Two words", "x", []), "Two words"),
        (lambda: write_page(Path("none"), "t", "l", [Section("a", "x", [])] * 2), "share an id"),
        (lambda: safe_json({"x": object()}), "can't hold a object"),
    ],
)
def test_a_wrong_page_is_refused(build, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build()


SORT = """() => {
    const table = document.querySelector("table");
    const sorted = () => {
        table.querySelectorAll("th button")[1].click();
        return Array.from(table.tBodies[0].rows).map(row => row.cells[1].textContent).join();
    };
    const seen = [sorted(), sorted()].join(" then ");
    if (seen !== "10,2,DASH then 2,10,DASH") throw new Error(seen);
}""".replace("DASH", DASH)


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1440])
def test_a_browser_draws_every_figure_and_a_click_sorts(page, open_page, width):
    visit = open_page(page, width, script=SORT)
    assert visit.complaints == []
    assert (visit.n_figures, visit.n_drawn) == (8, 8)
    assert visit.overflow <= 0
    assert 0 < visit.load_seconds < 3


@pytest.mark.browser
def test_figures_far_down_wait_until_they_are_printed(page, open_page):
    script = """
        const drawn = () => document.querySelectorAll(".plot[data-state]").length;
        if (drawn() === 0 || drawn() === 8) throw new Error("at first: " + drawn());
        window.addEventListener("beforeprint", () => {
            if (drawn() !== 8) throw new Error("printed: " + drawn());
        });
    """
    pdf = page.with_suffix(".pdf")
    assert open_page(page, 1440, script=f"() => {{{script}}}", pdf=pdf).complaints == []
    assert pdf.stat().st_size > 20_000
