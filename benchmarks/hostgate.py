"""Four processes on one account, 600 a minute, through the gate of the host: what they get, is refused, and how fairly.

The server is the emulator, in a process of its own and in real time; it counts in three ways. Beside that, what the
gate costs a process that is alone, next to the gate of one process. Prints tables and exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.synchronize import Event
from random import Random
from typing import Any

import anyio
from attrs import frozen

from nebula_async import AsyncNebula, Config, RetryPolicy
from nebula_async.emulator import Emulator
from nebula_async.engine.gate import Gate, local_gate
from nebula_async.engine.hostgate import host_gate

PROCESSES, AT_ONCE = 4, 16
PER_MINUTE, BURST = 600, 10
SECONDS = 90.0
MODEL = "black-forest-labs/FLUX.1-schnell"
LEAST_GOODPUT, MOST_REFUSED, LEAST_FAIRNESS = 0.97, 0.001, 0.99

WINDOWS: dict[str, dict[str, Any]] = {
    f"bucket of {BURST}": {"window": "bucket", "burst": BURST},
    "fixed window": {"window": "fixed"},
    "sliding window": {"window": "sliding"},
}

ATTEMPTS = 2_000
PACED_ATTEMPTS, PACED_PER_MINUTE = 400, 6_000
UNPACED = Config(retry=RetryPolicy(backoff=0))
MOST_SLOWDOWN = 1.02


@frozen
class Shared:
    """What the processes came to together, within the seconds after the first request."""

    accepted: Counter[str]
    refused: int
    seconds: float

    @property
    def goodput(self) -> float:
        """What was accepted, as a share of the limit."""
        return self.accepted.total() / (PER_MINUTE / 60 * self.seconds)

    @property
    def refusals(self) -> float:
        """Which share of what was sent was refused."""
        return self.refused / max(self.refused + self.accepted.total(), 1)

    @property
    def fairness(self) -> float:
        """Jain's index: 1 where all got the same."""
        counts = self.accepted.values()
        return sum(counts) ** 2 / max(PROCESSES * sum(count**2 for count in counts), 1)

    @property
    def is_good(self) -> bool:
        """Whether all targets were reached."""
        is_used = self.goodput >= LEAST_GOODPUT and self.refusals <= MOST_REFUSED
        return is_used and self.fairness >= LEAST_FAIRNESS


def main() -> int:
    """Measure, print, and say whether all targets were reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=SECONDS, help="how long each way of counting is measured")
    seconds: float = options.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NEBULA_STATE_DIR"] = folder
        is_reached = all([compare_alone(), share_all(seconds)])
    print("\nall targets reached" if is_reached else "\na target was missed")
    return 0 if is_reached else 1


def share_all(seconds: float) -> bool:
    """Measure four processes for each way of counting."""
    print(f"{PROCESSES} processes, {AT_ONCE} at a time each, {PER_MINUTE} a minute together, {seconds:g} s each\n")
    print("| server | accepted | of each process | refused | goodput | refusals | fairness |")
    print("|---|---|---|---|---|---|---|")
    rows = [share(seconds, name, window) for name, window in WINDOWS.items()]
    print(f"| *targets* | | | | {LEAST_GOODPUT:.1%} | {MOST_REFUSED:.1%} | {LEAST_FAIRNESS} |")
    return all(row.is_good for row in rows)


def share(seconds: float, name: str, window: dict[str, Any]) -> Shared:
    """Run the processes against a server of their own, and read its journal."""
    context = multiprocessing.get_context("spawn")
    go = context.Event()
    ready = [context.Event() for _ in range(PROCESSES)]
    with Emulator(per_minute=PER_MINUTE, credit="1000000", latency=1.0, **window) as emulator:
        arguments = [(emulator.base_url, f"process {number}", ready[number], go) for number in range(PROCESSES)]
        processes = [context.Process(target=ask, args=each, daemon=True) for each in arguments]
        for process in processes:
            process.start()
        for event in ready:
            event.wait()
        go.set()
        time.sleep(seconds + 1)
        for process in processes:
            process.terminate()
            process.join()
        outcome = read_journal(emulator, seconds)
    shares = ", ".join(str(outcome.accepted[f"process {number}"]) for number in range(PROCESSES))
    figures = f"{outcome.goodput:.1%} | {outcome.refusals:.2%} | {outcome.fairness:.4f}"
    print(f"| {name} | {outcome.accepted.total()} | {shares} | {outcome.refused} | {figures} |", flush=True)
    return outcome


def read_journal(emulator: Emulator, seconds: float) -> Shared:
    """Return what the emulator was asked for in that time."""
    records = emulator.journal.generations
    ended = min(record.at for record in records) + seconds
    within = [record for record in records if record.at < ended]
    refused = [record for record in within if record.status == 429]
    return Shared(Counter(record.prompt or "" for record in within if record not in refused), len(refused), seconds)


def ask(url: str, prompt: str, ready: Event, go: Event) -> None:
    """Ask for pictures without end, in a process of its own."""

    async def run() -> None:
        config = Config(base_url=url, rate_limit=PER_MINUTE, concurrency=AT_ONCE, shared_by="host")
        async with AsyncNebula("sk-emulator", config=config) as nebula:
            await nebula.models()
            ready.set()
            await anyio.to_thread.run_sync(go.wait)
            endless = (prompt for _ in iter(int, 1))
            async with nebula.generate_many(endless, model=MODEL, width=256, height=256) as results:
                async for _ in results:
                    pass

    anyio.run(run)


def compare_alone() -> bool:
    """Measure one process alone, with either gate: the cost of an attempt, and whether the pace suffers."""
    print("one process alone\n")
    print(f"| gate | CPU for an attempt, us | {PACED_ATTEMPTS} attempts at {PACED_PER_MINUTE} a minute, s |")
    print("|---|---|---|")
    paced = {}
    for name in ("process", "host"):
        cost = anyio.run(cpu_for_attempts, make_gate(name, UNPACED, "cost"))
        paced[name] = anyio.run(seconds_for_attempts, make_gate(name, Config(rate_limit=PACED_PER_MINUTE), "pace"))
        print(f"| {name} | {cost * 1e6:.0f} | {paced[name]:.2f} |", flush=True)
    print(f"| *target* | | at most {MOST_SLOWDOWN} of the first |\n")
    return paced["host"] <= MOST_SLOWDOWN * paced["process"]


def make_gate(name: str, config: Config, account: str) -> Gate:
    """Return a gate that nobody else uses."""
    source = Random(1)  # noqa: S311
    return local_gate(config, source) if name == "process" else host_gate(config, account, source, lambda _event: None)


async def cpu_for_attempts(gate: Gate) -> float:
    """Return the CPU seconds that the gate takes for an attempt, where nothing has to be waited for."""
    started = time.process_time()
    for _ in range(ATTEMPTS):
        await attempt(gate)
    return (time.process_time() - started) / ATTEMPTS


async def seconds_for_attempts(gate: Gate) -> float:
    """Return how long attempts take that queue for the pace."""
    started = time.monotonic()
    async with anyio.create_task_group() as group:
        for _ in range(PACED_ATTEMPTS):
            group.start_soon(attempt, gate)
    return time.monotonic() - started


async def attempt(gate: Gate) -> None:
    """Enter and leave the gate."""
    async with gate.slot("bulk", deadline=float("inf")):
        await gate.accepted()


if __name__ == "__main__":
    sys.exit(main())
