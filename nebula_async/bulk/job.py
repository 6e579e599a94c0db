"""A job: manifest minus ledger, through the client, into files, and back into the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
from attrs import define, field

from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger, State
from nebula_async.bulk.manifest import Item, read_manifest
from nebula_async.bulk.recovery import body_sha, count_items, recover
from nebula_async.bulk.report import Report, Spending
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.engine.verdict import is_fatal
from nebula_async.errors import JobError, NebulaError, RateLimitError, UnusableReplyError
from nebula_async.requests import ImageRequest
from nebula_async.results import Failure, Generation

Result: TypeAlias = Generation | Failure
Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")


def _ignore(_result: Result) -> None:
    """Nobody listens."""


@define(eq=False)
class BulkJob:
    """Generates every item of a manifest into `out/images`: `async with BulkJob(…) as job: report = await job.run()`.

    The same manifest and folder resume: what is stored is not asked for again. `defaults` are parameters for the rows
    that leave them out. `retry_failed` puts back what failed, `resend_unknown` what may have been paid for. `on_result`
    is told of each result once it is stored. Entering raises `JobError` for a manifest with bad lines, for lines that
    changed since the folder was begun, and for a folder that cannot be written or is in use; nothing was sent then.
    """

    manifest: Path = field(converter=Path)
    out: Path = field(converter=Path)
    nebula: AsyncNebula
    defaults: Mapping[str, Any] = field(factory=dict)
    concurrency: int | None = None
    retry_failed: bool = False
    resend_unknown: bool = False
    on_result: Callable[[Result], None] = _ignore
    total: int = field(default=0, init=False)
    _folder: JobFolder = field(init=False)
    _ledger: Ledger = field(init=False)
    _in_order: anyio.CapacityLimiter = field(init=False)
    _in_flight: dict[int, Item] = field(factory=dict, init=False)
    _spending: Spending = field(factory=Spending, init=False)
    _stopped_by: NebulaError | None = field(default=None, init=False)
    is_draining: bool = field(default=False, init=False)

    async def __aenter__(self) -> BulkJob:
        self._in_order = anyio.CapacityLimiter(1)
        await self._beside_the_loop(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ledger.close()

    async def report(self, seconds: float = 0.0) -> Report:
        """Return how the job stands, over all its runs."""
        counts = await self._beside_the_loop(self._ledger.counts)
        return Report(
            total=self.total,
            done=counts[State.DONE],
            rejected=counts[State.REJECTED],
            bad=counts[State.BAD],
            unknown=counts[State.UNKNOWN],
            charges=await self._beside_the_loop(self._ledger.charges),
            spending=self._spending,
            seconds=seconds,
            is_interrupted=self.is_draining,
            stopped_by=self._stopped_by,
        )

    async def run(self) -> Report:
        """Send what is not done, store what comes back, and return what became of all items.

        Cancellation stops at once: what was in flight then is sent again by the next run, and may be paid for twice.
        """
        started = anyio.current_time()
        try:
            async with self.nebula.generate_many(self._requests(), concurrency=self.concurrency) as results:
                async for result in results:
                    await self._settle(self._in_flight.pop(result.index), result)
        except RateLimitError as error:  # the daily quota; what was not sent waits for the next run
            self._stopped_by = error
        return await self.report(anyio.current_time() - started)

    def drain(self) -> None:
        """Send nothing more; `run` returns when what is in flight is stored."""
        self.is_draining = True

    async def _requests(self) -> AsyncIterator[ImageRequest]:
        waiting = self._waiting()
        index = 0
        while (item := await self._beside_the_loop(next, waiting, None)) is not None:
            if self.is_draining or self._stopped_by is not None:
                return
            await self._beside_the_loop(self._ledger.sending, item.number, body_sha(item, self.manifest))
            self._in_flight[index] = item
            index += 1
            yield item.request

    def _waiting(self) -> Iterator[Item]:
        for item in read_manifest(self.manifest, defaults=self.defaults):
            if not isinstance(item, Item):
                raise JobError(f"{self.manifest} changed while the job ran: {item}")
            row = self._ledger.find(item.number)
            if row is None or row.state is State.PENDING:
                yield item

    async def _settle(self, item: Item, result: Result) -> None:
        if isinstance(result, Generation):
            await self._store(item, result)
        else:
            await self._note_failure(item, result.error)
        self.on_result(result)

    async def _store(self, item: Item, generation: Generation) -> None:
        try:
            path = await self._folder.store(item.number, item.request, generation.image)
        except OSError as error:
            lost = JobError(f"a picture that was paid for cannot be stored: {error}", charges=generation.charges)
            self._stopped_by = self._stopped_by or lost
            await self._note(item, State.BAD, generation.charges, error=str(lost))
            return
        self._spending.add(generation)
        await self._note(item, State.DONE, generation.charges, path=self._folder.relative(path))

    async def _note_failure(self, item: Item, error: NebulaError) -> None:
        if is_fatal(error):
            self._stopped_by = self._stopped_by or error
        await self._note(item, _state_after(error), error.charges, error=str(error))

    async def _note(
        self, item: Item, state: State, charges: Charges, *, path: str | None = None, error: str | None = None
    ) -> None:
        await self._beside_the_loop(lambda: self._ledger.ended(item.number, state, charges, path=path, error=error))

    async def _beside_the_loop(self, work: Callable[[*Arguments], Value], *arguments: *Arguments) -> Value:
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._in_order)

    def _open(self) -> None:
        self.total = count_items(self.manifest, self.defaults)
        self._folder = JobFolder(self.out)
        self._folder.prepare()
        self._ledger = Ledger.open(self._folder.ledger)
        try:
            self._put_back()
            recover(self.manifest, self.defaults, self._folder, self._ledger)
        except BaseException:
            self._ledger.close()
            raise

    def _put_back(self) -> None:
        if self.retry_failed:
            self._ledger.put_back((State.REJECTED, State.BAD))
        if self.resend_unknown:
            self._ledger.put_back((State.UNKNOWN,))


def _state_after(error: NebulaError) -> State:
    if error.charges.at_most == 0:
        return State.PENDING if error.retryable or is_fatal(error) else State.REJECTED
    if isinstance(error, UnusableReplyError):
        return State.BAD
    return State.UNKNOWN
