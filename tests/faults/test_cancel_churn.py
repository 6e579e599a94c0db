"""Many calls that are cancelled at random moments, in every way there is, and what is left of them: nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import anyio.to_thread
import pytest
import trio
from chaos import PATIENCE, chance
from invariants import SMALL, assert_covers, running

from nebula_async import AsyncNebula, Charges, Config, Generation, RetryPolicy
from nebula_async.emulator import Emulator
from nebula_async.events import Abandoned, Failed, Generated

WORKERS, TIMES = 20, 30
LONGEST = 0.06
"""Seconds after which a call is cancelled at the latest; it is done in fewer, if the machine has nothing else to do."""

Ask = Callable[[], Awaitable[object]]


async def in_a_scope(ask: Ask, seconds: float) -> None:
    """Give up by a scope's deadline."""
    with anyio.move_on_after(seconds):
        await ask()


async def by_wait_for(ask: Ask, seconds: float) -> None:
    """Give up as asyncio does."""
    with suppress(TimeoutError):
        await asyncio.wait_for(ask(), seconds)


async def by_the_task(ask: Ask, seconds: float) -> None:
    """Cancel the task."""
    task = asyncio.ensure_future(ask())
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def slow():
    """An emulator that needs some time for a picture."""
    with Emulator(faults=["delay=0.02:1"], credit="1000000") as emulator:
        yield emulator


def descriptors() -> int:
    """Return how many this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - what is counted are no paths


async def until_closed(before: int) -> None:
    """Wait until the emulator, which lives in this process, has closed its ends too."""
    with anyio.fail_after(PATIENCE):
        while descriptors() > before:  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.01)


@pytest.mark.anyio
async def test_churn(slow):
    """After hundreds of calls that are cancelled at every moment of theirs, a hundred calls succeed at once, all that
    was charged had been told, and no task and no descriptor is left (F42).
    """
    manners = [in_a_scope] if trio.lowlevel.in_trio_run() else [in_a_scope, by_wait_for, by_the_task]
    events: list = []
    config = Config(base_url=slow.base_url, retry=RetryPolicy(backoff=0), concurrency=WORKERS)
    await anyio.to_thread.run_sync(descriptors)  # the worker thread comes with descriptors of its own
    before, tasks = descriptors(), running()

    async def worker(number: int) -> None:
        source = chance(42, number)
        for time in range(TIMES):
            await source.choice(manners)(ask, 60 if time % 5 == 0 else source.uniform(0, LONGEST))

    async def ask() -> None:
        await nebula.generate("a cat", **SMALL)

    async with AsyncNebula("sk-emulator", config=config, observer=events.append) as nebula:
        async with anyio.create_task_group() as group:
            for number in range(WORKERS):
                group.start_soon(worker, number)
        assert tasks == running()
        ends = await nebula.generate_all(["a cat"] * 100, **SMALL)
    assert tasks == running()
    await until_closed(before)

    assert {(Generation, 1)} == {(type(ended), ended.attempts) for ended in ends}
    told = [event for event in events if isinstance(event, Abandoned | Generated)]
    assert [] == [event for event in events if isinstance(event, Failed)]
    assert WORKERS * TIMES + 100 >= len(told) >= WORKERS * TIMES * 0.8
    assert WORKERS * TIMES / 5 <= sum(isinstance(event, Generated) for event in told[:-100])
    assert WORKERS < sum(isinstance(event, Abandoned) for event in told)
    assert_covers(sum((event.charges for event in told), Charges()), slow.journal.charged)
    assert sum(event.attempts for event in told) >= len(slow.journal.generations)
