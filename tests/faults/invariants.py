"""What holds after every call, whatever was done to it: the client's word against the server's own journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from chaos import ChaosProxy

from nebula_async import AsyncNebula, Charges, Config, Failure, Generation, NebulaError, RetryPolicy, Timeouts
from nebula_async.emulator import Emulator

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 16, "height": 16, "seed": 7}

CALM = Timeouts(connect=5, write=5, read=5, attempt=10, total=20)
QUICK = Timeouts(connect=5, write=1, read=1, attempt=5, total=10)
"""The one where no timeout is wanted, however busy the machine is; the other where a silent server is to be given up.
"""

KEPT_CHARACTERS = 20_000
"""Longer prompts are not in the emulator's journal."""

Ended = Generation | Failure | NebulaError


def check(ended: Ended, emulator: Emulator, sends: int | None = None) -> None:
    """Check what the only call of an emulator says it cost, and how often it was sent, against what was seen there.

    `sends` are those that a proxy before it saw; without it, all have reached the emulator.
    """
    check_all([ended], emulator, sends)


def check_all(ends: Sequence[Ended], emulator: Emulator, sends: int | None = None) -> None:
    """Check all calls of an emulator as `check` does, together, and each by itself that says its prompt and shares it
    with no other.
    """
    calls = [ended.error if isinstance(ended, Failure) else ended for ended in ends]
    records = emulator.journal.generations
    assert_covers(sum((call.charges for call in calls), Charges()), emulator.journal.charged)
    assert (len(records) if sends is None else sends) == sum(call.attempts for call in calls)
    assert len(calls) == len({call.idempotency_key for call in calls} - {None})
    asked = [None if isinstance(ended, NebulaError) else ended.request.prompt for ended in ends]
    for prompt, call in zip(asked, calls, strict=True):
        if prompt is not None and len(prompt) < KEPT_CHARACTERS and asked.count(prompt) == 1:
            assert_covers(call.charges, sum(record.images_charged for record in records if record.prompt == prompt))


def assert_covers(charges: Charges, charged: int) -> None:
    """Check that the truth lies in what was said of it."""
    assert charges.at_least <= charged <= charges.at_most


@asynccontextmanager
async def client_of(proxy: ChaosProxy, *, timeout: Timeouts = CALM, **settings) -> AsyncIterator[AsyncNebula]:
    """Return a client of what is behind a proxy, without waits of its own.

    Once it is closed no task of it is left, and no connection to the proxy.
    """
    options = {name: settings.pop(name) for name in ("observer", "gate", "transport") if name in settings}
    config = Config(**{"base_url": proxy.url, "retry": RetryPolicy(backoff=0)} | settings)
    before = running()
    async with AsyncNebula("sk-emulator", config=config, timeout=timeout, **options) as nebula:
        yield nebula
    assert before == running()
    assert await anyio.to_thread.run_sync(proxy.settle), f"a connection is still open: {proxy.log}"


def running() -> set[int]:
    """Return the tasks of this event loop."""
    return {task.id for task in anyio.get_running_tasks()}


async def end_of(nebula: AsyncNebula, prompt: str = "a cat", **parameters) -> Generation | NebulaError:
    """Ask for a small picture and return what the call ends with."""
    try:
        return await nebula.generate(prompt, **SMALL | parameters)
    except NebulaError as error:
        return error


async def meet(proxy: ChaosProxy, emulator: Emulator, **settings) -> Generation | NebulaError:
    """Make one call through a proxy, check what it says against what was seen, and return what it ended with."""
    async with client_of(proxy, **settings) as nebula:
        ended = await end_of(nebula)
    check(ended, emulator, proxy.sends)
    return ended
