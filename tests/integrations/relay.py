"""A way to a server that takes its time, and that can be cut."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Listener, SocketAttribute, SocketStream
from attrs import define, field


@define(eq=False)
class Relay:
    """Passes on to a port of this machine what it receives, so many seconds later; while it is cut nothing arrives, and
    while it is deaf no answer does.
    """

    target: int
    seconds: float = 0.0
    port: int = field(default=0, init=False)
    _whole: anyio.Event = field(factory=lambda: anyio.Event(), init=False)
    _hears: anyio.Event = field(factory=lambda: anyio.Event(), init=False)
    _scope: anyio.CancelScope = field(factory=lambda: anyio.CancelScope(), init=False)

    def cut(self) -> None:
        """Let nothing pass any more; nobody is told."""
        self._whole = anyio.Event()

    def deafen(self) -> None:
        """Let what is asked pass, and no answer."""
        self._hears = anyio.Event()

    def mend(self) -> None:
        """Let everything pass again, what was sent meanwhile too."""
        self._whole.set()
        self._hears.set()

    def end(self) -> None:
        """Hang up, and listen no more."""
        self._scope.cancel()

    async def run(self, listener: Listener[SocketStream]) -> None:
        """Serve until the end."""
        with self._scope:
            async with listener:
                await listener.serve(self.serve)

    async def serve(self, connection: SocketStream) -> None:
        """Serve a connection until either side ends it."""
        far = await anyio.connect_tcp("127.0.0.1", self.target)
        async with connection, far, anyio.create_task_group() as group:
            group.start_soon(self._pass, connection, far)
            await self._pass(far, connection, is_answer=True)
            group.cancel_scope.cancel()

    async def _pass(self, source: ByteReceiveStream, target: ByteSendStream, *, is_answer: bool = False) -> None:
        send, receive = anyio.create_memory_object_stream[tuple[float, bytes]](math.inf)

        async def deliver() -> None:
            async for due, data in receive:
                await anyio.sleep(max(0.0, due - anyio.current_time()))
                await self._whole.wait()
                if is_answer:
                    await self._hears.wait()
                await target.send(data)

        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with anyio.create_task_group() as group, send, receive:
                group.start_soon(deliver)
                async for data in source:
                    send.send_nowait((anyio.current_time() + self.seconds, data))
                group.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def relay_to(port: int, seconds: float = 0.0) -> AsyncIterator[Relay]:
    """A way to a port of this machine that takes so many seconds in each direction."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    relay = Relay(port, seconds)
    relay.mend()
    relay.port = listener.listeners[0].extra(SocketAttribute.local_port)  # noqa: S610 - no Django
    async with anyio.create_task_group() as group:
        group.start_soon(relay.run, listener)
        yield relay
        group.cancel_scope.cancel()
