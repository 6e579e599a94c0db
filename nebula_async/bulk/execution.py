"""A run's workers and the ledger's writer beside them, in task groups that outlive a cancellation by what was paid."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import anyio
import anyio.to_thread

from nebula_async.bulk.run import Run
from nebula_async.engine.fanout import FanOut
from nebula_async.errors import JobError
from nebula_async.items import Result

DRAIN_SECONDS = 60.0
"""How long a job that ends waits for what may have been paid for."""


@asynccontextmanager
async def executed(run: Run) -> AsyncIterator[AsyncIterator[Result]]:
    """Do what a run has to do, and give its results as they are stored. Leaving the block ends the run.

    What may have been paid for is waited for, also where the caller is cancelled; the block's own exceptions pass. A
    `JobError` of the run ends the results, and is in `stopped_by`.
    """
    error: BaseException | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(run.writer.run)
        group.start_soon(run.end_late, DRAIN_SECONDS)
        try:
            async with FanOut(run.work, run.tasks(), run.workers) as found, aclosing(_stored(run, found)) as results:
                try:
                    yield results
                finally:
                    run.end()
        except (Exception, KeyboardInterrupt, SystemExit) as caught:  # noqa: BLE001 - raised below, outside of the group
            error = caught
        finally:
            run.has_ended()
    if error is not None:
        raise error


async def _stored(run: Run, found: AsyncIterator[Result | None]) -> AsyncGenerator[Result]:
    run.is_interrupted = True  # until its results have come to their end
    try:
        async for result in found:
            if result is not None:
                yield result
    except JobError as error:
        run.stop(error)
    run.is_interrupted = run.is_draining


async def finish_in_thread(
    work: Callable[[], None], *, stop: Callable[[], None], limiter: anyio.CapacityLimiter
) -> None:
    """Run blocking work in a thread to its end. Where the caller is cancelled, by a scope or natively, `stop` asks the
    work to end early, and its end is waited for.
    """
    errors: list[Exception] = []
    ended = anyio.Event()

    async def finish() -> None:  # in a child of a group: a native cancellation would leave the thread to itself
        try:
            await anyio.to_thread.run_sync(work, limiter=limiter)
        except Exception as error:  # noqa: BLE001 - raised below: it would leave the group inside of another one
            errors.append(error)
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(finish)
        try:
            await ended.wait()
        finally:
            stop()
    for error in errors:
        raise error
