"""400 pictures of 200 ms for the rows of a Ray dataset, by two actors: ours, and Ray's own processor of HTTP requests.

Both have the same server, in a process of its own, and the same number of actors, and leave the pictures in a folder.
Ray's processor runs as it comes, with batches of 64; with the best of its own settings, batches of one row; and, which
no setting of it says, with the dataset cut so that each actor has four requests in flight, the most that it can have:
our 32 are four times as many, so no target is held against that. Rounds alternate. Two clocks: the server's, from the
first request to the last reply, and the whole time, in which actors start. Prints a table and exits 1 when a target is
missed, by the server's clock.

It has the name of Ray, so it moves its own folder behind those of libraries.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0"}

sys.path.append(sys.path.pop(0))

import ray
from ray_server import Seen, Server, serving
from ray_ways import ACTORS, AT_ONCE, Work, run_ours, run_rays, run_rays_cut, run_rays_small

PICTURES, ROUNDS = 400, 3
LEAST_PEAK, LEAST_FACTOR = 25, 5.0
CPUS, STORE_BYTES = 2, 200 << 20

OURS, CUT = "generate_images", "batches of 1, two blocks"
WAYS: dict[str, Callable[[Work, Path], None]] = {
    OURS: run_ours,
    "Ray's processor": run_rays,
    "batches of 1": run_rays_small,
    CUT: run_rays_cut,
}


@frozen
class Run:
    """A way in a round: the whole time, and what the server saw."""

    seconds: float
    seen: Seen


def main() -> int:
    """Measure, print, and say whether the targets were reached."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pictures", type=int, default=PICTURES)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    given = options.parse_args()
    if min(given.pictures, given.rounds) < 1:
        options.error("pictures and rounds are 1 at least")
    with tempfile.TemporaryDirectory() as folder, serving() as server:
        os.environ |= {"NEBULA_STATE_DIR": f"{folder}/state", "NEBULA_API_KEY": server.key}
        with running_ray():
            rounds = measure(server, given.pictures, given.rounds, Path(folder))
    is_reached = show(rounds, given.pictures)
    print("all targets reached" if is_reached else "a target was missed")
    return 0 if is_reached else 1


@contextmanager
def running_ray() -> Iterator[None]:
    """Run a Ray of this machine, as small as it can be."""
    ray.init(
        address="local",
        num_cpus=CPUS,
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        logging_level="warning",
        log_to_driver=False,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()


def measure(server: Server, pictures: int, rounds: int, folder: Path) -> dict[str, list[Run]]:
    """Return the runs of each way, after printing each; who begins changes from round to round."""
    print(f"{pictures} pictures of 200 ms, {ACTORS} actors, {AT_ONCE} at a time each where that can be said\n")
    print("| round | way | whole, s | at the server, s | in flight: most | mean | pictures/s |")
    print("|---|---|---|---|---|---|---|")
    runs: dict[str, list[Run]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name in [*WAYS][:: -1 if number % 2 else 1]:
            run = run_way(name, Work(server.url, server.key, pictures), server, folder / f"{number} {name}")
            runs[name].append(run)
            print(f"| {number + 1} | {name} | {_row(run)} |", flush=True)
    return runs


def run_way(name: str, work: Work, server: Server, folder: Path) -> Run:
    """Run a way once. Ends the program where not every picture came to be, once."""
    folder.mkdir()
    server.seen()
    started = time.monotonic()
    WAYS[name](work, folder)
    seconds, seen = time.monotonic() - started, server.seen()
    stored = len([*folder.rglob("*.png")])
    if not work.count == stored == seen.requests == seen.charged:
        sys.exit(f"{name}: of {work.count} pictures {stored} are stored, {seen.requests} asked, {seen.charged} charged")
    return Run(seconds, seen)


def show(runs: dict[str, list[Run]], pictures: int) -> bool:
    """Print medians, and say whether the targets were reached."""
    print("\n| way | whole, s | at the server, s | most in flight | pictures/s | ours: times as fast | whole |")
    print("|---|---|---|---|---|---|---|")
    for name, of_way in runs.items():
        whole, span = [run.seconds for run in of_way], [run.seen.seconds for run in of_way]
        peak = min(run.seen.peak for run in of_way)
        rate = pictures / statistics.median(span)
        factors = f"{factor(runs, name):.1f} | {statistics.median(whole) / _whole(runs[OURS]):.1f}"
        print(f"| {name} | {_spread(whole)} | {_spread(span)} | {peak} | {rate:.0f} | {factors} |")
    print(f"| *targets* | | | {LEAST_PEAK} | | {LEAST_FACTOR} | |\n")
    is_busy = min(run.seen.peak for run in runs[OURS]) >= LEAST_PEAK
    return is_busy and all(factor(runs, name) >= LEAST_FACTOR for name in WAYS if name not in (OURS, CUT))


def factor(runs: dict[str, list[Run]], name: str) -> float:
    """Return how many times as long a way takes as ours, by the server's clock."""
    spans = {each: statistics.median(run.seen.seconds for run in runs[each]) for each in (name, OURS)}
    return spans[name] / spans[OURS]


def _whole(runs: list[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _row(run: Run) -> str:
    seen = run.seen
    rate = seen.requests / seen.seconds
    return f"{run.seconds:.2f} | {seen.seconds:.2f} | {seen.peak} | {seen.mean:.1f} | {rate:.0f}"


if __name__ == "__main__":
    sys.exit(main())
