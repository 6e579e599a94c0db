"""A call that is cancelled as it begins, as it ends, and while what it paid for is fetched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from broken_exchange import At, Fault, How
from cancelling import by_scope, natively, settled
from invariants import SMALL, client_of, end_of
from replies import reply

from nebula_async import AsyncNebula, Charges, Generation
from nebula_async.events import Abandoned, Asked, Generated, Sent

FREE, UNKNOWN, PAID = Charges(0, 0), Charges(0, 1), Charges(1, 1)

# At a moment that observers see


async def cancelled_at(kind: type, nebula: AsyncNebula, events: list, made: list, cancel: Callable[[], object]) -> None:
    """Make a call that cancels itself when something happens."""

    def observe(event) -> None:
        events.append(event)
        if isinstance(event, kind):
            cancel()

    made.append(await nebula.with_options(observer=observe).generate("a cat", **SMALL))
    await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("manner", ["scope", "task"])
@pytest.mark.asyncio
async def test_cancelled_as_it_is_admitted(chaos, emulator, manner, is_warm):
    """A call that is cancelled the moment that it is admitted is not sent, over no connection, new or old (F40)."""
    await _at_an_event(Sent, chaos, emulator, manner, is_warm=is_warm)


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.anyio
async def test_cancelled_as_it_is_admitted_by_scope(chaos, emulator, is_warm):
    """Nor is one whose scope is cancelled then (F41)."""
    await _at_an_event(Sent, chaos, emulator, "scope", is_warm=is_warm)


@pytest.mark.parametrize("manner", ["scope", "task"])
@pytest.mark.asyncio
async def test_cancelled_when_it_is_complete(chaos, emulator, manner):
    """A call that is cancelled when its picture is there returns it; the cancellation is its caller's (F40)."""
    await _at_an_event(Generated, chaos, emulator, manner)


@pytest.mark.anyio
async def test_cancelled_when_it_is_complete_by_scope(chaos, emulator):
    """So does one whose scope is cancelled then (F41)."""
    await _at_an_event(Generated, chaos, emulator, "scope")


async def _at_an_event(kind: type, chaos, emulator, manner: str, *, is_warm: bool = False) -> None:
    events, made, proxy = [], [], chaos()
    async with client_of(proxy) as nebula:
        if is_warm:
            await end_of(nebula)
        if manner == "scope":
            with anyio.CancelScope() as scope:
                await cancelled_at(kind, nebula, events, made, scope.cancel)
            assert scope.cancelled_caught
        else:
            task = asyncio.ensure_future(
                cancelled_at(kind, nebula, events, made, lambda: asyncio.current_task().cancel())
            )
            with pytest.raises(asyncio.CancelledError):
                await task
        after = await end_of(nebula)

    assert (Generation, 1) == (type(after), after.attempts)
    if kind is Generated:
        assert ([Asked, Sent, Generated], [PAID]) == (
            [type(event) for event in events],
            [each.charges for each in made],
        )
    else:
        assert ([Asked, Sent, Abandoned], []) == ([type(event) for event in events], made)
        assert events[-1].charges in (FREE, UNKNOWN)
        assert emulator.journal.charged == 1 + is_warm


# After the reply


async def cancelled_while_fetching(chaos, emulator, cancel) -> None:
    """Cancel a call whose picture is fetched from a URL that hangs."""
    events: list = []
    storage = chaos(then=Fault(at=At.REPLY, how=How.HANG))
    body = json.dumps({"data": [{"url": f"http://{storage.place}/cat.png"}]}).encode()
    proxy = chaos(Fault(at=At.REQUEST, say=reply(200, body)))
    async with client_of(proxy, observer=events.append, allowed_image_hosts=(storage.place,)) as nebula:

        async def is_there() -> None:
            assert await anyio.to_thread.run_sync(storage.wait_for, "HANG at REPLY")
            await settled()

        await cancel(lambda: nebula.generate("a cat", **SMALL), is_there)

    assert [Asked, Sent, Abandoned] == [type(event) for event in events]
    assert (1, PAID) == (events[-1].attempts, events[-1].charges)
    assert await anyio.to_thread.run_sync(storage.settle)


@pytest.mark.anyio
async def test_cancelled_while_fetching_by_scope(chaos, emulator):
    """A call that is cancelled while its picture is fetched was paid for, and says so (F41)."""
    await cancelled_while_fetching(chaos, emulator, by_scope)


@pytest.mark.asyncio
async def test_cancelled_while_fetching_natively(chaos, emulator):
    """So does one whose task is cancelled then (F40)."""
    await cancelled_while_fetching(chaos, emulator, natively)
