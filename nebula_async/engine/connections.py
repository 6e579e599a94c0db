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
from typing import Any, TypeAlias, cast

import anyio
import anyio.to_thread
import httpcore
import httpx
from anyio.lowlevel import checkpoint
from attrs import define, field

from nebula_async.engine.idle import IdleConnections
from nebula_async.engine.interim import ReplyHeads
from nebula_async.engine.proxy import Proxy
from nebula_async.engine.tls import tls_context
from nebula_async.urls import is_loopback

IDLE_SECONDS = 4.0
"""Idle connections are given up before the common limit of servers, 5 s: one that the server drops just as a request
leaves means a request of unknown outcome.
"""

SMALL_BYTES = READ_BYTES = 64 * 1024
WRITE_BYTES = 256 * 1024
MOST_UNASKED_BYTES = 128 * 1024
REST_SECONDS = 0.25
"""A large request is sent in pieces, and what is said meanwhile is heard, up to so much. Of a reply the rest is waited
for a little before the sending is ended: over TLS nothing can be read after that.
"""

FindAddresses: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host name and a port to the addresses that may be connected to; raises `OSError` where none may be."""


@define(eq=False)
class ConnectionStack(httpx.AsyncBaseTransport):
    """An httpx transport over connections that belong to one event loop; it closes with the loop, if not before.

    With `find_addresses`, a host is connected to at the addresses that it returns and at no other; the host's name
    stays what TLS verifies and what idle connections are told apart by. With `proxy`, every host but this machine is
    reached through a tunnel of it, even where it is called by plain http; what `find_addresses` returns is then what
    the proxy is asked for.
    """

    idle_seconds: float = IDLE_SECONDS
    make_tls_context: Callable[[], ssl.SSLContext] = tls_context
    find_addresses: FindAddresses | None = None
    proxy: Proxy | None = None
    _idle: IdleConnections[_Connection] = field(factory=IdleConnections, init=False)
    _tls: ssl.SSLContext | None = field(default=None, init=False)
    _making_tls: anyio.Lock = field(factory=anyio.Lock, init=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over the newest idle connection, or a new one. Cancellation closes the connection."""
        outgoing = _as_httpcore(request)
        origin = outgoing.url.origin
        key = origin.scheme, origin.host, origin.port
        connection = await self._idle.take(key) or await self._make(origin)
        try:
            reply = await connection.http.handle_async_request(outgoing)
        except BaseException:
            await connection.aclose()
            raise
        body = _Body(reply, connection, key, self._idle)
        return httpx.Response(reply.status, headers=reply.headers, stream=body, extensions=reply.extensions)

    async def aclose(self) -> None:
        """Close all idle connections; those in use are closed when their reply ends."""
        await self._idle.aclose()

    async def _make(self, origin: httpcore.Origin) -> _Connection:
        proxy = None if is_loopback(origin.host.decode("ascii")) else self.proxy
        proxy_tls = await self._tls_context() if proxy is not None and proxy.is_tls else None
        tls = await self._tls_context() if origin.scheme == b"https" else None
        wire = _Wire(self.find_addresses, proxy, proxy_tls)
        http = httpcore.AsyncHTTPConnection(
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
    _sockets: httpcore.AsyncNetworkBackend = field(factory=httpcore.AnyIOBackend, init=False)
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
                return _Stream(await connect(address, port, timeout))
        return _Stream(await connect(last, port, timeout))

    async def _connect(self, address: str, port: int, timeout: float | None) -> httpcore.AsyncNetworkStream:
        self._socket = await self._sockets.connect_tcp(address, port, timeout)
        return self._socket

    async def _tunnel(self, proxy: Proxy, host: str, port: int, timeout: float | None) -> httpcore.AsyncNetworkStream:
        """Ask the proxy for a tunnel. That is no request of ours: until the tunnel is there, nothing is sent."""
        try:
            with anyio.fail_after(timeout):
                stream = await self._connect(proxy.host, proxy.port, None)
                if self.proxy_tls is not None:
                    stream = await stream.start_tls(self.proxy_tls, proxy.host)
                await stream.write(proxy.tunnel_to(host, port))
                status = await _tunnel_status(stream)
        except (TimeoutError, ValueError, httpcore.NetworkError) as error:
            problem = "no tunnel in time" if isinstance(error, TimeoutError) else str(error) or "it broke off"
            raise httpcore.ConnectError(f"the proxy at {proxy}: {problem}") from error
        if not 200 <= status < 300:
            raise httpcore.ProxyError(f"{status} from {proxy}")
        return stream

    async def aclose(self) -> None:
        if self._socket is not None:
            await self._socket.aclose()


async def _tunnel_status(stream: httpcore.AsyncNetworkStream) -> int:
    heads, size = ReplyHeads(), 0
    while heads.status is None and size < READ_BYTES:
        data = await stream.read(READ_BYTES)
        if not data:
            raise httpcore.ReadError("it hung up")
        size += len(data)
        heads.feed(data)
    if not heads.status or (heads.after and heads.status < 300):
        raise ValueError("it does not answer as a proxy does")
    return heads.status


@define(eq=False)
class _Stream(httpcore.AsyncNetworkStream):
    """The bytes of one connection: heeds what httpcore does not, interim replies without end, a reply that comes before
    the request is sent, and one that nobody asked for, after which the connection is not good for another request.
    """

    below: httpcore.AsyncNetworkStream
    _heads: ReplyHeads = field(factory=ReplyHeads, init=False)
    _heard: bytearray = field(factory=bytearray, init=False)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._heard:
            data = bytes(self._heard[:max_bytes])
            del self._heard[:max_bytes]
        else:
            data = await self.below.read(max_bytes, timeout)
        try:
            self._heads.feed(data)
        except ValueError as error:
            raise httpcore.RemoteProtocolError(str(error)) from error
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write a part of a request, each piece within `timeout`. After a `WriteError` httpcore reads the reply."""
        if self._heads.status is not None:  # of the request before
            self._heads = ReplyHeads()
        if len(buffer) <= SMALL_BYTES:
            await self.below.write(buffer, timeout)
            return
        is_sent, problem = False, None
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen, group.cancel_scope)
            await checkpoint()  # let it begin
            try:
                for start in range(0, len(buffer), WRITE_BYTES):
                    while self.below.get_extra_info("is_readable"):  # asyncio would drop it if the next write failed
                        await checkpoint()
                    await self.below.write(buffer[start : start + WRITE_BYTES], timeout)
                is_sent = True
            except (httpcore.TimeoutException, httpcore.NetworkError) as error:
                problem = error
            group.cancel_scope.cancel()
        if not is_sent:
            raise problem or httpcore.WriteError("the server answered or hung up before it had the whole request")

    async def _listen(self, writing: anyio.CancelScope) -> None:
        """End the writing when a reply begins, or the connection ends; what was said is there to be read."""
        heads, limit = ReplyHeads(), anyio.CancelScope()
        with limit, suppress(ValueError, httpcore.NetworkError, anyio.BusyResourceError):
            heads.feed(self._heard)
            while not heads.is_whole and len(self._heard) < MOST_UNASKED_BYTES:
                data = await self.below.read(READ_BYTES)
                if not data:
                    break
                self._heard += data
                heads.feed(data)
                if heads.status is not None:
                    limit.deadline = min(limit.deadline, anyio.current_time() + REST_SECONDS)
        writing.cancel()

    async def aclose(self) -> None:
        await self.below.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self.below.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        is_unasked = info == "is_readable" and (self._heard or self._heads.is_exceeded)
        return bool(is_unasked) or self.below.get_extra_info(info)


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
class _Body(httpx.AsyncByteStream):
    """A reply's body, which gives its connection back when it is closed."""

    reply: httpcore.Response
    connection: _Connection
    origin: tuple[bytes, bytes, int]
    idle: IdleConnections[_Connection]
    _closed: bool = field(default=False, init=False)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return cast("AsyncIterable[bytes]", self.reply.stream).__aiter__()  # an async connection's stream is async

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await self.reply.aclose()
            await self.idle.give_back(self.origin, self.connection)
        except BaseException:  # also where it is called under a shield: a native cancellation passes through
            await self.connection.aclose()
            raise


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
