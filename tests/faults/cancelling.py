"""The ways to cancel some work once it is somewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

Work = Callable[[], Awaitable[object]]


async def by_scope(work: Work, is_there: Work) -> None:
    """Cancel the scope of some work once it is there; the scope sees that, and nobody else."""
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                await work()

        group.start_soon(run)
        await is_there()
        scope.cancel()
    assert scope.cancelled_caught


async def natively(work: Work, is_there: Work) -> None:
    """Cancel the task of some work once it is there; it ends as cancelled."""
    task = asyncio.ensure_future(work())
    await is_there()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def by_a_time_limit(work: Work, is_there: Work) -> None:
    """Let the standard library's time limit strike once some work is there; it is seen as what it is."""

    async def limited() -> None:
        async with asyncio.timeout(None) as limit:
            limits.append(limit)
            await work()

    limits: list[asyncio.Timeout] = []
    task = asyncio.ensure_future(limited())
    await is_there()
    limits[0].reschedule(0)
    with pytest.raises(TimeoutError):
        await task
    assert 0 == task.cancelling()


async def settled() -> None:
    """Let what has arrived be read, and everyone do what can be done at once."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()
