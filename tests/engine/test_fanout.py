"""Many at once, a few at a time: lazily taken, held back by a slow consumer, and gone when the block is left."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.lowlevel
import pytest
import trio

from nebula_async.engine.fanout import FanOut


async def double(_index: int, item: int) -> int:
    """Double a number, after letting others work."""
    await anyio.lowlevel.checkpoint()
    return item * 2


async def forever(_index: int, _item: object) -> None:
    """Never end."""
    await anyio.sleep_forever()


async def numbers(count: int) -> AsyncIterator[int]:
    """Yield numbers, letting others work in between."""
    for number in range(count):
        await anyio.lowlevel.checkpoint()
        yield number


async def collect(fan_out: FanOut) -> list:
    """Return everything that comes out."""
    async with fan_out as results:
        return [result async for result in results]


def tasks() -> int:
    """Return how many tasks there are."""
    if trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


@pytest.fixture
async def nothing_left():
    """Fail where a test leaves a task behind."""
    before = tasks()
    yield
    assert before == tasks()


@pytest.mark.parametrize("workers", [1, 2, 7, 100])
@pytest.mark.parametrize("source", [range, numbers], ids=["iterable", "async iterable"])
@pytest.mark.parametrize("count", [0, 1, 20])
@pytest.mark.anyio
async def test_everything_comes_out(workers, source, count, nothing_left):
    """Each item is worked on once, from any kind of iterable, with any number of workers."""
    assert [number * 2 for number in range(count)] == sorted(await collect(FanOut(double, source(count), workers)))


@pytest.mark.anyio
async def test_results_come_as_they_finish():
    """A slow item holds up no other."""
    gates = [anyio.Event() for _ in range(3)]

    async def wait(index: int, _item: int) -> int:
        await gates[index].wait()
        return index

    seen = []
    async with FanOut(wait, range(3), 3) as results:
        for index in (2, 0, 1):
            gates[index].set()
            seen.append(await anext(results))
    assert [2, 0, 1] == seen


@pytest.mark.anyio
async def test_results_in_order():
    """In order, a result waits for those before it."""
    gates = [anyio.Event() for _ in range(4)]

    async def wait(index: int, _item: int) -> int:
        await gates[index].wait()
        for gate in gates[index - 1 : index]:
            gate.set()
        return index

    gates[3].set()
    assert [0, 1, 2, 3] == await collect(FanOut(wait, range(4), 4, is_ordered=True))


@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.anyio
async def test_items_are_taken_lazily(workers, is_ordered, nothing_left):
    """Of an endless source no more than twice as many items as workers are taken and not consumed (F44)."""
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield number

    async with FanOut(double, endless(), workers, is_ordered) as results:
        await anyio.wait_all_tasks_blocked()
        assert 2 * workers == taken
        for consumed in range(1, 4):
            await anext(results)
            await anyio.wait_all_tasks_blocked()
            assert 2 * workers + consumed == taken


@pytest.mark.anyio
async def test_no_more_than_so_many_at_once():
    """As many items as there are workers are under way, and no more."""
    busy, go_on = 0, anyio.Event()

    async def work(_index: int, _item: int) -> int:
        nonlocal busy
        busy += 1
        await go_on.wait()
        busy -= 1
        return busy

    async with FanOut(work, range(50), 5) as results:
        await anyio.wait_all_tasks_blocked()
        assert 5 == busy
        go_on.set()
        assert all(left < 5 for left in [result async for result in results])


@pytest.mark.anyio
async def test_a_break_cancels_what_is_in_flight(nothing_left):
    """Leaving the loop and the block ends the work at once."""
    cancelled = 0

    async def work(index: int, _item: int) -> int:
        nonlocal cancelled
        if index == 0:
            return index
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            cancelled += 1
            raise

    async with FanOut(work, itertools.count(), 4) as results:
        async for _ in results:
            await anyio.wait_all_tasks_blocked()
            break
    assert 4 == cancelled


async def raise_inside(scope: anyio.CancelScope) -> None:
    """Raise in a block whose scope is cancelled or not."""
    async with FanOut(forever, itertools.count(), 3):
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        raise ValueError("mine")


@pytest.mark.anyio
async def test_an_exception_in_the_block_is_bare(nothing_left):
    """What the block raises comes out as it is, in no group (F43)."""
    with pytest.raises(ValueError, match="mine"):
        await raise_inside(anyio.CancelScope())


@pytest.mark.anyio
async def test_an_exception_in_a_cancelled_scope_is_bare(nothing_left):
    """What the block raises is not lost where its surroundings are being cancelled, too."""
    with pytest.raises(ValueError, match="mine"), anyio.CancelScope() as scope:
        await raise_inside(scope)


async def drain(results: AsyncIterator, seen: list) -> None:
    """Take everything that comes."""
    async for result in results:
        seen.append(result)  # noqa: PERF401 - what came before an exception is kept


@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.anyio
async def test_an_exception_of_the_source_is_bare(workers, is_ordered, nothing_left):
    """When the source fails, what was taken is finished; then its exception comes out of the loop, once."""

    def source() -> Iterator[int]:
        yield from range(5)
        raise KeyError("mine")

    seen = []
    async with FanOut(double, source(), workers, is_ordered) as results:
        with pytest.raises(KeyError, match="mine"):
            await drain(results, seen)
        assert [] == [result async for result in results]
    assert [0, 2, 4, 6, 8] == sorted(seen)


@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.anyio
async def test_an_exception_of_the_work_is_bare(is_ordered, nothing_left):
    """When an item fails, those in flight are finished and nothing more is taken; then its exception comes out."""
    taken, both = [], anyio.Event()

    async def work(index: int, item: int) -> int:
        taken.append(item)
        if index == 1:
            both.set()
            raise KeyError("mine")
        await both.wait()
        return item

    seen = []
    async with FanOut(work, itertools.count(), 2, is_ordered) as results:
        with pytest.raises(KeyError, match="mine"):
            await drain(results, seen)
    assert [0, 1] == taken
    assert [0] == seen


@pytest.mark.anyio
async def test_what_is_no_iterable_is_refused():
    """An item alone is no source of items."""
    with pytest.raises(TypeError):
        async with FanOut(double, 5, 2):
            pytest.fail("entered")


@pytest.mark.anyio
async def test_a_timeout_around_the_block(nothing_left):
    """A time limit around the block ends it, and is seen as what it is."""
    with anyio.move_on_after(0.05) as scope:
        await collect(FanOut(forever, itertools.count(), 3))
    assert scope.cancelled_caught

    with pytest.raises(TimeoutError), anyio.fail_after(0.05):
        await collect(FanOut(forever, itertools.count(), 3))


@pytest.mark.anyio
async def test_a_timeout_inside_the_block(nothing_left):
    """A time limit on waiting for one result leaves the rest at work."""
    go_on = anyio.Event()

    async def work(_index: int, item: int) -> int:
        await go_on.wait()
        return item

    async with FanOut(work, [7], 1) as results:
        with anyio.move_on_after(0.01):
            await anext(results)
        go_on.set()
        assert 7 == await anext(results)


@pytest.mark.anyio
async def test_cancelled_from_outside(nothing_left):
    """A task group around it can cancel it, and only that cancellation is seen."""
    seen = []

    async def run() -> None:
        try:
            await collect(FanOut(forever, itertools.count(), 3))
        except BaseException as error:
            seen.append(type(error))
            raise

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert [anyio.get_cancelled_exc_class()] == seen


@pytest.mark.anyio
async def test_never_iterated(nothing_left):
    """A block that takes no result ends like any other (F43)."""
    async with FanOut(double, range(100), 4):
        pass
    async with FanOut(forever, itertools.count(), 4):
        await anyio.wait_all_tasks_blocked()


@pytest.mark.anyio
async def test_an_async_source_is_closed(nothing_left):
    """Leaving the block closes an async generator, so that its own clean-up runs at once."""
    closed = []

    async def source() -> AsyncIterator[int]:
        try:
            for number in itertools.count():
                yield number
        finally:
            await anyio.lowlevel.checkpoint()
            closed.append("closed")

    async with FanOut(double, source(), 2) as results:
        await anext(results)
    assert ["closed"] == closed

    with anyio.CancelScope() as scope:
        async with FanOut(double, source(), 2) as results:
            await anext(results)
            scope.cancel()
    assert ["closed"] * 2 == closed


@pytest.mark.anyio
async def test_a_source_that_waits_is_cancelled(nothing_left):
    """Leaving the block does not wait for a source that has nothing to offer."""

    async def source() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep_forever()

    async with FanOut(double, source(), 3) as results:
        assert 2 == await anext(results)


@pytest.mark.anyio
async def test_the_right_form_is_named():
    """Who forgets the context manager is told how to write it (F43)."""
    with pytest.raises(TypeError, match="async with … as results"):
        await drain(FanOut(double, range(3), 2), [])


@pytest.mark.anyio
async def test_an_iterator_ends_with_its_block():
    """Who goes on after the block is told why there is nothing more."""
    async with FanOut(double, range(100), 2) as results:
        await anext(results)
    with pytest.raises(RuntimeError, match="block"):
        await anext(results)


@pytest.mark.anyio
async def test_nested(nothing_left):
    """One fan-out can feed another."""
    async with FanOut(double, range(20), 3) as inner:
        assert [4 * number for number in range(20)] == sorted(await collect(FanOut(double, inner, 3)))


@pytest.mark.anyio
async def test_two_consumers():
    """Several tasks can share the results: each gets some, none is given twice."""
    seen = []

    async with FanOut(double, range(30), 4) as results, anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(drain, results, seen)
    assert [number * 2 for number in range(30)] == sorted(seen)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.asyncio
async def test_native_cancellation(count):
    """`task.cancel()` ends the block like any other: as cancelled, with nothing left behind."""
    before, entered = asyncio.all_tasks(), asyncio.Event()

    async def run() -> None:
        async with FanOut(forever, itertools.count(), 3) as results:
            entered.set()
            await anext(results)

    task = asyncio.create_task(run())
    await entered.wait()
    for _ in range(count):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert before == asyncio.all_tasks()


@pytest.mark.asyncio
async def test_native_timeout():
    """`asyncio.timeout` around the block is seen as a timeout."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await collect(FanOut(forever, itertools.count(), 3))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(collect(FanOut(forever, itertools.count(), 3)), 0.02)
