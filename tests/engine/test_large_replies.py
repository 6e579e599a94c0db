"""A large body passes the HTTP library by on its way to its reader; nobody can tell but by the time it takes."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire import PATIENCE, answer, ask, keep, make_caller

from nebula_async.api.messages import Reply
from nebula_async.charges import Charges
from nebula_async.config import RetryPolicy, Timeouts
from nebula_async.engine.wire_stream import LARGE_BYTES
from nebula_async.errors import OutcomeUnknownError

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(attempts=1, resend_unknown=0, backoff=0)
LARGE = os.urandom(3 * 2**20)


async def fetch(server, **options) -> bytes:
    """Make one call and return what the reader got."""
    caller = make_caller(server.url, retry=ONCE, **options)
    try:
        return (await caller.call(ask(server.url), keep)).value
    finally:
        await caller.transport.aclose()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("size", [LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, len(LARGE)])
async def test_a_body_arrives_as_it_is(serve, certified, trusted, size, tls):
    """Bodies of any size come whole, and their connection serves the next request."""

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(answer(200, LARGE[:size]))

    server = serve(handle, certified if tls else None)
    caller = make_caller(server.url)
    bodies = [(await caller.call(ask(server.url), keep)).value for _ in range(3)]
    await caller.transport.aclose()

    assert [LARGE[:size]] * 3 == bodies
    assert 1 == len(server.connections)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 300_000), max_size=6))
def test_wherever_the_network_cuts_it(serve, cuts):
    """Head and body may come in pieces of any size, each of them alone."""
    text = answer(200, LARGE[:200_000])
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})

    def handle(server, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.read_request(connection)
        for start, end in itertools.pairwise(edges):
            connection.sendall(text[start:end])

    server = serve(handle)
    for backend in ("asyncio", "trio"):
        assert LARGE[:200_000] == anyio.run(fetch, server, backend=backend)


@pytest.mark.parametrize(
    ("head", "is_kept"),
    [
        ("HTTP/1.1 200 OK\r\n", True),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        ("HTTP/1.0 200 OK\r\n", False),
        ("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\n", True),
    ],
    ids=["1.1", "close", "1.0", "interim"],
)
async def test_a_connection_lasts_as_long_as_the_server_says(serve, head, is_kept):
    """What the head says of the connection counts, whoever reads the body."""

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(f"{head}content-length:  {len(LARGE)} \r\n\r\n".encode() + LARGE)
            if not is_kept:
                return

    server = serve(handle)
    caller = make_caller(server.url)
    bodies = [(await caller.call(ask(server.url), keep)).value for _ in range(2)]
    await caller.transport.aclose()

    assert [LARGE] * 2 == bodies
    assert (1 if is_kept else 2) == len(server.connections)


async def test_the_headers_are_those_of_the_server(replies):
    """The size that the server promised stands in the reply's headers."""
    server, seen = replies(answer(200, LARGE)), []

    class Noting:
        """Notes what it is told."""

        is_full = False
        piece_bytes = 65536

        def begin(self, size):
            seen.append(size)

        def feed(self, piece):
            pass

        async def drain(self):
            pass

        async def finish(self, reply: Reply):
            seen.append(dict(reply.headers)[b"Content-Length"])

        async def salvage(self, _reply):
            return None

        async def discard(self):
            pass

    caller = make_caller(server.url)
    await caller.call(ask(server.url), Noting)
    await caller.transport.aclose()

    assert [len(LARGE), str(len(LARGE)).encode()] == seen


async def test_more_than_was_promised_is_not_the_next_reply(serve):
    """A server that says more than its reply is not asked again on that connection."""

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(answer(200, LARGE) + answer(200, b"unasked"))

    server = serve(handle)
    caller = make_caller(server.url)
    bodies = [(await caller.call(ask(server.url), keep)).value for _ in range(3)]
    await caller.transport.aclose()

    assert ([LARGE] * 3, 3) == (bodies, len(server.connections))


@pytest.mark.parametrize("ends_with", ["FIN", "RST"])
async def test_a_body_cut_short_is_lost(serve, ends_with):
    """F15: the call says how much came, that it was paid for, and drops the connection."""

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(answer(200, LARGE[:100_000], length=len(LARGE)))
        if ends_with == "RST":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    told = "100000 of 3145728 bytes arrived" if ends_with == "FIN" else "lost"
    with pytest.raises(OutcomeUnknownError, match=told) as caught:
        await fetch(serve(handle))

    assert Charges(1, 1) == caught.value.charges


async def test_only_silence_is_too_long(serve):
    """F12, F13: a body that keeps coming outlives the read timeout; one that stops does not."""
    stopped = threading.Event()

    def handle(server, connection):
        server.read_request(connection)
        text = answer(200, LARGE[:400_000], length=500_000)
        for start in range(0, len(text), 40_000):
            connection.sendall(text[start : start + 40_000])
            time.sleep(0.06)
        stopped.wait(PATIENCE)

    server, began = serve(handle), anyio.current_time()
    with pytest.raises(OutcomeUnknownError, match="ReadTimeout") as caught:
        await fetch(server, timeouts=Timeouts(read=0.3, attempt=PATIENCE, total=PATIENCE))
    stopped.set()

    assert anyio.current_time() - began >= 0.5
    assert Charges(1, 1) == caught.value.charges


class Narrow:
    """Takes a little, then has to be emptied."""

    def __init__(self):
        self.came, self.held, self.most = bytearray(), bytearray(), 0

    def begin(self, size):
        """Begin."""

    piece_bytes = 65536

    @property
    def is_full(self):
        """Whether it has to be emptied."""
        return len(self.held) >= 100_000

    def feed(self, piece):
        """Take a piece."""
        self.held += piece
        self.most = max(self.most, len(self.held))

    async def drain(self):
        """Be emptied."""
        await anyio.lowlevel.checkpoint()
        self.came += self.held
        self.held.clear()

    async def finish(self, _reply):
        """Return all, and the most that was held."""
        await self.drain()
        return bytes(self.came), self.most

    async def salvage(self, _reply):
        """Return nothing of what broke off."""

    async def discard(self):
        """Let go."""


async def test_a_reader_that_is_full_is_waited_for(serve):
    """While a reader has no room nothing is read: the server waits, and then everything comes in its order."""

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(answer(200, LARGE))

    server = serve(handle)
    caller = make_caller(server.url)
    came, most = (await caller.call(ask(server.url), Narrow)).value
    await caller.transport.aclose()

    assert LARGE == came
    assert most < 600_000


async def test_a_cancelled_body_costs_its_connection(serve):
    """F41: who stops in the middle of a body hangs up, and the next call has a connection of its own."""
    half = threading.Event()

    def handle(server, connection):
        server.read_request(connection)
        if len(server.requests) == 1:
            connection.sendall(answer(200, LARGE[:200_000], length=len(LARGE)))
            half.set()
            assert b"" == connection.recv(1)
        else:
            connection.sendall(answer(200, LARGE))

    server = serve(handle)
    caller = make_caller(server.url)
    async with anyio.create_task_group() as group:
        group.start_soon(caller.call, ask(server.url), keep)
        assert await anyio.to_thread.run_sync(half.wait, PATIENCE)
        group.cancel_scope.cancel()
    assert await anyio.to_thread.run_sync(server.gone.acquire, True, PATIENCE)
    assert LARGE == (await caller.call(ask(server.url), keep)).value
    await caller.transport.aclose()


def framed(form: str) -> bytes:
    """Return a large reply whose end is told in this way."""
    if form == "length":
        return answer(200, LARGE, "Connection: close")
    if form == "chunked":
        chunks = b"".join(
            b"%x\r\n%b\r\n" % (len(LARGE) // 2, half) for half in (LARGE[: len(LARGE) // 2], LARGE[len(LARGE) // 2 :])
        )
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + LARGE


@pytest.mark.parametrize("reader", [keep, Narrow], ids=["wide", "narrow"])
@pytest.mark.parametrize("form", ["length", "chunked", "until the end"])
async def test_a_server_that_hangs_up_after_its_reply_loses_nothing_over_tls(serve, certified, trusted, form, reader):
    """What was sent before the connection ended is read to its last byte, however slowly it is taken."""

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(framed(form))

    caller = make_caller(serve(handle, certified).url, retry=ONCE)
    value = (await caller.call(ask(caller.config.base_url), reader)).value
    await caller.transport.aclose()

    assert LARGE == (value if reader is keep else value[0])


async def test_a_success_without_a_body_is_not_waited_for(replies):
    """A 204 has no body, whatever its headers say of one."""
    assert b"" == await fetch(replies(answer(204, b"", length=100_000)), timeouts=Timeouts(read=5.0))
