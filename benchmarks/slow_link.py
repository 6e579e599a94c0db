"""A link that takes its time, and that can be cut: every byte arrives so many seconds after it was sent, or later."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field

HOST = "127.0.0.1"
PIECE_BYTES = 65_536


@contextmanager
def slow_link(port: int, round_trip: float = 0.0) -> Iterator[SlowLink]:
    """A link that leads to a port of this machine, with a round trip of so many seconds."""
    link = SlowLink(port, round_trip / 2)
    thread = threading.Thread(target=lambda: asyncio.run(link.serve()), name="slow link", daemon=True)
    thread.start()
    link.is_up.wait()
    try:
        yield link
    finally:
        link.close()
        thread.join()


@define(eq=False)
class SlowLink:
    """Passes on what it receives, late, over as many connections as come. While it is cut nothing arrives, and nobody
    is told so.
    """

    target: int
    seconds: float
    port: int = field(default=0, init=False)
    is_up: threading.Event = field(factory=threading.Event, init=False)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _end: asyncio.Event = field(init=False)
    _is_whole: asyncio.Event = field(init=False)
    _pumps: set[asyncio.Task[None]] = field(factory=set, init=False)

    async def serve(self) -> None:
        """Serve until it is closed."""
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._is_whole = asyncio.Event()
        self._is_whole.set()
        server = await asyncio.start_server(self._connect, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self.is_up.set()
        await self._end.wait()
        server.close()
        for pump in self._pumps:
            pump.cancel()

    @property
    def url(self) -> str:
        """Where Redis is, over this link."""
        return f"redis://{HOST}:{self.port}/0"

    def cut(self) -> None:
        """Let nothing pass any more, from another thread."""
        self._loop.call_soon_threadsafe(self._is_whole.clear)

    def mend(self) -> None:
        """Let everything pass again, what was sent meanwhile too."""
        self._loop.call_soon_threadsafe(self._is_whole.set)

    def close(self) -> None:
        """End all, from another thread."""
        self._loop.call_soon_threadsafe(self._end.set)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
        except OSError:
            writer.close()
            return
        for pump in (self._pump(reader, far_writer), self._pump(far_reader, writer)):
            task = asyncio.ensure_future(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(PIECE_BYTES):
                await self._is_whole.wait()
                self._loop.call_later(self.seconds, writer.write, piece)
        except OSError:
            pass  # a reset is passed on as an end
        finally:
            self._loop.call_later(self.seconds, writer.close)
