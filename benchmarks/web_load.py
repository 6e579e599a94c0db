"""How long an unrelated request takes while 200 clients at a time are served pictures of 1.5 MB, and why."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from attrs import frozen
from footprint import Lateness, lateness
from peer_clients import MODEL
from peer_workloads import COMMON
from picture_server import pin, serving_pictures
from web_app import SPAWN, Application, Setup, running
from web_clients import Crowd, ask_for_picture, crowd, ping

AT_ONCE = 200
LATENCY_MS = 300
MOST_ABOVE_IDLE_MS = 25.0
NICENESS = 10
"""The crowd lets everyone else go first: it is not what is measured."""

WARM_UP_SECONDS, WARM_UP_AT_ONCE = 1.0, 8
CONCURRENCY: Sequence[int | None] = (None, AT_ONCE)
"""Calls that the application makes at a time: as many as a client that was told nothing, or all that are asked for."""

REQUESTS = ask_for_picture("a flying cat", MODEL)


@frozen
class Measured:
    """One stretch: milliseconds that pings took, that their sender woke late, and that the application's loop was late;
    the CPU that it took, in cores; and the crowd, if there was one.
    """

    ping: Lateness
    sender: Lateness
    loop: Lateness
    cores: float
    crowd: Crowd | None

    @property
    def is_answered(self) -> bool:
        """Whether everyone got a picture."""
        return self.crowd is None or set(self.crowd.statuses) == {200}


@frozen
class Bench:
    """An application, and two processes on the other core that ask it."""

    application: Application
    pinging: ProcessPoolExecutor
    crowding: ProcessPoolExecutor

    def run(self, name: str, seconds: float, at_once: int = AT_ONCE) -> Measured:
        """Ask for so long: "nothing" but pings, or beside them for pictures, "sustained" or "in waves"."""
        before, started = self.application.ask("/effort"), time.perf_counter()
        port, is_crowded = self.application.port, name != "nothing"
        crowding = (
            self.crowding.submit(crowd, port, REQUESTS, at_once, seconds, in_waves=name == "in waves")
            if is_crowded
            else None
        )
        pings = self.pinging.submit(ping, port, seconds).result()
        after, took = self.application.ask("/effort"), time.perf_counter() - started
        return Measured(
            lateness(pings.took),
            lateness(pings.late),
            Lateness(**after["late"]),
            (after["cpu_seconds"] - before["cpu_seconds"]) / took,
            None if crowding is None else crowding.result(),
        )


def main(rounds: int, seconds: float, loop: str) -> bool:
    """Measure, print a table, and return whether the target was reached."""
    print(f"\nPings beside {AT_ONCE} requests at a time for pictures of {COMMON / 1e6:g} MB, which the API has after "
          f"{LATENCY_MS} ms: milliseconds, medians of {rounds} rounds of {seconds:g} s (lowest to highest). The "
          "application has a core to itself; who asks it shares the other with the API.\n")  # fmt: skip
    print("| calls at a time | requests | pictures a second | cores | its ticker late: p99, max | "
          "the pings' sender late: p99, max | ping p50 | p99 | max | p99 above idle |")  # fmt: skip
    print("|---" * 10 + "|", flush=True)
    are_good = [measure(concurrency, rounds, seconds, loop) for concurrency in CONCURRENCY]
    return all(are_good)


def measure(concurrency: int | None, rounds: int, seconds: float, loop: str) -> bool:
    """Measure one application, idle and under each load; print its rows; return whether they are good enough."""
    with serving_pictures() as server:
        setup = Setup(base_url=f"{server.url(COMMON, LATENCY_MS)}/api/v1", concurrency=concurrency, core=1, loop=loop)
        with _bench(setup) as bench:
            bench.run("sustained", WARM_UP_SECONDS, WARM_UP_AT_ONCE)
            idle = [bench.run("nothing", seconds) for _ in range(rounds)]
            found = {name: [bench.run(name, seconds) for _ in range(rounds)] for name in ("sustained", "in waves")}
    base = statistics.median(each.ping.p99 for each in idle)
    rows = [_print_row(concurrency, name, measured, base) for name, measured in {"nothing": idle, **found}.items()]
    return all(rows)


@contextmanager
def _bench(setup: Setup) -> Iterator[Bench]:
    with (
        running(setup) as application,
        ProcessPoolExecutor(1, SPAWN, pin, (0,)) as pinging,
        ProcessPoolExecutor(1, SPAWN, _step_back) as crowding,
    ):
        yield Bench(application, pinging, crowding)


def _step_back() -> None:
    pin(0)
    os.nice(NICENESS)


def _print_row(concurrency: int | None, name: str, measured: Sequence[Measured], base: float) -> bool:
    """Print a row and return whether it is good enough."""

    def figures(read: Callable[[Measured], float], form: str = ".1f") -> str:
        values = [read(each) for each in measured]
        return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"

    above = statistics.median(each.ping.p99 for each in measured) - base
    crowds = [each.crowd for each in measured if each.crowd is not None]
    cells = (
        "as it comes" if concurrency is None else concurrency,
        name,
        f"{statistics.median(each.rate for each in crowds):.0f}" if crowds else "",
        figures(lambda each: each.cores, ".2f"),
        f"{figures(lambda each: each.loop.p99)}, {figures(lambda each: each.loop.max)}",
        f"{figures(lambda each: each.sender.p99)}, {figures(lambda each: each.sender.max)}",
        figures(lambda each: each.ping.p50),
        figures(lambda each: each.ping.p99),
        figures(lambda each: each.ping.max),
        f"{above:.1f} (at most {MOST_ABOVE_IDLE_MS:g})" if crowds else "",
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    is_answered = all(each.is_answered for each in measured)
    if not is_answered:
        print(f"not everyone got a picture: {[status for each in crowds for status in each.statuses if status != 200]}")
    return is_answered and above <= MOST_ABOVE_IDLE_MS
