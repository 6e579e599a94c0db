"""A job: its input minus its ledger, through the client, into files, and back into the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from uuid import uuid4

import anyio
import anyio.to_thread
from attrs import define, evolve, field

from nebula_async.bulk.bucket import as_place, open_places
from nebula_async.bulk.budget import Budget, Spent
from nebula_async.bulk.command import Command
from nebula_async.bulk.ending import RunEnd
from nebula_async.bulk.execution import executed, finish_in_thread
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.gallery.gallery import Gallery
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.ledger_file import DURABILITIES, Durability
from nebula_async.bulk.manifest.census import Census, Selection
from nebula_async.bulk.manifest.source import open_source
from nebula_async.bulk.opening import INPUT, OpenJob
from nebula_async.bulk.recovery import Recovery
from nebula_async.bulk.report import Report, Spending, report_of
from nebula_async.bulk.run import Run
from nebula_async.bulk.starting import new_run
from nebula_async.bulk.states import FAILED, State
from nebula_async.bulk.summary import Summary, summarize
from nebula_async.checks import Checks
from nebula_async.client import AsyncNebula
from nebula_async.config import Config
from nebula_async.engine.gate import workers_for
from nebula_async.errors import ConfigurationError, JobError
from nebula_async.items import Result

EXHAUSTED = ("wait", "stop")

check = Checks(ConfigurationError)

Value = TypeVar("Value")


def _ignore(_result: Result) -> None:
    """Nobody listens."""


@define(eq=False)
class BulkJob:
    """Generates every item of a manifest into `out/images`: `async with BulkJob(…) as job: report = await job.run()`.

    `out` is a folder, or a place in an object store, such as "s3://bucket/cats" (extra `s3`). The latter gets the
    pictures and their metadata; all that the job knows is kept in the folder `job`, which is to be kept as well.
    `store_options` are those of `ObjectStoreSink`.

    The same manifest and folder resume: what is stored is not asked for again; `recovery` says what was found. The
    `manifest` is a file (.txt, .csv, .tsv, .jsonl, also .gz, .parquet), "-" for standard input, or an iterable or async
    iterable of prompts, mappings and requests. Without a client in `nebula`, one is made as the environment says, and
    closed at the end.

    - `defaults` are parameters for the rows that leave them out, `columns` names fields of other columns, each row
      stands for `repeat` items with seeds of their own, `kind` says what a file is whose name does not
    - `limit` and `sample` select the first items, or some that are drawn; the same job goes on with all of them later
    - `retry_failed` puts back what failed, `resend_unknown` what may have been paid for
    - `durability`: what the ledger says survives a "power" cut, or, faster, the end of this "process"
    - `when_exhausted`: once the day's quota is used up, "wait" for the next day, or "stop"
    - `budget` is reserved before anything is sent
    - `on_result` is told of each result once it is stored; its `index` is the item's number. An exception there ends
      the run, once what is in flight is stored. `results()` yields the same
    - `server` names where the pictures come from; else the URLs of the two APIs do. `new_key` says that the API key
      changed and the account did not
    - `command` is the command line that goes on with the job, where one began it: reports tell it
    - `gallery`: a page to look at the run is written at its end, `gallery/index.html`, with thumbnails where Pillow is
      installed; no run fails by it: `gallery_notes` says what is missing
    - `images/metadata.jsonl` tells how each picture was made; with `provenance`, so does the picture itself

    Entering raises `JobError` for input with bad lines, for lines that changed since the folder was begun, and for a
    folder that was begun with another server, cannot be written or is in use, or for an object store that takes no
    pictures or has those of another job; nothing was sent.
    """

    manifest: Any
    out: Path | str = field(converter=as_place)
    nebula: AsyncNebula | None = field(default=None, validator=check.kind(AsyncNebula, optional=True))
    defaults: Mapping[str, Any] = field(factory=dict)
    concurrency: int | None = None
    retry_failed: bool = field(default=False, validator=check.flag())
    resend_unknown: bool = field(default=False, validator=check.flag())
    on_result: Callable[[Result], None] = field(default=_ignore, validator=check.callable())
    server: str | None = None
    provenance: bool = field(default=False, validator=check.flag())
    job: Path | str | None = field(default=None, kw_only=True)
    store_options: Mapping[str, Any] = field(factory=dict, kw_only=True, repr=False)
    columns: Mapping[str, str | None] = field(factory=dict, kw_only=True)
    repeat: int = field(default=1, kw_only=True)
    kind: str | None = field(default=None, kw_only=True)
    limit: int | None = field(default=None, kw_only=True)
    sample: int | None = field(default=None, kw_only=True)
    durability: Durability = field(default="power", kw_only=True, validator=check.one_of(DURABILITIES))
    when_exhausted: str = field(default="wait", kw_only=True, validator=check.one_of(EXHAUSTED))
    budget: Budget = field(factory=Budget, kw_only=True, validator=check.kind(Budget))
    new_key: bool = field(default=False, kw_only=True, validator=check.flag())
    command: Command | None = field(default=None, kw_only=True)
    gallery: bool = field(default=True, kw_only=True, validator=check.flag())
    _nebula: AsyncNebula = field(init=False)
    _stack: AsyncExitStack = field(init=False)
    _open: OpenJob = field(init=False)
    _run: Run = field(init=False)
    _end: RunEnd = field(init=False)
    _limiter: anyio.CapacityLimiter = field(init=False)
    _is_open: bool = field(default=False, init=False)
    _started: float | None = field(default=None, init=False)
    _ended: anyio.Event = field(init=False)
    _last: Report = field(init=False)
    _gallery: Gallery | None = field(default=None, init=False)

    async def __aenter__(self) -> BulkJob:
        self._started, self._ended, self._gallery = None, anyio.Event(), None
        async with AsyncExitStack() as stack:
            self._nebula = await stack.enter_async_context(AsyncNebula()) if self.nebula is None else self.nebula
            if self._nebula.generator.caller.transport.is_closed:
                raise ConfigurationError("the client given to the job is closed; give it one that is open")
            workers = workers_for(self._nebula.config, self.concurrency)
            self._limiter = anyio.CapacityLimiter(1)
            self._open = await self._opened()
            begin = partial(self._begin, stack)
            await finish_in_thread(begin, stop=self._open.is_stopped.set, limiter=self._limiter)
            self._run = new_run(
                self._open,
                self._nebula.generator,
                self._limiter,
                workers=workers,
                budget=self.budget,
                is_waiting_for_quota=self.when_exhausted == "wait",
            )
            self._end = RunEnd(self._open, self._run, self._gallery, self._limiter)
            self._stack = stack.pop_all()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            if self._started is not None and not self._ended.is_set():  # it runs in another task
                self.stop()
                await self._ended.wait()
            self._is_open = False
            await self._stack.aclose()

    async def _read(self, read: Callable[[Ledger], Value]) -> Value:
        if not self._is_open:
            raise JobError("the job is closed, or was never entered: use it inside of async with BulkJob(…) as job")
        return await self._run.writer.read(read)

    @property
    def folder(self) -> Path:
        """Where the job keeps what it knows, its reports too."""
        return self._open.folder.path

    @property
    def pictures(self) -> str:
        """Where the pictures are: a folder, or a URL."""
        return self._open.pictures

    @property
    def total(self) -> int:
        """How many items there are, of those that are selected."""
        return self._open.census.total

    async def left(self) -> int:
        """Return how many items a run would send."""
        return await self._read(lambda _: self._open.left())

    async def rest(self) -> tuple[Census, Spent]:
        """Return what is still to be sent, which takes a pass over the input, and what all runs may have spent."""
        return await self._read(lambda _: (self._open.rest(), self._open.spent()))

    @property
    def recovery(self) -> Recovery:
        """What was found of earlier runs."""
        return self._open.recovery

    @property
    def is_draining(self) -> bool:
        """Whether the job was told to send nothing more."""
        return self._run.is_draining

    @property
    def was_stopped(self) -> bool:
        """Whether the job was told to end at once."""
        return self._run.was_abandoned

    @property
    def in_flight(self) -> int:
        """How many items are under way and may be paid for."""
        return self._run.in_flight

    @property
    def spending(self) -> Spending:
        """What this run made and may have been charged so far."""
        return self._run.spending

    @property
    def affordable(self) -> Decimal | None:
        """USD that the budget allows beyond what is spent, `None` where money is not limited."""
        return self._run.purse.affordable

    @property
    def refusals(self) -> int:
        """How many attempts of this run were refused as too many, and sent again later."""
        return self._run.refusals

    @property
    def is_cut_off(self) -> bool:
        """Whether the API answers nobody now, and is asked now and then until it does."""
        return self._run.breaker.outage.is_open

    @property
    def gallery_page(self) -> Path | None:
        """The page to look at the run, `None` where there is none."""
        return self._gallery.page if self._gallery is not None and self._gallery.page.is_file() else None

    @property
    def is_making_thumbnails(self) -> bool:
        """Whether all else is done, and thumbnails are made for some seconds; `drain` ends that."""
        return self._gallery is not None and self._gallery.is_filling

    @property
    def gallery_notes(self) -> tuple[str, ...]:
        """What is to be said of that page once the run has ended: what it lacks, and how that is made."""
        return () if self._gallery is None else tuple(self._gallery.notes)

    async def report(self) -> Report:
        """Return how the job stands, over all its runs."""
        run = {
            "spending": self._run.spending,
            "seconds": 0.0 if self._started is None else anyio.current_time() - self._started,
            "is_interrupted": self._run.is_interrupted or self._run.is_draining,
            "stopped_by": self._run.stopped_by,
        }
        return await self._read(lambda ledger: report_of(ledger, self.total, **run))

    async def summary(self) -> Summary:
        """Return how the job stands, and what that is made of: by model, by cause of failure, over time.

        After a run it is that of its end. Before, it is read anew, which takes a second for 100,000 items.
        """
        if (ended := self._end.summary) is not None:
            return evolve(ended, report=evolve(self._last, seconds=ended.report.seconds))
        report = await self.report()
        return await self._read(lambda ledger: summarize(ledger, report))

    async def run(self) -> Report:
        """Send what is not done, store what comes back, and return what became of all items.

        A run that is cancelled sends nothing more, and ends when what may have been paid for is stored, or after 60 s.
        What was in flight by then is settled by the next run. `report.json` and `failed.jsonl` say how the job stands.
        """
        async with self.results() as results:
            async for result in results:
                self.on_result(result)
        return self._last

    @asynccontextmanager
    async def results(self) -> AsyncIterator[AsyncIterator[Result]]:
        """Run the job: `async with job.results() as results`, then `async for result in results`, as they are stored.

        Leaving the block ends the run as a cancellation does. `report()` says then what became of all items.
        """
        if self._started is not None:
            raise JobError("a job runs once: enter it anew to go on")
        await self._read(lambda _: self._open.put_back())
        self._started = anyio.current_time()
        try:
            try:
                async with executed(self._run) as results:
                    yield results
            finally:
                with anyio.CancelScope(shield=True):
                    await self._end.write_reports(self.report)
                    self._last = await self.report()
            await self._end.make_thumbnails()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end.write_gallery()
            self._ended.set()  # from here on the files may be closed

    def drain(self) -> None:
        """Send nothing more; `run` returns when what is in flight is stored. What waits for the limit is put back."""
        self._run.drain()
        if self._gallery is not None:
            self._gallery.hurry()

    def stop(self) -> None:
        """End now: what is in flight may have been paid for, and the next run settles it."""
        self._run.drain()
        self._run.abandon()
        if self._gallery is not None:
            self._gallery.stop()

    async def _opened(self) -> OpenJob:
        path, bucket = open_places(self.out, self.job, self.store_options)
        folder, selection = JobFolder(path), Selection(limit=self.limit, sample=self.sample)
        source = await open_source(
            self.manifest,
            spool=folder.state / f"{INPUT}-{uuid4().hex}",  # of this run alone, until it has the lock
            defaults=self.defaults,
            columns=self.columns,
            repeat=self.repeat,
            kind=self.kind,
        )
        return OpenJob(
            folder=folder,
            bucket=bucket,
            source=source,
            selection=selection,
            durability=self.durability,
            is_told=self.provenance,
            config=self._nebula.config,
            again=(FAILED if self.retry_failed else ()) + ((State.UNKNOWN,) if self.resend_unknown else ()),
            command=self.command,
        )

    def _begin(self, stack: AsyncExitStack) -> None:
        credentials = self._nebula.generator.caller.transport.credentials
        is_ours = self.server is None and credentials is not None
        self._open.open(
            server=self.server or _servers(self._nebula.config),
            account=credentials.account if is_ours and credentials is not None else None,
            is_new_key=self.new_key,
        )
        stack.callback(self._open.close)
        if self.gallery:
            self._gallery = Gallery.of(self._open.ledger, self._open.folder, store_options=self.store_options)
            self._open.storing.on_stored = self._gallery.offer
            stack.callback(self._gallery.close)


def _servers(config: Config) -> str:
    return f"{config.base_url} and {config.inference_url}"
