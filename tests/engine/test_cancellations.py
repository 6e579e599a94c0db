"""Cancelled at any moment, natively or by scope, one call or many: nothing is left, and the client works as before."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import json
import threading
import types
from collections.abc import Callable, Coroutine
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trio
from wire import PATIENCE, answer

from nebula_async import AsyncNebula, Config, Generation

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WHOLE = answer(200, json.dumps({"data": [{"b64_json": PIXEL, "index": 0}]}).encode())
MODEL = "black-forest-labs/FLUX.1-schnell"

TIMES = 2
FEWEST_PAUSES = 2
AT_ONCE = 2

PHASES = {"the request arrived": b"", "half of the head": WHOLE[:20], "half of the body": WHOLE[:-20]}
"""What the server has said by then."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")

Victim = Callable[[], Coroutine]
Moment = Callable[[], Coroutine]
Stop = Callable[[anyio.CancelScope], None]


class Stalling:
    """A server's behaviour: says so much and then waits for the client to hang up; answers well when it is let."""

    def __init__(self) -> None:
        self.beginning: bytes = b""
        self.is_well = False
        self.said = threading.Semaphore(0)

    def __call__(self, server, connection) -> None:
        """Serve one connection."""
        while server.read_request(connection):
            connection.sendall(WHOLE if self.is_well else self.beginning)
            self.said.release()
            if not self.is_well:
                assert b"" == connection.recv(1)

    async def said_to(self, calls: int) -> None:
        """Wait until it has said so to so many."""
        for _ in range(calls):
            assert await anyio.to_thread.run_sync(self.said.acquire, True, PATIENCE)


@pytest.fixture
def server():
    """How the server of a test behaves."""
    return Stalling()


@pytest.fixture
async def nebula(serve, server):
    """A client, after which a server that answers finds it working, and nothing is left of it."""
    config = Config(base_url=serve(server).url, rate_limit=1_000_000)
    tasks, descriptors = count_tasks(), count_descriptors()
    async with AsyncNebula("sk-emulator", config=config) as nebula:
        yield nebula
        server.is_well = True
        results = await nebula.generate_all(["a cat"] * 10, model=MODEL)
    assert [True] * 10 == [isinstance(result, Generation) for result in results]
    gc.collect()
    with anyio.fail_after(PATIENCE):
        while count_descriptors() > descriptors:  # noqa: ASYNC110 - the server's own, in its threads
            await anyio.sleep(0.01)
    assert tasks == count_tasks()


def count_tasks() -> int:
    """Return how many tasks there are."""
    if trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


def count_descriptors() -> int:
    """Return how many descriptors are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def one(nebula: AsyncNebula) -> Victim:
    """Return what makes one call."""
    return lambda: nebula.generate("a cat", model=MODEL)


def many(nebula: AsyncNebula) -> Victim:
    """Return what makes many calls, a few at once."""

    async def generate_many() -> None:
        async with nebula.generate_many(["a cat"] * 5, model=MODEL, concurrency=AT_ONCE) as results:
            async for _ in results:
                pass

    return generate_many


def cancel(scope: anyio.CancelScope) -> None:
    """Cancel a scope from another task."""
    scope.cancel()


def expire(scope: anyio.CancelScope) -> None:
    """Let the deadline of a scope pass now, as `move_on_after` and `fail_after` do."""
    scope.deadline = anyio.current_time()


async def cancel_scoped(victim: Victim, moment: Moment, stop: Stop) -> None:
    """Run a victim and stop its scope at a moment."""
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            await victim()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await moment()
        stop(scope)
    assert scope.cancelled_caught


async def cancel_natively(victim: Victim, moment: Moment) -> None:
    """Run a victim and cancel its task at a moment."""
    task = asyncio.ensure_future(victim())
    await moment()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


@types.coroutine
def pausing(coroutine: Coroutine, paused: Callable[[int], None]):
    """Run a coroutine, and say each time how often it has paused: the loop takes over when that has returned."""
    go_on = functools.partial(coroutine.send, None)
    for number in itertools.count():
        try:
            pause = go_on()
        except StopIteration as end:
            return end.value
        paused(number)
        try:
            go_on = functools.partial(coroutine.send, (yield pause))
        except BaseException as error:  # noqa: BLE001 - it is the coroutine's
            go_on = functools.partial(coroutine.throw, error)


async def is_cancelled_at(pause: int, victim: Victim) -> bool:
    """Run a victim and cancel its scope at its n-th pause; say whether it still paused so often."""
    with anyio.CancelScope() as scope:
        await pausing(victim(), lambda number: scope.cancel() if number == pause else None)
    return scope.cancelled_caught


async def is_natively_cancelled_at(pause: int, times: int, victim: Victim) -> bool:
    """Run a victim and cancel its task at its n-th pause, and at some after it."""
    pauses = range(pause, pause + times)
    running = pausing(victim(), lambda number: task.cancel() if number in pauses else None)

    async def run() -> None:
        await running

    task = asyncio.ensure_future(run())
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return task.cancelled()


async def leave_one_idle(nebula: AsyncNebula) -> None:
    """Make a call, whose connection the next one takes."""
    await nebula.generate("a cat", model=MODEL)


async def leave_none(_nebula: AsyncNebula) -> None:
    """Let the next call connect: the one before was cancelled."""


verbs = pytest.mark.parametrize(("verb", "calls"), [(one, 1), (many, AT_ONCE)], ids=["generate", "generate_many"])
stops = pytest.mark.parametrize("stop", [cancel, expire], ids=["cancel", "expire"])
connections = pytest.mark.parametrize("prepare", [leave_none, leave_one_idle], ids=["fresh", "reused"])
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
phases = pytest.mark.parametrize("phase", PHASES)


@verbs
@connections
@pytest.mark.anyio
async def test_scopes_cancelled_at_any_pause_leave_nothing(nebula, server, verb, calls, prepare):
    """A scope may be cancelled wherever a call waits, from its first pause to its last (F42)."""
    server.is_well = True
    for pause in itertools.count():
        await prepare(nebula)
        if not await is_cancelled_at(pause, verb(nebula)):
            break
    assert FEWEST_PAUSES <= pause


@verbs
@connections
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@on_asyncio
@pytest.mark.anyio
async def test_tasks_cancelled_at_any_pause_leave_nothing(nebula, server, verb, calls, prepare, times):
    """A task may be cancelled natively wherever a call waits, and once more while that is handled (F42)."""
    server.is_well = True
    for pause in itertools.count():
        await prepare(nebula)
        if not await is_natively_cancelled_at(pause, times, verb(nebula)):
            break
    assert FEWEST_PAUSES <= pause


@verbs
@stops
@phases
@pytest.mark.anyio
async def test_scopes_cancelled_in_any_phase_leave_nothing(nebula, server, verb, calls, stop, phase):
    """A scope may be cancelled, or expire, before a reply, in its head and in its body (F42)."""
    server.beginning = PHASES[phase]
    for _ in range(TIMES):
        await cancel_scoped(verb(nebula), lambda: server.said_to(calls), stop)


@verbs
@phases
@on_asyncio
@pytest.mark.anyio
async def test_tasks_cancelled_in_any_phase_leave_nothing(nebula, server, verb, calls, phase):
    """A task may be cancelled natively before a reply, in its head and in its body (F42)."""
    server.beginning = PHASES[phase]
    for _ in range(TIMES):
        await cancel_natively(verb(nebula), lambda: server.said_to(calls))
