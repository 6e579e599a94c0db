"""Those who ask an application over sockets: many at once for pictures, and one who only asks whether it is there.

What they receive they throw away as cheaply as the system can, so that they take little of the CPU that is measured.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Sequence

from attrs import define, field, frozen

HEAD_END, LENGTH = b"\r\n\r\n", b"\r\ncontent-length:"
RECEIVE_BYTES = 64 * 1024
SINK = bytearray(4 * 2**20)
PING_SECONDS = 0.005
PATIENCE_SECONDS = 60.0
PING = b"GET /ping HTTP/1.1\r\nHost: app\r\n\r\n"


SIDE = 64
"""Pixels that are asked for: what is drawn is soon drawn, and what is sent is as large as its server likes."""


def ask_for_picture(prompt: str, model: str) -> bytes:
    """Return the bytes of a request to the application."""
    body = json.dumps({"prompt": prompt, "model": model, "width": SIDE, "height": SIDE}).encode()
    lines = ["POST /images HTTP/1.1", "Host: app", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@define(eq=False)
class Asker:
    """One connection, that reads the head of each reply, and has the kernel throw its body away."""

    socket: socket.socket
    request: bytes
    statuses: list[int]
    head: bytes = field(default=b"", init=False)
    left: int = field(default=0, init=False)

    @classmethod
    def connect(cls, port: int, request: bytes, statuses: list[int]) -> Asker:
        """Connect to the application; the status of each reply is appended to `statuses`."""
        connected = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connected, request, statuses)

    def ask(self) -> None:
        """Send the request."""
        self.socket.sendall(self.request)

    def take(self) -> bool:
        """Take what has come, and say whether a reply is complete. Raises `ConnectionError` where it cannot be."""
        if not self.left:
            return self._take_head()
        taken = self.socket.recv_into(SINK, min(self.left, len(SINK)), socket.MSG_TRUNC)
        if not taken:
            raise ConnectionResetError("the application closed a connection in the middle of a reply")
        self.left -= taken
        return not self.left

    def _take_head(self) -> bool:
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("the application closed a connection that waited for a reply")
        self.head += data
        if HEAD_END not in self.head:
            return False
        head, _, body = self.head.partition(HEAD_END)
        self.head = b""
        self.statuses.append(int(head.split(b" ", 2)[1]))
        self.left = int(head.lower().partition(LENGTH)[2].partition(b"\r\n")[0]) - len(body)
        return not self.left


@frozen
class Crowd:
    """What a crowd was answered, and in how many seconds."""

    seconds: float
    statuses: Sequence[int]

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.statuses.count(200) / self.seconds

    @property
    def others(self) -> int:
        """How many were answered with something else than a picture."""
        return len(self.statuses) - self.statuses.count(200)


def crowd(port: int, request: bytes, count: int, seconds: float, *, in_waves: bool) -> Crowd:
    """Ask so many at a time, for so long: each again as soon as it was answered, or all together once all were."""
    statuses: list[int] = []
    askers = [Asker.connect(port, request, statuses) for _ in range(count)]
    by_number = {asker.socket.fileno(): asker for asker in askers}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    started = time.perf_counter()
    due, waiting = list(askers), 0
    while due or waiting:
        for asker in due:
            asker.ask()
        waiting += len(due)
        answered = [by_number[number] for number, _ in poll.poll(PATIENCE_SECONDS) if by_number[number].take()]
        waiting -= len(answered)
        is_over = time.perf_counter() >= started + seconds
        due = [] if is_over or (in_waves and waiting) else askers if in_waves else answered
    took = time.perf_counter() - started
    for asker in askers:
        asker.socket.close()
    return Crowd(took, statuses)


@frozen
class Pings:
    """In milliseconds: how long each reply took, and by how much each sleep between two was exceeded."""

    took: list[float]
    late: list[float]


def ping(port: int, seconds: float) -> Pings:
    """Ask for so long over one connection, again some milliseconds after each reply."""
    end, found = time.perf_counter() + seconds, Pings([], [])
    asker = Asker.connect(port, PING, [])
    while (started := time.perf_counter()) < end:
        asker.ask()
        while not asker.take():
            pass
        answered = time.perf_counter()
        time.sleep(PING_SECONDS)
        found.took.append(1000 * (answered - started))
        found.late.append(1000 * (time.perf_counter() - answered - PING_SECONDS))
    asker.socket.close()
    return found
