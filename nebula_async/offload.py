"""CPU work beside the event loop, on at most two threads for each loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio.to_thread
from anyio.lowlevel import RunVar

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")

THREADS = 2

_limiters: RunVar[anyio.CapacityLimiter] = RunVar("nebula_async_offload")


async def offload(work: Callable[[*Arguments], Value], *arguments: *Arguments) -> Value:
    """Run `work(*arguments)` in a thread and return what it returns; the event loop stays free.

    A cancelled caller waits for the work to end: it cannot be interrupted, and takes milliseconds.
    """
    return await anyio.to_thread.run_sync(work, *arguments, limiter=_limiter())


def _limiter() -> anyio.CapacityLimiter:
    try:
        return _limiters.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS)
        _limiters.set(limiter)
        return limiter
