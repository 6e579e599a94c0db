"""The client of an actor, in an event loop of its own.

Ray runs asynchronous calls in one event loop for each actor, and holds that loop up while nobody takes the results:
requests under way there would time out, paid for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from random import SystemRandom
from typing import Any
from weakref import finalize

import anyio
from anyio import to_thread
from anyio.abc import TaskStatus
from attrs import define, evolve, field, frozen

from nebula_async.client import AsyncNebula
from nebula_async.config import Config
from nebula_async.engine.breaker import Breaker
from nebula_async.engine.gate import Gate
from nebula_async.engine.outage import Outage
from nebula_async.events import Observer
from nebula_async.integrations.ray_batches import RowResult
from nebula_async.integrations.ray_rows import RowWorker
from nebula_async.portal import Call, LoopThread, trigger_of
from nebula_async.sinks.sink import Sink


@frozen(kw_only=True)
class Service:
    """What an actor's client is made of; serves while its task runs."""

    sink: Sink | None
    defaults: Mapping[str, Any]
    config: Config | None
    gate: Callable[[], AbstractAsyncContextManager[Gate]] | None = field(repr=False)  # its URL may hold a password
    api_key: Callable[[], str] | None = field(repr=False)
    concurrency: int
    observer: Observer | None

    async def serve(self, *, task_status: TaskStatus[RowWorker]) -> None:
        """Be ready with what works on rows, until this is cancelled. Raises `ConfigurationError`."""
        async with AsyncExitStack() as stack:
            gate = None if self.gate is None else await stack.enter_async_context(self.gate())
            nebula = AsyncNebula(self.api_key, config=self._config(), gate=gate, observer=self.observer)
            await stack.enter_async_context(nebula)
            task_status.started(self._worker(nebula))
            await anyio.sleep_forever()

    def _config(self) -> Config:
        """Return the settings of an actor: it is never alone, so it shares the limit at least with those beside it."""
        config = Config.from_env() if self.config is None else self.config
        return evolve(config, concurrency=self.concurrency, shared_by="host")

    def _worker(self, nebula: AsyncNebula) -> RowWorker:
        return RowWorker(
            generator=nebula.generator,
            breaker=Breaker(Outage(SystemRandom(), nebula.config.retry.backoff)),
            sink=self.sink,
            defaults=self.defaults,
            slots=anyio.CapacityLimiter(self.concurrency),
        )


async def _end() -> None:
    """The client is closed by the task that opened it."""


@define(eq=False)
class ServiceThread:
    """The thread in which a service runs from its first batch on; it goes with this value, or with the process."""

    service: Service
    _opened: tuple[RowWorker, LoopThread] | None = field(default=None, init=False, repr=False)
    _opening: AbstractContextManager[object] = field(factory=threading.Lock, init=False, repr=False)

    async def work(self, rows: list[dict[str, Any]]) -> list[RowResult]:
        """Return what became of each row, and leave the running event loop alone meanwhile."""
        opened = self._opened
        if opened is None:
            opened = await to_thread.run_sync(self._open, abandon_on_cancel=True)
        (worker, thread), ready = opened, anyio.Event()
        results = thread.start(lambda: worker.work(rows))
        results.add_done_callback(trigger_of(ready))
        try:
            await ready.wait()
        finally:
            results.cancel()
        return results.result()

    def close(self) -> None:
        """End the service, if it runs, and close its connections."""
        if self._opened is not None:
            self._opened[1].close()

    def _open(self) -> tuple[RowWorker, LoopThread]:
        """Return what works, and its thread, when it is ready: of those who wait for that, one opens it. Blocks."""
        with self._opening:
            if self._opened is None:
                self._opened = self._begin()
            return self._opened

    def _begin(self) -> tuple[RowWorker, LoopThread]:
        thread = LoopThread(_end)
        try:
            worker = thread.enter(Call(self.service.serve))
        except BaseException:
            thread.stop()
            raise
        finalize(self, thread.stop).atexit = False  # an interpreter that ends takes the thread with it
        return worker, thread
