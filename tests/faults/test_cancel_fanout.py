"""Fan-out under attack: whoever cancels it, wherever it waits, whatever its work and its consumer do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.lowlevel
import pytest
from fanning import collect, double, endless, five_of, forever
from invariants import running

from nebula_async.engine.fanout import FanOut

MOMENTS = 40
"""More steps of the event loop than the fan-outs here need."""


async def slow_to_go(_index: int, _item: object) -> None:
    """Never end, and take some time to be cancelled."""
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            for _ in range(5):
                await anyio.lowlevel.checkpoint()


@pytest.fixture
async def nothing_left():
    """Fail where a test leaves a task behind."""
    before = len(running())
    yield
    assert before == len(running())


# Cancelled at every moment

sources = pytest.mark.parametrize("source", [itertools.count, endless], ids=["iterable", "async generator"])


@sources
@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.anyio
async def test_cancelled_by_scope_at_every_moment(source, moment, nothing_left):
    """A scope ends a fan-out wherever it is, entered, waiting or being left; nobody else sees it (F41)."""
    scope = anyio.CancelScope()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(_in, scope, source())
            for _ in range(moment):
                await anyio.lowlevel.checkpoint()
            scope.cancel()


async def _in(scope: anyio.CancelScope, source) -> None:
    with scope:
        await five_of(source)
    await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["iterable", "async generator"])
@pytest.mark.asyncio
async def test_cancelled_natively_at_every_moment(name, count):
    """`task.cancel()`, once or twice, ends it wherever it is: the task is cancelled, or had ended before (F40)."""
    left = running()
    for moment in range(MOMENTS):
        source = itertools.count() if name == "iterable" else endless()
        task = asyncio.ensure_future(five_of(source))
        for _ in range(moment):
            await asyncio.sleep(0)
        had_ended = task.done()
        for _ in range(count):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([task], timeout=5)
        assert task.cancelled() != had_ended
        assert left == running()


@pytest.mark.asyncio
async def test_a_cancellation_during_the_clean_up_is_not_lost():
    """A task that is cancelled while the block's own exception waits for what is in flight is cancelled; a native
    cancellation comes only once (F40).
    """
    entered = asyncio.Event()

    async def run() -> None:
        async with FanOut(slow_to_go, itertools.count(), 3):
            await anyio.wait_all_tasks_blocked()
            entered.set()
            raise ValueError("mine")

    task = asyncio.ensure_future(run())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert "mine" == str(caught.value.__context__)


@pytest.mark.anyio
async def test_a_cancellation_is_no_end(nothing_left):
    """Results that a cancellation cut off never look as if they were all."""
    with anyio.CancelScope() as scope:
        async with FanOut(double, range(100), 3) as results:
            async for result in results:
                if result > 20:
                    scope.cancel()
        pytest.fail("it ended as if all had come")
    assert scope.cancelled_caught


@pytest.mark.asyncio
async def test_time_limits_inside_leave_no_trace():
    """The standard library's time limits on a result, and on what is done with one, leave the rest at work, and no
    cancellation behind (F40).
    """
    go_on = asyncio.Event()

    async def work(_index: int, item: int) -> int:
        await go_on.wait()
        return item

    async with FanOut(work, range(3), 2) as results:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(results), 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(results)
        go_on.set()
        assert 0 == await anext(results)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(5)
    assert 0 == asyncio.current_task().cancelling()


# Exceptions


class StopEverything(BaseException):
    """No exception that anybody catches."""


@pytest.mark.anyio
async def test_what_stops_everything_is_bare(nothing_left):
    """What is no `Exception` ends the block at once, and comes out bare, whoever raises it."""

    async def work(_index: int, _item: object) -> None:
        await anyio.lowlevel.checkpoint()
        raise StopEverything

    def source() -> Iterator[int]:
        yield 1
        raise StopEverything

    for fan_out in (FanOut(work, range(3), 2), FanOut(forever, source(), 2)):
        with pytest.raises(StopEverything):
            await collect(fan_out)


@pytest.mark.anyio
async def test_a_stray_end_of_iteration_is_an_error(nothing_left):
    """Work that lets a `StopAsyncIteration` out does not end the iteration unseen."""

    async def work(_index: int, _item: object) -> None:
        raise StopAsyncIteration

    with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
        await collect(FanOut(work, range(3), 2))


@pytest.mark.anyio
async def test_an_item_fails_while_the_source_waits(nothing_left):
    """When an item fails the iteration ends, although the source has not offered the next one."""

    async def source() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep_forever()

    async def work(_index: int, _item: int) -> None:
        await anyio.wait_all_tasks_blocked()
        raise KeyError("mine")

    with anyio.fail_after(5), pytest.raises(KeyError, match="mine"):
        await collect(FanOut(work, source(), 3))


# Consumers


@pytest.mark.anyio
async def test_a_consumer_that_stays_outside(nothing_left):
    """A task that waits for a result when the block is left is told so; it does not wait for ever (F43)."""
    told = []

    async def wait_for(results) -> None:
        with pytest.raises(RuntimeError, match="block") as caught:
            await anext(results)
        told.append(caught.value)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group, FanOut(forever, range(5), 2) as results:
            group.start_soon(wait_for, results)
            await anyio.wait_all_tasks_blocked()
    assert 1 == len(told)


@pytest.mark.anyio
async def test_a_consumer_that_never_waits(nothing_left):
    """A consumer without a wait of its own, behind with its results, lets others go on again and again."""
    seen, turns = 0, []

    async def other() -> None:
        while True:
            turns.append(seen)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        async with FanOut(double, range(100), 50) as results:
            await anyio.wait_all_tasks_blocked()
            group.start_soon(other)
            async for _ in results:
                seen += 1
        group.cancel_scope.cancel()
    assert 16 >= max(later - earlier for earlier, later in itertools.pairwise([0, *turns, 100]))


@pytest.mark.anyio
async def test_no_more_workers_than_items(nothing_left):
    """A list of three does not start a hundred tasks."""
    before = running()
    async with FanOut(forever, [1, 2, 3], 100):
        await anyio.wait_all_tasks_blocked()
        assert 3 == len(running() - before)
