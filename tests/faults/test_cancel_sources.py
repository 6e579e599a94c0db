"""Sources of a fan-out that hold something while they yield, fail to close, or never end."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import sys
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest
from fanning import collect, double, endless
from invariants import running
from scripted import VIRTUAL

from nebula_async.engine import fanout
from nebula_async.engine.fanout import FanOut


@pytest.fixture
async def nothing_left():
    """Fail where a test leaves a task behind."""
    before = len(running())
    yield
    assert before == len(running())


number_of = contextvars.ContextVar("number_of", default=0)


async def with_a_scope() -> AsyncIterator[int]:
    """Yield inside of a cancel scope."""
    with anyio.CancelScope():
        for number in itertools.count():
            await anyio.lowlevel.checkpoint()
            yield number


async def with_a_group() -> AsyncIterator[int]:
    """Yield inside of a task group."""
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.lowlevel.checkpoint)
        for number in itertools.count():
            await anyio.lowlevel.checkpoint()
            yield number


async def with_a_variable() -> AsyncIterator[int]:
    """Yield while a context variable is set."""
    token = number_of.set(5)
    try:
        for number in itertools.count():
            await anyio.lowlevel.checkpoint()
            yield number
            assert 5 == number_of.get()
    finally:
        number_of.reset(token)


async def chained() -> AsyncIterator[int]:
    """Yield what another fan-out makes."""
    async with FanOut(double, endless(), 3) as results:
        async for result in results:
            yield result


HOLDING = [with_a_scope, with_a_group, with_a_variable, chained]


@pytest.mark.parametrize("source", HOLDING)
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("is_idle", [False, True], ids=["at work", "waiting"])
@pytest.mark.anyio
async def test_a_source_that_holds_something_while_it_yields(source, workers, is_idle, nothing_left):
    """An async generator may hold what only the task that took it can give back: a scope, a task group, a context
    variable, another fan-out; leaving the block closes it in order (F43).
    """
    async with FanOut(double, source(), workers) as results:
        for _ in range(20):
            await anext(results)
        if is_idle:
            await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.anyio
async def test_one_feeds_another(is_ordered, nothing_left):
    """What one fan-out makes can be the next one's items, through a generator, to the last."""

    async def between() -> AsyncIterator[int]:
        async with FanOut(double, range(20), 3, is_ordered) as results:
            async for result in results:
                yield result + 1

    made = await collect(FanOut(double, between(), 3, is_ordered))
    assert [4 * number + 2 for number in range(20)] == (made if is_ordered else sorted(made))


async def one_of(source, *, is_idle: bool) -> None:
    """Take a result and leave, while the source is waited for, or while it waits to be asked."""
    async with FanOut(double, source, 3) as results:
        await anext(results)
        if is_idle:
            await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("is_idle", [False, True])
@pytest.mark.anyio
async def test_a_source_whose_clean_up_fails(is_idle, nothing_left):
    """What an async generator raises as it is closed comes out of the block, bare."""
    with pytest.raises(LookupError, match="cannot close"):
        await one_of(_cannot_close(), is_idle=is_idle)


@pytest.mark.anyio
async def test_a_task_of_a_source_that_fails_as_it_is_ended(nothing_left):
    """Of a generator that is closed in a task group, what its tasks raise comes out of the block, and nothing else."""
    with pytest.raises(ExceptionGroup) as raised:
        await one_of(_with_a_task_that_cannot_end(), is_idle=True)
    assert ["cannot end"] == [str(error) for error in raised.value.exceptions]


async def _with_a_task_that_cannot_end() -> AsyncIterator[int]:
    async with anyio.create_task_group() as group:
        group.start_soon(_cannot_end)
        for number in itertools.count():
            await anyio.lowlevel.checkpoint()
            yield number


async def _cannot_end() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise LookupError("cannot end")


@pytest.mark.parametrize("is_idle", [False, True])
@pytest.mark.anyio
async def test_a_source_whose_clean_up_fails_after_the_block_did(is_idle, nothing_left):
    """What the block itself raises goes first."""
    with pytest.raises(ValueError, match="mine"):
        async with FanOut(double, _cannot_close(), 3) as results:
            await _fail_after_one(results, is_idle=is_idle)


async def _fail_after_one(results: AsyncIterator[int], *, is_idle: bool) -> None:
    await anext(results)
    if is_idle:
        await anyio.wait_all_tasks_blocked()
    raise ValueError("mine")


async def _cannot_close() -> AsyncIterator[int]:
    try:
        for number in itertools.count():
            await anyio.lowlevel.checkpoint()
            yield number
    finally:
        raise LookupError("cannot close")


@VIRTUAL
@pytest.mark.anyio
async def test_a_source_whose_clean_up_never_ends(nothing_left):
    """An async generator that does not close is waited for some seconds, not for ever."""

    async def source() -> AsyncIterator[int]:
        try:
            for number in itertools.count():
                await anyio.lowlevel.checkpoint()
                yield number
        finally:
            await anyio.sleep_forever()

    begun = anyio.current_time()
    await one_of(source(), is_idle=True)
    assert fanout.CLOSING_SECONDS == anyio.current_time() - begun


@pytest.mark.anyio
async def test_a_source_is_not_asked_again(nothing_left):
    """After its end a source is left alone, though it would offer more."""
    offered = iter([1, 2, None, 3, 4])

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            await anyio.lowlevel.checkpoint()
            if (number := next(offered)) is None:
                raise StopAsyncIteration
            return number

    assert [2, 4] == sorted(await collect(FanOut(double, Source(), 3)))
    assert [3, 4] == list(offered)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin at once since 3.12")
def test_tasks_that_begin_at_once():
    """With asyncio's eager tasks everything comes out as well, and a break leaves nothing behind."""

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        for source in (range(20), chained()):
            async with FanOut(double, source, 3) as results:
                assert 15 == len([await anext(results) for _ in range(15)])
        assert sorted(await collect(FanOut(double, range(300), 256))) == [2 * number for number in range(300)]
        assert 1 == len(asyncio.all_tasks())

    asyncio.run(main())
