"""Attempt, judge, wait or hold everyone, again: the only loop around a request."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable
from random import Random
from typing import Generic, TypeAlias, TypeVar
from uuid import uuid4

import anyio
from attrs import define, field, frozen

from nebula_async.api.messages import HttpRequest, RawHeaders, Reply
from nebula_async.charges import Charges
from nebula_async.config import Config
from nebula_async.engine.gate import Gate
from nebula_async.engine.journal import AttemptJournal, NoJournal
from nebula_async.engine.loops import PerLoop
from nebula_async.engine.phase import Progress
from nebula_async.engine.retry import History, delay_before_next
from nebula_async.engine.transport import ExchangeError, Transport
from nebula_async.engine.verdict import (
    PASSED_THE_LIMIT,
    Known,
    Verdict,
    charges_if_stopped,
    judge_failure,
    judge_reply,
    judge_unusable,
)
from nebula_async.errors import (
    APIStatusError,
    DeadlineError,
    NebulaError,
    RateLimitError,
    UnusableReplyError,
    without_frames,
)
from nebula_async.events import Abandoned, Held, Observer, Retrying, Sent

Value = TypeVar("Value")
Read: TypeAlias = Callable[[Reply], Awaitable[Value]]

CLOSED_SECONDS = 120.0
LONGEST_HOLD = 3600.0
"""Refusals alone for longer than the one, or a wait asked for longer than the other, mean the day's limit."""

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


@define(eq=False)
class Caller:
    """Makes calls: one gate, one transport, one policy. Each call runs in its caller's task."""

    transport: Transport
    gate: Gate
    config: Config
    notify: Observer
    random: Random
    durations: deque[float] = field(factory=lambda: deque(maxlen=REMEMBERED))
    _free_slots: PerLoop[anyio.Semaphore] = field(
        factory=lambda: PerLoop(lambda: anyio.Semaphore(FREE_AT_ONCE)), init=False
    )

    async def call(
        self,
        request: HttpRequest,
        read: Read[Value],
        *,
        seconds: float | None = None,
        is_patient: bool = False,
        journal: AttemptJournal = NO_JOURNAL,
    ) -> Completed[Value]:
        """Send a request until it is answered, refused, or not worth repeating; return what `read` makes of the reply.

        The call may take so many `seconds`, else the configured total. A patient call waits for the rate limit as long
        as it takes: neither its deadline nor its attempts count the waiting. `journal` is told of each attempt before
        its first byte leaves. Raises a `NebulaError` that carries the sums of the call. Cancellation goes through; it
        closes the connection in use, and what had been sent may have been paid for.
        """
        total = self.config.timeouts.total
        clock = anyio.CancelScope(deadline=anyio.current_time() + (total if seconds is None else seconds))
        call = _Call(request, clock, is_patient=is_patient, is_replayed=self.config.idempotency == "replay")
        try:
            with clock:
                while True:
                    outcome = await self._attempt(call, read, journal)
                    if isinstance(outcome, Completed):
                        return outcome
                    await anyio.sleep(self._delay(call, outcome))
        except anyio.get_cancelled_exc_class():
            call.stop()
            self.notify(Abandoned(call=call.key, attempts=call.history.attempts, charges=call.history.charges))
            raise
        call.stop()
        late = DeadlineError(f"the call did not end within its {total:g} s", retryable=True)
        raise call.finished(late) from call.last_error

    async def _attempt(self, call: _Call, read: Read[Value], journal: AttemptJournal) -> Completed[Value] | Verdict:
        call.stop_clock()
        async with self.gate.slot() if call.request.pictures else self._free_slots.get():
            call.start_clock()
            await _noted(call, journal.sending())
            self.notify(Sent(call=call.key, attempt=call.begin()))
            outcome = await self._exchange(call, read)
            if call.request.pictures and (isinstance(outcome, Completed) or outcome.known in PASSED_THE_LIMIT):
                self.gate.accepted()
            if isinstance(outcome, Verdict):
                call.learn(outcome)
                await _noted(call, journal.ended(call.history.charges))
        return outcome

    async def _exchange(self, call: _Call, read: Read[Value]) -> Completed[Value] | Verdict:
        headers = {} if self.config.idempotency == "off" else {"Idempotency-Key": f'"{call.key}"'}
        try:
            reply = await self.transport.exchange(call.request, call.progress, headers, self.config.timeouts)
        except ExchangeError as error:
            return judge_failure(call.progress, error)
        except UnusableReplyError as error:
            return judge_unusable(error)
        except NebulaError as error:  # the key: a callable may return a bad one at any attempt
            return Verdict(Known.NOT_SENT, without_frames(error))
        if reply.is_success:
            return await self._read(call, reply, read)
        seconds = math.inf if call.progress.is_cut else call.seconds_since_sent()
        usual_seconds = statistics.median(self.durations) if self.durations else None
        return judge_reply(
            reply, now=time.time(), seconds=seconds, usual_seconds=usual_seconds, is_replayed=call.history.is_replayed
        )

    async def _read(self, call: _Call, reply: Reply, read: Read[Value]) -> Completed[Value] | Verdict:
        seconds = call.seconds_since_sent()
        try:
            with anyio.CancelScope(shield=True):  # it is here and paid for: no deadline comes between
                value = await read(reply)
        except NebulaError as error:
            return judge_unusable(error)
        call.history.charge(Charges(1, 1))
        call.progress = Progress()
        if call.request.pictures:
            self.durations.append(seconds)
        return Completed(value, reply.headers, call.key, call.history.attempts, call.history.charges)

    def _delay(self, call: _Call, verdict: Verdict) -> float:
        """Return the seconds before the next attempt, or raise what the call ends with."""
        delay = self._decide(call, verdict)
        if delay is None or delay > call.seconds_left():
            raise call.finished(call.ending(verdict.error))
        self.notify(
            Retrying(call=call.key, attempt=call.history.attempts, reason=verdict.known.value, delay_seconds=delay)
        )
        call.last_error = verdict.error
        return delay

    def _decide(self, call: _Call, verdict: Verdict) -> float | None:
        asked = (verdict.error.retry_after if isinstance(verdict.error, APIStatusError) else None) or 0
        if verdict.known is Known.THROTTLED and call.request.pictures:
            if isinstance(verdict.error, RateLimitError) and self._is_closed_today(asked):
                verdict.error.scope = "day"
                verdict.error.message = (
                    f"the daily quota is used up; it is renewed at 00:00 UTC ({verdict.error.message})"
                )
                return None
            self._hold_everyone(call, asked, is_limit=isinstance(verdict.error, RateLimitError))
            if call.waits_for(verdict) and call.history.attempts < MOST_REFUSALS:
                return 0.0
        if asked > call.seconds_left():
            return None
        return delay_before_next(verdict, call.history, self.config.retry, self.config.idempotency, self.random)

    def _is_closed_today(self, asked: float) -> bool:
        return asked > LONGEST_HOLD or self.gate.refusing_for() > CLOSED_SECONDS

    def _hold_everyone(self, call: _Call, asked: float, *, is_limit: bool) -> None:
        seconds = self.gate.throttled(sent_at=call.sent_at, delay=asked or None, is_limit=is_limit)
        if seconds > 0:
            self.notify(Held(call=call.key, seconds=seconds))


async def _noted(call: _Call, note: Awaitable[None]) -> None:
    try:
        await note
    except NebulaError as error:
        raise call.finished(error) from call.last_error


@define(eq=False)
class _Call:
    """One call under way. `clock` is the scope of its deadline."""

    request: HttpRequest
    clock: anyio.CancelScope
    is_patient: bool
    is_replayed: bool
    history: History = field(init=False)
    key: str = field(factory=lambda: uuid4().hex)
    progress: Progress = field(factory=Progress)
    sent_at: float = 0.0
    last_error: NebulaError | None = None
    _left: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.history = History(self.request.pictures, self.is_replayed)

    def begin(self) -> int:
        """Begin an attempt and return its number."""
        self.progress = Progress()
        self.sent_at = anyio.current_time()
        self.history.attempts += 1
        return self.history.attempts

    def learn(self, verdict: Verdict) -> None:
        """Add a failed attempt to the sums. What a patient call waits for anyway is not counted against it."""
        self.progress = Progress()
        self.history.add(verdict, is_counted=not self.waits_for(verdict))

    def stop(self) -> None:
        """Add what the attempt under way may be charged, if there is one."""
        self.history.charge(charges_if_stopped(self.progress))

    def waits_for(self, verdict: Verdict) -> bool:
        """Whether this call waits for the rate limit as long as it takes, and the verdict says that it must."""
        return self.is_patient and isinstance(verdict.error, RateLimitError) and verdict.error.retryable

    def ending(self, error: NebulaError) -> NebulaError:
        """Return what the call ends with. A refusal of the key as used before only says that an earlier attempt
        arrived: that one's error is raised, the refusal is its cause.
        """
        before = self.last_error
        is_about_key = isinstance(error, APIStatusError) and error.status == 422 and "idempotency" in (error.code or "")
        if before is None or not is_about_key:
            return error
        before.__cause__ = error
        return before

    def finished(self, error: NebulaError) -> NebulaError:
        """Return the error that the call ends with, carrying the sums."""
        error.attempts = self.history.attempts
        error.charges = self.history.charges
        error.idempotency_key = self.key
        return error

    def seconds_since_sent(self) -> float:
        """Return how long ago the attempt began."""
        return anyio.current_time() - self.sent_at

    def seconds_left(self) -> float:
        """Return how long the call may still take."""
        return self.clock.deadline - anyio.current_time()

    def stop_clock(self) -> None:
        """Let the deadline stand still while a patient call queues."""
        if self.is_patient:
            self._left = self.seconds_left()
            self.clock.deadline = math.inf

    def start_clock(self) -> None:
        """Let the deadline run again."""
        if self.is_patient:
            self.clock.deadline = anyio.current_time() + self._left
