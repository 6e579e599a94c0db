"""A stack of httpcore connections as an httpx transport.

Idle connections of an origin lie on a last-in-first-out stack; a request takes the newest or makes one, and never waits
for one: the gate bounds how many there are. A connection whose request failed or was cancelled is closed and dropped:
a cancellation costs one connection and nothing else. (httpcore's pool loses its slots to cancellations, and its cost
grows with the square of the connections.)
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, TypeAlias, cast
from weakref import ref

import anyio
import anyio.to_thread
import httpcore
import httpx
from attrs import define, field

IDLE_SECONDS = 4.0
"""Idle connections are given up before the common limit of servers, 5 s: one that the server drops just as a request
leaves means a request of unknown outcome.
"""


OriginKey: TypeAlias = tuple[bytes, bytes, int]

FindAddresses: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host name and a port to the addresses that may be connected to; raises `OSError` where none may be."""


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
    """An httpx transport over connections that belong to one event loop; it closes with the loop, if not before.

    With `find_addresses`, a host is connected to at the addresses that it returns and at no other; the host's name
    stays what TLS verifies and what idle connections are told apart by.
    """

    idle_seconds: float = IDLE_SECONDS
    make_tls_context: Callable[[], ssl.SSLContext] = tls_context
    find_addresses: FindAddresses | None = None
    _idle: dict[OriginKey, deque[_Connection]] = field(factory=dict, init=False)
    _tls: ssl.SSLContext | None = field(default=None, init=False)
    _until_closed: AsyncGenerator[None, None] | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over the newest idle connection, or a new one. Cancellation closes the connection."""
        await self._close_with_loop()
        outgoing = _as_httpcore(request)
        connection = await self._take(outgoing.url.origin)
        try:
            reply = await connection.http.handle_async_request(outgoing)
        except BaseException:
            await connection.aclose()
            raise
        body = _Body(reply, connection, outgoing.url.origin, self)
        return httpx.Response(reply.status, headers=reply.headers, stream=body, extensions=reply.extensions)

    async def aclose(self) -> None:
        """Close all idle connections; those in use are closed when their reply ends."""
        self._closed = True
        if self._until_closed is not None:
            await self._until_closed.aclose()

    async def give_back(self, connection: _Connection, origin: httpcore.Origin) -> None:
        """Put a connection back on the stack if its reply was read to the end, else close it."""
        if self._closed or not connection.http.is_idle():
            await connection.aclose()
            return
        idle = self._idle.setdefault(_key(origin), deque())
        idle.append(connection)
        if idle[0].http.has_expired():  # the oldest lies at the bottom: one look for each reply keeps the stack small
            await idle.popleft().aclose()

    async def _take(self, origin: httpcore.Origin) -> _Connection:
        idle = self._idle.get(_key(origin))
        while idle:
            connection = idle.pop()
            if connection.http.is_available() and not connection.http.has_expired():
                return connection
            await connection.aclose()
        wire, tls = _Wire(self.find_addresses), await self._tls_for(origin)
        http = httpcore.AsyncHTTPConnection(
            origin, ssl_context=tls, keepalive_expiry=self.idle_seconds, network_backend=wire
        )
        return _Connection(http, wire)

    async def _tls_for(self, origin: httpcore.Origin) -> ssl.SSLContext | None:
        if origin.scheme != b"https":
            return None
        if self._tls is None:  # reading the certificates takes tens of milliseconds
            self._tls = await anyio.to_thread.run_sync(self.make_tls_context)
        return self._tls

    async def _close_with_loop(self) -> None:
        # The one thing that an ending loop waits for and that is no task: asyncio and trio close async generators.
        if self._until_closed is None:
            self._until_closed = _closing(self._idle, ref(self))
            await anext(self._until_closed)


@define(eq=False)
class _Wire(httpcore.AsyncNetworkBackend):
    """Opens the socket of one connection and remembers it: httpcore forgets one whose TLS handshake is cancelled."""

    find_addresses: FindAddresses | None = None
    _sockets: httpcore.AsyncNetworkBackend = field(factory=httpcore.AnyIOBackend, init=False)
    _socket: httpcore.AsyncNetworkStream | None = field(default=None, init=False)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        connect = partial(
            self._connect, port=port, timeout=timeout, local_address=local_address, socket_options=socket_options
        )
        *others, last = [host] if self.find_addresses is None else await self.find_addresses(host, port)
        for address in others:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await connect(address)
        return await connect(last)

    async def _connect(self, address: str, **options: Any) -> httpcore.AsyncNetworkStream:
        self._socket = await self._sockets.connect_tcp(address, **options)
        return self._socket

    async def aclose(self) -> None:
        if self._socket is not None:
            await self._socket.aclose()


@define(eq=False)
class _Connection:
    http: httpcore.AsyncHTTPConnection
    wire: _Wire

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.http.aclose()
            await self.wire.aclose()


@define(eq=False)
class _Body(httpx.AsyncByteStream):
    """A reply's body, which gives its connection back when it is closed."""

    reply: httpcore.Response
    connection: _Connection
    origin: httpcore.Origin
    stack: ConnectionStack
    _closed: bool = field(default=False, init=False)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return cast("AsyncIterable[bytes]", self.reply.stream).__aiter__()  # an async connection's stream is async

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            with anyio.CancelScope(shield=True):
                await self.reply.aclose()
                await self.stack.give_back(self.connection, self.origin)
        except BaseException:  # a native cancellation passes through shields
            await self.connection.aclose()
            raise


async def _closing(
    idle: dict[OriginKey, deque[_Connection]], stack_of: ref[ConnectionStack]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        if (owner := stack_of()) is not None:
            owner._until_closed = None  # a generator holds its loop, and with it all that the loop holds
        async with AsyncExitStack() as stack:  # closes every one, whatever happens to another
            for connection in [connection for connections in idle.values() for connection in connections]:
                stack.push_async_callback(connection.aclose)
            idle.clear()


def _key(origin: httpcore.Origin) -> OriginKey:
    return origin.scheme, origin.host, origin.port


def _as_httpcore(request: httpx.Request) -> httpcore.Request:
    url = httpcore.URL(
        scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
    )
    content = _Content([request.content] if request.content else [])
    return httpcore.Request(
        request.method, url, headers=request.headers.raw, content=content, extensions=request.extensions
    )


@define(eq=False)
class _Content:
    """A request's body, once. httpx's is an async generator, which a write that fails leaves for the loop to find."""

    pieces: list[bytes]

    def __aiter__(self) -> _Content:
        return self

    async def __anext__(self) -> bytes:
        if not self.pieces:
            raise StopAsyncIteration
        return self.pieces.pop()
