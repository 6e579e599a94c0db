"""One attempt over a real socket: how far it came, what it may read, and where the key goes."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading

import httpx
import pytest
import respx
from wire import PATIENCE, RawServer, answer, ask, closed_url, keep, make_caller

from nebula_async.api.envelope import MAX_BODY
from nebula_async.charges import Charges
from nebula_async.config import RetryPolicy, Timeouts
from nebula_async.engine.connections import ConnectionStack
from nebula_async.engine.transport import MAX_REPLY_BYTES, USER_AGENT, Credentials
from nebula_async.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    NebulaError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitError,
    ServerError,
    UnusableReplyError,
)
from nebula_async.keys import find_key

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(attempts=1)
QUICK = Timeouts(connect=5, write=0.2, read=0.2, attempt=5, total=10)


async def fail(url: str, **settings) -> NebulaError:
    """Call once and return what was raised."""
    caller = make_caller(url, **{"retry": ONCE} | settings)
    with pytest.raises(NebulaError) as caught:
        await caller.call(ask(url), keep)
    await caller.transport.aclose()
    assert 1 == caught.value.attempts
    return caught.value


async def fetch(url: str, **settings) -> bytes:
    """Call once and return the reply's body."""
    caller = make_caller(url, **{"retry": ONCE} | settings)
    done = await caller.call(ask(url), keep)
    await caller.transport.aclose()
    return done.value


async def test_a_refused_connection_was_not_sent():
    """Where nothing listens nothing is sent, nothing is charged, and the error names the address."""
    url = closed_url()
    error = await fail(url)

    assert (NotSentError, Charges(0, 0), True) == (type(error), error.charges, error.retryable)
    assert url.removeprefix("http://") in str(error)


async def test_an_unknown_host_was_not_sent():
    """A host without an address is named in the error."""
    error = await fail("https://api.nebula.invalid")

    assert (NotSentError, Charges(0, 0)) == (type(error), error.charges)
    assert "api.nebula.invalid" in str(error)


async def test_an_untrusted_certificate_is_refused(serve, certified):
    """A server whose certificate nobody vouches for gets no byte of the request, and is not asked again."""
    server = serve(RawServer.read_request, tls=certified)
    error = await fail(server.url, retry=RetryPolicy())

    assert (NotSentError, False, Charges(0, 0)) == (type(error), error.retryable, error.charges)
    assert [] == server.requests


async def test_tls(serve, authority, certified):
    """Over TLS a trusted server is asked like any other, and its connection is reused."""

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(answer(200, b"secret"))

    server = serve(handle, tls=certified)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trusting)
    stack = ConnectionStack(make_tls_context=lambda: trusting)
    async with stack:
        bodies = [await fetch(server.url, custom=stack) for _ in range(2)]

    assert [b"secret"] * 2 == bodies
    assert 1 == len(server.connections)


async def test_plain_text_behind_https_was_not_sent(serve):
    """A port that does not speak TLS gets no request."""
    server = serve(lambda _server, connection: (connection.recv(1000), connection.sendall(answer(400))))
    error = await fail(server.url.replace("http", "https"))

    assert (NotSentError, Charges(0, 0)) == (type(error), error.charges)


UNKNOWN_OUTCOMES = {
    "closed before it is read": lambda _server, connection: connection.close(),
    "closed without a reply": RawServer.read_request,
    "no HTTP": lambda server, connection: (
        server.read_request(connection),
        connection.sendall(b"\x16\x03\x01garbage\r\n\r\n"),
    ),
    "headers cut": lambda server, connection: (
        server.read_request(connection),
        connection.sendall(b"HTTP/1.1 200 OK\r\nConte"),
    ),
    "200 KiB of one header": lambda server, connection: (
        server.read_request(connection),
        connection.sendall(answer(200, b"{}", f"X-Long: {'x' * 200_000}")),
    ),
    "200 KiB of headers": lambda server, connection: (
        server.read_request(connection),
        connection.sendall(answer(200, b"{}", *["X-Again: and again"] * 10_000)),
    ),
    "hangs": lambda server, connection: (server.read_request(connection), connection.recv(1)),
}


@pytest.mark.parametrize("handle", UNKNOWN_OUTCOMES.values(), ids=UNKNOWN_OUTCOMES)
async def test_sent_and_never_answered_is_unknown(serve, handle):
    """A request that left and was not answered may have been paid for; the cause says what happened below."""
    server = serve(handle)
    error = await fail(server.url, timeouts=QUICK)

    assert (OutcomeUnknownError, Charges(0, 1), True) == (type(error), error.charges, error.retryable)
    assert error.__cause__ is not None
    assert "nebula_async" not in type(error.__cause__).__module__


FRAMES = {
    "two lengths": ["Content-Length: 2", "Content-Length: 3"],
    "one length, twice": ["Content-Length: 2", "Content-Length: 2"],
    "a list of lengths": ["Content-Length: 2, 2"],
    "a length and chunks": ["Content-Length: 2", "Transfer-Encoding: chunked"],
    "chunks and a length": ["transfer-encoding: chunked", "content-length: 2"],
    "a negative length": ["Content-Length: -1"],
    "a length with a sign": ["Content-Length: +2"],
    "a length of 31 digits": ["Content-Length: 1" + "0" * 30],
    "a length in hex": ["Content-Length: 0x2"],
    "no length": ["Content-Length: "],
}


@pytest.mark.parametrize("lines", FRAMES.values(), ids=FRAMES)
async def test_a_reply_without_a_clear_length_is_not_believed(serve, lines):
    """F19, B37: where a reply ends must be said once, and as a number; else the outcome is unknown, and what follows
    on the connection is not taken for the next reply.
    """
    head = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(head + b"2\r\n{}\r\n0\r\n\r\n")
        assert b"" == connection.recv(1)

    server = serve(handle)
    error = await fail(server.url)
    assert server.gone.acquire(timeout=PATIENCE)

    assert (OutcomeUnknownError, Charges(0, 1)) == (type(error), error.charges)
    assert 1 == len(server.requests)


LOST = {
    "cut": answer(200, b"half", length=8),
    "hangs": None,
    "chunk cut": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
}


@pytest.mark.parametrize("text", LOST.values(), ids=LOST)
async def test_accepted_and_lost_is_paid(serve, text):
    """A reply that begins with success and breaks off was paid for."""

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(text or answer(200, b"half", length=8))
        if text is None:
            connection.recv(1)

    error = await fail(serve(handle).url, timeouts=QUICK)

    assert (OutcomeUnknownError, Charges(1, 1)) == (type(error), error.charges)


async def test_an_attempt_has_its_own_limit(serve):
    """A server that keeps sending a little is given up when the time of the attempt is over."""

    def drip(server, connection):
        server.read_request(connection)
        connection.sendall(answer(200, length=1000))
        while True:
            connection.sendall(b"x")
            threading.Event().wait(0.02)

    error = await fail(serve(drip).url, timeouts=Timeouts(attempt=0.2))

    assert (OutcomeUnknownError, Charges(1, 1)) == (type(error), error.charges)
    assert "0.2 s" in str(error)


BROKEN = {
    "hangs": lambda connection: connection.recv(1),
    "cut": lambda _connection: None,
}


@pytest.mark.parametrize(
    ("status", "kind", "charges"),
    [
        (400, BadRequestError, Charges(0, 0)),
        (401, AuthenticationError, Charges(0, 0)),
        (429, RateLimitError, Charges(0, 0)),
        (500, ServerError, Charges(0, 1)),
        (502, ServerError, Charges(0, 1)),
        (504, ServerError, Charges(0, 1)),
    ],
)
@pytest.mark.parametrize("end", BROKEN.values(), ids=BROKEN)
async def test_the_status_of_an_error_counts_without_its_body(serve, status, kind, charges, end):
    """An error whose body breaks off is judged by its status; a gateway's page that is not whole proves nothing."""

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(answer(status, b'{"stat', length=100))
        end(connection)

    error = await fail(serve(handle).url, timeouts=QUICK)

    assert (kind, status, charges) == (type(error), error.status, error.charges)


async def test_a_whole_page_of_a_gateway_is_free(replies):
    """A 502 page that came at once and whole means that no picture was made (F29)."""
    error = await fail(replies(answer(502, b"<html>Bad Gateway</html>")).url)

    assert (ServerError, Charges(0, 0)) == (type(error), error.charges)


async def test_error_bodies_are_bounded(serve):
    """Of an error no more than 64 KiB are read, however much there is (B23)."""

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(answer(400, b'{"message": "' + b"x" * MAX_BODY, length=2**40))
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(bytes(2**16))

    error = await fail(serve(handle).url)

    assert (BadRequestError, 400) == (type(error), error.status)


async def test_replies_of_several_pictures_may_be_larger(serve):
    """The bound on a reply is for each picture that was asked for: what is too much for one is not for two."""
    size = MAX_REPLY_BYTES + 1

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(answer(200, bytes(size)))

    server = serve(handle)
    caller = make_caller(server.url, retry=ONCE)
    done = await caller.call(ask(server.url, pictures=2), keep)
    with pytest.raises(UnusableReplyError, match="larger than 92274688 bytes"):
        await caller.call(ask(server.url), keep)
    await caller.transport.aclose()

    assert size == len(done.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(serve, replies, status):
    """A redirected request goes nowhere: not the key, and not a byte to the other host (F33)."""
    other = serve(RawServer.read_request)
    server = replies(answer(status, b"", f"Location: {other.url}/elsewhere"))
    error = await fail(server.url)

    assert (BadRequestError, status, Charges(0, 0)) == (type(error), error.status, error.charges)
    assert 1 == len(server.requests)
    assert [] == other.connections


async def test_the_key_goes_to_the_configured_origins_only(serve):
    """A request for any other origin than the two configured ones is not sent."""
    server, inference, other = (serve(RawServer.read_request) for _ in range(3))
    caller = make_caller(server.url, inference_url=inference.url)
    others = [other.url, *(url.url.replace("127.0.0.1", "localhost") for url in (server, inference))]
    for url in (*others, server.url.replace("http", "https"), inference.url.replace("http", "https")):
        with pytest.raises(RuntimeError, match="the key is only sent to") as caught:
            await caller.call(ask(url), keep)
        assert f"{server.url} and {inference.url}" in str(caught.value)
        assert "sk-emulator" not in str(caught.value)

    assert [] == server.connections + inference.connections + other.connections


async def test_the_key_goes_to_both_apis(replies):
    """The serverless API and the inference API, wherever they are, get the key in the same header."""
    server, inference = replies(answer(200)), replies(answer(200))
    caller = make_caller(f"{server.url}/api/v1", inference_url=f"{inference.url}/v1")
    for url in (server.url, inference.url):
        await caller.call(ask(url), keep)
    await caller.transport.aclose()

    for request in server.requests + inference.requests:
        assert b"\r\nAuthorization: Bearer sk-emulator\r\n" in request
    assert [1, 1] == [len(server.requests), len(inference.requests)]


def test_an_address_that_cannot_be_called_is_refused_when_it_is_given():
    """A URL that the HTTP library cannot read is told before there is anything to send, and not with the key."""
    with pytest.raises(ConfigurationError, match="is no URL that can be called"):
        Credentials(("https://a.example", "https://[::1"), find_key("sk-emulator"))


async def test_what_a_request_looks_like(replies):
    """On the wire: the documented method, path, headers and body, the key in one header, and no cookie."""
    server = replies(answer(200, b"{}", "Set-Cookie: a=b"), answer(200, b"{}"))
    caller = make_caller(f"{server.url}/api/v1")
    for _ in range(2):
        await caller.call(ask(f"{server.url}/api/v1"), keep)
    await caller.transport.aclose()

    head, _, body = server.requests[1].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert "POST /api/v1/images/generation HTTP/1.1" == first
    assert b'{"prompt":"x"}' == body
    assert {
        "host": server.url.removeprefix("http://"),
        "authorization": "Bearer sk-emulator",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": USER_AGENT,
        "content-type": "application/json",
        "content-length": "14",
    } == {name.lower(): value for name, value in (line.split(": ") for line in lines)}
    assert server.requests[0] == server.requests[1]


@respx.mock
async def test_request_shapes_with_respx():
    """Users can test against respx: it sees the method, URL, headers and JSON of a request."""
    route = respx.post("http://localhost/api/v1/images/generation", json={"prompt": "x"}).respond(200, json={"a": 1})
    caller = make_caller("http://localhost/api/v1", custom=httpx.AsyncHTTPTransport())
    done = await caller.call(ask("http://localhost/api/v1"), keep)

    assert {"a": 1} == json.loads(done.value)
    assert "Bearer sk-emulator" == route.calls.last.request.headers["authorization"]
    assert "cookie" not in route.calls.last.request.headers
    assert 1 == route.call_count


@respx.mock
async def test_respx_answers_in_place_of_a_server():
    """Users whose client is the default one can test against respx as well; nothing of it reaches the network."""
    route = respx.post("https://api.nebulablock.com/api/v1/images/generation").respond(200, json={"a": 1})
    caller = make_caller("https://api.nebulablock.com/api/v1")
    done = await caller.call(ask("https://api.nebulablock.com/api/v1"), keep)
    await caller.transport.aclose()

    assert ({"a": 1}, 1) == (json.loads(done.value), route.call_count)


async def test_a_transport_of_ones_own():
    """With a transport of their own users see each request, and answer it."""
    seen = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, str(request.url), request.content))
        return httpx.Response(200, json={"mine": True})

    assert {"mine": True} == json.loads(await fetch("http://localhost", custom=httpx.MockTransport(reply)))
    assert [("POST", "http://localhost/images/generation", b'{"prompt":"x"}')] == seen


async def test_an_application_instead_of_a_server():
    """An ASGI application can answer without a socket."""

    async def application(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    assert b"/images/generation" == await fetch("http://localhost", custom=httpx.ASGITransport(application))


async def test_a_transport_that_says_nothing_counts_as_sent():
    """A failure of a transport that does not tell how far it came may have been paid for."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    error = await fail("http://localhost", custom=httpx.MockTransport(refuse))

    assert (OutcomeUnknownError, Charges(0, 1)) == (type(error), error.charges)
    assert httpx.ConnectError is type(error.__cause__)


async def test_a_transport_that_tells_is_believed():
    """Httpx's own transport tells how far it came: what it could not connect was not sent."""
    transport = httpx.AsyncHTTPTransport()
    error = await fail(closed_url(), custom=transport)
    await transport.aclose()

    assert (NotSentError, Charges(0, 0)) == (type(error), error.charges)
    assert httpx.ConnectError is type(error.__cause__)


async def test_keys_rotate(replies):
    """A callable is asked for the key before each attempt; a malformed key ends the call without losing its sums."""
    keys = iter(["sk-first", "sk-first", "sk-second", "no good\n"])
    server = replies(answer(500), answer(200), answer(500))
    caller = make_caller(server.url, key=lambda: next(keys), retry=RetryPolicy(backoff=0))
    await caller.call(ask(server.url), keep)
    with pytest.raises(ConfigurationError) as caught:
        await caller.call(ask(server.url), keep)
    await caller.transport.aclose()

    assert [b"sk-first", b"sk-second"] == [
        text.partition(b"Bearer ")[2].partition(b"\r\n")[0] for text in server.requests[:2]
    ]
    assert (1, Charges(0, 0)) == (caught.value.attempts, caught.value.charges)
    assert "no good" not in str(caught.value)


async def test_nothing_is_sent_once_closed(serve):
    """A call of a closed client says so, and opens no connection."""
    server = serve(RawServer.read_request)
    caller = make_caller(server.url)
    await caller.transport.aclose()
    await caller.transport.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await caller.call(ask(server.url), keep)

    assert [] == server.connections
