"""Who may send, and when."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from random import Random
from typing import Protocol

import anyio
from attrs import define, evolve, field

from nebula_async.config import Config
from nebula_async.engine.loops import PerLoop
from nebula_async.engine.pace import Pace

SECONDS_IN_FLIGHT = 6.0
SLACK = 1.3
FEWEST_SLOTS, MOST_SLOTS, SLOTS_WITHOUT_LIMIT = 8, 256, 16


class Gate(Protocol):
    """Admits the attempts of one account. Times are those of `anyio.current_time`, in seconds."""

    def slot(self) -> AbstractAsyncContextManager[None]:
        """Wait, first come first served, for a free slot and for the pace; the slot is held inside the block."""
        ...

    def accepted(self) -> None:
        """An attempt was accepted."""
        ...

    def throttled(self, *, sent_at: float, delay: float | None, is_limit: bool) -> float:
        """An attempt was refused and may come later: hold everyone. Return for how many seconds; 0 for no new hold.

        `is_limit` says that the rate limit refused it; else the server is busy.
        """
        ...

    def refusing_for(self) -> float:
        """Return for how many seconds the rate limit has refused and nothing was accepted."""
        ...


def local_gate(config: Config, source: Random) -> LocalGate:
    """Return the gate that a configuration asks for."""
    return LocalGate(workers_for(config), config.per_minute, config.retry.backoff, source)


def workers_for(config: Config, concurrency: int | None = None) -> int:
    """Return how many requests are made at a time: `concurrency`, else what the configuration asks for or implies.

    Raises `ConfigurationError` for a number that `Config` would refuse.
    """
    asked = config if concurrency is None else evolve(config, concurrency=concurrency)
    return asked.concurrency or slots_for(config.per_minute)


def slots_for(per_minute: float | None) -> int:
    """Return how many requests should be in flight to use a limit fully at a usual reply time."""
    if per_minute is None:
        return SLOTS_WITHOUT_LIMIT
    return min(max(math.ceil(SLACK * per_minute / 60 * SECONDS_IN_FLIGHT), FEWEST_SLOTS), MOST_SLOTS)


@define(eq=False)
class _Queue:
    """The gate's state in one event loop."""

    pace: Pace
    slots: anyio.Semaphore
    turn: anyio.Lock


@define(eq=False)
class LocalGate:
    """The gate of one process. Its clients share the object; each event loop has a queue of its own."""

    concurrency: int
    per_minute: float | None
    backoff: float
    random: Random
    _queues: PerLoop[_Queue] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._queues = PerLoop(self._open_queue)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and for the pace. Cancellation while waiting leaves no trace."""
        queue = self._queues.get()
        async with AsyncExitStack() as held:
            async with queue.turn:  # one queue: who is first in it waits for a slot and then for the pace
                await held.enter_async_context(queue.slots)
                await _wait(queue.pace)
                queue.pace.release(anyio.current_time())
            yield

    def accepted(self) -> None:
        """An attempt was accepted."""
        self._queues.get().pace.accepted()

    def throttled(self, *, sent_at: float, delay: float | None, is_limit: bool) -> float:
        """Hold everyone; return for how many seconds."""
        pace = self._queues.get().pace
        return pace.throttled(anyio.current_time(), sent_at=sent_at, delay=delay, source=self.random, is_limit=is_limit)

    def refusing_for(self) -> float:
        """Return for how many seconds there have been refusals and nothing else."""
        return self._queues.get().pace.refusing_for(anyio.current_time())

    def _open_queue(self) -> _Queue:
        # What is waited for next is the network, so a free slot need not be waited for.
        slots = anyio.Semaphore(self.concurrency, fast_acquire=True)
        return _Queue(Pace(self.per_minute, self.backoff), slots, anyio.Lock(fast_acquire=True))


async def _wait(pace: Pace) -> None:
    while (seconds := pace.wait(anyio.current_time())) > 0:  # noqa: ASYNC110 - asked again: a hold may have begun
        await anyio.sleep(seconds)
