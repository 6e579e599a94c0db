"""What the engine's tests share: servers of raw bytes, and callers without waits of their own."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from random import Random

import pytest

from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.config import Config, RetryPolicy, Timeouts
from nebula_async.engine.call import Caller
from nebula_async.engine.download import Downloader
from nebula_async.engine.gate import local_gate
from nebula_async.engine.reading import WholeReply
from nebula_async.engine.transport import Credentials, Transport
from nebula_async.errors import DownloadError
from nebula_async.keys import find_key

Handle = Callable[[socket.socket], object]

PATIENCE = 60.0
"""Seconds that a test waits for what must happen soon."""


class RawServer:
    """Hands each connection to `handle`, in a thread of its own; `requests` are those read with `read_request`."""

    def __init__(self, handle: Handle, tls: ssl.SSLContext | None = None) -> None:
        self.handle = handle
        self.tls = tls
        self.requests: list[bytes] = []
        self.connections: list[socket.socket] = []
        self.gone = threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """Where it listens."""
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def read_request(self, connection: socket.socket) -> bytes:
        """Read one request, and keep it."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536) or self._end()
        head, _, body = data.partition(b"\r\n\r\n")
        sizes = [line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        while len(body) < int(sizes[0] if sizes else 0):
            body += connection.recv(65536) or self._end()
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def close(self) -> None:
        """Stop, breaking off what is connected."""
        self._shut(self._listener)
        for connection in self.connections:
            self._shut(connection)
        for thread in self._threads:
            thread.join()

    def _end(self) -> bytes:
        raise OSError("the client is gone")

    def _shut(self, which: socket.socket) -> None:
        with contextlib.suppress(OSError):
            which.shutdown(socket.SHUT_RDWR)
        which.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            wrapped = connection if self.tls is None else self.tls.wrap_socket(connection, server_side=True)
            with wrapped:
                self.handle(wrapped)
        connection.close()
        self.gone.release()


def answer(
    status: int = 200, body: bytes = b"{}", *lines: str, length: int | None = None, phrase: str = "Said"
) -> bytes:
    """Return the bytes of a reply; `length` is what it claims its body to have."""
    claimed = len(body) if length is None else length
    head = [f"HTTP/1.1 {status} {phrase}", f"Content-Length: {claimed}", *lines]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def says(code: str) -> bytes:
    """Return an error body of the API."""
    return json.dumps({"status": "error", "error": {"code": code, "message": "said so"}}).encode()


def make_caller(url: str, events: list | None = None, custom=None, key="sk-emulator", **settings) -> Caller:
    """Return a caller of a server, whose own waits take no time unless `retry` says so."""
    config = Config(**{"base_url": url, "retry": RetryPolicy(backoff=0)} | settings)
    source = seeded(7)
    notify = (lambda _event: None) if events is None else events.append
    credentials = Credentials((config.base_url, config.inference_url), find_key(key))
    transport = Transport(credentials, custom)
    return Caller(transport, local_gate(config, source), config, notify, source)


def ask(url: str, pictures: int = 1) -> HttpRequest:
    """Return a request of the engine's tests."""
    return HttpRequest(method="POST", url=f"{url}/images/generation", body=b'{"prompt":"x"}', pictures=pictures)


QUICK = Config(retry=RetryPolicy(backoff=0), timeouts=Timeouts(connect=1, write=1, read=1, attempt=2, total=5))
"""Settings of downloads that must not take long, whatever happens."""


def place(server: RawServer) -> str:
    """Return where a server listens, as `allowed_image_hosts` names it."""
    return server.url.partition("://")[2]


async def _whole_body(reply: Reply) -> bytes:
    return reply.body


async def _picture(reply: Reply) -> bytes:
    if not reply.body.startswith(b"picture"):
        raise ValueError("it is no picture")
    return reply.body


def keep() -> WholeReply[bytes]:
    """Read a reply as it is."""
    return WholeReply(_whole_body)


def a_picture() -> WholeReply[bytes]:
    """Take only what begins like a picture of these tests."""
    return WholeReply(_picture)


async def download(
    url: str, *allowed: str, seconds: float = 5.0, config: Config = QUICK, open_reader=a_picture, custom=None
) -> bytes:
    """Fetch a URL with a downloader of its own, to which these hosts are allowed."""
    downloader = Downloader(frozenset(allowed), seeded(7), custom)
    try:
        return await downloader.fetch(url, open_reader, config, seconds=seconds)
    finally:
        await downloader.aclose()


async def undelivered(url: str, *allowed: str, **options) -> DownloadError:
    """Fetch a URL and return what was raised."""
    with pytest.raises(DownloadError) as caught:
        await download(url, *allowed, **options)
    return caught.value


def closed_url() -> str:
    """Return a URL at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def seeded(seed: int) -> Random:
    """Return chance that is always the same."""
    return Random(seed)  # noqa: S311
