"""The bytes of one connection, between httpcore and the socket: what httpcore does not heed, or would do at a cost."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

import anyio
import httpcore
from anyio.lowlevel import checkpoint
from attrs import define, field

from nebula_async.engine.interim import ReplyHeads
from nebula_async.engine.reading import BodyReader, Receiving

SMALL_BYTES = READ_BYTES = 64 * 1024
WRITE_BYTES = 256 * 1024
MOST_UNASKED_BYTES = MOST_HEAD_BYTES = 128 * 1024
REST_SECONDS = 0.25
"""A large request is sent in pieces, and what is said meanwhile is heard, up to so much. Of a reply the rest is waited
for a little before the sending is ended: over TLS nothing can be read after that.
"""

LARGE_BYTES = 32 * 1024
"""From this size on the body of a success passes httpcore by, which would copy each of its bytes four times."""


@define(eq=False)
class WireStream(httpcore.AsyncNetworkStream):
    """The bytes of one connection: heeds what httpcore does not, interim replies without end, a reply that comes before
    the request is sent, and one that nobody asked for, after which the connection is not good for another request.

    Where a success has a large body, httpcore is told of a reply without one: `large` is how many bytes `receive` is to
    be asked for.
    """

    below: httpcore.AsyncNetworkStream
    large: int | None = field(default=None, init=False)
    _heads: ReplyHeads = field(factory=ReplyHeads, init=False)
    _heard: bytearray = field(factory=bytearray, init=False)
    _sent: int = field(default=0, init=False)
    _hearing: Receiving | None = field(init=False)  # asking for each piece would take as long as sending it

    def __attrs_post_init__(self) -> None:
        self._hearing = self.below if isinstance(self.below, Receiving) else None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has arrived: a head whole, and nothing of a body that is for `receive`."""
        if self._heads.status is None:
            return await self._read_head(timeout)
        data = await self._read(max_bytes, timeout)
        self._feed(data)
        return data

    async def receive(self, reader: BodyReader, timeout: float | None = None) -> None:
        """Feed the body that httpcore was kept from, `large` bytes, to a reader; each wait takes at most `timeout`."""
        size = self.large or 0
        heard = bytes(self._heard[:size])
        del self._heard[:size]
        if heard:
            reader.feed(heard)
        missing = await self._receive(size - len(heard), reader, timeout)
        if missing:
            raise httpcore.RemoteProtocolError(
                f"the connection ended before the body did: {size - missing} of {size} bytes arrived"
            )
        self.large = None

    async def _receive(self, left: int, reader: BodyReader, timeout: float | None) -> int:
        if self._hearing is not None:
            return await self._hearing.receive(left, reader, timeout)
        while left or reader.is_full:
            if reader.is_full:
                await reader.drain()
                continue
            data = await self.below.read(min(READ_BYTES, reader.piece_bytes), timeout)
            if not data:
                break
            self._heard += data[left:]
            reader.feed(memoryview(data)[:left])
            left -= min(len(data), left)
        return left

    async def _read_head(self, timeout: float | None) -> bytes:
        """Read until the final head is there; return what httpcore is to know of it, or all that came without one."""
        came = bytearray()
        while self._heads.status is None and len(came) < MOST_HEAD_BYTES:
            data = await self._read(READ_BYTES, timeout)
            if not data:
                break
            came += data
            self._feed(data)
        if not self._heads.has_body or (self._heads.length or 0) < LARGE_BYTES:
            return bytes(came)
        self.large = self._heads.length
        self._heard[:0] = came[len(came) - self._heads.after :]
        return self._heads.without_body

    async def _read(self, max_bytes: int, timeout: float | None) -> bytes:
        if not self._heard:
            return await self.below.read(max_bytes, timeout)
        data = bytes(self._heard[:max_bytes])
        del self._heard[:max_bytes]
        return data

    def _feed(self, data: bytes) -> None:
        try:
            self._heads.feed(data)
        except ValueError as error:
            raise httpcore.RemoteProtocolError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write a part of a request, each piece within `timeout`. After a `WriteError` httpcore reads the reply."""
        if self._heads.status is not None:  # of the request before
            self._heads, self._sent = ReplyHeads(), 0
        self._sent += len(buffer)
        if self._sent <= SMALL_BYTES or not buffer:
            await self.below.write(buffer, timeout)
            return
        sent = 0 if self._hearing is None else await self._write_unless_heard(self._hearing, buffer, timeout)
        if sent is not None:
            await self._write_listening(buffer[sent:], timeout)

    async def _write_unless_heard(self, below: Receiving, buffer: bytes, timeout: float | None) -> int | None:
        """Write as long as the server is silent; return how much was written by then, or `None` for all of it."""
        view = memoryview(buffer)
        for start in range(0, len(view), WRITE_BYTES):
            if self.below.get_extra_info("is_readable"):
                return start
            if not await below.write_unless_heard(view[start : start + WRITE_BYTES], timeout):
                return start + WRITE_BYTES
        return None

    async def _write_listening(self, buffer: bytes, timeout: float | None) -> None:
        is_sent, problem = False, None
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen, group.cancel_scope)
            await checkpoint()  # let it begin
            try:
                for start in range(0, len(buffer) or 1, WRITE_BYTES):  # also of nothing: what was written is waited for
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
        """Close the socket."""
        await self.below.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Return the same over TLS."""
        return WireStream(await self.below.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what the socket says; it is readable too where something was heard that nobody asked for."""
        is_unasked = info == "is_readable" and (self._heard or self._heads.is_exceeded)
        return bool(is_unasked) or self.below.get_extra_info(info)
