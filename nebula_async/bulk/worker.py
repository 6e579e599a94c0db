"""One item end to end: from its reservation to the ledger's last word on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from attrs import define, evolve, field

from nebula_async.bulk.causes import MISSING
from nebula_async.bulk.fetching import UrlFetch
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.manifest.items import Item
from nebula_async.bulk.metadata import Making
from nebula_async.bulk.notes import failed_attempt, new_item, rest_of
from nebula_async.bulk.outcome import about_missing, state_after
from nebula_async.bulk.receiving import Receiving
from nebula_async.bulk.spool import Received
from nebula_async.bulk.states import Output, Row, State
from nebula_async.bulk.writer import prepare_nothing
from nebula_async.charges import Charges
from nebula_async.engine.verdict import PERHAPS_PAID, Known, Verdict
from nebula_async.errors import BudgetExceededError, NebulaError, NotSentError, SinkError, cause_of
from nebula_async.images.image import Image
from nebula_async.offload import offload, on_disk
from nebula_async.results import Failure, Generation
from nebula_async.sinks.keeping import Keeping

if TYPE_CHECKING:
    from nebula_async.bulk.run import Run

ANSWERED = "answered"
"""The verdict of an attempt that was no failure, beside the classes of those that were."""


@define(eq=False)
class ItemCall:
    """The call for one item, as the journal of its attempts: the ledger knows of each before it leaves.

    From then on until its picture is stored nobody's cancellation ends it, but for that of its own `scope`. `is_out`:
    an attempt is under way, or just being noted; `is_at_stake`: the call may have been charged.
    """

    run: Run
    item: Item
    body_sha: str
    row: Row | None
    call_key: str
    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    n: int = 0
    is_out: bool = False
    is_at_stake: bool = False
    price: Decimal | None = None
    _reserved: int = field(default=0, init=False)
    _last: Verdict | None = field(default=None, init=False)
    _told: Charges = field(factory=Charges, init=False)
    _unsettled: NebulaError | None = field(default=None, init=False)
    _left: float = field(default=0.0, init=False)  # when the last attempt did, whatever is done to the clock
    _seconds: float | None = field(default=None, init=False)
    _first: int = field(default=0, init=False)
    """The index of the first picture: those of an earlier purchase keep theirs."""

    _receiving: Receiving | None = field(default=None, init=False)

    @property
    def pictures(self) -> int:
        """How many pictures are asked for."""
        return self.item.request.pictures

    async def work(self) -> Generation | Failure | None:
        """Make the item's pictures and store them; `None` where it was stopped: the next run settles what is open."""
        self.price = self.run.price_of(self.item)  # of this moment: what is given back is what was reserved
        if not await self.run.reserve(self):
            return None
        self._reserved, result = self.pictures, None
        try:
            with self.scope:
                answer = await self.run.generate(self)
                place = await self._placing(answer)
                result = answer
                with anyio.CancelScope(shield=True):
                    outputs = await self._settle(result, place)
                if isinstance(result, Generation):
                    result = await self._delivered(result, outputs)
            result = result or await self._ended_between_attempts()
        finally:
            self.run.settle(self, self._reserved, self.charges_of(result))
        return result

    def keep(self, _number: int = 0) -> Keeping:
        """Return what keeps the pictures of the attempt under way."""
        run = self.run
        self._receiving = Receiving(run.spool, self._seq, self.n, run.streaming, run.pause)
        return self._receiving

    async def sending(self) -> None:
        """Note the attempt; give the call up where the job ends, or where it may not be paid for once more."""
        if self.run.is_ending:
            await self._end_early()
        self.run.check_client()
        duplicates = self._allow_resend()
        self.run.purse.request()
        self.is_out = True  # what is being noted leaves, although the job may end
        try:
            with anyio.CancelScope(shield=True):
                self.row, self.n, self._first = await self.run.writer.write(
                    lambda ledger, _: self._begin(ledger, duplicates), self.run.room_for_all()
                )
        except BaseException:
            self.is_out = False
            raise
        if self.scope.cancel_called:  # the run was stopped meanwhile
            self.is_out = False
            self._take_back()
            await self._end_early()
        self.is_at_stake = self.scope.shield = True
        self._left, self._seconds = anyio.current_time(), None

    async def ended(self, verdict: Verdict | None, charges: Charges) -> None:
        """Note how the attempt ended; a call that cannot have been charged may be given up again."""
        self._last, self._seconds = verdict, anyio.current_time() - self._left
        if verdict is None:
            return
        self.run.refusals += verdict.known is Known.THROTTLED
        is_kept = verdict.known is Known.PAID_UNUSABLE  # as evidence; or the next run sees what can be made of it
        if isinstance(verdict.error, SinkError):
            verdict = Verdict(Known.PAID_LOST, verdict.error)
        self._told, self.is_out, is_free = charges, False, charges.at_most == 0
        self._unsettled = verdict.error if verdict.known in PERHAPS_PAID else self._unsettled
        if verdict.known is Known.NOT_SENT:
            self.run.purse.take_back_request()
        self.run.writer.note(
            failed_attempt(self._seq, self.n, self.pictures, verdict, State.PENDING if is_free else None, self._seconds)
        )
        if self._receiving is not None:
            await on_disk(self._receiving.keep_evidence if is_kept else self._receiving.remove)
        if is_free:
            self.is_at_stake = self.scope.shield = False
        if self.run.is_ending:
            self.scope.cancel()

    def give_up(self) -> None:
        """End the call, unless an attempt is under way: where it may have been paid for, it ends as it stands."""
        if not self.is_out:
            self.scope.cancel()

    def _take_back(self) -> None:
        """Note that the attempt that was noted does not leave."""
        self.run.purse.take_back_request()
        verdict = Verdict(Known.NOT_SENT, NotSentError("the run ended before the request left", retryable=True))
        self.run.writer.note(
            failed_attempt(self._seq, self.n, self.pictures, verdict, None if self.is_at_stake else State.PENDING)
        )

    async def _end_early(self) -> None:
        """Send nothing more. What may have been paid for ends as it stands."""
        self.scope.cancel()
        await anyio.lowlevel.checkpoint()

    async def _ended_between_attempts(self) -> Failure | None:
        """Note a call that was ended while it waited to be sent once more: it may have been paid for."""
        if self.is_out or not self.is_at_stake or self._unsettled is None:
            return None
        self._unsettled.charges = self._told
        result = Failure(request=self.item.request, error=self._unsettled, index=self.item.number)
        with anyio.CancelScope(shield=True):
            await self._settle(result, list)
        return result

    def _allow_resend(self) -> int | None:
        """Return how many pictures the duplicate-spend budget gives for a repetition, `None` where it is none.

        Raises the error of the attempt before, where it may not be paid for once more.
        """
        last, run = self._last, self.run
        if last is None or last.known not in PERHAPS_PAID or run.is_replayed:
            return None
        before = 0 if self.row is None else self.row.resends
        is_counted = last.known is not Known.SERVER_FAILED  # the server said that it failed
        if before >= run.config.retry.resend_unknown or (is_counted and not run.duplicates.take(self.pictures)):
            raise last.error
        self._reserve_again(last.error)
        return self.pictures if is_counted else 0

    def _reserve_again(self, error: NebulaError) -> None:
        try:
            is_reserved = self.run.purse.reserve(self.pictures, self.price, model=self._model)
        except BudgetExceededError:
            is_reserved = False
        if not is_reserved:
            raise error
        self._reserved += self.pictures

    @property
    def _model(self) -> str:
        return self.item.request.model

    @property
    def _seq(self) -> int:
        return -1 if self.row is None else self.row.seq

    def _begin(self, ledger: Ledger, duplicates: int | None) -> tuple[Row, int, int]:
        row = ledger.add(new_item(self.item, self.body_sha, self.run.beyond))
        if duplicates is not None:
            ledger.resending(row.seq, duplicates)
            row = evolve(row, resends=row.resends + 1)
        price, is_replayed = None if self.price is None else f"{self.price:f}", self.run.is_replayed
        n = ledger.sending(row.seq, self.call_key, at=time.time(), is_replayed=is_replayed, price=price)
        return row, n, ledger.next_index(row.seq) if row.epoch else 0

    async def _placing(self, result: Generation | Failure) -> Callable[[], list[Output]]:
        """Return what puts the pictures that came into their places. It may end here, and the next run does it."""
        if isinstance(result, Failure):
            return list
        with anyio.CancelScope(shield=True):
            draft = (await self._made(result)).draft()
        pictures = dict(enumerate(self._received(result.images), self._first))
        name = self.row.name if self.row else ""
        return await self.run.placed(lambda: self.run.storing.place(self._seq, self.n, name, draft, pictures))

    async def _settle(self, result: Generation | Failure, place: Callable[[], list[Output]]) -> list[Output]:
        """Store what is here, note all that came back, and return what the ledger says of each picture."""
        if isinstance(result, Failure):
            error = result.error
            return await self.run.writer.write(lambda ledger, _: self._note_failure(ledger, error), prepare_nothing)
        received = self._received(result.images)
        return await self.run.writer.write(
            lambda ledger, outputs: self._note_stored(ledger, result, received, outputs), place
        )

    async def _delivered(self, generation: Generation, outputs: list[Output]) -> Generation | Failure:
        """Return the generation with its pictures where they are stored; those at URLs are fetched."""
        places = [self.run.storing.address(output) for output in outputs]
        pairs = zip(generation.images, places, strict=True)
        here = evolve(generation, images=tuple(evolve(image, stored=place) for image, place in pairs))
        if all(places) or self.row is None:
            return here
        return await UrlFetch(self.run, evolve(self.row, sends=self.n)).fetch(here, outputs)

    async def _made(self, generation: Generation) -> Making:
        made = generation.image.provenance
        if made is None:
            raise RuntimeError("a picture of a reply says how it was made")
        if made.inputs:  # their digests are read from files
            made = await offload(evolve(made, sha256="").settled, b"")
        return Making(
            made=evolve(made, sha256=None),
            key=self.item.key,
            number=self._seq,
            body_sha=self.body_sha,
            charges=generation.charges,
        )

    def _received(self, images: Sequence[Image]) -> list[Received]:
        here = {} if self._receiving is None else self._receiving.received
        return [here.get(image.stored or "") or Received.at_url(image) for image in images]

    def _note_stored(
        self, ledger: Ledger, generation: Generation, received: Sequence[Received], outputs: list[Output]
    ) -> list[Output]:
        each = Charges(max(generation.charges.at_least - self._told.at_least, 0), self.pictures)
        request_id, seconds = generation.request_id, self._seconds
        ledger.ended(self._seq, self.n, ANSWERED, each, at=time.time(), request_id=request_id, seconds=seconds)
        ledger.store(outputs)
        error = about_missing(generation.missing, self.pictures)
        is_here = all(output.path for output in outputs)
        state = (State.BAD if error else State.DONE) if is_here else State.URLS
        ledger.move(self._seq, state, error=error, cause=MISSING if error else None)
        self.run.storing.is_stored(self._seq, self.n, received, outputs)
        return outputs

    def _note_failure(self, ledger: Ledger, error: NebulaError) -> list[Output]:
        state = State.SENT if self.n and isinstance(error, SinkError) else state_after(error)
        if self.n == 0:  # refused before anything was sent
            if state is State.PENDING:
                return []
            self.row = ledger.add(new_item(self.item, self.body_sha, self.run.beyond))
        elif self.is_out:
            ledger.ended(
                self._seq,
                self.n,
                type(error).__name__,
                rest_of(error.charges, self._told),
                at=time.time(),
                error=error.message,
                cause=cause_of(error),
                seconds=self._seconds,
            )
        ledger.move(self._seq, state, error=error.message, cause=cause_of(error))
        return []

    def charges_of(self, result: Generation | Failure | None) -> Charges:
        """Return what the call may have been charged, by what came of it; `None`: it was stopped."""
        if result is None:
            return Charges(0, self._reserved if self.is_at_stake else 0)
        return result.charges if isinstance(result, Generation) else result.error.charges
