"""Processes that share an account and ask for pictures without end, and what they come to together.

Each is a real process with a client of its own; the server is the emulator, in a thread of the process that measures,
which does nothing else meanwhile. Everything that is said of them is the emulator's word.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from typing import Any, TypeAlias

import anyio
from attrs import define, field, frozen
from traffic import Traffic, traffic_of

from nebula_async import AsyncNebula, Config
from nebula_async.emulator import Emulator
from nebula_async.engine.gate import Gate

KEY = "sk-emulator"
PICTURE: dict[str, Any] = {
    "model": "black-forest-labs/FLUX.1-schnell",
    "width": 16,
    "height": 16,
    "num_steps": 1,
}
PROCESSES, PER_MINUTE, SECONDS = 4, 600, 90.0
FEWEST_AT_ONCE, SECONDS_IN_FLIGHT = 16, 6.0
LEAST_GOODPUT, MOST_REFUSED, LEAST_FAIRNESS = 0.97, 0.001, 0.99
GLANCE_SECONDS = 0.2

OpenGate: TypeAlias = Callable[[], AbstractAsyncContextManager[Gate]]
"""Opens the gate of a process, in that process."""

MaybeGate: TypeAlias = Callable[[], AbstractAsyncContextManager[Gate | None]]
"""The same, or opens none, which leaves it to the settings."""


@frozen
class Crowd:
    """So many processes that may send so many requests a minute together."""

    processes: int = PROCESSES
    per_minute: int = PER_MINUTE

    @property
    def at_once(self) -> int:
        """How many requests each has in flight at most: together more than the limit needs."""
        return max(FEWEST_AT_ONCE, math.ceil(self.per_minute / 60 * SECONDS_IN_FLIGHT / self.processes))

    @property
    def burst(self) -> int:
        """How many tokens a bucket holds: those of a second, and ten at least."""
        return max(10, self.per_minute // 60)

    def __str__(self) -> str:
        return f"{self.processes} processes, {self.at_once} at a time each, {self.per_minute} a minute together"

    @property
    def names(self) -> list[str]:
        """What the processes are called."""
        return [f"process {number}" for number in range(self.processes)]

    @property
    def windows(self) -> dict[str, dict[str, Any]]:
        """The ways in which a server counts a minute."""
        return {
            f"bucket of {self.burst}": {"window": "bucket", "burst": self.burst},
            "fixed window": {"window": "fixed"},
            "sliding window": {"window": "sliding"},
        }

    def config(self, url: str, **settings: Any) -> Config:
        """Return the settings of each process."""
        return Config(base_url=url, rate_limit=self.per_minute, concurrency=self.at_once, **settings)


@frozen
class Member:
    """A process: its name, which is its prompt too and by which the server knows it, its settings and its gate."""

    name: str
    config: Config
    open_gate: MaybeGate = nullcontext


@define(eq=False)
class Asking:
    """A process that asks for pictures from `go` on until it is ended."""

    member: Member
    go: Event
    _ready: Event = field(init=False)
    process: SpawnProcess = field(init=False)

    def __attrs_post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ready = context.Event()
        self.process = context.Process(target=_ask, args=(self.member, self._ready, self.go), daemon=True)
        self.process.start()

    def wait_until_ready(self) -> None:
        """Wait until it has its gate and has reached the server."""
        while not self._ready.wait(GLANCE_SECONDS):
            if not self.process.is_alive():
                sys.exit(f"{self.member.name} ended before it had begun; what it said stands above")

    def stop(self) -> None:
        """Stop it where it stands."""
        os.kill(self.process.pid or 0, signal.SIGSTOP)

    def end(self) -> None:
        """End it, if it has not ended, in whatever state it is."""
        self.process.kill()
        self.process.join()


@contextmanager
def asking(members: list[Member]) -> Iterator[list[Asking]]:
    """Start a process for each member; all begin to ask at the same moment, and end with the block."""
    go = multiprocessing.get_context("spawn").Event()
    started = [Asking(member, go) for member in members]
    try:
        for each in started:
            each.wait_until_ready()
        go.set()
        yield started
    finally:
        for each in started:
            each.end()


def _ask(member: Member, ready: Event, go: Event) -> None:
    """Ask for pictures without end."""

    async def run() -> None:
        async with member.open_gate() as gate, AsyncNebula(KEY, config=member.config, gate=gate) as nebula:
            await nebula.models()
            ready.set()
            await anyio.to_thread.run_sync(go.wait)
            endless = (member.name for _ in iter(int, 1))
            async with nebula.generate_many(endless, **PICTURE) as results:
                async for _ in results:
                    pass

    anyio.run(run)


@contextmanager
def serving(crowd: Crowd, **window: Any) -> Iterator[Emulator]:
    """Serve an account with the limit of a crowd, whose replies take as long as they do in reality."""
    with Emulator(per_minute=crowd.per_minute, credit="1000000", latency=1.0, **window) as emulator:
        yield emulator


def share_all(crowd: Crowd, seconds: float, open_gate: MaybeGate = nullcontext, **settings: Any) -> bool:
    """Measure the processes for each way of counting, print it, and say whether all targets were reached."""
    print(
        f"{crowd.processes} processes, {crowd.at_once} at a time each, {crowd.per_minute} a minute together, ", end=""
    )
    print(f"{seconds:g} s each\n")
    print("| server | accepted | of each process | refused | goodput | refusals | fairness | most in 60 s |")
    print("|---|---|---|---|---|---|---|---|")
    rows = [share(crowd, seconds, name, open_gate, settings) for name in crowd.windows]
    print(f"| *targets* | | | | {LEAST_GOODPUT:.1%} | {MOST_REFUSED:.1%} | {LEAST_FAIRNESS} | {crowd.per_minute} |\n")
    return all(is_shared_well(row) for row in rows)


def share(crowd: Crowd, seconds: float, name: str, open_gate: MaybeGate, settings: dict[str, Any]) -> Traffic:
    """Run the processes against a server of their own, print what they came to, and return it."""
    with serving(crowd, **crowd.windows[name]) as emulator:
        config = crowd.config(emulator.base_url, **settings)
        with asking([Member(each, config, open_gate) for each in crowd.names]):
            time.sleep(seconds + 1)
        traffic = traffic_of(emulator, crowd.per_minute, crowd.names).first(seconds)
    shares = ", ".join(map(str, traffic.shares))
    figures = f"{traffic.goodput:.1%} | {traffic.refusals:.2%} | {traffic.fairness:.4f} | {traffic.busiest}"
    print(f"| {name} | {traffic.accepted} | {shares} | {traffic.refused} | {figures} |", flush=True)
    return traffic


def is_shared_well(traffic: Traffic) -> bool:
    """Whether all targets were reached."""
    is_used = traffic.goodput >= LEAST_GOODPUT and traffic.refusals <= MOST_REFUSED
    return is_used and traffic.fairness >= LEAST_FAIRNESS and traffic.is_within_limit
