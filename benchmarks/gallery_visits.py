"""Visits to a gallery in a browser that was never there: how long it takes to open, and what stands still on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from playwright.sync_api import Browser, BrowserType, Page, sync_playwright

WINDOW = {"width": 1440, "height": 900}
WHEEL_PIXELS = 1_200
JUMPS = (0.5, 0.1, 0.9, 0.33, 1.0, 0.0)
LOOKING_MS = 250
TRACED = ["toplevel", "disabled-by-default-devtools.timeline"]
WORDS = "lighthouse fog 12"

WATCH = """
globalThis.seen = { tasks: [], first: null, complete: null };
new PerformanceObserver((list) => seen.tasks.push(...list.getEntries().map((task) => task.duration)))
  .observe({ type: "longtask", buffered: true });
const look = () => {
  const shown = [...document.querySelectorAll(".tile.picture")]
    .filter((tile) => tile.getBoundingClientRect().top < innerHeight)
    .map((tile) => tile.querySelector("img"));
  const arePainted = shown.length > 0 && shown.every((image) => image.complete && image.naturalWidth > 0);
  const isComplete = performance.getEntriesByName("gallery-complete").length > 0;
  if (arePainted && seen.first === null) seen.first = performance.now();
  if (arePainted && isComplete) setTimeout(() => { seen.complete = performance.now(); });  // after this frame
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""

FRAMES = """() => {
  globalThis.gaps = [];
  let last = performance.now();
  const tick = (now) => { gaps.push(now - last); last = now; requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
}"""

SEARCHED = """() => new Promise((resolve) => {
  const [grid, begun] = [document.querySelector("#grid"), performance.now()];
  const tell = () => resolve(performance.now() - begun);
  const look = () => (grid.ariaBusy === "true" ? setTimeout(look, 1) : requestAnimationFrame(tell));
  look();
})"""


@frozen
class Opening:
    """Seconds from the navigation's start until the first thumbnails were painted, and until all items could be
    searched too; and the longest task meanwhile, in ms.
    """

    first: float
    complete: float
    longest_task: float


@frozen
class Use:
    """What was seen while it was used: the longest tasks in ms, by the page's own observer and by the browser's trace
    (and the most CPU that one took), gaps between frames, and how long a search took at most.
    """

    scrolling: float
    finding: float
    traced: float
    traced_cpu: float
    frame_p95: float
    frame_longest: float
    search_longest: float


def chromium(playwright_chromium: BrowserType) -> Browser:
    """Start Debian's chromium, or the one that playwright has, with a profile of its own."""
    return playwright_chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])


@contextmanager
def visiting(url: str) -> Iterator[tuple[Browser, Page]]:
    """Open the page in a new browser, and wait until all of it is there."""
    with sync_playwright() as playwright:
        browser = chromium(playwright.chromium)
        try:
            page = browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
            page.add_init_script(WATCH)
            page.goto(url)
            page.wait_for_function("() => seen.complete !== null", timeout=120_000)
            yield browser, page
        finally:
            browser.close()


def measure_opening(url: str) -> Opening:
    """Open the page once."""
    with visiting(url) as (_, page):
        seen = page.evaluate("() => seen")
        return Opening(seen["first"] / 1000, seen["complete"] / 1000, max(seen["tasks"], default=0.0))


def measure_use(url: str, scratch: Path) -> Use:
    """Scroll through all of it, jump, search, filter and sort."""
    with visiting(url) as (browser, page):
        trace = scratch / "trace.json"
        longest_task(page)
        page.evaluate(FRAMES)
        browser.start_tracing(page=page, path=trace, categories=TRACED)
        scroll(page)
        gaps = sorted(page.evaluate("() => gaps"))
        scrolling = longest_task(page)
        searches = list(find(page))
        browser.stop_tracing()
        frames = (gaps[int(0.95 * len(gaps))], gaps[-1])
        return Use(scrolling, longest_task(page), *longest_traced(trace), *frames, max(searches))


def scroll(page: Page) -> None:
    """Turn the wheel until the end is reached, and then jump."""
    page.mouse.move(WINDOW["width"] / 2, WINDOW["height"] / 2)
    height = page.evaluate("() => document.documentElement.scrollHeight")
    for _ in range(height // WHEEL_PIXELS + 1):
        page.mouse.wheel(0, WHEEL_PIXELS)
    for share in JUMPS:
        page.evaluate("(share) => scrollTo(0, share * document.documentElement.scrollHeight)", share)
        page.wait_for_timeout(LOOKING_MS)


def find(page: Page) -> Iterator[float]:
    """Search letter by letter, sort and filter; yield how long each took, in ms."""
    page.focus("#q")
    for letter in WORDS:
        page.keyboard.type(letter)
        yield page.evaluate(SEARCHED)
    page.click("#clear")
    for name in ("prompt", "newest", "cost", "number"):
        page.select_option("#sort", name)
        yield page.evaluate(SEARCHED)
    for name in ("rejected", ""):
        page.select_option("#status", name)
        yield page.evaluate(SEARCHED)


def longest_task(page: Page) -> float:
    """Return the longest task since this was asked last, in ms; those of less than 50 are none."""
    return float(page.evaluate("() => Math.max(0, ...seen.tasks.splice(0))"))


def longest_traced(trace: Path) -> tuple[float, float]:
    """Return the longest task of a page's main thread in a trace, and the longest by the CPU that it took, in ms: where
    others use the machine too, a task lasts as long as it is kept from it.
    """
    events: list[dict[str, Any]] = json.loads(trace.read_text())["traceEvents"]
    mains = {(event["pid"], event["tid"]) for event in events if event["args"].get("name") == "CrRendererMain"}
    tasks = [
        (event["dur"] / 1000, event.get("tdur", 0) / 1000)
        for event in events
        if event.get("ph") == "X" and "RunTask" in event["name"] and (event["pid"], event["tid"]) in mains
    ]
    return max(seconds for seconds, _ in tasks), max(cpu for _, cpu in tasks)
