"""Whatever the consumer of many pictures does, what is in flight ends with its block, and all it may cost is told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from broken_exchange import NO_FAULT, At, Fault, How
from cancelling import settled
from invariants import SMALL, assert_covers, client_of, end_of
from scripted import REFUSED, Scripted
from scripted import client_of as client_of_script

from nebula_async import AsyncNebula, Charges, Generation
from nebula_async.config import RetryPolicy
from nebula_async.events import Abandoned, Generated

WORKERS = 4
ANSWERED = 3
"""Of endlessly many pictures so many are made; the requests after them hang."""


class Consumer:
    """A consumer of endlessly many pictures, which leaves when nothing more comes."""

    def __init__(self, nebula: AsyncNebula, proxy) -> None:
        self.nebula = nebula
        self.proxy = proxy

    def block(self):
        """Return the block."""
        return self.nebula.generate_many(map(str, itertools.count()), **SMALL)

    async def is_stuck(self) -> None:
        """Wait until all that is in flight hangs."""
        assert await anyio.to_thread.run_sync(self.proxy.wait_for, "HANG at REPLY", WORKERS)
        await settled()

    async def breaks(self) -> None:
        """Leave the loop."""
        async with self.block() as results:
            async for _ in results:
                await self.is_stuck()
                break

    async def returns(self) -> None:
        """Leave the function."""
        async with self.block() as results:
            await self.is_stuck()
            await anext(results)
            return

    async def raises(self) -> None:
        """Fail."""
        with pytest.raises(LookupError, match="mine"):
            await self._raise()

    async def never_iterates(self) -> None:
        """Take nothing."""
        async with self.block():
            await self.is_stuck()

    async def is_cancelled(self) -> None:
        """Be cancelled from outside."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._take_all)
            await self.is_stuck()
            group.cancel_scope.cancel()

    async def runs_out_of_time(self) -> None:
        """Have a time limit around the block."""
        with pytest.raises(TimeoutError):
            await self._in_time()

    async def is_cancelled_natively(self) -> None:
        """Be cancelled as asyncio does."""
        task = asyncio.ensure_future(self._take_all())
        await self.is_stuck()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def runs_out_of_native_time(self) -> None:
        """Have a time limit of the standard library's around the block."""
        with pytest.raises(TimeoutError):
            await self._in_native_time()
        assert 0 == asyncio.current_task().cancelling()

    async def _take_all(self) -> None:
        async with self.block() as results:
            async for _ in results:
                pass

    async def _raise(self) -> None:
        async with self.block():
            await self.is_stuck()
            raise LookupError("mine")

    async def _in_time(self) -> None:
        with anyio.fail_after(60) as limit:
            async with self.block() as results:
                await self.is_stuck()
                limit.deadline = anyio.current_time()
                async for _ in results:
                    pass

    async def _in_native_time(self) -> None:
        async with asyncio.timeout(60) as limit, self.block() as results:
            await self.is_stuck()
            limit.reschedule(0)
            async for _ in results:
                pass


async def leave(way, chaos, emulator) -> None:
    """Leave a block in some way, then go on with the client."""
    events: list = []
    hang = Fault(at=At.REPLY, how=How.HANG)
    proxy = chaos(script=lambda number: hang if ANSWERED < number <= ANSWERED + WORKERS else NO_FAULT)
    async with client_of(proxy, concurrency=WORKERS, observer=events.append) as nebula:
        await way(Consumer(nebula, proxy))
        told = [event for event in events if isinstance(event, Generated | Abandoned)]
        after = await end_of(nebula)

    assert ANSWERED == sum(isinstance(event, Generated) for event in told)
    assert [Charges(0, 1)] * WORKERS == [event.charges for event in told if isinstance(event, Abandoned)]
    assert_covers(sum((event.charges for event in told), Charges()), emulator.journal.charged - 1)
    assert (Generation, 1) == (type(after), after.attempts)
    assert ANSWERED + WORKERS + 1 == proxy.sends


WAYS = [
    Consumer.breaks,
    Consumer.returns,
    Consumer.raises,
    Consumer.never_iterates,
    Consumer.is_cancelled,
    Consumer.runs_out_of_time,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.anyio
async def test_a_block_that_is_left(way, chaos, emulator):
    """However the block is left, what hangs is ended and told with what it may cost; no task and no connection stays,
    exceptions come out bare, and the client goes on (F43).
    """
    await leave(way, chaos, emulator)


@pytest.mark.parametrize("way", [Consumer.is_cancelled_natively, Consumer.runs_out_of_native_time])
@pytest.mark.asyncio
async def test_a_block_that_is_cancelled_natively(way, chaos, emulator):
    """So it is with asyncio's own cancellation and time limits, and no cancellation is left over (F43)."""
    await leave(way, chaos, emulator)


@pytest.mark.anyio
async def test_pictures_from_pictures(chaos, emulator):
    """What one block yields can be asked for in another one, through a generator, and both can be left at once."""
    async with client_of(chaos(), concurrency=WORKERS) as nebula:

        async def variations() -> AsyncIterator[str]:
            async with nebula.generate_many(map(str, itertools.count()), **SMALL) as results:
                async for result in results:
                    yield f"like {result.request.prompt}"

        async with nebula.generate_many(variations(), **SMALL) as results:
            made = [await anext(results) for _ in range(10)]

    assert {True} == {result.request.prompt.startswith("like ") for result in made}
    assert 20 <= emulator.journal.charged <= 20 + 6 * WORKERS


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.anyio
async def test_a_slow_consumer(ordered):
    """A consumer that is slower than the server holds it up: no more results are in memory than twice as many as
    requests may be under way (F44).
    """
    taken = 0

    def prompts() -> Iterator[str]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield str(number)

    server = Scripted(lambda _asked: REFUSED)
    async with (
        client_of_script(server, concurrency=WORKERS, retry=RetryPolicy(backoff=0)) as nebula,
        nebula.generate_many(prompts(), ordered=ordered, **SMALL) as results,
    ):
        for consumed in range(50):
            await settled()
            assert 2 * WORKERS + consumed == taken == len(server.asked)
            await anext(results)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.anyio
async def test_a_server_that_is_slow_at_one(ordered):
    """In order, one slow answer holds up what comes after it, and bounds what is asked for meanwhile (F44)."""
    go_on = anyio.Event()

    class Slow(Scripted):
        async def handle_async_request(self, request):
            if b'"0"' in request.content:
                await go_on.wait()
            return await super().handle_async_request(request)

    server = Slow(lambda _asked: REFUSED)
    async with (
        client_of_script(server, concurrency=WORKERS) as nebula,
        nebula.generate_many(map(str, range(30)), ordered=ordered, **SMALL) as results,
    ):
        await settled()
        assert 2 * WORKERS - 1 == len(server.asked)
        go_on.set()
        indexes = [result.index async for result in results]

    assert list(range(30)) == (indexes if ordered else sorted(indexes))
