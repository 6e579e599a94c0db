"""The emulator's lifetime: its socket, its thread and its event loop."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from types import FrameType, TracebackType
from typing import Self

import uvicorn

from nebula_async.emulator.account import Account
from nebula_async.emulator.app import Service, build_app
from nebula_async.emulator.connections import BreakableProtocol
from nebula_async.emulator.faults import Fault
from nebula_async.emulator.journal import Journal
from nebula_async.emulator.replies import ErrorBody
from nebula_async.emulator.settings import (
    ImageFormat,
    RetryAfter,
    Settings,
    read_burst,
    read_choice,
    read_credit,
    read_faults,
    read_keys,
    read_latency,
    read_port,
    read_tier,
)

KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048
ROUNDS_TO_APPEAR = 10
EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - only read, never bound unasked


class Emulator:
    """A local Nebula Block, serving while its `with` block is entered or `serve_forever` runs.

    `tier` is engineer-1, engineer-2, engineer-3, expert-1, expert-2 or None for no limits; `per_minute` and
    `per_day` replace its limits, `burst` how many calls may come at once (a minute's worth unless given).
    `latency` is a factor on the models' inference times, 0 switches it off; `image_format` is png, jpeg or webp;
    `faults` are `Fault` values or their text form; `credit` is in USD; `clock` returns seconds since the epoch and
    decides the limits; `error_body` chooses between `{"status", "message", "data"}` and `{"detail"}`;
    `retry_after` (seconds, http-date, ms) adds that header to a 429. A bad option raises `ValueError`.
    """

    def __init__(
        self,
        *,
        tier: str | None = None,
        per_minute: int | None = None,
        per_day: int | None = None,
        burst: int | None = None,
        latency: float = 0.0,
        image_format: ImageFormat = "png",
        seed: int = 0,
        faults: Iterable[str | Fault] = (),
        keys: Iterable[str] = ("sk-emulator",),
        credit: Decimal | int | str = Decimal(100),
        clock: Callable[[], float] = time.time,
        host: str = "127.0.0.1",
        port: int = 0,
        error_body: ErrorBody = "status",
        retry_after: RetryAfter | None = None,
    ) -> None:
        accepted = read_keys(keys)
        limits = read_tier(tier, per_minute, per_day)
        self.key = accepted[0]
        self._address = (host, read_port(port))
        self._service = Service(
            Settings(
                read_latency(latency),
                read_choice("image_format", image_format, "png", "jpeg", "webp"),
                seed,
                read_faults(faults),
                read_choice("error_body", error_body, "status", "detail"),
            ),
            Account(
                keys=frozenset(accepted),
                tier=limits,
                burst=read_burst(burst, limits),
                credit=read_credit(credit),
                retry_after=read_choice("retry_after", retry_after, "seconds", "http-date", "ms", None),
                clock=clock,
            ),
        )
        self._port: int | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """The URL to give a client, with `/api/v1`; known once the emulator runs."""
        if self._port is None:
            raise RuntimeError("the emulator is not running; enter its `with` block first")
        host = EVERY_INTERFACE.get(self._address[0], self._address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}/api/v1"

    @property
    def journal(self) -> Journal:
        """What was asked, answered and charged; it can be read after the emulator has stopped, too."""
        return self._service.journal

    def reset(self) -> None:
        """Go back to the start: empty journal, full credit, fresh limits, and request numbers from 1."""
        self._service.reset()

    def serve_forever(self, *, ready: Callable[["Emulator"], None] | None = None) -> None:
        """Serve in this thread until SIGINT or SIGTERM, then return; `ready` is called once connections are accepted.

        Raises `OSError` when the address cannot be bound.
        """
        server, listener = self._bind(ready)
        try:
            with listener:
                server.run(sockets=[listener])
        finally:
            self._port = None

    def __enter__(self) -> Self:
        self._server, listener = self._bind(None)
        server = self._server
        self._thread = threading.Thread(target=_run, args=(server, listener), name="nebula-emulator", daemon=True)
        self._thread.start()
        server.up.wait()
        if not server.started:
            self._leave()
            raise RuntimeError("the emulator could not start; its thread has printed why")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        assert self._server is not None  # noqa: S101 - __enter__ came first
        assert self._thread is not None  # noqa: S101 - and made both
        self._server.stop()
        self._thread.join()
        self._server = self._thread = self._port = None

    def _bind(self, ready: Callable[["Emulator"], None] | None) -> "tuple[_Server, socket.socket]":
        if self._port is not None:
            raise RuntimeError("the emulator is already running")
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        listener = _listen(self._address, family)
        self._port = listener.getsockname()[1]
        return _Server(self._service, lambda: ready(self) if ready else None), listener


class _Server(uvicorn.Server):
    """uvicorn without its polling: it stops when it is told to, and waits for no idle or delayed connection."""

    def __init__(self, service: Service, ready: Callable[[], None]) -> None:
        self.closing = asyncio.Event()
        self.up = threading.Event()
        self._ready = ready
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(
            uvicorn.Config(
                build_app(service, self.closing),
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

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Stop at a signal; uvicorn would raise it once more when it is done."""
        self.stop()


def _listen(address: tuple[str, int], family: socket.AddressFamily) -> socket.socket:
    # asyncio switches Nagle's algorithm off only where the protocol is named, which `socket.create_server` does not.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _run(server: _Server, listener: socket.socket) -> None:
    try:
        with listener:
            server.run(sockets=[listener])
    finally:
        # Even if it could not start, nobody may wait for it for ever.
        server.up.set()
