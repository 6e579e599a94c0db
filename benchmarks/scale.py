"""What 10^3 to 10^5 tiny requests through `generate_many` cost for each of them, and whether memory grows with them.

A server in another process, a client in a fresh process for each row; results are dropped as they come. Memory is what
the client has after its first 1,000 requests, beside what it has at most from then on and at the end. The same for
items that do nothing, through the fan-out alone. Prints a table and exits 1 when the target is missed. `--full` adds
10^6. Needs Linux, which tells the highest memory since it was asked to forget it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import anyio
from attrs import asdict, frozen
from calls import PER_MINUTE, answer_at_once
from servers import serving

from nebula_async import AsyncNebula, Failure
from nebula_async.engine.fanout import FanOut

COUNTS = (1_000, 10_000, 100_000)
FULL_COUNT = 1_000_000
WARM_UP = 1_000
AT_ONCE = 64
TARGET_MB = 4.0
MB = 2**20
MODEL = "black-forest-labs/FLUX.1-schnell"
LIBRARIES = ("httpx", "httpcore", "anyio", "trio")

Results: TypeAlias = AbstractAsyncContextManager[AsyncIterator[object]]
Fan: TypeAlias = Callable[[Iterable[str]], Results]
"""Makes of prompts what is to be measured."""


@frozen
class Cost:
    """What so many items took: microseconds for each, and bytes after the warm-up, at the end and at most."""

    cpu: float
    wall: float
    before: int
    after: int
    highest: int

    @property
    def rise(self) -> float:
        """How many MB more there were at most than after the warm-up."""
        return (self.highest - self.before) / MB


def main() -> int:
    """Measure, print, and say whether memory was flat."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--full", action="store_true", help=f"{FULL_COUNT} items too: half an hour more")
    options.add_argument("--client", nargs=4, metavar=("LOOP", "KIND", "COUNT", "URL"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.client:
        loop, kind, count, url = given.client
        print(json.dumps(asdict(anyio.run(measure, kind, int(count), url, backend=loop))))
        return 0
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    print(f"Python {platform.python_version()}, {versions}; {AT_ONCE} at once, warm-up of {WARM_UP}\n")
    print("| items | loop | how many | us of CPU each | us each | MB after warm-up | at the end | at most | rise |")
    print("|---|---|---|---|---|---|---|---|---|")
    counts = (*COUNTS, FULL_COUNT) if given.full else COUNTS
    with serving(answer_at_once) as server:
        rises = [show(*row, server.url) for row in itertools.product(("asyncio", "trio"), ("no-op", "request"), counts)]
    print(f"\nmemory rose by {max(rises):.1f} MB at most (target: at most {TARGET_MB:g})")
    return 0 if max(rises) <= TARGET_MB else 1


def show(loop: str, kind: str, count: int, url: str) -> float:
    """Measure in a process of its own, print the row, and return by how many MB memory rose."""
    command = [sys.executable, __file__, "--client", loop, kind, str(count), url]
    cost = Cost(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    memory = " | ".join(f"{size / MB:.1f}" for size in (cost.before, cost.after, cost.highest))
    print(f"| {kind} | {loop} | {count} | {cost.cpu:.1f} | {cost.wall:.1f} | {memory} | {cost.rise:.1f} |", flush=True)
    return cost.rise


async def measure(kind: str, count: int, url: str) -> Cost:
    """Return what so many items cost after the warm-up."""
    async with AsyncNebula(
        "sk-emulator", base_url=f"{url}/api/v1", concurrency=AT_ONCE, rate_limit=PER_MINUTE
    ) as nebula:
        fan = no_ops if kind == "no-op" else requests_of(nebula)
        await run(fan, WARM_UP)
        forget_highest()
        before, cpu, wall = memory("VmRSS"), time.process_time(), time.perf_counter()
        await run(fan, count)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(cpu / count * 1e6, wall / count * 1e6, before, memory("VmRSS"), memory("VmHWM"))


def no_ops(prompts: Iterable[str]) -> Results:
    """Do nothing for each."""

    async def work(index: int, _prompt: str) -> int:
        return index

    return FanOut(work, prompts, AT_ONCE)


def requests_of(nebula: AsyncNebula) -> Fan:
    """Ask for a picture of each."""

    def fan(prompts: Iterable[str]) -> Results:
        return nebula.generate_many(prompts, model=MODEL)

    return fan


async def run(fan: Fan, count: int) -> None:
    """Go through so many prompts, made as they are taken, and keep nothing."""
    left = count
    async with fan(f"a flying cat, number {number}" for number in range(count)) as results:
        async for result in results:
            left -= 1
            if isinstance(result, Failure):
                raise result.error
    if left:
        raise RuntimeError(f"{left} of {count} items have no result")


def forget_highest() -> None:
    """Count the highest memory anew; see proc_pid_clear_refs(5)."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(field: str) -> int:
    """Return the bytes that this process has (`VmRSS`), or has had at most (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


if __name__ == "__main__":
    sys.exit(main())
