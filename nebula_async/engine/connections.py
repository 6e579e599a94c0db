"""A stack of httpcore connections as an httpx transport.

Idle connections of an origin lie on a last-in-first-out stack; a request takes the newest or makes one, and never waits
for one: the gate bounds how many there are. A connection whose request failed or was cancelled is closed and dropped:
a cancellation costs one connection and nothing else. (httpcore's pool loses its slots to cancellations, and its cost
grows with the square of the connections.)
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeAlias, cast

import anyio
import anyio.to_thread
import httpcore
import httpx
from anyio.lowlevel import checkpoint, current_token
from attrs import define, field

from nebula_async.engine.idle import IdleConnections
from nebula_async.engine.proxy import Proxy, tunnel_status
from nebula_async.engine.reading import BodyReader, WholeBody, feed_all
from nebula_async.engine.tls import tls_context
from nebula_async.engine.wire_stream import WireStream
from nebula_async.urls import is_loopback

IDLE_SECONDS = 4.0
"""Idle connections are given up before the common limit of servers, 5 s: one that the server drops just as a request
leaves means a request of unknown outcome.
"""

READ_BYTES = 64 * 1024

FindAddresses: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host name and a port to the addresses that may be connected to; raises `OSError` where none may be."""


@define(eq=False)
class ConnectionStack(httpx.AsyncBaseTransport):
    """An httpx transport over connections that belong to one event loop; it closes with the loop, if not before.

    With `find_addresses`, a host is connected to at the addresses that it returns and at no other; the host's name
    stays what TLS verifies and what idle connections are told apart by. With `proxy`, every host but this machine is
    reached through a tunnel of it, even where it is called by plain http; what `find_addresses` returns is then what
    the proxy is asked for. Without `keep_alive` each connection is closed after its reply: nothing is left to close.
    """

    idle_seconds: float = IDLE_SECONDS
    make_tls_context: Callable[[], ssl.SSLContext] = tls_context
    find_addresses: FindAddresses | None = None
    proxy: Proxy | None = None
    keep_alive: bool = True
    _idle: IdleConnections[_Connection] = field(init=False)
    _tls: ssl.SSLContext | None = field(default=None, init=False)
    _making_tls: anyio.Lock = field(factory=anyio.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._idle = IdleConnections(self.keep_alive)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over the newest idle connection, or a new one. Cancellation closes the connection."""
        outgoing = await _as_httpcore(request)
        origin = outgoing.url.origin
        key = origin.scheme, origin.host, origin.port
        connection = await self._idle.take(key) or await self._make(origin)
        try:
            await checkpoint()  # who was cancelled by now sends nothing; not every httpcore pauses before it does
            reply = await connection.http.handle_async_request(outgoing)
        except BaseException:
            await connection.aclose()
            raise
        finally:
            await cast("httpx.AsyncByteStream", request.stream).aclose()  # it may not have been sent to its end
        body = ReplyBody(reply, outgoing, connection, key, self._idle)
        return httpx.Response(reply.status, headers=body.headers, stream=body, extensions=reply.extensions)

    async def aclose(self) -> None:
        """Close all idle connections; those in use are closed when their reply ends."""
        await self._idle.aclose()

    async def _make(self, origin: httpcore.Origin) -> _Connection:
        proxy = None if is_loopback(origin.host.decode("ascii")) else self.proxy
        proxy_tls = await self._tls_context() if proxy is not None and proxy.is_tls else None
        tls = await self._tls_context() if origin.scheme == b"https" else None
        wire = _Wire(self.find_addresses, proxy, proxy_tls)
        http = httpcore.AsyncHTTPConnection(  # respx, which users test with, knows this class
            origin, ssl_context=tls, keepalive_expiry=self.idle_seconds, network_backend=wire
        )
        return _Connection(http, wire)

    async def _tls_context(self) -> ssl.SSLContext:
        async with self._making_tls:  # reading the certificates takes tens of milliseconds: once for all who wait
            if self._tls is None:
                self._tls = await anyio.to_thread.run_sync(self.make_tls_context, abandon_on_cancel=True)
            return self._tls


@define(eq=False)
class _Wire(httpcore.AsyncNetworkBackend):
    """Opens the socket of one connection and remembers it: httpcore forgets one whose TLS handshake is cancelled."""

    find_addresses: FindAddresses | None
    proxy: Proxy | None
    proxy_tls: ssl.SSLContext | None
    _socket: httpcore.AsyncNetworkStream | None = field(default=None, init=False)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - we never set it
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - nor this
    ) -> httpcore.AsyncNetworkStream:
        connect = self._connect if self.proxy is None else partial(self._tunnel, self.proxy)
        *others, last = [host] if self.find_addresses is None else await self.find_addresses(host, port)
        for address in others:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return WireStream(await connect(address, port, timeout))
        return WireStream(await connect(last, port, timeout))

    async def _connect(self, address: str, port: int, timeout: float | None) -> httpcore.AsyncNetworkStream:
        sockets = httpcore.AnyIOBackend() if self.proxy_tls is not None else _sockets_of_loop()
        self._socket = await sockets.connect_tcp(address, port, timeout)  # asyncio's cannot abort TLS within TLS
        return self._socket

    async def _tunnel(self, proxy: Proxy, host: str, port: int, timeout: float | None) -> httpcore.AsyncNetworkStream:
        """Ask the proxy for a tunnel. That is no request of ours: until the tunnel is there, nothing is sent."""
        try:
            with anyio.fail_after(timeout):
                stream = await self._connect(proxy.host, proxy.port, None)
                if self.proxy_tls is not None:
                    stream = await stream.start_tls(self.proxy_tls, proxy.host)
                await stream.write(proxy.tunnel_to(host, port))
                status = await tunnel_status(partial(stream.read, READ_BYTES))
        except (TimeoutError, ValueError, ConnectionError, httpcore.NetworkError) as error:
            problem = "no tunnel in time" if isinstance(error, TimeoutError) else str(error) or "it broke off"
            raise httpcore.ConnectError(f"the proxy at {proxy}: {problem}") from error
        if not 200 <= status < 300:
            raise httpcore.ProxyError(f"{status} from {proxy}")
        return stream

    async def aclose(self) -> None:
        if self._socket is not None:
            await self._socket.aclose()


@define(eq=False)
class _Connection:
    http: httpcore.AsyncHTTPConnection
    wire: _Wire

    def is_idle(self) -> bool:
        return self.http.is_idle()

    def has_expired(self) -> bool:
        return self.http.has_expired()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.http.aclose()
            await self.wire.aclose()


@define(eq=False)
class ReplyBody(httpx.AsyncByteStream):
    """A reply's body, which gives its connection back when it is closed."""

    reply: httpcore.Response
    request: httpcore.Request
    connection: _Connection
    origin: tuple[bytes, bytes, int]
    idle: IdleConnections[_Connection]
    _closed: bool = field(default=False, init=False)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as they came, with the size of a body that httpcore does not know of."""
        size = self._large
        if size is None:
            return self.reply.headers
        return [
            (name, b"%d" % size if name.lower() == b"content-length" else value) for name, value in self.reply.headers
        ]

    async def receive(self, reader: BodyReader) -> None:
        """Feed the body to a reader as it arrives; a large one passes httpcore by."""
        if self._stream is not None and self._stream.large is not None:
            extensions = self.request.extensions
            if trace := extensions.get("trace"):
                await trace("http11.receive_response_body.started", {})
            await self._stream.receive(reader, extensions.get("timeout", {}).get("read"))
        pieces = cast("AsyncIterable[bytes]", self.reply.stream)  # an async connection's stream is async
        await feed_all(pieces, reader, self.aclose)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        whole = WholeBody()
        await self.receive(whole)
        yield bytes(whole.data)

    async def aclose(self) -> None:
        """Give the connection back, or close it where it cannot be used again."""
        if self._closed:
            return
        self._closed = True
        try:
            await self.reply.aclose()
            if self._large is not None:  # it was not read to its end, which httpcore does not know
                await self.connection.aclose()
            else:
                await self.idle.give_back(self.origin, self.connection)
        except BaseException:  # also where it is called under a shield: a native cancellation passes through
            await self.connection.aclose()
            raise

    @property
    def _stream(self) -> WireStream | None:
        """The connection's bytes; there are none where respx answers."""
        return cast("WireStream | None", self.reply.extensions.get("network_stream"))

    @property
    def _large(self) -> int | None:
        return None if self._stream is None else self._stream.large


def _sockets_of_loop() -> httpcore.AsyncNetworkBackend:
    """Return what opens sockets on the running loop: httpcore's own on trio, ours on asyncio's and those like it."""
    if not hasattr(current_token().native_token, "create_connection"):
        return httpcore.AnyIOBackend()
    from nebula_async.engine.asyncio_sockets import AsyncioBackend  # asyncio is only loaded where it runs

    return AsyncioBackend()


async def _as_httpcore(request: httpx.Request) -> httpcore.Request:
    url = httpcore.URL(
        scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
    )
    content = cast("httpx.AsyncByteStream | _Content", request.stream)
    if isinstance(content, httpx.ByteStream):
        data = await request.aread()
        content = _Content([data] if data else [])
    return httpcore.Request(
        request.method, url, headers=request.headers.raw, content=content, extensions=request.extensions
    )


@define(eq=False)
class _Content:
    """A body of one piece, once. httpx's is a generator, which a write that fails leaves for the loop to find."""

    pieces: list[bytes]

    def __aiter__(self) -> _Content:
        return self

    async def __anext__(self) -> bytes:
        if not self.pieces:
            raise StopAsyncIteration
        return self.pieces.pop()
