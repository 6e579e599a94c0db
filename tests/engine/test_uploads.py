"""Pictures that are sent, on the wire: an exact length, the same bytes at every attempt, and little memory."""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import anyio
import httpx
import pytest
from PIL import Image as Pillow
from wire import PATIENCE, answer

from nebula_async import AsyncNebula, Config, DeadlineError, InvalidRequestError, RetryPolicy, Timeouts
from nebula_async.charges import Charges

pytestmark = pytest.mark.anyio

KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"


def png(side: int) -> bytes:
    """Return a picture of noise: three bytes a pixel, which nothing packs."""
    noise = Random(side).randbytes(3 * side * side)  # noqa: S311
    buffer = io.BytesIO()
    Pillow.frombytes("RGB", (side, side), noise).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


GIVEN = ["path", "bytes", "generator"]

SMALL, LARGE = png(16), png(1024)
MADE = answer(200, json.dumps({"data": [{"b64_json": base64.b64encode(SMALL).decode()}]}).encode())
FAILED = answer(500, b"{}")


def client(url: str, **settings) -> AsyncNebula:
    """Return a client of a server that makes no waits of its own."""
    settings = {"retry": RetryPolicy(backoff=0), "choose_seed": False} | settings
    return AsyncNebula("sk-emulator", config=Config(base_url=url, **settings))


async def edit(url: str, image: object, **settings):
    """Ask for one picture made of another."""
    with anyio.fail_after(PATIENCE):
        async with client(url, **settings) as nebula:
            return await nebula.generate("at night", model=KONTEXT, image=image)


def body_of(request: bytes) -> bytes:
    """Return the body of a request, whose length must be the one that its head says."""
    head, _, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith((b"content-length", b"transfer"))]
    assert [b"content-length: %d" % len(body)] == lengths
    return body


def json_with(data: bytes) -> bytes:
    """Return the JSON that `edit` sends."""
    fields = {"prompt": "at night", "model": KONTEXT, "image": base64.b64encode(data).decode()}
    return json.dumps(fields, separators=(",", ":")).encode()


@pytest.fixture
def file(tmp_path) -> Path:
    """A picture of 3 MiB in a file."""
    path = tmp_path / "cat.png"
    path.write_bytes(LARGE)
    return path


def is_open(path: Path) -> bool:
    """Whether this process has the file open."""
    return any(os.path.realpath(link) == str(path) for link in Path("/proc/self/fd").iterdir())


async def generated(data: bytes) -> AsyncIterator[bytes]:
    """Yield the bytes of a picture in pieces."""
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


@pytest.mark.parametrize("given", [Path, Path.read_bytes, lambda path: generated(path.read_bytes())], ids=GIVEN)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_every_attempt_sends_the_same_bytes(replies, tmp_path, data, given):
    """What is sent is the JSON of the fields with its exact length; the next attempt sends it again, byte for byte."""
    path = tmp_path / "cat.png"
    path.write_bytes(data)
    server = replies(FAILED, MADE)
    made = await edit(server.url, given(path))

    assert (2, Charges(1, 2)) == (made.attempts, made.charges)
    assert [json_with(data)] * 2 == [body_of(request) for request in server.requests]


async def test_a_request_keeps_what_can_be_sent_again(replies, file):
    """In the request of a result a path stays a path, and what can be read but once is there as bytes."""
    from_path = await edit(replies(MADE).url, file)
    from_iterator = await edit(replies(MADE).url, generated(LARGE))

    assert (file, LARGE) == (from_path.request.image, from_iterator.request.image)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: os.truncate(path, 99)], ids=["vanishes", "shrinks"])
async def test_a_file_that_changes_between_two_attempts(serve, file, change):
    """The call ends with what is wrong with the file, and with what the attempts before may have cost."""

    def handle(server, connection):
        server.read_request(connection)
        change(file)
        connection.sendall(FAILED)

    server = serve(handle)
    with pytest.raises(InvalidRequestError, match="image cannot be used") as caught:
        await edit(server.url, file)

    assert (2, Charges(0, 1)) == (caught.value.attempts, caught.value.charges)
    assert 1 == len(server.requests)


async def test_a_file_that_changes_while_it_is_sent(serve, file):
    """A body that cannot be sent to its end ends its connection, and the call: nothing was charged for it."""

    def handle(_server, connection):
        connection.recv(1)
        os.truncate(file, 99)
        while connection.recv(65536):
            pass

    file.write_bytes(png(2048))  # more than the buffers of two sockets hold
    with pytest.raises(InvalidRequestError, match="the file was changed meanwhile") as caught:
        await edit(serve(handle).url, file)

    assert (1, Charges(0, 0)) == (caught.value.attempts, caught.value.charges)


async def test_a_cancelled_upload_ends_its_connection_and_closes_its_file(serve, file):
    """Cancellation in the middle of a body leaves neither a connection nor an open file behind."""
    begun, ended = threading.Event(), threading.Event()

    def handle(_server, connection):
        connection.recv(65536)
        begun.set()
        ended.wait(PATIENCE)
        while connection.recv(2**20):
            pass

    file.write_bytes(png(2048))  # more than the buffers of two sockets hold
    server = serve(handle)
    async with client(server.url) as nebula:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: nebula.generate("at night", model=KONTEXT, image=file))
            await anyio.to_thread.run_sync(begun.wait, PATIENCE)
            group.cancel_scope.cancel()
        assert not is_open(file)
        ended.set()
        assert await anyio.to_thread.run_sync(lambda: server.gone.acquire(timeout=PATIENCE))


async def test_an_iterator_without_end_meets_the_deadline(replies):
    """An iterator that gives no more is given up when the time of the call is over; nothing is sent."""
    server = replies(MADE)

    async def endless() -> AsyncIterator[bytes]:
        yield SMALL[:10]
        await anyio.sleep_forever()

    with pytest.raises(DeadlineError, match=r"could not be read within .* Not charged") as caught:
        await edit(server.url, endless(), timeouts=Timeouts(total=0.05))

    assert (Charges(0, 0), []) == (caught.value.charges, server.requests)


async def test_a_transport_of_ones_own_sees_the_whole_body(file):
    """A transport that a user hands in can look at the content of a request, as of any other of httpx."""
    seen = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers["Content-Length"], request.content))
        return httpx.Response(200, content=MADE.partition(b"\r\n\r\n")[2])

    transport, config = httpx.MockTransport(handle), Config(base_url="http://localhost", choose_seed=False)
    async with AsyncNebula("sk-emulator", config=config, transport=transport) as nebula:
        await nebula.generate("at night", model=KONTEXT, image=file)

    assert [(str(len(json_with(LARGE))), json_with(LARGE))] == seen


async def test_memory_does_not_grow_with_the_pictures(serve, file):
    """Four pictures of 12 MiB sent at once from their file never lie in memory: what does is a few pieces of each."""

    def handle(_server, connection):
        left = None
        while left is None or left > 0:
            data = connection.recv(65536)
            head, _, rest = data.partition(b"\r\n\r\n")
            if left is None:
                left, data = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]), rest
            left -= len(data)
        connection.sendall(MADE)

    file.write_bytes(png(2048))
    server = serve(handle)
    async with client(server.url) as nebula:
        await nebula.generate("at night", model=KONTEXT, image=file)
        tracemalloc.start()
        try:
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(lambda: nebula.generate("at night", model=KONTEXT, image=file))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 24 * 2**20
