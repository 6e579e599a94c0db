"""Work beside the event loop: for the CPU and for disks, each on at most two threads for each loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio.to_thread
from anyio.lowlevel import RunVar

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")

THREADS = 2

_cpu: RunVar[anyio.CapacityLimiter] = RunVar("nebula_async_cpu")
_disk: RunVar[anyio.CapacityLimiter] = RunVar("nebula_async_disk")


async def offload(work: Callable[[*Arguments], Value], *arguments: *Arguments) -> Value:
    """Run `work(*arguments)` in a thread and return what it returns; the event loop stays free.

    A cancelled caller waits for the work to end: it cannot be interrupted, and takes milliseconds.
    """
    return await anyio.to_thread.run_sync(work, *arguments, limiter=_limiter(_cpu))


async def on_disk(
    work: Callable[[*Arguments], Value], *arguments: *Arguments, abandon_on_cancel: bool = False
) -> Value:
    """Run `work(*arguments)`, which may wait for a disk, in a thread, and return what it returns.

    The threads are not those of `offload`: a disk that hangs holds up nothing that does without it. A caller whose
    scope is cancelled waits for the work to end, unless it is to be abandoned; a native cancellation of asyncio leaves
    it working either way.
    """
    limiter = _limiter(_disk)
    return await anyio.to_thread.run_sync(work, *arguments, abandon_on_cancel=abandon_on_cancel, limiter=limiter)


def _limiter(limiters: RunVar[anyio.CapacityLimiter]) -> anyio.CapacityLimiter:
    try:
        return limiters.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS)
        limiters.set(limiter)
        return limiter
