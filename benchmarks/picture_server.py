"""A server of pictures in base64 that costs its clients nothing: a process of its own, on a core of its own.

A POST to `/{bytes}/{milliseconds}/…` is answered, after so many milliseconds, with a PNG of so many bytes, whatever the
rest of the path and the body say, in the form in which OpenAI, Together and Nebula Block send theirs. Replies are sent
from the page cache; under TLS (1.3) they are encrypted from there. `python benchmarks/picture_receiver.py` says how
fast it is.
"""

from __future__ import annotations

import base64
import heapq
import mmap
import multiprocessing
import os
import resource
import select
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Protocol

from attrs import define, field, frozen
from noise_png import noise_png

HEAD_END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"
RECEIVE_BYTES = 256 * 1024
ENCRYPT_BYTES = 256 * 1024
"""How much of a reply is encrypted before another connection has its turn."""

BACKLOG = 4096
EVENTS_AT_ONCE = 64


@frozen
class PictureServer:
    """A server that is running, and the certificate that its own is signed with (`None`: plain HTTP)."""

    origin: str
    ca_file: str | None

    def url(self, size: int, latency_ms: int = 0) -> str:
        """Return the root under which every POST is answered with a picture of `size` bytes after `latency_ms`."""
        return f"{self.origin}/{size}/{latency_ms}"


@contextmanager
def serving_pictures(*, tls: bool = False) -> Iterator[PictureServer]:
    """Serve from another process, on the first core where there are several."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        ca_file, pem = _certificates(Path(folder)) if tls else (None, None)
        origin = f"http{'s' * tls}://127.0.0.1:{listener.getsockname()[1]}"
        is_up = context.Event()
        process = context.Process(target=_serve, args=(listener, pem, is_up), daemon=True)
        process.start()
        try:
            if not is_up.wait(timeout=30):
                raise TimeoutError("the picture server did not start within 30 s")
            listener.close()
            yield PictureServer(origin, ca_file)
        finally:
            process.terminate()
            process.join()
            process.close()


def pin(core: int) -> None:
    """Keep this process and those that it starts on one core, where there are two or more."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core]})


def allow_many_files() -> None:
    """Raise this process' own limit of open files, which is often 1,024, to what it may have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _certificates(folder: Path) -> tuple[str, str]:
    """Write the certificate of an authority, and key and chain of one for this machine; return their paths."""
    import trustme

    authority = trustme.CA()
    ca_file, pem = folder / "ca.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(ca_file)
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    return str(ca_file), str(pem)


@frozen
class _Reply:
    """A whole reply, head and body, in a file that exists in memory alone."""

    file: int
    view: memoryview

    @classmethod
    def of(cls, data: bytes) -> _Reply:
        file = os.memfd_create("reply")
        os.truncate(file, len(data))
        pages = mmap.mmap(file, len(data))
        pages.write(data)
        return cls(file, memoryview(pages))

    def __len__(self) -> int:
        return len(self.view)


@cache
def _reply(size: int) -> _Reply:
    text = base64.b64encode(noise_png(size))
    start = b'{"id":"1","object":"list","created":1760000000,"model":"noise","data":[{"index":0,"type":"b64_json",'
    body = start + b'"b64_json":"' + text + b'"}]}'
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return _Reply.of(head.encode() + body)


class _Wire(Protocol):
    """A connection's socket; both verbs raise `BlockingIOError` where they would have to wait."""

    @property
    def sock(self) -> socket.socket: ...

    def receive(self) -> bytes: ...

    def send(self, reply: _Reply, start: int) -> int: ...


@frozen
class _Plain:
    sock: socket.socket

    def receive(self) -> bytes:
        return self.sock.recv(RECEIVE_BYTES)

    def send(self, reply: _Reply, start: int) -> int:
        return os.sendfile(self.sock.fileno(), reply.file, start, len(reply) - start)


@frozen
class _Tls:
    sock: ssl.SSLSocket

    def receive(self) -> bytes:
        try:
            return self.sock.recv(RECEIVE_BYTES)  # which makes the handshake before
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def send(self, reply: _Reply, start: int) -> int:
        at, end = start, min(start + ENCRYPT_BYTES, len(reply))
        try:
            while at < end:
                at += self.sock.send(reply.view[at:end])  # one record, at most 16 KiB
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if at == start:
                raise BlockingIOError from None
        return at - start


@define(eq=False)
class _Connection:
    wire: _Wire
    reply: _Reply | None = None
    sent: int = 0
    _head: bytes = b""
    _unread: int = 0
    _asked: tuple[int, int] = (0, 0)

    def take(self, data: bytes) -> tuple[int, int] | None:
        """Take what was received; return size and latency in milliseconds, once the request is all there."""
        if not self._unread:
            self._head += data
            end = self._head.find(HEAD_END)
            if end < 0:
                return None
            head, data = self._head[:end], self._head[end + len(HEAD_END) :]
            self._head, self._unread, self._asked = b"", _length(head), _path(head)
        self._unread -= len(data)  # a client waits for the reply before it asks again
        return None if self._unread else self._asked


def _length(head: bytes) -> int:
    length = head.lower().partition(LENGTH)[2].partition(b"\r\n")[0].strip()
    return int(length) if length else 0


def _path(head: bytes) -> tuple[int, int]:
    _, size, latency, _ = head.split(b" ", 2)[1].split(b"/", 3)
    return int(size), int(latency)


@define(eq=False)
class _Server:
    """One loop over all connections: each, when it is ready, sends what its socket takes."""

    listener: socket.socket
    tls: ssl.SSLContext | None
    _poll: select.epoll = field(factory=select.epoll, init=False)
    _connections: dict[int, _Connection] = field(factory=dict, init=False)
    _late: list[tuple[float, int, _Connection]] = field(factory=list, init=False)

    def run(self) -> None:
        self.listener.setblocking(False)
        self._poll.register(self.listener, select.EPOLLIN)
        while True:
            until_due = max(0.0, self._late[0][0] - time.monotonic()) if self._late else None
            for number, _ in self._poll.poll(until_due, EVENTS_AT_ONCE):
                self._serve(number)
            while self._late and self._late[0][0] <= time.monotonic():
                number, connection = heapq.heappop(self._late)[1:]
                if self._connections.get(number) is connection:
                    self._poll.modify(number, select.EPOLLOUT)

    def _serve(self, number: int) -> None:
        connection = self._connections.get(number)
        try:
            if connection is None:
                self._accept()
            elif connection.reply is None:
                self._receive(number, connection)
            else:
                self._send(number, connection, connection.reply)
        except BlockingIOError:
            pass  # the socket says when there is more to do
        except (OSError, ValueError):
            self._drop(number)

    def _accept(self) -> None:
        accepted, _ = self.listener.accept()
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire: _Wire = _Plain(accepted)
        if self.tls is not None:
            wire = _Tls(self.tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False))
        self._connections[wire.sock.fileno()] = _Connection(wire)
        self._poll.register(wire.sock, select.EPOLLIN)

    def _receive(self, number: int, connection: _Connection) -> None:
        asked = None
        while asked is None:
            data = connection.wire.receive()
            if not data:
                raise ConnectionResetError
            asked = connection.take(data)
        size, latency_ms = asked
        connection.reply, connection.sent = _reply(size), 0
        if latency_ms:
            self._poll.modify(number, 0)
            heapq.heappush(self._late, (time.monotonic() + latency_ms / 1000, number, connection))
        else:
            self._send(number, connection, connection.reply)

    def _send(self, number: int, connection: _Connection, reply: _Reply) -> None:
        with suppress(BlockingIOError):
            connection.sent += connection.wire.send(reply, connection.sent)
        if connection.sent < len(reply):
            self._poll.modify(number, select.EPOLLOUT)
            return
        connection.reply = None
        self._poll.modify(number, select.EPOLLIN)

    def _drop(self, number: int) -> None:
        connection = self._connections.pop(number, None)
        if connection is not None:
            self._poll.unregister(number)
            connection.wire.sock.close()


def _serve(listener: socket.socket, pem: str | None, is_up: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    pin(0)
    allow_many_files()
    tls = None
    if pem is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.load_cert_chain(pem)
    is_up.set()
    _Server(listener, tls).run()
