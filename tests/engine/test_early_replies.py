"""A server that answers before it has read a large request: what it says counts, not that the rest cannot be sent."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Callable

import anyio
import pytest
from wire import PATIENCE, RawServer, answer, keep, make_caller

from nebula_async.api.messages import HttpRequest
from nebula_async.charges import Charges
from nebula_async.config import RetryPolicy, Timeouts
from nebula_async.errors import NebulaError, OutcomeUnknownError, RateLimitError, ServerError
from nebula_async.images.media import Media
from nebula_async.images.uploads import Held, Picture, Upload

pytestmark = pytest.mark.anyio

LARGE = bytes(8 * 2**20)
IN_PIECES = Upload((b"[", Picture("image", "bytes", Held(LARGE), Media("image/png", ".png", 1, 1)), b"]"))
PATIENT = Timeouts(write=60, read=60, attempt=60)
"""No limit of an attempt comes into play within the patience of a test."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@pytest.fixture(params=["plain", "tls"])
def tls(request, certified, trusted) -> ssl.SSLContext | None:
    """What the server speaks: nothing more than HTTP, or HTTP in TLS, which the client trusts."""
    return certified if request.param == "tls" else None


def until_full(connection: socket.socket) -> None:
    """Wait until no more arrives: the client's write is blocked."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is said then is sent at once
    seen, times = b"", 0
    while times < 10:
        threading.Event().wait(0.002)
        unread = fcntl.ioctl(connection, termios.FIONREAD, bytes(4))
        seen, times = unread, times + 1 if bytes(4) != unread == seen else 0


def read_all(connection: socket.socket) -> None:
    """Read until the client is gone."""
    while connection.recv(65536):
        pass


async def send(server: RawServer, timeouts: Timeouts = PATIENT, body: bytes | Upload = LARGE) -> bytes:
    """Send a large request once and return the reply's body."""
    caller = make_caller(server.url, retry=RetryPolicy(attempts=1), timeouts=timeouts)
    try:
        with anyio.fail_after(PATIENCE):
            request = HttpRequest(method="POST", url=f"{server.url}/images/generation", body=body, pictures=1)
            return (await caller.call(request, keep)).value
    finally:
        await caller.transport.aclose()


async def fail(server: RawServer, timeouts: Timeouts = PATIENT, body: bytes | Upload = LARGE) -> NebulaError:
    """Send a large request once and return what was raised."""
    with pytest.raises(NebulaError) as caught:
        await send(server, timeouts, body)
    return caught.value


def hang(connection: socket.socket) -> None:
    """Read nothing more, and keep the connection for longer than the client should need to give up."""
    poller = select.poll()
    with contextlib.suppress(ValueError):  # the test is over
        poller.register(connection, 0)
        poller.poll(400)


def reset(connection: socket.socket) -> None:
    """Hang up with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


def half_close(connection: socket.socket) -> None:
    """Say that nothing more will be said, and read the rest."""
    connection.shutdown(socket.SHUT_WR)
    read_all(connection)


ENDINGS: dict[str, Callable[[socket.socket], object]] = {
    "reads the rest": read_all,
    "half closes": half_close,
    "reads nothing more": hang,
    "hangs up": lambda _connection: None,
    "resets": reset,
}


@pytest.mark.parametrize("body", [LARGE, IN_PIECES], ids=["whole", "in pieces"])
@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
async def test_an_early_refusal_is_a_refusal(serve, tls, end, body):
    """D10: a 429 that comes while the request is being sent is throttling, and free, whatever the server does next; a
    server that has stopped reading is heard at once, not when the write has timed out.
    """

    def handle(_server, connection):
        until_full(connection)
        connection.sendall(answer(429, b"{}"))
        end(connection)

    error = await fail(serve(handle, tls), body=body)

    assert (RateLimitError, Charges(0, 0)) == (type(error), error.charges)


async def test_an_early_failure_is_read_to_its_end(serve, tls):
    """The body of an early reply counts as well, also where it comes later and in pieces."""

    def handle(_server, connection):
        until_full(connection)
        for piece in (b"HTTP/1.1 500 Oops\r\nConte", b"nt-Length: 31\r\n\r\n", b'{"error": {"message": ', b'"sorry"}}'):
            connection.sendall(piece)
        hang(connection)

    error = await fail(serve(handle, tls))

    assert (ServerError, Charges(0, 1)) == (type(error), error.charges)
    assert "sorry" in str(error)


async def test_interim_replies_do_not_end_the_sending(serve, tls):
    """A server may ask for the rest (100), or hint at what comes (103), while the request is on its way."""

    def handle(server, connection):
        until_full(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")
        server.read_request(connection)
        connection.sendall(answer(200, b"picture"))

    server = serve(handle, tls)

    assert b"picture" == await send(server)
    assert server.requests[0].endswith(b"\r\n\r\n" + LARGE)


async def test_interim_replies_do_not_end_a_body_in_pieces(serve, tls):
    """The same where the rest of the request is not made yet when they come."""

    def handle(server, connection):
        until_full(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        server.read_request(connection)
        connection.sendall(answer(200, b"picture"))

    server = serve(handle, tls)

    assert b"picture" == await send(server, body=IN_PIECES)
    assert b"[%b]" % base64.b64encode(LARGE) == server.requests[0].partition(b"\r\n\r\n")[2]


async def test_endless_interim_replies_end_the_sending(serve, tls):
    """F20: also while it is being asked a server may not go on and on."""

    def handle(_server, connection):
        until_full(connection)
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 17)
        hang(connection)

    error = await fail(serve(handle, tls))

    assert (OutcomeUnknownError, Charges(0, 1)) == (type(error), error.charges)
    assert "more than 16 interim replies" in str(error)


@pytest.mark.parametrize("end", [lambda _connection: None, reset], ids=["hangs up", "resets"])
async def test_a_server_that_goes_away_while_it_is_asked_is_unknown(serve, tls, end):
    """A connection that ends in the middle of a request, without a reply, proves nothing."""

    def handle(_server, connection):
        until_full(connection)
        end(connection)

    error = await fail(serve(handle, tls))

    assert (OutcomeUnknownError, Charges(0, 1)) == (type(error), error.charges)


async def test_a_server_that_stops_reading_is_unknown(serve, tls):
    """A server that neither reads nor answers ends the attempt when the write has timed out, and the error says so."""
    error = await fail(
        serve(lambda _server, connection: hang(connection), tls), Timeouts(write=0.1, read=60, attempt=60)
    )

    assert (OutcomeUnknownError, Charges(0, 1)) == (type(error), error.charges)
    assert "WriteTimeout" in str(error)


async def test_the_limit_of_a_write_is_for_each_piece(serve):
    """On a slow line a large request may take longer than the limit of a write, as long as it goes on."""

    def handle(_server, connection):
        left = len(LARGE) + connection.recv(65536).index(b"\r\n\r\n") + 4 - 65536
        while left > 0:
            threading.Event().wait(0.006)
            left -= len(connection.recv(65536))
        connection.sendall(answer(200, b"picture"))

    assert b"picture" == await send(serve(handle), Timeouts(write=0.4, read=60, attempt=60))
