"""One call under way: what was asked, what became of its attempts, and how long it may still take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio
from attrs import define, field

from nebula_async.api.messages import HttpRequest
from nebula_async.engine.phase import Progress
from nebula_async.engine.retry import History
from nebula_async.engine.verdict import CERTAINLY_FREE, Known, Verdict, charges_if_stopped
from nebula_async.errors import APIStatusError, NebulaError

if TYPE_CHECKING:
    from nebula_async.engine.breaker import Breaker  # jobs alone have one


@define(eq=False, repr=False)
class PendingCall:
    """One call. `clock` is the scope of its deadline.

    A patient call waits for the rate limit as long as it takes: its deadline stands still meanwhile, and a refusal is
    not counted against it. Nor is a failure, where a `breaker` knows that nobody else was answered either.
    """

    request: HttpRequest
    clock: anyio.CancelScope
    key: str
    is_replayed: bool
    is_patient: bool = False
    breaker: Breaker | None = None
    history: History = field(init=False)
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
        """Add a failed attempt to the sums."""
        self.progress = Progress()
        self.history.add(verdict, is_counted=not (self.waits_for(verdict) or self._is_outage(verdict.known)))

    def stop(self) -> None:
        """Add what the attempt under way may be charged, if there is one."""
        self.history.charge(charges_if_stopped(self.progress))

    def waits_for(self, verdict: Verdict) -> bool:
        """Whether this call waits as long as it takes to be admitted, and the verdict says that it must."""
        is_asked = verdict.known is Known.THROTTLED and self.request.pictures > 0
        return self.is_patient and is_asked and verdict.error.retryable

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

    def finish(self, error: NebulaError) -> None:
        """Let the error that the call ends with carry the sums."""
        error.attempts = self.history.attempts
        error.charges = self.history.charges
        error.idempotency_key = self.key
        if error is not self.last_error and error.__cause__ is None:
            error.__cause__ = self.last_error

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

    def _is_outage(self, known: Known) -> bool:
        if self.breaker is None or known not in CERTAINLY_FREE:
            return False
        return not self.breaker.outage.has_succeeded_since(self.sent_at)
