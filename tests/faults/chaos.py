"""A TCP proxy between a client and its server that breaks exchanges on purpose, by script; the same at each run."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Self
from urllib.parse import urlsplit

from attrs import define, field, frozen
from broken_exchange import BLANK_LINE, NO_FAULT, PIECE, BrokenExchange, Fault, content_length, split

PATIENCE = 60.0
"""Seconds that are waited for what must happen soon."""

Script = Callable[[int], Fault]
"""From the number of an exchange, counted from 1 over all connections as their first bytes come, to what is done."""


@frozen
class Act:
    """One thing that the proxy did or saw, at a connection and an exchange, counted from 1; 0 is no exchange."""

    connection: int
    exchange: int
    what: str


def in_turn(*faults: Fault, then: Fault = NO_FAULT) -> Script:
    """Return the script of these faults, one for each exchange, and another one for all that follow."""
    return lambda number: faults[number - 1] if number <= len(faults) else then


def by_chance(seed: int, share: float, *faults: Fault) -> Script:
    """Return the script of an exchange in so many that meets one of these faults: which and when follows from a seed
    and the exchange's number.
    """

    def draw(number: int) -> Fault:
        source = chance(seed, number)
        return source.choice(faults) if source.random() < share else NO_FAULT

    return draw


def chance(seed: int, number: int) -> Random:
    """Return what chance has in store for an exchange; concurrency changes nothing of it."""
    return Random(f"{seed}/{number}")  # noqa: S311 - the same at each run


@define(eq=False)
class ChaosProxy:
    """Passes exchanges on to `upstream`, a URL, and breaks those that `script` says; a thread for each connection.

    A request is read whole before it is passed on, and a reply before it is sent. `log` is what was done. `settle` ends
    the test's part, `close` the proxy. With `tls` clients have to speak that.
    """

    upstream: str
    script: Script
    seed: int = 0
    tls: ssl.SSLContext | None = None
    log: list[Act] = field(factory=list, init=False)
    connections: int = field(default=0, init=False)
    sends: int = field(default=0, init=False)
    _open: dict[int, socket.socket] = field(factory=dict, init=False)
    _changed: threading.Condition = field(factory=threading.Condition, init=False)
    _ending: threading.Event = field(factory=threading.Event, init=False)
    _listener: socket.socket = field(init=False)
    _place: str = field(init=False)
    _threads: list[threading.Thread] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where clients find here what `upstream` is."""
        scheme = "http" if self.tls is None else "https"
        return urlsplit(self.upstream)._replace(scheme=scheme, netloc=self.place).geturl()

    @property
    def place(self) -> str:
        """Its host and port; nothing listens there once it is closed."""
        return self._place

    @property
    def acts(self) -> list[str]:
        """What was done, in order."""
        return [act.what for act in self.log]

    def wait_for(self, what: str, times: int = 1) -> bool:
        """Wait, in a thread, until something was done so often; return whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: self.acts.count(what) >= times, PATIENCE)

    def settle(self, seconds: float = PATIENCE) -> bool:
        """End all hangs and pauses, and return whether, within so long, clients have ended all their connections."""
        self._ending.set()
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, seconds)

    def close(self) -> None:
        """Stop, breaking off what is connected."""
        self._ending.set()
        with self._changed:
            for each in (self._listener, *self._open.values()):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        for number in itertools.count(1):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.connections = number
                self._open[number] = connection
            self._start(self._serve, number, connection)

    def _serve(self, number: int, connection: socket.socket) -> None:
        try:
            with self._spoken(connection) as client:
                while self._exchange(number, client):
                    pass
        except OSError:
            self._note(number, 0, "client gone")
        finally:
            with self._changed:
                connection.close()
                del self._open[number]
            self._note(number, 0, "closed")

    @contextlib.contextmanager
    def _spoken(self, connection: socket.socket) -> Iterator[socket.socket]:
        client = connection if self.tls is None else self.tls.wrap_socket(connection, server_side=True)
        with client:
            yield client

    def _exchange(self, connection: int, client: socket.socket) -> bool:
        first = client.recv(1)
        if not first:
            self._note(connection, 0, "client closed")
            return False
        with self._changed:
            self.sends += 1
            number = self.sends
        self._note(connection, number, "request")
        exchange = BrokenExchange(
            client,
            first,
            self.script(number),
            self._ask,
            lambda what: self._note(connection, number, what),
            self._ending,
            chance(self.seed, number),
        )
        return exchange.play()

    def _ask(self, request: bytes) -> bytes:
        """Return what the upstream answers, whole or as far as it came."""
        reply = b""
        parts = urlsplit(self.upstream)
        with socket.create_connection((parts.hostname or "", parts.port or 80), PATIENCE) as upstream:
            upstream.sendall(request)
            with contextlib.suppress(ConnectionError):
                while not is_whole(reply) and (piece := upstream.recv(PIECE)):
                    reply += piece
        return reply

    def _note(self, connection: int, exchange: int, what: str) -> None:
        with self._changed:
            self.log.append(Act(connection, exchange, what))
            self._changed.notify_all()


def is_whole(reply: bytes) -> bool:
    """Whether a reply is as long as it says; one that does not say is over when its connection ends."""
    head, body = split(reply)
    size = content_length(head)
    return head.endswith(BLANK_LINE) and size is not None and len(body) >= size
