"""A job: manifest minus ledger, through the client, into files, and back into the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
from attrs import define, field

from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger, State
from nebula_async.bulk.manifest import Item
from nebula_async.bulk.metadata import Metadata, PictureRow
from nebula_async.bulk.outcome import about_missing, lost, pictures_of, reason, settled, where
from nebula_async.bulk.recovery import Recovery, Source, check_unchanged, describe_stored, recover
from nebula_async.bulk.report import Report, Spending
from nebula_async.bulk.worker import ItemCall, at_stake, state_after, stops_job
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import Config
from nebula_async.engine.breaker import Breaker
from nebula_async.engine.fanout import FanOut
from nebula_async.engine.gate import workers_for
from nebula_async.engine.outage import Outage
from nebula_async.errors import DownloadError, JobError, NebulaError
from nebula_async.images.image import Image
from nebula_async.items import Result
from nebula_async.offload import offload
from nebula_async.results import Failure, Generation

FEWEST_UNFETCHED = 3

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")


def _ignore(_result: Result) -> None:
    """Nobody listens."""


@define(eq=False)
class BulkJob:
    """Generates every item of a manifest into `out/images`: `async with BulkJob(…) as job: report = await job.run()`.

    The same manifest and folder resume: what is stored is not asked for again; `recovery` says what was found. Without
    a client in `nebula`, one is made as the environment says, and closed at the end.
    `defaults` are parameters for the rows that leave them out. `retry_failed` puts back what failed, `resend_unknown`
    what may have been paid for. `on_result` is told of each result once it is stored; its `index` is the item's number.
    An exception there ends the run, once what is in flight is stored. `server` names where the pictures come from; else
    the URLs of the two APIs do. `images/metadata.jsonl` tells how each picture was made; with `provenance`, so does the
    picture itself, if its type has a place for it. Entering raises `JobError` for a manifest with bad lines, for lines
    that changed since the folder was begun, and for a folder that was begun with another server, cannot be written or
    is in use; nothing was sent.
    """

    manifest: Path = field(converter=Path)
    out: Path = field(converter=Path)
    nebula: AsyncNebula | None = None
    defaults: Mapping[str, Any] = field(factory=dict)
    concurrency: int | None = None
    retry_failed: bool = False
    resend_unknown: bool = False
    on_result: Callable[[Result], None] = _ignore
    server: str | None = None
    provenance: bool = False
    total: int = field(default=0, init=False)
    recovery: Recovery = field(factory=Recovery, init=False)
    is_draining: bool = field(default=False, init=False)
    _calls: set[ItemCall] = field(factory=set, init=False)
    _nebula: AsyncNebula = field(init=False)
    _stack: AsyncExitStack = field(init=False)
    _source: Source = field(init=False)
    _folder: JobFolder = field(init=False)
    _ledger: Ledger = field(init=False)
    _metadata: Metadata = field(init=False)
    _workers: int = field(init=False)
    _breaker: Breaker = field(init=False)
    _in_order: anyio.CapacityLimiter = field(init=False)
    _started: float | None = field(default=None, init=False)
    _spending: Spending = field(factory=Spending, init=False)
    _stopped_by: NebulaError | None = field(default=None, init=False)
    _unfetched: int = field(default=0, init=False)

    async def __aenter__(self) -> BulkJob:
        async with AsyncExitStack() as stack:
            nebula = await stack.enter_async_context(AsyncNebula()) if self.nebula is None else self.nebula
            self._nebula, self._workers = nebula, workers_for(nebula.config, self.concurrency)
            self._source, self._folder = Source(self.manifest, self.defaults), JobFolder(self.out)
            self._in_order = anyio.CapacityLimiter(1)
            self._breaker = Breaker(Outage(SystemRandom(), nebula.config.retry.backoff))
            await self._beside_the_loop(self._open)
            stack.callback(self._ledger.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def report(self) -> Report:
        """Return how the job stands, over all its runs."""
        counts = await self._beside_the_loop(self._ledger.counts, self.total)
        return Report(
            total=self.total,
            done=counts[State.DONE],
            rejected=counts[State.REJECTED],
            bad=counts[State.BAD],
            unknown=counts[State.UNKNOWN],
            pictures=await self._beside_the_loop(self._ledger.pictures),
            charges=await self._beside_the_loop(self._ledger.charges),
            spending=self._spending,
            seconds=0.0 if self._started is None else anyio.current_time() - self._started,
            is_interrupted=self.is_draining,
            stopped_by=self._stopped_by,
        )

    async def run(self) -> Report:
        """Send what is not done, store what comes back, and return what became of all items.

        Cancellation stops at once: what has arrived is stored, what was in flight may have been paid for, and is sent
        again by the next run.
        """
        self._started = anyio.current_time()
        try:
            async with FanOut(self._work, self._items(), self._workers) as results:
                async for _ in results:
                    pass
        except JobError as error:
            self._stop(error)
        return await self.report()

    @property
    def in_flight(self) -> int:
        """How many items are under way and may be paid for."""
        return sum(call.is_at_stake for call in self._calls)

    def drain(self) -> None:
        """Send nothing more; `run` returns when what is in flight is stored. What waits for the limit is put back."""
        self.is_draining = True
        self._give_up()

    async def _items(self) -> AsyncIterator[Item]:
        waiting = self._waiting()
        while (item := await self._beside_the_loop(next, waiting, None)) is not None:
            if self._is_ending():
                return
            yield item

    def _waiting(self) -> Iterator[Item]:
        for item in self._source.items():
            row = self._ledger.find(item.number)
            if row is None or row.state is State.PENDING:
                yield item

    async def _work(self, _index: int, item: Item) -> None:
        call = ItemCall(
            item.request.pictures,
            lambda: self._beside_the_loop(self._begin, item),
            lambda: self._end(item, State.PENDING, Charges()),
            self._is_ending,
        )
        self._calls.add(call)
        try:
            with call.scope:
                await self._make(item, call)
        finally:
            self._calls.remove(call)

    async def _make(self, item: Item, call: ItemCall) -> None:
        result = await self._nebula.generator.result({}, item.number, item.request, call, breaker=self._breaker)
        with anyio.CancelScope(shield=True):
            result = await self._settle(item, call.name, result)
        if isinstance(result, Failure) and self._is_stopped_by(result.error):
            self._stop(result.error)
        if not (_waits_again(result) and (call.name is None or self._is_ending())):
            self.on_result(result)  # of one that waits for the next run because the job ends there is nothing to tell

    def _is_stopped_by(self, error: NebulaError) -> bool:
        is_down = self._breaker.outage.is_hopeless or self._is_storage_down(error)
        return is_down or stops_job(error)

    def _is_storage_down(self, error: NebulaError) -> bool:
        """Whether so many in a row were paid for and could not be fetched that no more should be bought now."""
        self._unfetched += isinstance(error, DownloadError)
        return self._unfetched >= max(self._workers, FEWEST_UNFETCHED)

    def _begin(self, item: Item) -> str:
        try:
            self._folder.check_room(sum(call.pictures for call in self._calls))
            name = self._folder.free_name(item.number, item.request)
        except OSError as error:
            raise JobError(f"no more pictures can be stored: {reason(error)} ({self.out})") from error
        self._note_sending(item, name, at_stake=at_stake(item.request, self._nebula.config))
        return name

    async def _settle(self, item: Item, name: str | None, result: Result) -> Result:
        """Store what came back, note it, and return what became of it."""
        stored, images = None, pictures_of(result)
        if isinstance(result, Generation) and name is not None:
            result, stored = await self._store(name, result)
        self._unfetched = 0 if isinstance(result, Generation) else self._unfetched
        self._spending.add(result, self._nebula.generator.price_of(result.request.model))
        if isinstance(result, Generation):
            state = State.BAD if result.missing else State.DONE
            here = sum(image.data is not None for image in result.images)
            await self._end(item, state, result.charges, name=stored, pictures=here, error=about_missing(result))
        else:
            await self._note_failure(item, name, result.error, images)
        return result

    async def _store(self, name: str, generation: Generation) -> tuple[Result, str | None]:
        here = [image for image in generation.images if image.data is not None]  # one at least: else it had failed
        images = await offload(settled, here, self.provenance)
        try:
            paths = await self._folder.store(name, images)
        except OSError as error:
            text = f"a picture that was paid for cannot be stored: {reason(error)}"
            return lost(generation, JobError(text)), None
        await self._describe(paths, images, generation)
        return generation, paths[0]

    async def _describe(self, paths: Sequence[str], images: Sequence[Image], generation: Generation) -> None:
        """Add what was stored to the metadata. Where that fails, the job ends, and the next run adds it."""
        names = map(self._folder.file_name, paths)
        rows = [
            PictureRow(name, image, generation.index, generation.charges)
            for name, image in zip(names, images, strict=True)
        ]
        try:
            await self._beside_the_loop(self._metadata.add, rows)
        except OSError as error:
            self._stop(JobError(f"{self._metadata.path} cannot be written: {reason(error)}; make room, then repeat"))

    async def _note_failure(self, item: Item, name: str | None, error: NebulaError, images: Sequence[Image]) -> None:
        state = state_after(error)
        if name is None and state is not State.PENDING:  # refused before anything was sent: the ledger has no row yet
            await self._beside_the_loop(lambda: self._note_sending(item, "", at_stake=0))
        await self._end(item, state, error.charges, error=f"{error}{where(images)}")

    def _note_sending(self, item: Item, name: str, *, at_stake: int) -> None:
        self._ledger.sending(item.number, self._source.body_sha(item), name, at_stake=at_stake)

    async def _end(self, item: Item, state: State, charges: Charges, **facts: Any) -> None:
        await self._beside_the_loop(lambda: self._ledger.ended(item.number, state, charges, **facts))

    def _stop(self, error: NebulaError) -> None:
        self._stopped_by = self._stopped_by or error
        self._give_up()

    def _give_up(self) -> None:
        self._breaker.give_up()
        for call in self._calls:
            call.give_up()

    def _is_ending(self) -> bool:
        return self.is_draining or self._stopped_by is not None

    async def _beside_the_loop(self, work: Callable[[*Arguments], Value], *arguments: *Arguments) -> Value:
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._in_order)

    def _open(self) -> None:
        self.total = self._source.count()
        self._folder.prepare()
        self._ledger = Ledger.open(self._folder.ledger)
        try:
            check_unchanged(self._source, self._folder, self._ledger, self.server or _servers(self._nebula.config))
            resends = self._nebula.config.retry.resend_unknown
            self.recovery = recover(self._folder, self._ledger, total=self.total, resends=resends)
            self._metadata = Metadata(self._folder.images)
            describe_stored(self._metadata, self._source, self._folder, self._ledger)
            self._put_back()
        except BaseException:
            self._ledger.close()
            raise

    def _put_back(self) -> None:
        if self.retry_failed:
            self._ledger.put_back(State.REJECTED, State.BAD)
        if self.resend_unknown:
            self._ledger.put_back(State.UNKNOWN)


def _waits_again(result: Result) -> bool:
    return isinstance(result, Failure) and state_after(result.error) is State.PENDING


def _servers(config: Config) -> str:
    return f"{config.base_url} and {config.inference_url}"
