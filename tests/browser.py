"""Headless Chromium for the tests of pages: opens a file without a network and looks at it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE = 20_000  # ms for one figure
SCROLL = f"""async () => {{
    for (const plot of document.querySelectorAll(".plot")) {{
        plot.scrollIntoView({{behavior: "instant"}});
        const end = Date.now() + {PATIENCE};
        while (plot.dataset.state !== "drawn" && Date.now() < end)
            await new Promise(later => setTimeout(later, 5));
    }}
}}"""
NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Visit:
    """What a browser saw of a page.

    Attributes:
        complaints: console errors, uncaught exceptions and requests for anything but the file.
        load_seconds: processor time of the page's process until its load event: what a person waits
            for on a machine that does nothing else.
        n_figures: figures on the page.
        n_drawn: figures that were drawn after scrolling down to the end.
        overflow: px that the page is wider than the window.
        text: what the page says.
    """

    complaints: list[str]
    load_seconds: float
    n_figures: int
    n_drawn: int
    overflow: int
    text: str


OpenPage = Callable[..., Visit]


@contextmanager
def chromium() -> Iterator[OpenPage]:
    """A function ``open_page(path, width=1440, screenshot=None, script=None, pdf=None)``.

    ``screenshot`` names a PNG of the window's top, ``pdf`` what is printed before anybody scrolls;
    ``script`` is JavaScript run before both, and what it throws fails the test. Skips the test
    where no Chromium is installed.
    """
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        pytest.skip("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])

        def open_page(
            path: Path,
            width: int = 1440,
            screenshot: Path | None = None,
            script: str | None = None,
            pdf: Path | None = None,
        ) -> Visit:
            tab = browser.new_page(
                viewport={"width": width, "height": 900 if width > 600 else 844},
                has_touch=width <= 600,
                offline=True,
            )
            complaints: list[str] = []
            tab.on("console", lambda m: m.type == "error" and complaints.append(m.text))
            tab.on("pageerror", lambda error: complaints.append(str(error)))
            own = path.resolve().as_uri()
            tab.on("request", lambda r: _is_foreign(r.url, own) and complaints.append(r.url))
            clock = tab.context.new_cdp_session(tab)
            clock.send("Performance.enable")
            tab.goto(own, wait_until="load")
            found = clock.send("Performance.getMetrics")["metrics"]
            seconds = next(each["value"] for each in found if each["name"] == "ProcessTime")
            if script is not None:
                tab.evaluate(script)
            if pdf is not None:
                tab.pdf(path=pdf)
            plots = tab.locator(".plot")
            tab.evaluate(SCROLL)
            overflow = tab.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            if screenshot is not None:
                tab.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
                tab.screenshot(path=screenshot)
            n_drawn = tab.locator(".plot[data-state=drawn]:has(.main-svg)").count()
            text = tab.inner_text("body")
            n_figures = plots.count()
            tab.close()
            return Visit(complaints, seconds, n_figures, n_drawn, overflow, text)

        yield open_page
        browser.close()


def _is_foreign(url: str, own: str) -> bool:
    return not (url.split("#")[0] == own or url.startswith(("data:", "blob:")))
