"""What 100,000 cancellations at random moments leave behind: connections, tasks, descriptors, and a working client.

Native ones (`Task.cancel`, `asyncio.wait_for`) and scoped ones (`move_on_after`, `CancelScope.cancel`), on asyncio and
trio, of `generate` and of `generate_many`, against a server in another process that answers late, in slices, or hangs
up. Prints a table and exits 1 when anything is left or the next 1,000 calls do not all succeed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from random import Random
from typing import Any, TypeAlias

import anyio
import httpcore
import trio
from attrs import define, field, frozen
from servers import Answer, Server, Tally, picture, reply, serving

from nebula_async import AsyncNebula, Config, Generation
from nebula_async.events import Abandoned, Event

COUNT = 100_000
SEED = 7
AT_ONCE, PROCESSES = 12, 2
NEXT_CALLS = 1_000
SETTLING_SECONDS = 5.0

SLOWEST_SECONDS = 0.01
SLICES, LARGE_BYTES = 6, 60_000
LONGER, SHORTER = 1.02, 0.92
MODEL = "black-forest-labs/FLUX.1-schnell"

Victim: TypeAlias = Callable[[], Awaitable[object]]
Cancelling: TypeAlias = Callable[[Victim, float], Awaitable[bool]]
"""Runs a victim, cancels it after so many seconds, and says whether it was still running."""


def main() -> int:
    """Cancel, print, and say whether nothing was left."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=COUNT, help=f"cancellations in all, {COUNT} unless given")
    each = -(-options.parse_args().count // len(STORMS))
    started, left_behind = time.monotonic(), []
    print("| loop | cancelled by | what | times | calls hit: unsent, sent, in the body | left: connections, objects, "
          "tasks, descriptors | complaints | next calls |\n|---|---|---|---|---|---|---|---|", flush=True)  # fmt: skip
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        for storm, found in zip(STORMS, pool.map(partial(run_storm, times=each), STORMS), strict=True):
            print(found.row(storm), flush=True)
            left_behind += [] if found.is_clean else [storm]
    print(f"\n{each * len(STORMS)} cancellations in {time.monotonic() - started:.0f} s; seed {SEED}")
    print("\n".join(f"left something behind: {storm}" for storm in left_behind) or "nothing was left")
    return 1 if left_behind else 0


def answer_at_random(_tally: Tally) -> Answer:
    """Answer late, a third of the time in slices with pauses, sometimes hanging up afterwards."""
    source, loop = Random(SEED), asyncio.get_running_loop()  # noqa: S311
    small, closing = reply("200 OK", picture()), reply("200 OK", picture(), "Connection: close")
    large = reply("200 OK", picture(LARGE_BYTES))
    size = -(-len(large) // SLICES)
    slices = [large[start : start + size] for start in range(0, len(large), size)]

    def write(transport: asyncio.Transport, piece: bytes) -> None:
        if not transport.is_closing():
            transport.write(piece)
            if piece is closing:
                transport.close()

    def answer(transport: asyncio.Transport) -> None:
        delay, kind = source.uniform(0, SLOWEST_SECONDS), source.random()
        if kind < 1 / 3:
            for number, piece in enumerate(slices):
                loop.call_later(delay + number * SLOWEST_SECONDS / 4, write, transport, piece)
        else:
            loop.call_later(delay, write, transport, closing if kind > 5 / 6 else small)

    return answer


async def cancel_task(victim: Victim, delay: float) -> bool:
    """Cancel the victim's own task."""
    task = asyncio.ensure_future(victim())
    asyncio.get_running_loop().call_later(delay, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def wait_for(victim: Victim, delay: float) -> bool:
    """Stop waiting for the victim."""
    try:
        await asyncio.wait_for(victim(), delay)
    except TimeoutError:
        return True
    return False


async def move_on(victim: Victim, delay: float) -> bool:
    """Let the victim's scope expire."""
    with anyio.move_on_after(delay) as scope:
        await victim()
    return scope.cancelled_caught


async def cancel_scope(victim: Victim, delay: float) -> bool:
    """Cancel the victim's scope from another task."""
    async with anyio.create_task_group() as group:

        async def cancel_later() -> None:
            await anyio.sleep(delay)
            scope.cancel()

        with anyio.CancelScope() as scope:
            group.start_soon(cancel_later)
            await victim()
        group.cancel_scope.cancel()
    return scope.cancelled_caught


async def generate(nebula: AsyncNebula) -> None:
    """Make one call."""
    await nebula.generate("a flying cat", model=MODEL)


async def generate_many(nebula: AsyncNebula) -> None:
    """Make two at a time."""
    async with nebula.generate_many(["a flying cat"] * 2, model=MODEL, concurrency=2) as results:
        async for result in results:
            if not isinstance(result, Generation):
                raise result.error


@frozen
class Storm:
    """One kind of cancellations."""

    loop: str
    cancelling: Cancelling
    verb: Callable[[AsyncNebula], Awaitable[None]]

    def __str__(self) -> str:
        return f"{self.loop} | {self.cancelling.__name__} | {self.verb.__name__}"


WAYS: tuple[tuple[str, Cancelling], ...] = (
    ("asyncio", cancel_task),
    ("asyncio", wait_for),
    ("asyncio", move_on),
    ("asyncio", cancel_scope),
    ("trio", move_on),
    ("trio", cancel_scope),
)
STORMS = tuple(Storm(*way, verb) for way, verb in itertools.product(WAYS, (generate, generate_many)))


@define
class Found:
    """What a storm did, and what it left."""

    times: int = 0
    longest_delay: float = 4 * SLOWEST_SECONDS
    hit: Counter[str] = field(factory=Counter)
    connections: int = 0
    objects: int = 0
    tasks: int = 0
    descriptors: int = 0
    complaints: list[str] = field(factory=list)
    next_calls: int = 0

    def note(self, event: Event) -> None:
        """Count calls by what they may have cost when they were cancelled."""
        if isinstance(event, Abandoned):
            self.hit[str(event.charges)] += 1

    @property
    def left(self) -> tuple[int, ...]:
        """Open connections as the server counts them, connection objects, tasks, descriptors."""
        return self.connections, self.objects, self.tasks, self.descriptors

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left and the client works."""
        return not any(self.left) and not self.complaints and self.next_calls == NEXT_CALLS

    def row(self, storm: Storm) -> str:
        """Return a row of the table."""
        hit = ", ".join(str(self.hit[charges]) for charges in ("0-0", "0-1", "1-1"))
        left = ", ".join(map(str, self.left))
        told = f"{len(self.complaints)} {self.complaints[:1] or ''}"
        return f"| {storm} | {self.times} | {hit} | {left} | {told} | {self.next_calls} |"


def run_storm(storm: Storm, times: int) -> Found:
    """Cancel so many times, with a loop and a server of its own, and look at what is left; complaints are kept."""
    found = Found()

    def complain(unraisable: Any) -> None:
        found.complaints.append(repr(unraisable.exc_value))

    before, sys.unraisablehook = sys.unraisablehook, complain
    try:
        with serving(answer_at_random) as server, warnings.catch_warnings():
            warnings.simplefilter("error")
            anyio.run(rage, storm, server, times, found, backend=storm.loop)
            gc.collect()
    finally:
        sys.unraisablehook = before
    return found


async def rage(storm: Storm, server: Server, times: int, found: Found) -> None:
    """Cancel so many times, a few at once; then call as usual, close the client, and count what is left."""
    if storm.loop == "asyncio":
        asyncio.get_running_loop().set_exception_handler(lambda _loop, told: found.complaints.append(repr(told)))
    objects, tasks, descriptors = count_connection_objects(), count_tasks(), count_descriptors()
    config = Config(base_url=server.url, rate_limit=1_000_000, concurrency=2 * AT_ONCE)
    async with AsyncNebula("sk-emulator", config=config, observer=found.note) as nebula:
        async with anyio.create_task_group() as group:
            for number in range(AT_ONCE):
                group.start_soon(cancel_some, storm, nebula, Random(f"{SEED} {number}"), times, found)  # noqa: S311
        found.next_calls = await call_as_usual(nebula)
    await settle(server, lambda: count_descriptors() <= descriptors and count_tasks() <= tasks)
    found.connections, found.objects = server.tally.open.value, count_connection_objects() - objects
    found.tasks, found.descriptors = count_tasks() - tasks, count_descriptors() - descriptors


async def cancel_some(storm: Storm, nebula: AsyncNebula, source: Random, times: int, found: Found) -> None:
    """Cancel until all together have cancelled so many times what was still running.

    The delays become shorter with each one that came too late, and longer with the others, so that one in five does:
    then the cancellations are spread over all of a call.
    """
    while found.times < times:
        found.times += 1
        is_hit = await storm.cancelling(lambda: storm.verb(nebula), source.uniform(0, found.longest_delay))
        found.longest_delay *= LONGER if is_hit else SHORTER
        found.times -= not is_hit
        if is_hit and found.times % 1_000 == 0:
            print(f"{storm}: {found.times}", file=sys.stderr)


async def call_as_usual(nebula: AsyncNebula) -> int:
    """Return how many of the next calls succeed."""
    results = await nebula.generate_all(["a flying cat"] * NEXT_CALLS, model=MODEL)
    return sum(isinstance(result, Generation) for result in results)


async def settle(server: Server, is_quiet: Callable[[], bool]) -> None:
    """Wait for the server to notice what was closed, and for the loop to forget it."""
    with anyio.move_on_after(SETTLING_SECONDS):
        while server.tally.open.value or not is_quiet():  # noqa: ASYNC110 - another process counts
            await anyio.sleep(0.01)


def count_connection_objects() -> int:
    """Return how many connections something still holds."""
    gc.collect()
    return sum(isinstance(each, httpcore.AsyncHTTPConnection) for each in gc.get_objects())


def count_tasks() -> int:
    """Return how many tasks there are."""
    if trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


def count_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - one entry is the listing's own, each time


if __name__ == "__main__":
    sys.exit(main())
