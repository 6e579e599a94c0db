"""The server's sockets and its event loop: uvicorn, stopped without waiting."""

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from nebula_async.emulator.connections import BreakableProtocol

KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048
ROUNDS_TO_APPEAR = 10
READING_SECONDS = 10.0


class Server(uvicorn.Server):
    """uvicorn without its polling: it stops when it is told to, and waits for no idle or delayed connection."""

    def __init__(self, build: Callable[[asyncio.Event], ASGIApp], ready: Callable[[], None]) -> None:
        self.closing = asyncio.Event()
        self.up = threading.Event()
        self._ready = ready
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(
            uvicorn.Config(
                build(self.closing),
                loop="asyncio",
                http=BreakableProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )

    def stop(self) -> None:
        """Ask the server, from any thread or signal, to stop."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.closing.set)

    def read_what_came(self) -> None:
        """Wait, in any thread but the server's, until it has read and begun whatever had reached it by now."""
        if self._loop is not None and not self._loop.is_closed():
            concurrent.futures.wait([asyncio.run_coroutine_threadsafe(_rounds(), self._loop)], READING_SECONDS)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, and say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.up.set()
        self._ready()

    async def main_loop(self) -> None:
        """Serve until told to stop."""
        await self.closing.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close, breaking off what is connected: uvicorn would first wait for it."""
        await self._stop_accepting()
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        # A connection accepted last of all appears a few rounds of the loop later, and an aborted one leaves as late.
        quiet_rounds = 0
        while quiet_rounds < ROUNDS_TO_APPEAR:
            for connection in tuple(self.server_state.connections):
                connection.transport.abort()
            quiet_rounds = 0 if self.server_state.connections else quiet_rounds + 1
            await asyncio.sleep(0)
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)

    async def _stop_accepting(self) -> None:
        """Let what has been accepted become a connection: asyncio forgets, and leaves open, what a closed server has
        accepted but not begun (CPython gh-109564).
        """
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):  # Windows' loop accepts and begins at once
            for listener in (each for server in self.servers for each in server.sockets):
                loop.remove_reader(listener)
        await asyncio.sleep(0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Stop at a signal; uvicorn would raise it once more when it is done."""
        self.stop()


async def _rounds() -> None:
    for _ in range(ROUNDS_TO_APPEAR):  # until a connection accepted last of all has handed its request on
        await asyncio.sleep(0)


def listen(host: str, *ports: int) -> list[socket.socket]:
    """Return a listening socket for each port, or none: an `OSError` names the address that cannot be bound."""
    with ExitStack() as opened:
        listeners = [opened.enter_context(_listen(host, port)) for port in ports]
        opened.pop_all()
    return listeners


def run(server: Server, listeners: list[socket.socket]) -> None:
    """Serve until the server is stopped, then close its sockets."""
    try:
        with ExitStack() as opened:
            for listener in listeners:
                opened.enter_context(listener)
            server.run(sockets=listeners)
    finally:
        # Even if it could not start, nobody may wait for it for ever.
        server.up.set()


def _listen(host: str, port: int) -> socket.socket:
    # asyncio switches Nagle's algorithm off only where the protocol is named, which `socket.create_server` does not.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{host}:{port}") from error
        opened.pop_all()
    return listener
