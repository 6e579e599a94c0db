"""A link that takes its time, and that can be cut: every byte arrives so many seconds after it was sent, or later."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from attrs import define, field, frozen

HOST = "127.0.0.1"
PIECE_BYTES = 65_536
CUT, MEND, END = "cut", "mend", "end"


@frozen
class Link:
    """A link to a Redis, in a process of its own: nobody else's work delays what passes."""

    port: int
    _orders: Connection

    @property
    def url(self) -> str:
        """Where Redis is, over this link."""
        return f"redis://{HOST}:{self.port}/0"

    def cut(self) -> None:
        """Let nothing pass any more."""
        self._orders.send(CUT)

    def mend(self) -> None:
        """Let everything pass again, what was sent meanwhile too."""
        self._orders.send(MEND)


@contextmanager
def slow_link(port: int, round_trip: float = 0.0) -> Iterator[Link]:
    """A link that leads to a port of this machine, with a round trip of so many seconds."""
    context = multiprocessing.get_context("spawn")
    orders, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(port, round_trip / 2, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Link(orders.recv(), orders)
    finally:
        orders.send(END)
        process.join()


def _serve(port: int, seconds: float, orders: Connection) -> None:
    async def run() -> None:
        await _Passage(port, seconds, orders, asyncio.get_running_loop()).serve()

    asyncio.run(run())


@define(eq=False)
class _Passage:
    """Passes on what it receives, late, over as many connections as come. While it is cut nothing arrives, and nobody
    is told so.
    """

    target: int
    seconds: float
    orders: Connection
    loop: asyncio.AbstractEventLoop
    _end: asyncio.Event = field(factory=asyncio.Event, init=False)
    _is_whole: asyncio.Event = field(factory=asyncio.Event, init=False)
    _pumps: set[asyncio.Task[None]] = field(factory=set, init=False)

    async def serve(self) -> None:
        """Serve until it is told to end."""
        self._is_whole.set()
        server = await asyncio.start_server(self._connect, HOST, 0)
        self.orders.send(server.sockets[0].getsockname()[1])
        self.loop.add_reader(self.orders.fileno(), self._obey)
        await self._end.wait()
        server.close()
        for pump in self._pumps:
            pump.cancel()

    def _obey(self) -> None:
        orders = {CUT: self._is_whole.clear, MEND: self._is_whole.set, END: self._end.set}
        orders[self.orders.recv()]()

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
                self.loop.call_later(self.seconds, writer.write, piece)
        except OSError:
            pass  # a reset is passed on as an end
        finally:
            self.loop.call_later(self.seconds, writer.close)
