"""How late a sleep of one millisecond ends while pictures arrive: 64 of 1.5 MB after 50 ms, and 8 of 30 MB.

Beside nebula_async, on asyncio and trio: the machine doing nothing, and the script that a user would write with httpx,
which decodes on the loop, or in anyio's threads. Each row is a fresh process on the second core, its server on the
first. Prints a table and exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from attrs import frozen
from peer_cell import Outcome
from peer_workloads import C64_LATE, H8, OURS, SCRIPT, Workload
from peers import run_cell, spread
from picture_server import PictureServer, allow_many_files, pin, serving_pictures

ROUNDS, SECONDS = 3, 3.0
LOOPS = ("asyncio", "trio")
PACKAGES = ("nebula_async", "httpx", "httpcore", "anyio", "trio", "pybase64")


@frozen
class Limit:
    """How many milliseconds late ticks may be: the highest hundredth (`None`: any), and every one."""

    p99: float | None
    max: float

    def __str__(self) -> str:
        return f"max ≤ {self.max:g}" if self.p99 is None else f"p99 ≤ {self.p99:g}, max ≤ {self.max:g}"

    def holds(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether the medians of all rounds are within it; they are not where there is none."""
        late = [outcome.run.late for outcome in outcomes]
        if not late or statistics.median(each.max for each in late) > self.max:
            return False
        return self.p99 is None or statistics.median(each.p99 for each in late) <= self.p99


LIMITS: Mapping[Workload, Limit] = {C64_LATE: Limit(15, 30), H8: Limit(None, 15)}
CLIENTS = ("idle", OURS, "script, httpx, threads", SCRIPT)


def main() -> int:
    """Measure, print, and say whether all targets were reached."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=ROUNDS, help="how often each row is measured")
    options.add_argument("--seconds", type=float, default=SECONDS, help="how long calls are begun")
    options.add_argument("--client", choices=CLIENTS, action="append", help="only this client; may be repeated")
    given = options.parse_args()
    pin(1)
    allow_many_files()
    print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    print(f"Medians of {given.rounds} (lowest to highest): by how many milliseconds a sleep of one is exceeded\n")
    print("| pictures | client | loop | p50 | p99 | max | a second | target |\n|---|---|---|---|---|---|---|---|")
    is_missed = False
    with serving_pictures() as server:
        for workload, client, loop in itertools.product(LIMITS, given.client or CLIENTS, LOOPS):
            outcomes = measure(server, workload, client, loop, given.rounds, given.seconds)
            is_missed |= client == OURS and not LIMITS[workload].holds(outcomes)
            print_row(workload, client, loop, outcomes)
    print("\na target was missed" if is_missed else "\nall targets reached")
    return 1 if is_missed else 0


def measure(
    server: PictureServer, workload: Workload, client: str, loop: str, rounds: int, seconds: float
) -> list[Outcome]:
    """Return the outcomes of a row's rounds, those that failed left out."""
    outcomes = (run_cell(server, workload, client, seconds, loop) for _ in range(rounds))
    return [outcome for outcome in outcomes if outcome is not None]


def print_row(workload: Workload, client: str, loop: str, outcomes: Sequence[Outcome]) -> None:
    """Print a row of the table."""
    late = [outcome.run.late for outcome in outcomes]
    figures = (
        spread([each.p50 for each in late], ".1f"),
        spread([each.p99 for each in late], ".1f"),
        spread([each.max for each in late], ".1f"),
        "" if client == "idle" else spread([outcome.run.done / outcome.run.seconds for outcome in outcomes], ".0f"),
        str(LIMITS[workload]) if client == OURS else "",
    )
    print(f"| {workload} | {client} | {loop} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
