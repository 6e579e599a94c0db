"""On asyncio, connections are opened and closed as carefully as on trio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref

import pytest
from wire import answer, ask, keep, make_caller

from nebula_async.config import RetryPolicy, Timeouts
from nebula_async.engine.asyncio_sockets import AsyncioBackend
from nebula_async.errors import NotSentError


@contextlib.contextmanager
def silent_place():
    """Yield an address at which nobody answers: a listener whose queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield listener.getsockname()


@pytest.fixture
def resolve(monkeypatch):
    """Let every name lead to these addresses, in their order."""

    def lead_to(*places):
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)

    return lead_to


@pytest.mark.asyncio
async def test_an_address_that_is_silent_is_not_waited_for(replies, resolve):
    """RFC 8305: while the first address of a host does not answer, the next one is tried beside it."""
    server = replies(answer(200, b"picture"))
    place = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with silent_place() as silent:
        resolve(silent, place)
        caller = make_caller("http://localhost", timeouts=Timeouts(connect=5.0))
        assert b"picture" == (await caller.call(ask("http://localhost"), keep)).value
        await caller.transport.aclose()


@pytest.mark.asyncio
async def test_an_address_that_refuses_is_passed_over(replies, resolve):
    """The next address is tried at once where one refuses the connection."""
    server = replies(answer(200, b"picture"))
    place = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()
    resolve(closed, closed, place)
    caller = make_caller("http://localhost")
    assert b"picture" == (await caller.call(ask("http://localhost"), keep)).value
    await caller.transport.aclose()


@pytest.mark.asyncio
async def test_where_no_address_answers_the_call_says_so(resolve):
    """A host that is silent at all its addresses ends in one sentence, after the connect timeout; nothing was sent."""
    with silent_place() as first, silent_place() as second:
        resolve(first, second)
        once = RetryPolicy(attempts=1, backoff=0)
        caller = make_caller("http://localhost", retry=once, timeouts=Timeouts(connect=0.6))
        with pytest.raises(NotSentError, match="ConnectTimeout"):
            await caller.call(ask("http://localhost"), keep)
        await caller.transport.aclose()


@pytest.mark.asyncio
async def test_a_request_leaves_at_once(replies):
    """Head and body of a request do not wait for each other: the system is told not to gather small pieces."""
    server = replies(answer(200, b"{}"))
    place = server.url.rpartition("/")[2].split(":")
    stream = await AsyncioBackend().connect_tcp(place[0], int(place[1]))
    is_set = stream.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await stream.aclose()

    assert is_set


def test_a_loop_that_has_ended_leaves_nothing(replies):
    """What connections share in an event loop goes with it, however many loops a program runs one after the other."""
    large = answer(200, bytes(200_000))

    async def fetch(url: str) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        caller = make_caller(url)
        await caller.call(ask(url), keep)
        await caller.transport.aclose()

    loops: list[weakref.ref] = []
    for _ in range(3):
        asyncio.run(fetch(replies(large).url))
    gc.collect()

    assert [None] * 3 == [loop() for loop in loops]
