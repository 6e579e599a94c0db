"""What a stretch of work costs its own process: time, CPU, memory, and how late its event loop is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from attrs import frozen

TICK_SECONDS = 0.001
PEAK_IS_NOW = "5"
"""Written to `clear_refs`, it sets the high-water mark of resident memory back to what is resident now (proc(5))."""


@frozen
class Lateness:
    """By how many milliseconds sleeps of one millisecond were exceeded."""

    p50: float
    p99: float
    max: float


@frozen
class Footprint:
    """What `done` pieces of work took: seconds, CPU seconds of all threads, bytes at the peak above the start."""

    done: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    late: Lateness


async def measure(work: Callable[[], Awaitable[int]]) -> Footprint:
    """Run `work`, which returns how much it did, beside a ticker, and return what it cost. For asyncio and trio.

    How late the loop is, and the peak, begin with the work: what the process did before does not count.
    """
    late: list[float] = []
    async with anyio.create_task_group() as group:
        group.start_soon(tick, late)
        await anyio.sleep(20 * TICK_SECONDS)
        late.clear()
        start_bytes = reset_peak()
        seconds, cpu_seconds = time.perf_counter(), time.process_time()
        done = await work()
        seconds, cpu_seconds = time.perf_counter() - seconds, time.process_time() - cpu_seconds
        peak_bytes = resident("VmHWM") - start_bytes
        group.cancel_scope.cancel()
    return Footprint(done, seconds, cpu_seconds, peak_bytes, lateness(late))


async def tick(late: list[float]) -> None:
    """Note, until it is cancelled, by how many milliseconds each sleep is exceeded."""
    while True:
        due = time.perf_counter() + TICK_SECONDS
        await anyio.sleep(TICK_SECONDS)
        late.append(1000 * (time.perf_counter() - due))


def lateness(late: list[float]) -> Lateness:
    """Return the median, the highest hundredth and the highest of what was noted."""
    if len(late) < 2:  # the loop stood still for all of it
        return Lateness(*3 * (late or [float("inf")]))
    return Lateness(statistics.median(late), statistics.quantiles(late, n=100, method="inclusive")[-1], max(late))


def reset_peak() -> int:
    """Set the high-water mark of resident memory back, and return it."""
    Path("/proc/self/clear_refs").write_text(PEAK_IS_NOW)
    return resident("VmHWM")


def resident(name: str) -> int:
    """Return one of the sizes of `/proc/self/status`, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
