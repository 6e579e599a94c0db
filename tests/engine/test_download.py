"""Pictures are fetched from URLs over real sockets: without the key, from checked hosts, as often as it takes."""

from __future__ import annotations

import gzip
import logging
import threading
import time

import anyio
import pytest
from wire import PATIENCE, QUICK, RawServer, a_picture, answer, closed_url, download, place, seeded, undelivered

from nebula_async.config import Config, RetryPolicy
from nebula_async.engine.download import Downloader
from nebula_async.engine.transport import USER_AGENT

pytestmark = pytest.mark.anyio

MISSING = (403, 404, 410)


# What is sent


async def test_what_a_request_looks_like(replies):
    """On the wire: a GET of the very path and query, and no header that tells who asks: no key, no cookie, no id."""
    server = replies(answer(500, b"", "Set-Cookie: a=b", "ETag: x"), answer(200, b"picture", "Set-Cookie: c=d"))
    url = f"{server.url}/generated/a%20b.png?X-Signature=a%2Fb%3D&e=1~x"
    assert b"picture" == await download(url, place(server))

    for request in server.requests:
        first, *lines = request.decode().removesuffix("\r\n\r\n").split("\r\n")
        assert "GET /generated/a%20b.png?X-Signature=a%2Fb%3D&e=1~x HTTP/1.1" == first
        assert {
            "host": place(server),
            "accept": "image/*",
            "accept-encoding": "identity",
            "user-agent": USER_AGENT,
        } == {name.lower(): value for name, value in (line.split(": ") for line in lines)}
    assert 2 == len(server.requests)


async def test_a_fragment_is_not_sent(replies):
    """What stands behind a # is for browsers: the server does not see it (B41)."""
    server = replies(answer(200, b"picture"))
    await download(f"{server.url}/1.png?x=1#secret", place(server))
    assert server.requests[0].startswith(b"GET /1.png?x=1 HTTP/1.1\r\n")


async def test_no_log_shows_a_url(replies, caplog):
    """With a signed URL anyone could fetch the picture: it is in no log, not even of the libraries below."""
    server = replies(answer(503), answer(200, b"picture"))
    with caplog.at_level(logging.DEBUG):
        await download(f"{server.url}/secret.png?sig=secret", place(server))
    assert "secret" not in caplog.text
    assert "127.0.0.1" in caplog.text


async def test_gzip_is_unpacked(replies):
    """A reply that is packed although nobody asked for it is unpacked."""
    server = replies(answer(200, gzip.compress(b"picture"), "Content-Encoding: gzip"))
    assert b"picture" == await download(server.url, place(server))


async def test_tls(serve, certified, trusted):
    """Over TLS a server is asked whose certificate is trusted on this machine, and one connection serves many."""

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(answer(200, b"picture"))

    server = serve(handle, tls=certified)
    downloader = Downloader(frozenset([place(server)]), seeded(7))
    pictures = [await downloader.fetch(server.url, a_picture, QUICK, seconds=5) for _ in range(3)]
    await downloader.aclose()

    assert [b"picture"] * 3 == pictures
    assert 1 == len(server.connections)


async def test_an_untrusted_certificate_is_refused(serve, certified):
    """A server whose certificate nobody vouches for is never sent a URL, which may be a secret."""
    server = serve(RawServer.read_request, tls=certified)
    error = await undelivered(f"{server.url}/?sig=secret", place(server), seconds=0.5)

    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert [] == server.requests


# Again, or not


@pytest.mark.parametrize("status", [*MISSING, 204])
async def test_what_the_storage_says_three_times_is_so(replies, status):
    """A picture that the storage says it does not have, or will not give, is asked for three times, and then lost
    (F37).
    """
    server = replies(*[answer(status, b"" if status == 204 else b"<Error/>")] * 5)
    error = await undelivered(f"{server.url}/1.png?sig=secret", place(server))

    assert 3 == len(server.requests)
    assert not error.retryable
    expected = "it is no picture" if status == 204 else f"its storage answered HTTP {status}"
    assert expected in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("status", MISSING)
async def test_an_object_that_was_just_made_may_be_late(replies, status):
    """A picture that is not there yet is found when it is (F37)."""
    server = replies(*[answer(status, b"<Error/>")] * 2, answer(200, b"picture"))
    assert b"picture" == await download(server.url, place(server))


PASSING = {
    "500": answer(500),
    "503": answer(503, b"<html>"),
    "truncated": answer(200, b"pict", length=7),
    "chunk cut": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\npict",
    "no HTTP": b"garbage\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("first", PASSING.values(), ids=PASSING)
async def test_what_may_pass_is_tried_again(serve, first):
    """A storage that fails, or breaks off, is asked again until it gives the whole picture (F37, F39)."""

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(first if len(server.requests) == 1 else answer(200, b"picture"))

    server = serve(handle)
    assert b"picture" == await download(server.url, place(server))
    assert 2 == len(server.requests)


async def test_what_is_no_picture_is_tried_three_times(replies):
    """A page in place of the picture may be a passing mistake of a proxy; the third one is not (F39)."""
    page = answer(200, b"<html>sign in</html>", "Content-Type: image/png")
    server = replies(*[page] * 5)
    error = await undelivered(server.url, place(server))

    assert 3 == len(server.requests)
    assert ("the picture cannot be fetched: what its storage sent cannot be used: it is no picture", False) == (
        error.message, error.retryable,
    )  # fmt: skip


DEAD = {
    "hangs": lambda server, connection: (server.read_request(connection), connection.recv(1)),
    "hangs in the body": lambda server, connection: (
        server.read_request(connection),
        connection.sendall(answer(200, b"pict", length=7)),
        connection.recv(1),
    ),
    "fails": lambda server, connection: (server.read_request(connection), connection.sendall(answer(503))),
    "hangs up": lambda _server, connection: connection.close(),
}


@pytest.mark.parametrize("handle", DEAD.values(), ids=DEAD)
async def test_a_dead_storage_is_given_up_in_time(serve, handle):
    """A storage that does not answer is given up when the time is over, and the picture may be there later."""
    server = serve(handle)
    started = time.monotonic()
    error = await undelivered(server.url, place(server), seconds=0.25, config=Config(retry=RetryPolicy(backoff=0)))

    assert 0.25 <= time.monotonic() - started < 2
    assert error.retryable
    assert str(error).startswith("the picture could not be fetched within 0.25 s: ")


async def test_a_storage_that_is_not_there_is_given_up_in_time():
    """Where nothing listens it is tried until the time is over, and the error names the address and not the URL."""
    url, started = closed_url(), time.monotonic()
    error = await undelivered(f"{url}/1.png?sig=secret", url.removeprefix("http://"), seconds=0.2)

    assert 0.2 <= time.monotonic() - started < 2
    assert error.retryable
    assert url.removeprefix("http://") in str(error)
    assert "secret" not in str(error)


async def test_a_wait_that_is_asked_for_is_kept(replies):
    """A storage that names a wait is not asked before it is over."""
    server = replies(answer(503, b"", "Retry-After: 0.25"), answer(200, b"picture"))
    started = time.monotonic()
    await download(server.url, place(server))
    assert 0.25 <= time.monotonic() - started < 2


# Bounds


@pytest.mark.parametrize("claimed", [True, False])
async def test_a_picture_that_is_too_large_is_refused(serve, claimed):
    """No more than 64 MiB are taken, whether the size is claimed or not: the connection is closed, and tried again."""

    def handle(server, connection):
        server.read_request(connection)
        if len(server.requests) > 1:
            connection.sendall(answer(200, b"picture"))
            return
        head = answer(200, length=2**40) if claimed else b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        connection.sendall(head)
        while True:
            connection.sendall(bytes(2**20))

    server = serve(handle)
    assert b"picture" == await download(server.url, place(server), seconds=20)
    assert 2 == len(server.connections)


async def test_a_cancelled_fetch_closes_its_connection(serve):
    """Who stops waiting for a picture hangs up, and the next fetch has a connection of its own."""
    arrived = threading.Semaphore(0)

    def handle(server, connection):
        server.read_request(connection)
        if len(server.requests) == 1:
            arrived.release()
            assert b"" == connection.recv(1)
        else:
            connection.sendall(answer(200, b"picture"))

    server = serve(handle)
    downloader = Downloader(frozenset([place(server)]), seeded(7))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: downloader.fetch(server.url, a_picture, QUICK, seconds=5))
        assert await anyio.to_thread.run_sync(arrived.acquire, True, PATIENCE)
        group.cancel_scope.cancel()
    assert await anyio.to_thread.run_sync(server.gone.acquire, True, PATIENCE)
    assert b"picture" == await downloader.fetch(server.url, a_picture, QUICK, seconds=5)
    await downloader.aclose()
    assert 2 == len(server.connections)


async def test_nothing_is_fetched_once_closed(serve):
    """A fetch of a closed client says so, and opens no connection."""
    server = serve(RawServer.read_request)
    downloader = Downloader(frozenset([place(server)]), seeded(7))
    await downloader.aclose()
    await downloader.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await downloader.fetch(server.url, a_picture, QUICK, seconds=5)
    assert [] == server.connections


async def test_closing_closes_idle_connections(serve):
    """After `aclose` the storage sees every connection end."""

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(answer(200, b"picture"))

    server = serve(handle)
    await download(server.url, place(server))
    assert await anyio.to_thread.run_sync(server.gone.acquire, True, PATIENCE)
