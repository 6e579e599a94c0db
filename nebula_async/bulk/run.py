"""One run of a job: what waits, through the workers, into the ledger; and how the run ends."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from random import Random

import anyio
from attrs import define, evolve, field

from nebula_async.api.catalog import with_seed
from nebula_async.bulk.bucket import Uploads
from nebula_async.bulk.budget import DuplicateBudget, Purse
from nebula_async.bulk.fetching import UrlFetch
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.manifest.census import Census
from nebula_async.bulk.manifest.items import Item
from nebula_async.bulk.manifest.source import Source
from nebula_async.bulk.outcome import is_quota, stops_job, waits_again
from nebula_async.bulk.report import Spending
from nebula_async.bulk.spool import Spool
from nebula_async.bulk.states import Output, Row, State
from nebula_async.bulk.storing import Storing
from nebula_async.bulk.worker import ItemCall
from nebula_async.bulk.writer import LedgerWriter
from nebula_async.charges import Charges
from nebula_async.config import Config
from nebula_async.engine.breaker import Breaker
from nebula_async.errors import ConfigurationError, DownloadError, JobError, NebulaError, RateLimitError
from nebula_async.events import QuotaReached
from nebula_async.generation import Generator
from nebula_async.items import Result
from nebula_async.requests import ImageRequest, Request
from nebula_async.results import Failure, Generation
from nebula_async.sinks.keeping import Streaming

MOST_AT_ONCE = 64
"""Items that are read ahead, at most."""

FEWEST_UNFETCHED = 3

PARK_SECONDS = 60.0
"""How often a job that waits for the day's end asks whether it still has to, and how far jobs then begin apart."""

Work = ItemCall | UrlFetch


@define(eq=False)
class Run:
    """One run of a job. Its workers share what stands here; the ledger is written through `writer` alone."""

    source: Source
    stamp: tuple[int, ...]
    census: Census
    limit: int | None
    folder: JobFolder
    writer: LedgerWriter
    spool: Spool
    storing: Storing
    purse: Purse
    duplicates: DuplicateBudget
    generator: Generator
    breaker: Breaker
    secret: bytes
    workers: int
    is_waiting_for_quota: bool
    uploads: Uploads | None = None
    stopped_by: NebulaError | None = field(default=None, init=False)
    is_draining: bool = field(default=False, init=False)
    is_interrupted: bool = field(default=False, init=False)
    was_abandoned: bool = field(default=False, init=False)
    refusals: int = field(default=0, init=False)
    streaming: Streaming = field(factory=Streaming, init=False)
    spending: Spending = field(factory=Spending, init=False)
    under_way: set[Work] = field(factory=set, init=False)
    ending: anyio.Event = field(factory=anyio.Event, init=False)
    _lateness: anyio.CancelScope = field(factory=lambda: anyio.CancelScope(shield=True), init=False)
    _room: anyio.Event = field(factory=anyio.Event, init=False)
    _unfetched: int = field(default=0, init=False)
    _is_parked: bool = field(default=False, init=False)

    @property
    def config(self) -> Config:
        """The settings of the client."""
        return self.generator.caller.config

    @property
    def is_replayed(self) -> bool:
        """Whether the server promises one charge for all attempts under a key."""
        return self.config.idempotency == "replay"

    @property
    def is_ending(self) -> bool:
        """Whether nothing more may be sent."""
        return self.ending.is_set()

    @property
    def beyond(self) -> int:
        """A number beyond those of all items."""
        return self.census.total + len(self.census.repeated)

    @property
    def has_no_store(self) -> bool:
        """Whether the object store takes no more pictures."""
        return self.uploads is not None and self.uploads.failure is not None

    @property
    def in_flight(self) -> int:
        """How many items are under way and may be paid for."""
        return sum(work.is_out for work in self.under_way)

    async def tasks(self) -> AsyncIterator[Row | tuple[Item, Row | None]]:
        """Yield what there is to do: pictures to be fetched first, as their URLs expire, then items to be sent."""
        for row in await self.writer.read(Ledger.unfetched):
            if self.is_ending:
                return
            yield row
        waiting = self._waiting()
        is_done = await self.writer.read(lambda ledger: _sent(ledger) == self.census.total)
        while not (self.is_ending or is_done):
            found = await self.writer.read(lambda _: self._next(waiting))
            for task in found:
                if self.is_ending:
                    return
                yield task
            if not found:
                return

    def _next(self, waiting: Iterator[tuple[Item, Row | None]]) -> list[tuple[Item, Row | None]]:
        found = [task for _, task in zip(range(MOST_AT_ONCE), waiting, strict=False)]
        self.source.check_unwritten(self.stamp)
        return found

    def _waiting(self) -> Iterator[tuple[Item, Row | None]]:
        ledger = self.writer.ledger
        for item in self.source.items(lambda key: ledger.state(key) is State.PENDING, limit=self.limit):
            if self.census.selects(item):
                yield item, ledger.find(item.key)

    async def work(self, _index: int, task: Row | tuple[Item, Row | None]) -> Result | None:
        """Do one of the tasks; return what became of its item, `None` where that is for the next run to say."""
        work: Work = UrlFetch(self, task) if isinstance(task, Row) else self._call(*task)
        self.under_way.add(work)
        try:
            result = await work.work()
        finally:
            self.under_way.remove(work)
        if isinstance(result, Failure) and self._is_stopped_by(result.error):
            self.stop(result.error)
        self._unfetched = 0 if isinstance(result, Generation) else self._unfetched
        is_untold = isinstance(work, ItemCall) and (work.n == 0 or self.is_ending)
        if result is None and isinstance(work, ItemCall):  # it was stopped, perhaps after it was paid for
            self.spending.add_charges(work.charges_of(None), work.price)
        if result is None or (waits_again(result) and is_untold):
            return None
        self.spending.add(result, self.generator.price_of(result.request.model))
        return result if work.row is None else evolve(result, index=work.row.seq)

    def _call(self, item: Item, row: Row | None) -> ItemCall:
        epoch, sha = 0 if row is None else row.epoch, self.source.body_sha(item)
        return ItemCall(self, evolve(item, request=self._seeded(item)), sha, row, self._digest(f"{item.key}\n{epoch}"))

    def _seeded(self, item: Item) -> Request:
        if not isinstance(item.request, ImageRequest) or not self.config.choose_seed:
            return item.request
        return with_seed(item.request, Random(self._digest(f"seed\n{item.key}")))  # noqa: S311 - the same in every run

    def _digest(self, text: str) -> str:
        return hmac.digest(self.secret, text.encode(errors="surrogatepass"), "sha256").hex()[:32]

    async def generate(self, call: ItemCall) -> Result:
        """Make the pictures of an item; where the day's quota is used up, wait for the next day if that is wanted."""
        while True:
            number, request = call.item.number, call.item.request
            result = await self.generator.result(
                {}, number, request, call, breaker=self.breaker, download=False, keep=call.keep
            )
            if not self._has_to_park(result):
                self._is_parked = False
                return result
            await self._park(result)

    def _has_to_park(self, result: Result) -> bool:
        error = result.error if isinstance(result, Failure) else None
        is_free = error is not None and error.charges.at_most == 0
        return error is not None and is_quota(error) and is_free and self.is_waiting_for_quota and not self.is_ending

    async def _park(self, result: Result) -> None:
        error = result.error if isinstance(result, Failure) else None
        seconds = error.retry_after or 0.0 if isinstance(error, RateLimitError) else 0.0
        if not self._is_parked:
            self._is_parked = True
            self.generator.caller.notify(QuotaReached(seconds=seconds))
        later = self.generator.caller.random.uniform(0, PARK_SECONDS * self.config.retry.backoff)
        with anyio.move_on_after(PARK_SECONDS if seconds > PARK_SECONDS else seconds + later):
            await self.ending.wait()

    def check_client(self) -> None:
        """Raise `ConfigurationError` where the client was closed: nothing could leave."""
        if self.generator.caller.transport.is_closed:
            raise ConfigurationError("the client of the job is closed; nothing more was sent: give it one that is open")

    async def reserve(self, call: ItemCall) -> bool:
        """Wait until the budget has room for a call; `False` where the run ends before."""
        while not self.is_ending:
            try:
                if self.purse.reserve(call.pictures, call.price, model=call.item.request.model):
                    return True
            except NebulaError as error:
                self.stop(error)
                return False
            await self._room.wait()
        return False

    def settle(self, call: ItemCall, reserved: int, charges: Charges) -> None:
        """Give back what was reserved for a call, and count what it may have been charged."""
        self.purse.settle(reserved, call.price, charges)
        self._tell_room()

    async def placed(self, place: Callable[[], list[Output]]) -> Callable[[], list[Output]]:
        """Return what is to place pictures in the ledger's turn: where that takes long it is done by then.

        Raises `JobError` where they cannot be stored; then nothing more is sent.
        """
        if self.uploads is None:
            return place
        try:
            return await self.uploads.ahead(place)
        except JobError as error:
            self.stop(error)
            raise

    def price_of(self, item: Item) -> Decimal | None:
        """Return USD for one picture of an item, `None` where that is not known."""
        return self.generator.price_of(item.request.model)

    def room_for_all(self) -> Callable[[], None]:
        """Return what refuses to send where the disk has no room for all that is under way."""
        pictures, largest = sum(work.pictures for work in self.under_way), self.storing.largest
        return lambda: self.folder.check_room(pictures, largest)

    def pause(self) -> None:
        """Send nothing more: the disk is full."""
        self.stop(JobError(f"the disk of {self.folder.path} is full; make room, then repeat the command"))

    def drain(self) -> None:
        """Send nothing more, as somebody asked for; what may have been paid for is waited for."""
        self.is_draining = True
        self.end()

    def stop(self, error: NebulaError) -> None:
        """Send nothing more, because of an error that all others would meet too."""
        self.stopped_by = self.stopped_by or error
        self.end()

    def abandon(self) -> None:
        """End what is under way now: it may have been paid for, and the next run settles it."""
        self.was_abandoned = self.was_abandoned or bool(self.under_way)
        for work in self.under_way:
            work.scope.cancel()

    async def end_late(self, seconds: float) -> None:
        """Once the run ends, give what is under way so many seconds, and then end it."""
        with self._lateness:
            await self.ending.wait()
            await anyio.sleep(seconds)
            self.abandon()

    def has_ended(self) -> None:
        """Note that nothing is under way any more: what was noted is written, and that is all."""
        self._lateness.cancel()
        self.writer.close()

    def end(self) -> None:
        """Send nothing more."""
        self.ending.set()
        self._tell_room()
        self.breaker.give_up()
        for work in self.under_way:
            work.give_up()

    def _tell_room(self) -> None:
        self._room.set()
        self._room = anyio.Event()

    def _is_stopped_by(self, error: NebulaError) -> bool:
        is_down = self.breaker.outage.is_hopeless or self._is_storage_down(error)
        return is_down or (stops_job(error) and not (is_quota(error) and self.is_waiting_for_quota))

    def _is_storage_down(self, error: NebulaError) -> bool:
        """Whether so many in a row were paid for and could not be fetched that no more should be bought now."""
        self._unfetched += isinstance(error, DownloadError)
        return self._unfetched >= max(self.workers, FEWEST_UNFETCHED)


def _sent(ledger: Ledger) -> int:
    return sum(number for state, number in ledger.counts().items() if state is not State.PENDING)
