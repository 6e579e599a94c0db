"""Sockets of an asyncio loop for httpcore: what arrives is handed on where it lies, in pieces that keep the loop free.

httpcore's own sockets (over anyio) copy each piece several times and wake a task for each; on trio they stay. The body
of a picture is received into one buffer that all connections of a loop share, and is consumed before the loop goes on.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpcore
from anyio.lowlevel import cancel_shielded_checkpoint
from attrs import define, field

from nebula_async.engine.asyncio_connect import connect_to
from nebula_async.engine.loops import PerLoop
from nebula_async.engine.rounds import Rounds, settle

if TYPE_CHECKING:
    from nebula_async.engine.reading import BodyReader

HEAD_BYTES = 16 * 1024
MOST_UNREAD_BYTES = 256 * 1024
"""What is read in other ways than by a body's reader is copied: little at once, and not much of it is kept."""

_rounds = PerLoop(Rounds)


class AsyncioBackend(httpcore.AsyncNetworkBackend):
    """Opens connections on the running asyncio loop, or another one of its kind, such as uvloop's."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - we never set it
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - nor this
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a host, to whichever of its addresses answers first."""
        loop = asyncio.get_running_loop()
        stream = AsyncioStream(loop, _rounds.get())
        with _raising(httpcore.ConnectTimeout, httpcore.ConnectError), anyio.fail_after(timeout):
            await loop.create_connection(lambda: stream, sock=await connect_to(host, port))
        return stream


@define(eq=False)
class AsyncioStream(asyncio.BufferedProtocol, httpcore.AsyncNetworkStream):
    """One connection, as httpcore reads and writes it, and as the loop tells what happens to it."""

    _loop: asyncio.AbstractEventLoop
    _rounds: Rounds
    _transport: asyncio.Transport = field(init=False)
    _below_tls: asyncio.Transport = field(init=False)  # what is paused: TLS would drop what it holds back
    _unread: bytearray = field(factory=bytearray, init=False)
    _reader: BodyReader | None = field(default=None, init=False)
    _left: int = field(default=0, init=False)
    _heard_at: float = field(default=0.0, init=False)
    _is_paused: bool = field(default=False, init=False)
    _is_waiting: bool = field(default=False, init=False)
    _is_tls: bool = field(default=False, init=False)
    _is_ended: bool = field(default=False, init=False)
    _error: Exception | None = field(default=None, init=False)
    _news: asyncio.Future[None] | None = field(default=None, init=False)
    _room: asyncio.Future[None] | None = field(default=None, init=False)

    # What httpcore, and the stack, call.

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has arrived, at least a byte, or nothing where the connection has ended."""
        if not self._unread and not self._is_ended and not self._transport.is_closing():
            await self._hear_something(timeout)
        if not self._unread and self._error is not None:
            raise httpcore.ReadError(str(self._error)) from self._error
        data = bytes(memoryview(self._unread)[:max_bytes])
        del self._unread[:max_bytes]
        self._resume()
        return data

    async def receive(self, size: int, reader: BodyReader, timeout: float | None = None) -> int:
        """Feed the next `size` bytes to a reader as they arrive; return how many are missing at the connection's end.

        `timeout` is for each wait between two pieces.
        """
        self._reader, self._left = reader, size
        try:
            self._hand_over_unread()
            while self._left and not (self._is_ended and not reader.is_full):
                await (reader.drain() if reader.is_full else self._hear_on(timeout))
                self._resume()
        finally:
            self._reader = None
            self._rounds.forget(self)
            self.take_turn()
        if self._error is not None and self._left:
            raise httpcore.ReadError(str(self._error)) from self._error
        return self._left

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send, and return when little is left to be sent."""
        if self._transport.is_closing():
            raise httpcore.WriteError("the connection is closed") from self._error
        self._transport.write(buffer)
        if self._room is not None:
            with _raising(httpcore.WriteTimeout, httpcore.WriteError):
                await self._waiting(self._room, timeout)
        if self._error is not None:
            raise httpcore.WriteError(str(self._error)) from self._error

    async def write_unless_heard(self, buffer: bytes | memoryview, timeout: float | None = None) -> bool:
        """Send as `write` does, but do not wait on where something is heard; return whether nothing was."""
        self._transport.write(buffer)
        if self._room is None:
            return True
        self._news = self._room
        try:
            with _raising(httpcore.WriteTimeout, httpcore.WriteError):
                await self._waiting(self._room, timeout)
        finally:
            self._news = None
        if self._room is None:
            return True
        self._room = self._loop.create_future()  # there still is none
        return False

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Go on over TLS."""
        with _raising(httpcore.ConnectTimeout, httpcore.ConnectError), anyio.fail_after(timeout):
            transport = await self._loop.start_tls(self._transport, self, ssl_context, server_hostname=server_hostname)
        if transport is None:  # it was closed while the last of the handshake was read
            raise httpcore.ConnectError("the connection was closed during the TLS handshake")
        self._transport, self._is_tls = transport, True
        return self

    async def aclose(self) -> None:
        """Close the connection at once."""
        self._transport.abort()
        await cancel_shielded_checkpoint()  # the loop closes the socket in its next round

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks for: whether there is something to be read, the socket, TLS, addresses."""
        if info == "is_readable":
            return bool(self._unread) or self._is_ended or _is_readable(self._transport.get_extra_info("socket"))
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._transport.get_extra_info(names.get(info, info))

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = self._below_tls = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - there is room for what it is about
        """Return where the loop receives the next piece."""
        if self._is_tls:  # what asyncio has decrypted it hands over in one piece, or loses it where the server hangs up
            return self._rounds.memory
        return self._rounds.memory[: HEAD_BYTES if self._reader is None else self._reader.piece_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was received."""
        piece = self._rounds.memory[:nbytes]
        self._heard_at = self._loop.time()
        if self._reader is not None and self._left:
            self._hand_over(self._reader, piece)
            return
        self._unread += piece
        is_heard = self._news is None or self._rounds.hear(self._news)
        if not is_heard or len(self._unread) >= MOST_UNREAD_BYTES:
            self._pause()

    def eof_received(self) -> bool:
        """Take note that nothing more arrives; return whether what is being written may still be sent."""
        self._is_ended = True
        settle(self._news)
        return not self._is_tls

    def connection_lost(self, error: Exception | None) -> None:
        """Take note of the end."""
        self._is_ended, self._error = True, error
        settle(self._news)
        settle(self._room)

    def pause_writing(self) -> None:
        """Let writers wait: much is still to be sent."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let writers go on."""
        settle(self._room)
        self._room = None

    def take_turn(self) -> bool:
        """Receive again; return whether it was waiting for that."""
        was_waiting, self._is_waiting = self._is_waiting, False
        self._heard_at = self._loop.time()
        self._resume()
        return was_waiting

    # In between.

    def _hand_over_unread(self) -> None:
        unread, self._unread = self._unread, bytearray()
        if unread and self._reader is not None:
            self._hand_over(self._reader, memoryview(unread))

    def _hand_over(self, reader: BodyReader, piece: memoryview) -> None:
        if len(piece) > self._left:
            self._unread += piece[self._left :]
            piece = piece[: self._left]
        self._left -= len(piece)
        reader.feed(piece)
        if not self._left:
            self._rounds.end(self._news)
        elif reader.is_full:
            self._pause()
            settle(self._news)
        elif not self._rounds.count(self, len(piece)):
            self._is_waiting = True
            self._pause()

    async def _hear(self, timeout: float | None) -> None:
        self._news = self._loop.create_future()
        try:
            with _raising(httpcore.ReadTimeout, httpcore.ReadError):
                await self._waiting(self._news, timeout)
        finally:
            self._news = None

    async def _hear_something(self, timeout: float | None) -> None:
        try:
            await self._hear(timeout)
        except httpcore.ReadTimeout:
            if not self._unread:  # else it came in time, and only its turn did not
                raise

    async def _hear_on(self, timeout: float | None) -> None:
        """Wait for the end of a body, or a reader that is full; only silence can be too long."""
        self._heard_at = self._loop.time()
        while True:
            try:
                return await self._hear(None if timeout is None else self._heard_at + timeout - self._loop.time())
            except httpcore.ReadTimeout:
                if not self._left:
                    return None
                if not self._is_waiting and (timeout is None or self._loop.time() - self._heard_at >= timeout):
                    raise

    async def _waiting(self, future: asyncio.Future[None], seconds: float | None) -> None:
        timer = None if seconds is None else self._loop.call_later(seconds, _expire, future)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._below_tls.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._is_waiting:
            self._is_paused = False
            if not self._below_tls.is_closing():
                self._below_tls.resume_reading()


@contextmanager
def _raising(too_late: type[Exception], broken: type[Exception]) -> Iterator[None]:
    """Raise what httpcore raises in place of a timeout, and of whatever else goes wrong with a socket."""
    try:
        yield
    except TimeoutError as error:
        raise (broken if error.errno else too_late)(str(error)) from error
    except OSError as error:  # those of TLS are among them
        raise broken(str(error)) from error


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _is_readable(socket: Any) -> bool:
    """Ask the system whether something arrived, or the connection ended, that the loop has not seen yet."""
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([socket], [], [], 0)[0])
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))
