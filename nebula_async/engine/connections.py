"""A stack of httpcore connections as an httpx transport.

Idle connections of an origin lie on a last-in-first-out stack; a request takes the newest or makes one, and never waits
for one: the gate bounds how many there are. A connection whose request failed or was cancelled is closed and dropped:
a cancellation costs one connection and nothing else. (httpcore's pool loses its slots to cancellations, and its cost
grows with the square of the connections.)
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import TypeAlias, cast

import anyio
import httpcore
import httpx
from attrs import define, field

IDLE_SECONDS = 4.0
"""Idle connections are given up before the common limit of servers, 5 s: one that the server drops just as a request
leaves means a request of unknown outcome.
"""


OriginKey: TypeAlias = tuple[bytes, bytes, int]


def tls_context() -> ssl.SSLContext:
    """Return a verifying context over the system's certificates and certifi's.

    Made by hand, because the standard library's default context writes session keys where `SSLKEYLOGFILE` says.
    """
    import certifi  # httpx depends on it; only a client that speaks TLS pays for loading it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


@define(eq=False)
class ConnectionStack(httpx.AsyncBaseTransport):
    """An httpx transport over connections that belong to one event loop."""

    make_tls_context: Callable[[], ssl.SSLContext] = tls_context
    _idle: dict[OriginKey, deque[httpcore.AsyncHTTPConnection]] = field(factory=dict, init=False)
    _tls: ssl.SSLContext | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over the newest idle connection, or a new one. Cancellation closes the connection."""
        outgoing = _as_httpcore(request)
        connection = await self._take(outgoing.url.origin)
        try:
            reply = await connection.handle_async_request(outgoing)
        except BaseException:
            await _close(connection)
            raise
        body = _Body(reply, connection, outgoing.url.origin, self)
        return httpx.Response(reply.status, headers=reply.headers, stream=body, extensions=reply.extensions)

    async def aclose(self) -> None:
        """Close all idle connections; those in use are closed when their reply ends."""
        self._closed = True
        for idle in self._idle.values():
            while idle:
                await _close(idle.pop())

    @property
    def is_empty(self) -> bool:
        """Whether no connection lies idle."""
        return not any(self._idle.values())

    async def give_back(self, connection: httpcore.AsyncHTTPConnection, origin: httpcore.Origin) -> None:
        """Put a connection back on the stack if its reply was read to the end, else close it."""
        if self._closed or not connection.is_idle():
            await _close(connection)
            return
        idle = self._idle.setdefault(_key(origin), deque())
        idle.append(connection)
        if idle[0].has_expired():  # the oldest lies at the bottom: looking at one for each reply keeps the stack small
            await _close(idle.popleft())

    async def _take(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        idle = self._idle.get(_key(origin))
        while idle:
            connection = idle.pop()
            if connection.is_available() and not connection.has_expired():
                return connection
            await _close(connection)
        return httpcore.AsyncHTTPConnection(origin, ssl_context=self._tls_for(origin), keepalive_expiry=IDLE_SECONDS)

    def _tls_for(self, origin: httpcore.Origin) -> ssl.SSLContext | None:
        if origin.scheme != b"https":
            return None
        self._tls = self._tls or self.make_tls_context()
        return self._tls


@define(eq=False)
class _Body(httpx.AsyncByteStream):
    """A reply's body, which gives its connection back when it is closed."""

    reply: httpcore.Response
    connection: httpcore.AsyncHTTPConnection
    origin: httpcore.Origin
    stack: ConnectionStack
    _closed: bool = field(default=False, init=False)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return cast("AsyncIterable[bytes]", self.reply.stream).__aiter__()  # an async connection's stream is async

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            await self.reply.aclose()
            await self.stack.give_back(self.connection, self.origin)


def _key(origin: httpcore.Origin) -> OriginKey:
    return origin.scheme, origin.host, origin.port


async def _close(connection: httpcore.AsyncHTTPConnection) -> None:
    with anyio.CancelScope(shield=True):
        await connection.aclose()


def _as_httpcore(request: httpx.Request) -> httpcore.Request:
    url = httpcore.URL(
        scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
    )
    return httpcore.Request(
        request.method, url, headers=request.headers.raw, content=request.stream, extensions=request.extensions
    )
