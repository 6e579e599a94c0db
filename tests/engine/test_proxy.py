"""Through a proxy: what it sees, and what its refusals mean."""

from __future__ import annotations

import logging
import select
import socket
import ssl
import struct
import threading
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from traceback import TracebackException
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from wire import PATIENCE, RawServer, answer, ask, closed_url, keep, make_caller, place, seeded
from wire import QUICK as QUICK_DOWNLOADS

from nebula_async.charges import Charges
from nebula_async.config import Config, RetryPolicy, Timeouts
from nebula_async.engine.call import Caller
from nebula_async.engine.connections import ConnectionStack
from nebula_async.engine.download import Downloader
from nebula_async.engine.proxy import Proxy, public_name
from nebula_async.engine.transport import Transport
from nebula_async.errors import ConfigurationError, DownloadError, NebulaError, NotSentError, OutcomeUnknownError
from nebula_async.events import Abandoned

URL = "https://api.nebula.test"
"""Nothing here resolves it: only the proxy knows where it leads."""

ONCE = RetryPolicy(attempts=1)
QUICK = Timeouts(connect=0.2, write=0.2, read=0.2, attempt=5, total=10)
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
SECRET = "hunter2"


@pytest.fixture
def api(serve, authority, trusted) -> RawServer:
    """A server of that name which answers each request."""
    return serve(_answer_all, certified_for(authority, "api.nebula.test"))


def certified_for(authority, name: str) -> ssl.SSLContext:
    """Return what a server of that name needs to be trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def _answer_all(server: RawServer, connection: socket.socket) -> None:
    while server.read_request(connection):
        connection.sendall(answer(200, b"picture"))


def tunnel(upstream: RawServer) -> Callable[[RawServer, socket.socket], None]:
    """Return the handler of a proxy that leads every host to one server."""
    port = urlsplit(upstream.url).port

    def handle(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        with socket.create_connection(("127.0.0.1", port)) as behind:
            connection.sendall(ESTABLISHED)
            _pass_on(connection, behind)

    return handle


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    pending = getattr(one, "pending", int)  # what TLS has read and not given yet
    while True:
        ready = [one] if pending() else select.select([one, other], [], [])[0]
        for each in ready:
            data = each.recv(65536)
            if not data:
                return
            (other if each is one else one).sendall(data)


def behind(proxy: str, url: str = URL, **settings) -> Caller:
    """Return a caller of a server behind a proxy."""
    caller = make_caller(url, **settings)
    stack = partial(ConnectionStack, proxy=Proxy.at(proxy))
    caller.transport = Transport(caller.transport.credentials, make_stack=stack)
    return caller


async def fail(caller: Caller, url: str = URL) -> NebulaError:
    """Call and return what was raised."""
    with pytest.raises(NebulaError) as caught:
        await caller.call(ask(url), keep)
    await caller.transport.aclose()
    return caught.value


def with_user(url: str, user: str) -> str:
    """Return the URL of a proxy with a user name and password."""
    return url.replace("://", f"://{user}@")


@pytest.mark.anyio
@pytest.mark.parametrize("is_tls", [False, True], ids=["http", "https"])
async def test_a_proxy_sees_a_host_and_nothing_else(serve, api, certified, is_tls):
    """Requests go through a tunnel: the proxy, spoken to by http or https, learns the host's name, and not the key."""
    proxy = serve(tunnel(api), certified if is_tls else None)
    caller = behind(proxy.url)
    done = await caller.call(ask(URL), keep)
    await caller.transport.aclose()

    assert (b"picture", Charges(1, 1)) == (done.value, done.charges)
    assert [b"CONNECT api.nebula.test:443 HTTP/1.1\r\nHost: api.nebula.test:443\r\n\r\n"] == proxy.requests
    assert b"\r\nAuthorization: Bearer sk-emulator\r\n" in api.requests[0]


@pytest.mark.anyio
async def test_a_proxy_is_told_who_asks(serve, api):
    """User name and password of the proxy's URL go to the proxy, percent-decoded, and not to the server behind it."""
    proxy = serve(tunnel(api))
    caller = behind(with_user(proxy.url, "us%40er:hun%3Ater2"))
    await caller.call(ask(URL), keep)
    await caller.transport.aclose()

    assert b"\r\nProxy-Authorization: Basic " + b64encode(b"us@er:hun:ter2") + b"\r\n" in proxy.requests[0]
    assert b"proxy" not in api.requests[0].lower()


@pytest.mark.anyio
async def test_a_tunnel_is_used_again(serve, api):
    """Requests one after the other use one tunnel."""
    proxy = serve(tunnel(api))
    caller = behind(proxy.url)
    for _ in range(3):
        await caller.call(ask(URL), keep)
    await caller.transport.aclose()

    assert (1, 3) == (len(proxy.requests), len(api.requests))


@pytest.mark.anyio
async def test_a_tunnel_that_has_ended_is_replaced(serve, authority, trusted):
    """A tunnel that has ended is noticed before a request is sent through it."""

    def answer_once(server, connection):
        server.read_request(connection)
        connection.sendall(answer())

    api = serve(answer_once, certified_for(authority, "api.nebula.test"))
    proxy = serve(tunnel(api))
    caller = behind(proxy.url)
    done = []
    for _ in range(3):
        done.append(await caller.call(ask(URL), keep))
        assert await anyio.to_thread.run_sync(proxy.gone.acquire, True, PATIENCE)
    await caller.transport.aclose()

    assert [(1, Charges(1, 1))] * 3 == [(each.attempts, each.charges) for each in done]
    assert 3 == len(proxy.requests)


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "is_final"), [(407, True), (403, False), (502, False), (503, False), (302, False)])
async def test_a_proxy_that_refuses_costs_nothing(replies, status, is_final):
    """Whatever a proxy answers instead of opening a tunnel, nothing was sent; with a wrong password nothing will be."""
    proxy = replies(answer(status, b"denied"))
    error = await fail(behind(with_user(proxy.url, f"me:{SECRET}"), retry=ONCE))

    assert (NotSentError, Charges(0, 0), not is_final) == (type(error), error.charges, error.retryable)
    assert str(status) in str(error)
    assert place(proxy) in str(error)


@pytest.mark.anyio
async def test_a_wrong_password_is_tried_once(replies):
    """What the proxy wants to know is said by the error, and the call is not repeated."""
    proxy = replies(*[answer(407)] * 3)
    error = await fail(behind(proxy.url))

    assert (1, 1) == (error.attempts, len(proxy.requests))
    assert "check the user name and password" in str(error)


@pytest.mark.anyio
async def test_a_proxy_that_refuses_is_asked_again(serve, api):
    """A proxy that cannot reach the server now may reach it in a moment, and that costs nothing."""
    refusals = iter([502, 503])

    def handle(server, connection):
        for status in refusals:
            server.read_request(connection)
            connection.sendall(answer(status))
            return
        tunnel(api)(server, connection)

    caller = behind(serve(handle).url)
    done = await caller.call(ask(URL), keep)
    await caller.transport.aclose()

    assert (3, Charges(1, 1), 1) == (done.attempts, done.charges, len(api.requests))


def _reset(server: RawServer, connection: socket.socket) -> None:
    server.read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


BROKEN = {
    "hangs up": RawServer.read_request,
    "resets": _reset,
    "hangs": lambda server, connection: (server.read_request(connection), connection.recv(1)),
    "answers half": lambda server, connection: (server.read_request(connection), connection.sendall(ESTABLISHED[:-1])),
    "speaks something else": lambda _server, connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "never ends": lambda _server, connection: connection.sendall(ESTABLISHED[:-2] + b"X: y\r\n" * 50_000),
    "says too much": lambda server, connection: (
        server.read_request(connection),
        connection.sendall(ESTABLISHED + b"HTTP/1.1 200 OK\r\n\r\n"),
    ),
    "goes on and on": lambda server, connection: (
        server.read_request(connection),
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 17 + ESTABLISHED),
    ),
    "has no TLS behind it": lambda server, connection: (
        server.read_request(connection),
        connection.sendall(ESTABLISHED),
        connection.recv(1000),
        connection.sendall(answer(400)),
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize("handle", BROKEN.values(), ids=BROKEN)
async def test_a_tunnel_that_breaks_while_it_is_made_costs_nothing(serve, handle):
    """Until the tunnel is there nothing was sent, however it fails; that may pass."""
    proxy = serve(handle)
    error = await fail(behind(proxy.url, retry=ONCE, timeouts=QUICK))

    assert (NotSentError, Charges(0, 0), True) == (type(error), error.charges, error.retryable)


@pytest.mark.anyio
async def test_a_proxy_that_is_not_there_is_named():
    """The error says which connection failed: the one to the proxy."""
    url = closed_url()
    error = await fail(behind(url, retry=ONCE))

    assert (NotSentError, Charges(0, 0), True) == (type(error), error.charges, error.retryable)
    assert f"the proxy at {url.removeprefix('http://')}" in str(error)
    assert "api.nebula.test" in str(error)


@pytest.mark.anyio
async def test_a_proxy_has_the_time_of_a_connection(serve):
    """A proxy that does not answer is given up within the limit of a connection, and hung up on; that is free."""
    proxy = serve(lambda server, connection: (server.read_request(connection), connection.recv(1)))
    error = await fail(behind(proxy.url, retry=ONCE, timeouts=Timeouts(connect=0.1)))
    assert await anyio.to_thread.run_sync(proxy.gone.acquire, True, PATIENCE)

    assert (NotSentError, Charges(0, 0)) == (type(error), error.charges)
    assert "no tunnel in time" in str(error)


@pytest.mark.anyio
async def test_a_call_that_is_cancelled_before_there_is_a_tunnel_is_free(serve):
    """Who stops waiting while the proxy is asked hangs up, and pays nothing."""
    arrived = threading.Semaphore(0)

    def handle(server, connection):
        server.read_request(connection)
        arrived.release()
        assert b"" == connection.recv(1)

    proxy, events = serve(handle), []
    caller = behind(proxy.url, events=events)
    async with anyio.create_task_group() as group:
        group.start_soon(caller.call, ask(URL), keep)
        assert await anyio.to_thread.run_sync(arrived.acquire, True, PATIENCE)
        group.cancel_scope.cancel()
    assert await anyio.to_thread.run_sync(proxy.gone.acquire, True, PATIENCE)
    await caller.transport.aclose()

    assert [Charges(0, 0)] == [event.charges for event in events if isinstance(event, Abandoned)]


@pytest.mark.anyio
@pytest.mark.parametrize("who", ["proxy", "server"])
async def test_certificates_are_verified_on_both_ways(serve, authority, certified, monkeypatch, tmp_path, who):
    """Neither a proxy nor a server behind it is trusted without a certificate for its name, and no retry helps."""
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    other = certified_for(authority, "other.nebula.test")
    api = serve(_answer_all, other if who == "server" else certified_for(authority, "api.nebula.test"))
    proxy = serve(tunnel(api), other if who == "proxy" else certified)
    error = await fail(behind(proxy.url))

    assert (NotSentError, Charges(0, 0), False) == (type(error), error.charges, error.retryable)
    assert (1, []) == (error.attempts, api.requests)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "charges"), [(None, Charges(0, 1)), (answer(200, b"half", length=8), Charges(1, 1))], ids=["none", "half"]
)
async def test_what_breaks_in_a_tunnel_is_judged_as_ever(serve, authority, trusted, text, charges):
    """Once a request went through a tunnel it counts: without a reply it may be paid for, with half of one it is."""

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(text or b"")

    api = serve(handle, certified_for(authority, "api.nebula.test"))
    error = await fail(behind(serve(tunnel(api)).url, retry=ONCE))

    assert (OutcomeUnknownError, charges) == (type(error), error.charges)


@pytest.mark.anyio
async def test_this_machine_is_called_without_a_proxy(replies):
    """A server on this machine, as an emulator is, has no proxy between."""
    proxy, server = replies(answer(502)), replies(answer(200, b"picture"))
    caller = behind(proxy.url, server.url)
    done = await caller.call(ask(server.url), keep)
    await caller.transport.aclose()

    assert (b"picture", []) == (done.value, proxy.connections)


@pytest.mark.anyio
@pytest.mark.parametrize("case", [str.upper, str.lower])
async def test_the_environment_names_no_proxy(replies, monkeypatch, case):
    """S12: a proxy that the environment names gets no request, and so not the key."""
    canary, server = replies(answer(502)), replies(answer(200, b"picture"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(case(name), with_user(canary.url, f"me:{SECRET}"))
    caller = make_caller(server.url)
    done = await caller.call(ask(server.url), keep)
    await caller.transport.aclose()

    assert (b"picture", []) == (done.value, canary.connections)


@pytest.mark.anyio
async def test_the_password_of_a_proxy_is_nowhere(serve, api, replies, caplog):
    """User name and password appear in no message, log or report of local variables, with a tunnel or without one."""
    caplog.set_level(logging.DEBUG)
    good, bad = serve(tunnel(api)), replies(answer(407), answer(502))
    caller = behind(with_user(good.url, f"{SECRET}:{SECRET}"))
    await caller.call(ask(URL), keep)
    await caller.transport.aclose()
    url = with_user(bad.url, f"{SECRET}:{SECRET}")
    errors = [await fail(behind(url)) for _ in range(2)]
    reports = [TracebackException.from_exception(error, capture_locals=True) for error in errors]
    said = [caplog.text, repr(Proxy.at(url)), str(Proxy.at(url)), *("".join(report.format()) for report in reports)]

    encoded = b64encode(f"{SECRET}:{SECRET}".encode()).decode()
    assert [] == [text for text in said if SECRET in text or encoded in text]


@pytest.mark.anyio
async def test_a_transport_of_ones_own_may_have_a_proxy(serve, replies):
    """Httpx's own transport asks its proxy for a tunnel with events of its own: they are not taken for the request."""
    for proxy, is_retryable in ((replies(answer(407)), False), (replies(answer(502)), True), (serve(_reset), True)):
        async with httpx.AsyncHTTPTransport(proxy=httpx.Proxy(proxy.url)) as transport:
            error = await fail(make_caller(URL, custom=transport, retry=ONCE))

        assert (NotSentError, Charges(0, 0), is_retryable) == (type(error), error.charges, error.retryable)


async def download(url: str, proxy: RawServer, *allowed: str) -> bytes:
    """Fetch a URL through a proxy."""
    downloader = Downloader(frozenset(allowed), seeded(7), proxy=Proxy.at(proxy.url))
    try:
        return await downloader.fetch(url, keep, QUICK_DOWNLOADS, seconds=5.0, most_tries=1)
    finally:
        await downloader.aclose()


@pytest.mark.anyio
async def test_pictures_are_fetched_through_the_proxy(serve, authority, trusted):
    """A picture's host is found by the proxy, and verified by us."""
    storage = serve(_answer_all, certified_for(authority, "storage.nebula.test"))
    proxy = serve(tunnel(storage))

    assert b"picture" == await download("https://storage.nebula.test/a.png", proxy)
    assert proxy.requests[0].startswith(b"CONNECT storage.nebula.test:443 HTTP/1.1\r\n")


@pytest.mark.anyio
async def test_allowed_hosts_are_fetched_from_wherever_they_are(serve, replies):
    """A host that is allowed although it is not public is asked for as it is; one on this machine has no proxy."""
    near, far = replies(answer(200, b"near")), replies(answer(200, b"far"))
    proxy = serve(tunnel(far))

    assert b"near" == await download(f"{near.url}/a.png", proxy, place(near))
    assert b"far" == await download("http://10.0.0.1:9000/a.png", proxy, "10.0.0.1:9000")
    assert [b"CONNECT 10.0.0.1:9000 HTTP/1.1"] == [request.partition(b"\r\n")[0] for request in proxy.requests]


NOT_PUBLIC = [
    "127.0.0.1",
    "10.0.0.1",
    "169.254.169.254",
    "[::1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "017700000001",
    "8.8",
    "localhost",
    "api.localhost",
    "localhost.",
    "metadata",
    "metadata.google.internal",
    "printer.local",
]


@pytest.mark.anyio
@pytest.mark.parametrize("host", NOT_PUBLIC)
async def test_a_proxy_is_not_asked_for_what_is_not_public(serve, host):
    """B40: an address that is not public, in whichever form, and a name that means something near the proxy are not
    asked for, as the URLs come from elsewhere.
    """
    proxy = serve(RawServer.read_request)
    with pytest.raises(DownloadError) as caught:
        await download(f"https://{host}/a.png", proxy)

    assert (True, []) == (caught.value.is_forbidden, proxy.connections)


@pytest.mark.parametrize("host", ["api.nebulablock.com", "8.8.8.8", "2606:4700::1111", "example.com.", "1e100.net"])
def test_a_proxy_may_be_asked_for_what_is_public(host):
    """Names of the public internet and public addresses are what a proxy is for."""
    assert host == public_name(host)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy:3128", Proxy("proxy", 3128)),
        ("http://proxy", Proxy("proxy", 80)),
        ("https://proxy/", Proxy("proxy", 443, is_tls=True)),
        ("http://[::1]:3128", Proxy("::1", 3128)),
        ("http://me@proxy:1", Proxy("proxy", 1, authorization="Basic bWU6")),
        ("http://me:p%25w@proxy:1", Proxy("proxy", 1, authorization="Basic bWU6cCV3")),
    ],
)
def test_a_proxy_is_where_its_url_says(url, proxy):
    """Host, port, protocol and who is let in are read from one URL."""
    assert proxy == Proxy.at(url)


NO_PROXIES = (
    "",
    "host:80",
    "ftp://host:80",
    "http://127.0.0.1:99999",
    "http://[::1",
    "http://[::1]:x",
    "http://h:80/a",
)


@pytest.mark.parametrize("url", NO_PROXIES)
def test_a_url_that_is_no_proxys_is_refused_without_its_password(url):
    """Whoever makes a client of it is told what it must be; what may be a password is in no message."""
    scheme, sign, place = url.rpartition("://")
    given = f"{scheme}{sign}user:secret-word@{place}"
    for make in (Proxy.at, lambda wrong: Config(proxy=wrong)):
        with pytest.raises(ConfigurationError, match="proxy must be http://host:port or https") as raised:
            make(given)
        assert "secret-word" not in str(raised.value)


def test_addresses_are_written_as_urls_write_them():
    """An IPv6 address is asked for in brackets."""
    assert Proxy("proxy", 1).tunnel_to("::1", 443).startswith(b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n")
