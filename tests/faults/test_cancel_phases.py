"""A call that is cancelled, natively or by its scope, wherever it is: it says what it may have cost, costs one
connection, and leaves nothing behind.
"""

from __future__ import annotations

import socket

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from attrs import frozen
from broken_exchange import At, Fault, How
from cancelling import by_a_time_limit, by_scope, natively, settled
from invariants import CALM, SMALL, assert_covers, client_of, end_of, running

from nebula_async import AsyncNebula, Charges, Config, Generation
from nebula_async.events import Abandoned, Asked, Sent

FREE, UNKNOWN, PAID = Charges(0, 0), Charges(0, 1), Charges(1, 1)

LARGE = "x" * 12 * 2**20
"""More than the buffers of two sockets hold."""


@frozen
class Row:
    """Where a call hangs, and what it may cost to cancel it there."""

    at: At
    charges: Charges
    prompt: str = "a cat"


ROWS = {
    "SENDING": Row(At.HEAD, UNKNOWN, LARGE),
    "SENT-not-read": Row(At.CONNECTED, UNKNOWN),
    "SENT-not-made": Row(At.REQUEST, UNKNOWN),
    "SENT-made": Row(At.REPLY, UNKNOWN),
    "SENT-in-headers": Row(At.IN_HEADERS, UNKNOWN),
    "HEADERS": Row(At.HEADERS, PAID),
    "BODY": Row(At.IN_BODY, PAID),
}
rows = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


async def cancelled_in(row, chaos, emulator, cancel) -> None:
    """Cancel a call where it hangs, and make another one."""
    events: list = []
    proxy = chaos(Fault(at=row.at, how=How.HANG))
    async with client_of(proxy, observer=events.append) as nebula:

        async def is_there() -> None:
            assert await anyio.to_thread.run_sync(proxy.wait_for, f"HANG at {row.at.name}")
            await settled()

        await cancel(lambda: nebula.generate(row.prompt, **SMALL), is_there)
        abandoned, charged = events.pop(), emulator.journal.charged
        after = await end_of(nebula)

    assert (Abandoned, 1, row.charges) == (type(abandoned), abandoned.attempts, abandoned.charges)
    assert_covers(abandoned.charges, charged)
    assert (Generation, 1, PAID) == (type(after), after.attempts, after.charges)
    assert (2, 2) == (proxy.sends, proxy.connections)


@rows
@pytest.mark.anyio
async def test_cancelled_by_scope(row, chaos, emulator):
    """A scope ends a call that hangs, wherever that is (F41)."""
    await cancelled_in(row, chaos, emulator, by_scope)


@rows
@pytest.mark.parametrize("cancel", [natively, by_a_time_limit])
@pytest.mark.asyncio
async def test_cancelled_natively(row, cancel, chaos, emulator):
    """`task.cancel()`, and what is built on it, ends a call that hangs, wherever that is (F40)."""
    await cancelled_in(row, chaos, emulator, cancel)


async def cancelled_in_the_queue(chaos, emulator, cancel) -> None:
    """Cancel a call that waits for another one's slot."""
    events: list = []
    proxy = chaos(Fault(at=At.REPLY, how=How.HANG))
    async with client_of(proxy, observer=events.append, concurrency=1) as nebula:

        async def hangs() -> None:
            assert await anyio.to_thread.run_sync(proxy.wait_for, "HANG at REPLY")

        async def queue() -> None:
            await hangs()
            await cancel(lambda: nebula.generate("queued", **SMALL), settled)

        await cancel(lambda: nebula.generate("first", **SMALL), queue)
        after = await end_of(nebula)

    told = [(event.attempts, event.charges) for event in events if isinstance(event, Abandoned)]
    assert [(0, FREE), (1, UNKNOWN)] == told
    assert (Generation, 2) == (type(after), proxy.sends)


@pytest.mark.anyio
async def test_cancelled_in_the_queue_by_scope(chaos, emulator):
    """A call that is cancelled in the queue was never sent, and takes no slot with it (F41)."""
    await cancelled_in_the_queue(chaos, emulator, by_scope)


@pytest.mark.asyncio
async def test_cancelled_in_the_queue_natively(chaos, emulator):
    """Nor does one whose task is cancelled there (F40)."""
    await cancelled_in_the_queue(chaos, emulator, natively)


# Before there is a connection


@pytest.fixture
def silent():
    """Listen, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(CALM.connect)
        yield listener


async def cancelled_while_connecting(listener: socket.socket, cancel) -> None:
    """Cancel a call whose server does not shake hands, and see its connection end."""
    events: list = []
    config = Config(base_url=f"https://127.0.0.1:{listener.getsockname()[1]}", timeouts=CALM)
    taken: list[socket.socket] = []

    async def is_there() -> None:
        taken.append((await anyio.to_thread.run_sync(listener.accept))[0])
        await settled()

    before = running()
    async with AsyncNebula("sk-emulator", config=config, observer=events.append) as nebula:
        await cancel(lambda: nebula.generate("a cat", **SMALL), is_there)
        assert before == running()
        with taken[0] as connection:
            connection.settimeout(CALM.connect)
            said = await anyio.to_thread.run_sync(_read_all, connection)

    assert [Asked, Sent, Abandoned] == [type(event) for event in events]
    assert (1, FREE) == (events[-1].attempts, events[-1].charges)
    assert b"sk-emulator" not in said


def _read_all(connection: socket.socket) -> bytes:
    data = b""
    while piece := connection.recv(4096):
        data += piece
    return data


@pytest.mark.anyio
async def test_cancelled_while_connecting_by_scope(silent):
    """A call that is cancelled before its connection stands was not sent; the half-made connection ends (F41)."""
    await cancelled_while_connecting(silent, by_scope)


@pytest.mark.asyncio
async def test_cancelled_while_connecting_natively(silent):
    """So does that of a task that is cancelled (F40)."""
    await cancelled_while_connecting(silent, natively)
