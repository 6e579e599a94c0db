"""Attempt, judge, wait or hold everyone, again: the only loop around a request."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import anyio
from attrs import define, field, frozen

from nebula_async.api.headers import read_policy
from nebula_async.api.messages import HttpRequest, RawHeaders, Reply
from nebula_async.charges import Charges
from nebula_async.config import Config
from nebula_async.engine.gate import Gate
from nebula_async.engine.journal import AttemptJournal, NoJournal
from nebula_async.engine.lanes import Lane
from nebula_async.engine.loops import PerLoop
from nebula_async.engine.pending import PendingCall
from nebula_async.engine.phase import Progress
from nebula_async.engine.reading import ReplyReader
from nebula_async.engine.retry import RetryBudget, delay_before_next
from nebula_async.engine.telling import Telling, abandoned, retrying
from nebula_async.engine.transport import ExchangeError, Transport
from nebula_async.engine.verdict import (
    PASSED_THE_LIMIT,
    Known,
    Verdict,
    judge_failure,
    judge_reply,
    judge_unusable,
)
from nebula_async.errors import (
    DAY,
    APIStatusError,
    DeadlineError,
    NebulaError,
    RateLimitError,
    SinkError,
    UnusableReplyError,
    without_frames,
)
from nebula_async.events import Observer, Sent

if TYPE_CHECKING:
    from nebula_async.engine.breaker import Breaker  # jobs alone have one

Value = TypeVar("Value")
OpenReader: TypeAlias = Callable[[], ReplyReader[Value]]
Slot: TypeAlias = AbstractAsyncContextManager[Any]

MOST_REFUSALS = 1_000
"""Even a patient call is not sent more often; a day of refusals is noticed long before."""

REMEMBERED = 64

FREE_AT_ONCE = 8
"""Lists and balances are asked for beside the pictures: no limit is known of for what is free."""

NO_JOURNAL = NoJournal()


@frozen
class Completed(Generic[Value]):
    """What a call ended with: the value read from its reply, the reply's headers, and sums over its attempts."""

    value: Value
    headers: RawHeaders
    key: str
    attempts: int
    charges: Charges


@define(eq=False, repr=False)
class Caller:
    """Makes calls: one gate, one transport, one policy. Each call runs in its caller's task."""

    transport: Transport
    gate: Gate
    config: Config
    notify: Observer
    random: Random
    budget: RetryBudget = field(factory=RetryBudget)
    durations: deque[float] = field(factory=lambda: deque(maxlen=REMEMBERED))
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    _free_slots: PerLoop[anyio.Semaphore] = field(
        factory=lambda: PerLoop(lambda: anyio.Semaphore(FREE_AT_ONCE)), init=False
    )
    telling: Telling = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.telling = Telling(self.gate, self.notify)

    async def call(
        self,
        request: HttpRequest,
        open_reader: OpenReader[Value],
        *,
        key: str | None = None,
        seconds: float | None = None,
        is_patient: bool = False,
        journal: AttemptJournal = NO_JOURNAL,
        breaker: Breaker | None = None,
    ) -> Completed[Value]:
        """Send a request until it is answered, refused, or not worth repeating; return what a reader of its
        own makes of the reply.

        `key` is the journal's, where that was already asked for it. The call may take so many `seconds`, else the
        configured total. A patient call queues behind those that are not,
        and waits for the rate limit as long as it takes: neither its deadline nor its attempts count the waiting. With
        a `breaker` it waits for the end of an outage in the same way. `journal` is told of each attempt before its
        first byte leaves. Raises a `NebulaError` that carries the sums of the call. Cancellation goes through; it
        closes the connection in use, and what had been sent may have been paid for.
        """
        total = self.config.timeouts.total
        clock = anyio.CancelScope(deadline=anyio.current_time() + (total if seconds is None else seconds))
        key, is_replayed = key or journal.call_key, self.config.idempotency == "replay"
        call = PendingCall(request, clock, key, is_replayed, is_patient, breaker)
        try:
            with clock:
                while True:
                    outcome = await self._attempt(call, open_reader, journal)
                    if isinstance(outcome, Completed):
                        return outcome
                    await self.sleep(self._delay(call, outcome))
            call.stop()
            raise DeadlineError(f"the call did not end within its {total:g} s", retryable=True)  # noqa: TRY301
        except NebulaError as error:
            call.finish(error)
            raise
        except BaseException as error:
            call.stop()
            self.notify(abandoned(call.key, error, call.history.attempts, call.history.charges))
            raise

    async def _attempt(
        self, call: PendingCall, open_reader: OpenReader[Value], journal: AttemptJournal
    ) -> Completed[Value] | Verdict:
        call.stop_clock()
        async with self._slot(call) as is_probe:
            call.start_clock()
            self.telling.leaving(call)
            await journal.sending()
            self.notify(Sent(call=call.key, attempt=call.begin()))
            outcome = await self._exchange(call, open_reader())
            with anyio.CancelScope(shield=isinstance(outcome, Completed)):  # it is here and paid for
                await self._learn(call, outcome, is_probe=bool(is_probe))
                await journal.ended(outcome if isinstance(outcome, Verdict) else None, call.history.charges)
        return outcome

    def _slot(self, call: PendingCall) -> Slot:
        if not call.request.pictures:
            return self._free_slots.get()
        lane: Lane = "bulk" if call.is_patient else "calls"
        slot = partial(self.gate.slot, lane, deadline=call.clock.deadline)
        return slot() if call.breaker is None else call.breaker.around(slot)

    async def _exchange(self, call: PendingCall, reader: ReplyReader[Value]) -> Completed[Value] | Verdict:
        try:
            outcome = await self._judged(call, reader)
        finally:
            await reader.discard()
        if isinstance(outcome, Verdict) and self.transport.credentials is not None:
            self.transport.credentials.repeated.conceal(outcome.error)
        return outcome

    async def _judged(self, call: PendingCall, reader: ReplyReader[Value]) -> Completed[Value] | Verdict:
        try:
            reply = await self.transport.exchange(
                call.request, call.progress, self._headers(call.key), self.config.timeouts, reader
            )
        except ExchangeError as error:
            if reader.is_full:  # it was not the server that was waited for
                return judge_unusable(SinkError("the sink did not take the picture in time"))
            return await self._salvaged(call, reader) or judge_failure(call.progress, error)
        except (UnusableReplyError, SinkError) as error:
            return judge_unusable(error)
        except NebulaError as error:  # a bad key of a callable, a file that changed before it was all sent
            return Verdict(Known.NOT_SENT, without_frames(error))
        if call.request.pictures and (policy := read_policy(reply.headers)):
            with anyio.CancelScope(shield=reply.is_success):
                await self.gate.learn(policy)
        if reply.is_success:
            return await self._read(call, reply, reader)
        seconds = math.inf if call.progress.is_cut else call.seconds_since_sent()
        usual_seconds = _median(self.durations) if self.durations else None
        return judge_reply(
            reply, now=time.time(), seconds=seconds, usual_seconds=usual_seconds, is_replayed=call.is_replayed
        )

    def _headers(self, key: str) -> dict[str, str]:
        if self.config.idempotency == "off":
            return {}
        return {"Idempotency-Key": key if self.config.idempotency_form == "bare" else f'"{key}"'}

    async def _read(self, call: PendingCall, reply: Reply, reader: ReplyReader[Value]) -> Completed[Value] | Verdict:
        seconds = call.seconds_since_sent()
        try:
            value = await reader.finish(reply)
        except NebulaError as error:
            return judge_unusable(error)
        if call.request.pictures:
            self.durations.append(seconds)
        return self._completed(call, value, reply.headers)

    async def _salvaged(self, call: PendingCall, reader: ReplyReader[Value]) -> Completed[Value] | Verdict | None:
        """Return what became of a reply that broke off behind all that was asked for, `None` for any other."""
        status, headers = call.progress.status, call.progress.headers
        if status is None or not call.progress.is_accepted:
            return None
        try:
            value = await reader.salvage(Reply(status=status, headers=headers))
        except NebulaError as error:
            return judge_unusable(error)
        return None if value is None else self._completed(call, value, headers)

    def _completed(self, call: PendingCall, value: Value, headers: RawHeaders) -> Completed[Value]:
        call.history.charge(Charges(1, 1))
        call.progress = Progress()
        return Completed(value, headers, call.key, call.history.attempts, call.history.charges)

    async def _learn(self, call: PendingCall, outcome: Completed[Value] | Verdict, *, is_probe: bool) -> None:
        """Let everyone who counts learn what became of an attempt: call, budget, breaker, gate."""
        verdict = outcome if isinstance(outcome, Verdict) else None
        if verdict is None:
            self.budget.earn()
        if call.breaker is not None and call.breaker.learn(verdict, is_probe=is_probe):
            self.telling.outage(call, call.breaker, outcome)
        if verdict is not None:
            call.learn(verdict)
            await self._hold_everyone(call, verdict)
        if call.request.pictures and (verdict is None or verdict.known in PASSED_THE_LIMIT):
            await self.gate.accepted()
            self.telling.accepted()

    def _delay(self, call: PendingCall, verdict: Verdict) -> float:
        """Return the seconds before the next attempt, or raise what the call ends with."""
        delay = self._decide(call, verdict)
        if delay is None or delay > call.seconds_left():
            raise call.ending(verdict.error)
        self.notify(retrying(call, verdict, delay))
        call.last_error = verdict.error
        return delay

    def _decide(self, call: PendingCall, verdict: Verdict) -> float | None:
        if isinstance(verdict.error, RateLimitError) and verdict.error.is_daily:
            return None
        if call.waits_for(verdict):
            return 0.0 if call.history.attempts < MOST_REFUSALS else None
        if _asked(verdict) > call.seconds_left():
            return None
        delay = delay_before_next(verdict, call.history, self.config.retry, self.config.idempotency, self.random)
        is_paced = verdict.known is Known.THROTTLED and call.request.pictures > 0
        return delay if delay is None or is_paced else self._within_budget(call, verdict, delay)

    def _within_budget(self, call: PendingCall, verdict: Verdict, delay: float) -> float | None:
        """Return the delay if the client may repeat one more; with a breaker it waits until it may."""
        breaker = call.breaker
        if breaker is not None and breaker.outage.is_open:
            return None if breaker.outage.is_hopeless else 0.0
        if self.budget.take(self.config.retry.budget):
            return delay
        if breaker is None:
            return None
        if breaker.open():
            self.telling.outage(call, breaker, verdict)
        return 0.0

    async def _hold_everyone(self, call: PendingCall, verdict: Verdict) -> None:
        """Hold everyone where the attempt was refused as one too many."""
        if verdict.known is not Known.THROTTLED or not call.request.pictures:
            return
        error = verdict.error
        is_limit = isinstance(error, RateLimitError)
        hold = await self.gate.throttled(sent_at=call.sent_at, delay=_asked(verdict) or None, is_limit=is_limit)
        if isinstance(error, RateLimitError) and hold.is_daily:
            error.scope = DAY
            error.message = f"the daily quota is used up ({error.message})"
        if hold.seconds > 0:
            self.telling.held(call, hold.seconds)
        self.telling.look_at_limit()


def _asked(verdict: Verdict) -> float:
    """Return the seconds that the API asked to wait, 0 where it named none."""
    return (verdict.error.retry_after if isinstance(verdict.error, APIStatusError) else None) or 0.0


def _median(numbers: Collection[float]) -> float:  # `statistics` imports `fractions` and more, for this one line
    ordered = sorted(numbers)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
