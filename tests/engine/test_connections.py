"""Connections are reused while they are good, and one that is not costs nothing but itself."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import ssl
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpcore
import httpx
import pytest
from wire import PATIENCE, answer, ask, keep, make_caller

from nebula_async import AsyncNebula, InferenceRequest
from nebula_async.api.messages import HttpRequest
from nebula_async.charges import Charges
from nebula_async.config import Config, RetryPolicy
from nebula_async.engine.connections import ConnectionStack
from nebula_async.errors import NotSentError, OutcomeUnknownError, UnusableReplyError

SLOW = b'{"slow": true}'


def get(emulator) -> HttpRequest:
    """Return a request that costs nothing."""
    return HttpRequest(method="GET", url=f"{emulator.base_url}/users/credits")


def used(emulator) -> list[int]:
    """Return the connection of each request, renamed to 0, 1, … in the order of their first use."""
    ports = [record.connection for record in emulator.journal.requests]
    return [list(dict.fromkeys(ports)).index(port) for port in ports]


async def wait_for(semaphore: threading.Semaphore) -> None:
    """Wait for a server's thread."""
    assert await anyio.to_thread.run_sync(semaphore.acquire, True, PATIENCE)


@pytest.mark.anyio
async def test_connections_are_kept_alive(emulator):
    """Requests one after the other use one connection."""
    caller = make_caller(emulator.base_url)
    for _ in range(5):
        await caller.call(get(emulator), keep)
    await caller.transport.aclose()

    assert [0] * 5 == used(emulator)


@pytest.mark.anyio
async def test_the_newest_connection_is_reused(serve):
    """Of several idle connections the one used last is taken, so that the others can grow old."""
    both, served = threading.Barrier(2), []

    def handle(server, connection):
        while server.read_request(connection):
            served.append(connection.fileno())
            if len(served) <= 2:
                both.wait(PATIENCE)
            connection.sendall(answer())

    server = serve(handle)
    caller = make_caller(server.url)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(caller.call, ask(server.url), keep)
    for _ in range(3):
        await caller.call(ask(server.url), keep)
    await caller.transport.aclose()

    assert 2 == len(set(served[:2]))
    assert 1 == len(set(served[2:]))


@pytest.mark.anyio
async def test_idle_connections_expire(emulator):
    """A connection that has been idle for too long is not used again: servers drop those just as a request leaves."""
    async with ConnectionStack(idle_seconds=0.0) as stack:
        for _ in range(3):
            request = httpx.Request("GET", get(emulator).url, headers={"Authorization": f"Bearer {emulator.key}"})
            response = await stack.handle_async_request(request)
            assert await response.aread()
            await response.aclose()

    assert [0, 1, 2] == used(emulator)


@pytest.mark.anyio
async def test_without_keep_alive_none_is_used_again(emulator):
    """With `keep_alive=False` each connection is closed after its reply, that of a picture's URL too, and nobody has to
    close the client.
    """
    config = Config(
        base_url=emulator.base_url,
        inference_url=emulator.inference_url,
        allowed_image_hosts=[emulator.storage_host],
        keep_alive=False,
    )
    nebula = AsyncNebula(emulator.key, config=config)
    for _ in range(2):
        await nebula.generate(InferenceRequest("a cat", model="dall-e-3", size="64x64"))
    connections = [record.connection for record in emulator.journal.requests]
    assert 4 == len(connections) == len(set(connections))
    del nebula
    gc.collect()


@pytest.mark.anyio
async def test_a_connection_that_the_server_closed_is_replaced(serve):
    """An idle connection that the server has closed is noticed before a request is sent over it."""

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(answer())

    server = serve(handle)
    caller = make_caller(server.url)
    done = []
    for _ in range(3):
        done.append(await caller.call(ask(server.url), keep))
        await wait_for(server.gone)
    await caller.transport.aclose()

    assert [(1, 1)] * 3 == [(each.charges.at_least, each.charges.at_most) for each in done]
    assert [1, 1, 1] == [each.attempts for each in done]
    assert 3 == len(server.requests)


@pytest.mark.anyio
async def test_a_cancelled_request_closes_its_connection(serve):
    """Who stops waiting for a reply hangs up, and the next request has a connection of its own."""
    arrived = threading.Semaphore(0)

    def handle(server, connection):
        server.read_request(connection)
        if len(server.requests) == 1:
            arrived.release()
            assert b"" == connection.recv(1)
        else:
            connection.sendall(answer())

    server = serve(handle)
    caller = make_caller(server.url)
    async with anyio.create_task_group() as group:
        group.start_soon(caller.call, ask(server.url), keep)
        await wait_for(arrived)
        group.cancel_scope.cancel()
    await wait_for(server.gone)
    await caller.call(ask(server.url), keep)
    await caller.transport.aclose()

    assert 2 == len(server.connections)


@pytest.mark.anyio
async def test_a_cancelled_handshake_closes_its_connection(serve):
    """Who stops waiting for a TLS handshake hangs up, too."""
    arrived = threading.Semaphore(0)

    def handle(_server, connection):
        connection.recv(65536)
        arrived.release()
        while connection.recv(65536):
            pass

    server = serve(handle)
    secure = server.url.replace("http:", "https:")
    caller = make_caller(secure)
    async with anyio.create_task_group() as group:
        group.start_soon(caller.call, ask(secure), keep)
        await wait_for(arrived)
        group.cancel_scope.cancel()
    await wait_for(server.gone)
    await caller.transport.aclose()


@pytest.mark.anyio
async def test_certificates_are_read_once(serve, certified):
    """Many first requests at once read the certificates of this machine once, and each has its own deadline."""
    reads, go_on = [], threading.Event()

    def read_certificates():
        reads.append(True)
        go_on.wait(PATIENCE)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    server = serve(lambda server, connection: server.read_request(connection), tls=certified)
    async with ConnectionStack(make_tls_context=read_certificates) as stack:

        async def send() -> None:
            with pytest.raises(httpcore.ConnectError):
                await stack.handle_async_request(httpx.Request("GET", server.url))

        with anyio.move_on_after(0.05) as limit:
            await send()
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            go_on.set()

    assert limit.cancelled_caught
    assert 2 == len(reads)


@pytest.mark.anyio
async def test_a_body_that_is_not_read_to_its_end_closes_its_connection(serve):
    """A reply that is too large is stopped: its connection is closed, and nothing of it is left behind."""

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(answer(200, length=2**40))
        while True:
            connection.sendall(bytes(2**20))

    server = serve(handle)
    caller = make_caller(server.url)
    with pytest.raises(UnusableReplyError, match="larger than 92274688 bytes"):
        await caller.call(ask(server.url), keep)
    await wait_for(server.gone)
    await caller.transport.aclose()
    gc.collect()


@pytest.mark.anyio
async def test_a_reply_that_nobody_asked_for_is_not_the_next_one(serve):
    """A server that says more than its reply is not asked again on that connection: another's picture is no picture."""
    both = answer(200, b"asked") + answer(200, b"unasked")

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(both)

    server = serve(handle)
    caller = make_caller(server.url)
    bodies = [(await caller.call(ask(server.url), keep)).value for _ in range(3)]
    await caller.transport.aclose()

    assert ([b"asked"] * 3, 3) == (bodies, len(server.connections))


@pytest.mark.anyio
async def test_a_lost_connection_is_dropped(replies):
    """A connection that broke in the middle of a reply is not used again."""
    server = replies(answer(200, b"half", length=8))
    caller = make_caller(server.url)
    with pytest.raises(OutcomeUnknownError):
        await caller.call(ask(server.url), keep)
    await caller.transport.aclose()

    assert 2 <= len(server.connections)


@pytest.mark.anyio
async def test_closing_closes_idle_connections(serve):
    """After `aclose` the server sees every connection end."""

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(answer())

    server = serve(handle)
    caller = make_caller(server.url)
    await caller.call(ask(server.url), keep)
    await caller.transport.aclose()
    await wait_for(server.gone)


@pytest.mark.anyio
async def test_closing_closes_connections_in_use_at_their_end(serve):
    """A request that is under way when the client is closed ends well, and its connection with it."""
    arrived, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def handle(server, connection):
        server.read_request(connection)
        arrived.release()
        go_on.acquire(timeout=PATIENCE)
        connection.sendall(answer(200, SLOW))
        assert b"" == connection.recv(1)

    server = serve(handle)
    caller, bodies = make_caller(server.url), []

    async def call() -> None:
        bodies.append((await caller.call(ask(server.url), keep)).value)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await wait_for(arrived)
        await caller.transport.aclose()
        go_on.release()
    await wait_for(server.gone)

    assert [SLOW] == bodies


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_connections_end_with_their_loop(serve, backend):
    """A loop that ends closes the connections made in it: a client can live on in the next without a warning."""

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(answer())

    server = serve(handle)
    caller = make_caller(server.url)
    for _ in range(2):
        anyio.run(caller.call, ask(server.url), keep, backend=backend)
        assert server.gone.acquire(timeout=PATIENCE)
    anyio.run(caller.transport.aclose, backend=backend)
    gc.collect()

    assert 2 == len(server.connections)


def _descriptors() -> int:
    """Count what is open but devices: uvloop opens /dev/null with a loop's first stream, to have one to spare."""
    return sum(not each.is_char_device() for each in Path("/proc/self/fd").iterdir())


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")  # noqa: PTH112


async def _churn(emulator, cancelled) -> None:
    """Cancel a few hundred calls at all phases, then make 50 that must succeed; nothing may be left."""
    caller = make_caller(emulator.base_url, concurrency=20)
    before = _descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(40):
            await cancelled(caller, number)
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(caller.call, get(emulator), keep)
        await caller.transport.aclose()
        gc.collect()
    assert 20 >= _descriptors() - before  # what the emulator has not closed yet
    with anyio.fail_after(PATIENCE):
        while _descriptors() > before:  # noqa: ASYNC110 - the emulator's own descriptors, in another thread
            await anyio.sleep(0.01)


@pytest.mark.anyio
@needs_proc
async def test_scoped_cancellations_leave_nothing_behind(emulator):
    """Hundreds of cancelled scopes cost neither a slot nor a descriptor, and the next calls succeed."""

    async def cancelled(caller, number: int) -> None:
        with anyio.move_on_after(0.0004 * number):
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(caller.call, get(emulator), keep)

    await _churn(emulator, cancelled)


@pytest.mark.asyncio
@needs_proc
@pytest.mark.parametrize("times", [1, 2])
async def test_native_cancellations_leave_nothing_behind(emulator, times):
    """Hundreds of `task.cancel()`, also a second one while the first is being handled, leave nothing behind."""

    async def cancelled(caller, number: int) -> None:
        tasks = [asyncio.create_task(caller.call(get(emulator), keep)) for _ in range(10)]
        await asyncio.sleep(0.0004 * number)
        for _ in range(times):
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)

    await _churn(emulator, cancelled)


@pytest.mark.asyncio
@needs_proc
async def test_wait_for_leaves_nothing_behind(emulator):
    """`asyncio.wait_for` around a call may time out as often as it likes."""

    async def cancelled(caller, number: int) -> None:
        calls = (asyncio.wait_for(caller.call(get(emulator), keep), 0.0004 * number) for _ in range(10))
        await asyncio.gather(*calls, return_exceptions=True)

    await _churn(emulator, cancelled)


@pytest.fixture
def no_descriptors(serve):
    """Start a server, then let this process open nothing more."""
    server = serve(lambda server, connection: server.read_request(connection))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    @contextmanager
    def exhausted():
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            yield server
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return exhausted


@pytest.mark.anyio
async def test_without_descriptors_nothing_is_sent(no_descriptors):
    """F50: a process that has too many files open sends nothing, and may try again when it has fewer."""
    with no_descriptors() as server:
        caller = make_caller(server.url, retry=RetryPolicy(attempts=1))
        with pytest.raises(NotSentError) as caught:
            await caller.call(ask(server.url), keep)
    await caller.transport.aclose()

    assert (Charges(0, 0), True, []) == (caught.value.charges, caught.value.retryable, server.connections)
    assert "Too many open files" in str(caught.value)
