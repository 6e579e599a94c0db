"""One request and its reply on their way through the chaos proxy, and what breaks there on purpose."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from enum import Enum, IntEnum, auto
from random import Random
from threading import Event

from attrs import define, frozen

PIECE = 65_536
BLANK_LINE = b"\r\n\r\n"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Rewrite = Callable[[bytes, bytes], bytes]
"""From the head of a reply, with its blank line, and its body to the bytes that are sent instead."""


class At(IntEnum):
    """Where something happens. The upstream sees a request, and may charge for it, between REQUEST and REPLY."""

    CONNECTED = auto()
    """The first byte of the request has come, and no more of it is read."""
    HEAD = auto()
    """The request's headers are read, and of its body only what came in the same piece."""
    IN_REQUEST = auto()
    """Half of the request's body is read."""
    REQUEST = auto()
    """The whole request is read; the upstream has not seen it."""
    REPLY = auto()
    """The upstream has answered; the client has got nothing."""
    IN_HEADERS = auto()
    """Half of the reply's headers are sent."""
    HEADERS = auto()
    """The reply's headers are sent, and nothing of its body."""
    IN_BODY = auto()
    """So many bytes of the reply's body are sent as `after` says, half of it by default."""
    END = auto()
    """All is sent."""


class How(Enum):
    """What happens there."""

    GO_ON = auto()
    """Nothing: the exchange goes on. After a `say` it is over, and the connection takes the next one."""
    RESET = auto()
    """The connection ends with a reset."""
    FIN = auto()
    """The connection ends in order, if all that came was read; else the system makes it a reset."""
    HANG = auto()
    """Nothing more is read or sent while the test runs."""
    READ_ON = auto()
    """What else comes is read and dropped until the client is gone; nothing more is sent."""


@frozen
class Slices:
    """A reply sent `size` bytes at a time, or as many as are drawn from 1 to `size`, `pause` seconds after each."""

    size: int
    pause: float
    is_drawn: bool = False

    def cut(self, data: bytes, source: Random) -> Iterator[bytes]:
        """Yield the slices of some bytes."""
        while data:
            size = source.randint(1, self.size) if self.is_drawn else self.size
            yield data[:size]
            data = data[size:]


def bandwidth(bytes_per_second: int) -> Slices:
    """Return the slices of a line that carries so much."""
    return Slices(max(bytes_per_second // 100, 1), 0.01)


@frozen(kw_only=True)
class Fault:
    """What is done to one exchange; by default nothing.

    `at` and `how` end it, and `say` is sent there first. `latency` passes before the reply begins, `slow_close` before
    the connection is ended, both in seconds. `head` and `body` say how those parts of the reply are sliced. `rewrite`
    makes other bytes of the upstream's reply, and the points of a reply are then theirs.
    """

    at: At = At.END
    how: How = How.GO_ON
    after: int | None = None
    say: bytes | None = None
    latency: float = 0.0
    slow_close: float = 0.0
    head: Slices | None = None
    body: Slices | None = None
    rewrite: Rewrite | None = None


NO_FAULT = Fault()


class Over(Exception):  # noqa: N818 - an end, not an error
    """The exchange is over; `goes_on` says whether its connection takes another one."""

    def __init__(self, *, goes_on: bool) -> None:
        super().__init__()
        self.goes_on = goes_on


@define(eq=False)
class BrokenExchange:
    """Plays one exchange: reads a request whose first byte is `unread`, asks the upstream, sends what it answers, and
    breaks as the fault says. `note` is told what happens; `ending` ends pauses and hangs.
    """

    client: socket.socket
    unread: bytes
    fault: Fault
    ask: Callable[[bytes], bytes]
    note: Callable[[str], None]
    ending: Event
    source: Random

    def play(self) -> bool:
        """Return whether the connection takes another exchange. Raises `OSError` where the client is gone."""
        try:
            reply = self.ask(self._request())
            self._reach(At.REPLY)
            self._answer(reply)
        except Over as end:
            return end.goes_on
        return True

    def _request(self) -> bytes:
        self._reach(At.CONNECTED)
        while BLANK_LINE not in self.unread:
            self.unread += self._read()
        head, _, self.unread = self.unread.partition(BLANK_LINE)
        self._reach(At.HEAD)
        size = content_length(head) or 0
        half = self._body(size // 2)
        self._reach(At.IN_REQUEST)
        body = half + self._body(size - len(half))
        self._reach(At.REQUEST)
        return head + BLANK_LINE + body

    def _answer(self, reply: bytes) -> None:
        head, body = split(reply)
        if self.fault.rewrite is not None:
            head, body = split(self.fault.rewrite(head, body))
        self._pause(self.fault.latency)
        self._send(head[: len(head) // 2], self.fault.head)
        self._reach(At.IN_HEADERS)
        self._send(head[len(head) // 2 :], self.fault.head)
        self._reach(At.HEADERS)
        after = len(body) // 2 if self.fault.after is None else self.fault.after
        self._send(body[:after], self.fault.body)
        self._reach(At.IN_BODY)
        self._send(body[after:], self.fault.body)
        self._reach(At.END)
        if len(body) != content_length(head):  # then nothing but the end of the connection says that it is over
            self._end(How.FIN, At.END)

    def _reach(self, point: At) -> None:
        if point == self.fault.at and (self.fault.how is not How.GO_ON or self.fault.say is not None):
            self._send(self.fault.say or b"")
            self._end(self.fault.how, point)

    def _end(self, how: How, point: At) -> None:
        self.note(f"{how.name} at {point.name}")
        self._pause(self.fault.slow_close)
        if how is How.RESET:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        if how is How.HANG:
            self.ending.wait()
        while how in (How.HANG, How.READ_ON):
            self._read()
        raise Over(goes_on=how is How.GO_ON)

    def _body(self, size: int) -> bytes:
        while len(self.unread) < size:
            self.unread += self._read()
        body, self.unread = self.unread[:size], self.unread[size:]
        return body

    def _read(self) -> bytes:
        data = self.client.recv(PIECE)
        if not data:
            raise ConnectionAbortedError("the client hung up")
        return data

    def _send(self, data: bytes, slices: Slices | None = None) -> None:
        if slices is None:
            self.client.sendall(data)
            return
        for piece in slices.cut(data, self.source):
            self.client.sendall(piece)
            self._pause(slices.pause)

    def _pause(self, seconds: float) -> None:
        if seconds:
            self.ending.wait(seconds)


def split(message: bytes) -> tuple[bytes, bytes]:
    """Return the head of a message, with its blank line, and its body."""
    head, blank, body = message.partition(BLANK_LINE)
    return head + blank, body


def content_length(head: bytes) -> int | None:
    """Return how long a head says that its body is."""
    values = [line[15:].strip() for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(values[0]) if values and values[0].isdigit() else None
