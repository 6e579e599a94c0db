"""Pages in a real browser, with whatever goes wrong in them noted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from attrs import frozen
from playwright.sync_api import Browser, Page, Request, sync_playwright

PATIENCE_MS = 120_000

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

SHOWN = """() => performance.getEntriesByName("gallery-complete").length > 0
  || !!document.querySelector("#notice").textContent"""

VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => console.error(`refused: ${event.blockedURI} ${event.sample}`));
"""

COUNT_ELEMENTS = """() => {
  const counts = {};
  for (const { localName } of document.querySelectorAll("*")) counts[localName] = (counts[localName] ?? 0) + 1;
  return counts;
}"""

TO_ITS_BEGINNING = """async () => {
  const soon = () => new Promise((resolve) => setTimeout(resolve));
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  while (new URLSearchParams(location.hash.slice(1)).has("open")) await soon(); // closing leads back
  for (const details of document.querySelectorAll("details")) details.open = false;
  document.querySelector("#show-filters[aria-expanded='true']")?.click();
  document.querySelector("#controls").reset();
  while (location.hash || document.querySelector("#grid").ariaBusy === "true") await soon();
  document.activeElement.blur();
  scrollTo(0, 0);
  for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame); // as wide as the window is now
}"""


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start Debian's chromium; skip where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium is installed (apt install chromium), so the page is not tried in a browser")
    with sync_playwright() as playwright:
        classic = ["--hide-scrollbars"]  # what playwright adds: with scrollbars there is less room
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], ignore_default_args=classic
        )
        try:
            yield browser
        finally:
            browser.close()


@frozen
class Window:
    """A window of the browser, and what went wrong in it."""

    page: Page
    troubles: list[str]

    @contextmanager
    def showing(self, url: str, *, but: str | None = None) -> Iterator[Page]:
        """Load a page; when the block ends, nothing may have gone wrong, but messages that contain `but`.

        What goes wrong: an exception, an error in the console, a violation of the policy, a dialog of the browser, a
        request for anything that is no file, a second window.
        """
        self.page.goto("about:blank")  # another view of the same page would not be loaded anew
        self.troubles.clear()
        self.page.goto(url)
        self.page.wait_for_function(SHOWN)
        with self.watching(but=but):
            yield self.page

    @contextmanager
    def watching(self, *, but: str | None = None) -> Iterator[None]:
        """See to it that nothing goes wrong in the block, as `showing` does; a page that is shown stays."""
        yield
        self.page.evaluate("() => new Promise((resolve) => setTimeout(resolve))")  # what was queued is told
        assert [] == [trouble for trouble in self.troubles if not (but and but in trouble)]
        assert [self.page] == self.page.context.pages

    @contextmanager
    def from_its_beginning(self, *, but: str | None = None) -> Iterator[Page]:
        """Give the page that is shown, led back to how it began: quicker than loading it anew."""
        self.page.evaluate(TO_ITS_BEGINNING)
        with self.watching(but=but):
            yield self.page


@contextmanager
def new_window(browser: Browser, **context: Any) -> Iterator[Window]:
    """Open a window with nothing in it."""
    with browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context}) as opened_context:
        opened_context.set_default_timeout(PATIENCE_MS)
        page = opened_context.new_page()
        page.add_init_script(VIOLATIONS)
        yield Window(page, _watch(page))


@contextmanager
def opened(browser: Browser, url: str, *, but: str | None = None, **context: Any) -> Iterator[Page]:
    """Load a page in a window of its own, as `Window.showing` does."""
    with new_window(browser, **context) as window, window.showing(url, but=but) as page:
        yield page


def _watch(page: Page) -> list[str]:
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(f"exception: {error}"))
    page.on("console", lambda message: message.type == "error" and troubles.append(f"console: {message.text}"))
    page.on("dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: _is_elsewhere(request) and troubles.append(f"request: {request.url}"))
    return troubles


def _is_elsewhere(request: Request) -> bool:
    return not request.url.startswith("file:///")


@contextmanager
def tracing(browser: Browser, page: Page) -> Iterator[list[float]]:
    """Note the CPU, in ms, of each task of the page's main thread.

    It is not how long a task lasts, for on a machine that others use too, it waits for them.
    """
    tasks: list[float] = []
    browser.start_tracing(page=page, categories=["toplevel", "disabled-by-default-devtools.timeline"])
    yield tasks
    events = json.loads(browser.stop_tracing())["traceEvents"]
    mains = [(event["pid"], event["tid"]) for event in events if event["args"].get("name") == "CrRendererMain"]
    tasks += [
        event.get("tdur", 0) / 1000
        for event in events
        if event.get("ph") == "X" and "RunTask" in event["name"] and (event["pid"], event["tid"]) in mains
    ]


def settled(page: Page) -> None:
    """Wait until the page shows what was asked of it last."""
    page.wait_for_selector("#grid:not([aria-busy='true'])", state="attached")


def shown_count(page: Page) -> str:
    """Return what the page says of how many items it shows."""
    settled(page)
    return str(page.text_content("#count"))


def captions(page: Page) -> list[str]:
    """Return the prompts of the tiles that are there, in the order in which they are read."""
    return list(page.locator(".caption").all_text_contents())
