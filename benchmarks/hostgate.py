"""Four processes on one account, 600 a minute, through the gate of the host: what they get, is refused, and how fairly.

Beside that, what the gate costs a process that is alone, next to the gate of one process. Prints tables and exits 1
when a target is missed; `sharing.py` is the processes and their server.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from random import Random

import anyio
from sharing import SECONDS, Crowd, share_all

from nebula_async import Config, RetryPolicy
from nebula_async.engine.gate import Gate, local_gate
from nebula_async.engine.hostgate import host_gate

ATTEMPTS = 2_000
PACED_ATTEMPTS, PACED_PER_MINUTE = 400, 6_000
UNPACED = Config(retry=RetryPolicy(backoff=0))
MOST_SLOWDOWN = 1.02


def main() -> int:
    """Measure, print, and say whether all targets were reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=SECONDS, help="how long each way of counting is measured")
    seconds: float = options.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NEBULA_STATE_DIR"] = folder
        is_reached = all([compare_alone(), share_all(Crowd(), seconds, shared_by="host")])
    print("all targets reached" if is_reached else "a target was missed")
    return 0 if is_reached else 1


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
