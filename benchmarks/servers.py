"""A cheap HTTP/1.1 server in a process of its own, so that what it costs is not counted with what it serves."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_longlong
from multiprocessing.synchronize import Event
from typing import TypeAlias, cast

from attrs import define, field, frozen

HEAD_END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""One pixel, in base64."""

Answer: TypeAlias = Callable[[asyncio.Transport], None]
"""Called for each complete request with the connection that it came over; writes the reply, now or later."""


@frozen
class Tally:
    """What a server has counted: open connections, all connections, requests, and those that it refused."""

    open: c_longlong
    connections: c_longlong
    requests: c_longlong
    refused: c_longlong


@frozen
class Server:
    """A server that is running; the API's root is `url`."""

    url: str
    tally: Tally


@contextmanager
def serving(make_answer: Callable[[Tally], Answer]) -> Iterator[Server]:
    """Serve in another process, where `make_answer` is called, a function of some module's top level."""
    context = multiprocessing.get_context("spawn")
    counts = [cast("c_longlong", context.Value(c_longlong, 0, lock=False)) for _ in range(4)]
    tally = Tally(*counts)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        is_up = context.Event()
        process = context.Process(target=_serve, args=(listener, make_answer, counts, is_up), daemon=True)
        process.start()
        is_up.wait()
    try:
        yield Server(url, tally)
    finally:
        process.terminate()
        process.join()
        process.close()


def reply(status: str, body: bytes, *lines: str) -> bytes:
    """Return the bytes of a reply."""
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


def picture(padding: int = 0) -> bytes:
    """Return the body of a success: a picture of one pixel, and a member of so many bytes that nobody asks for."""
    return f'{{"data":[{{"b64_json":"{PNG}","index":0}}],"padding":"{"x" * padding}"}}'.encode()


def _serve(
    listener: socket.socket, make_answer: Callable[[Tally], Answer], counts: list[c_longlong], is_up: Event
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it

    async def run() -> None:
        tally = Tally(*counts)
        answer = make_answer(tally)
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(answer, tally), sock=listener)
        is_up.set()
        await server.serve_forever()

    asyncio.run(run())


@define(eq=False)
class _Connection(asyncio.Protocol):
    answer: Answer
    tally: Tally
    _transport: asyncio.Transport = field(init=False)
    _data: bytes = field(default=b"", init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.tally.open.value += 1
        self.tally.connections.value += 1

    def connection_lost(self, _error: Exception | None) -> None:
        self.tally.open.value -= 1

    def data_received(self, data: bytes) -> None:
        self._data += data
        if len(self._data) >= _request_bytes(self._data):
            self._data = b""  # a client waits for the reply before it asks again
            self.tally.requests.value += 1
            self.answer(self._transport)


def _request_bytes(data: bytes) -> int:
    """Return how long the request is that begins here; more than there is, as long as its head is not all there."""
    head = data.find(HEAD_END)
    if head < 0:
        return len(data) + 1
    length = data[:head].lower().rpartition(LENGTH)[2].partition(b"\r\n")[0]
    return head + len(HEAD_END) + (int(length) if length.strip().isdigit() else 0)
