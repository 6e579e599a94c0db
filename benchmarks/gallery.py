"""How a gallery of 10,000 pictures opens, scrolls and searches in a browser, and how large it is without thumbnails.

The pictures are bought by a job, all different; page, data and thumbnails are written by `nebula-async gallery`. Each
visit is a new browser with an empty profile. Prints figures and exits 1 when a target is missed. Needs chromium.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gallery_job import make_job
from gallery_visits import Opening, Use, measure_opening, measure_use

ITEMS, ROUNDS = 10_000, 5
MOST_SECONDS, MOST_TASK_MS, MOST_MB = 1.5, 100, 6.0
MB = 1_000_000


def main() -> int:
    """Measure, print, and say whether the targets were reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=ITEMS)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--keep", type=Path, help="a folder where the job is left, or is found from an earlier time")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="nebula-gallery-") as scratch:
        folder = given.keep or Path(scratch) / "job"
        page = folder / "out" / "gallery" / "index.html"
        page = page if page.is_file() else make_job(folder, given.items)
        megabytes = show_size(page.parent)
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
        openings = [measure_opening(page.as_uri()) for _ in range(given.rounds)]
        uses = [measure_use(page.as_uri(), Path(scratch)) for _ in range(given.rounds)]
    return judge(show_openings(openings), show_uses(uses), megabytes)


def show_size(gallery: Path) -> float:
    """Print how large page and data are, and return it in MB."""
    own = sum(file.stat().st_size for file in gallery.iterdir() if file.is_file())
    data = sum(file.stat().st_size for file in gallery.glob("data/**/*.js"))
    thumbnails = [file.stat().st_size for file in gallery.glob("thumbnails/**/*.webp")]
    print(f"page {own / 1000:.0f} kB, data {data / MB:.2f} MB")
    print(f"{len(thumbnails)} thumbnails, {sum(thumbnails) / MB:.0f} MB")
    return (own + data) / MB


def show_openings(openings: Sequence[Opening]) -> tuple[float, float]:
    """Print how it opened; return the median of seconds, and the longest task in ms."""
    print(f"{len(openings)} openings, a new profile each; median (lowest to highest)")
    print(f"first thumbnails painted after {spread([each.first for each in openings])} s")
    print(f"and all items searchable after {spread([each.complete for each in openings])} s")
    print(f"longest task {spread([each.longest_task for each in openings], digits=0)} ms\n")
    return statistics.median(each.complete for each in openings), statistics.median(
        each.longest_task for each in openings
    )


def show_uses(uses: Sequence[Use]) -> float:
    """Print how it was to use; return the median of the longest tasks in ms."""
    print(f"{len(uses)} visits: the wheel through all of it, jumps, search by letter, sort, filter")
    for name, values in {
        "longest task while scrolling": [use.scrolling for use in uses],
        "longest task while finding": [use.finding for use in uses],
        "longest task in the trace": [use.traced for use in uses],
        "most CPU of a task in the trace": [use.traced_cpu for use in uses],
        "frames, 95 % within": [use.frame_p95 for use in uses],
        "frames, longest gap": [use.frame_longest for use in uses],
        "from the last key to what was found, at most": [use.search_longest for use in uses],
    }.items():
        print(f"{name}: {spread(values, digits=0)} ms")
    return statistics.median(max(use.scrolling, use.finding, use.traced) for use in uses)


def spread(values: Sequence[float], *, digits: int = 2) -> str:
    """Return the median, lowest and highest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def judge(opening: tuple[float, float], use: float, megabytes: float) -> int:
    """Print figures beside targets; return 1 where one is missed."""
    seconds, opening_task = opening
    longest = max(opening_task, use)
    print(f"\nopens in {seconds:.2f} s (target: at most {MOST_SECONDS:g})")
    print(f"longest task {longest:.0f} ms (target: at most {MOST_TASK_MS})")
    print(f"page and data {megabytes:.2f} MB (target: at most {MOST_MB:g})")
    return 0 if seconds <= MOST_SECONDS and longest <= MOST_TASK_MS and megabytes <= MOST_MB else 1


if __name__ == "__main__":
    sys.exit(main())
