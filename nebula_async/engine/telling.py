"""What an observer is told of all calls together: everyone waits, the limit changed, nobody is answered any more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio
from anyio import NoEventLoopError
from attrs import define, field

from nebula_async.charges import Charges
from nebula_async.engine.gate import Gate
from nebula_async.engine.pending import PendingCall
from nebula_async.engine.verdict import Known, Verdict
from nebula_async.errors import APIStatusError
from nebula_async.events import Abandoned, Held, LimitChanged, Observer, OutageBegan, OutageEnded, Resumed, Retrying

if TYPE_CHECKING:
    from nebula_async.engine.breaker import Breaker  # jobs alone have one

WORTH_TELLING = 0.1
LOOKED_AT_EVERY = 1.0
"""A limit that is believed to have changed by less is not told, nor one that grows more often than so many seconds."""


@define(eq=False)
class Telling:
    """Tells an observer of one gate; each thing once. `per_minute` and `concurrency`: the limits as last told."""

    gate: Gate
    notify: Observer
    _held_since: float | None = field(default=None, init=False)
    per_minute: float | None = field(init=False)
    concurrency: int = field(init=False)
    _looked_at: float = field(default=-math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        limits = self.gate.limits
        self.per_minute, self.concurrency = limits.per_minute, limits.concurrency

    def held(self, call: PendingCall, seconds: float) -> None:
        """Everyone waits for so long because a call was refused."""
        self._held_since = self._held_since or anyio.current_time()
        self.notify(Held(call=call.key, seconds=seconds))

    def leaving(self, call: PendingCall) -> None:
        """A call is about to send: where everyone was held, that is over."""
        if self._held_since is not None and call.request.pictures:
            seconds = anyio.current_time() - self._held_since
            self._held_since = None
            self.notify(Resumed(call=call.key, seconds=seconds))

    def accepted(self) -> None:
        """A request passed the limit, which may have grown by it."""
        if anyio.current_time() - self._looked_at >= LOOKED_AT_EVERY:
            self.look_at_limit()

    def look_at_limit(self) -> None:
        """Tell the limit, if it changed enough since it was told."""
        self._looked_at = anyio.current_time()
        now, told = self.gate.limits.per_minute, self.per_minute
        if now is not None and (told is None or abs(now - told) > WORTH_TELLING * told):
            self.per_minute = now
            self.notify(LimitChanged(per_minute=now))

    def outage(self, call: PendingCall, breaker: Breaker, outcome: object) -> None:
        """A call ended with an outcome by which an outage began or ended."""
        if breaker.outage.is_open and isinstance(outcome, Verdict):
            is_ours = outcome.known is Known.NOT_SENT  # what the API says may repeat the prompt
            self.notify(OutageBegan(call=call.key, reason=outcome.error.message if is_ours else outcome.known.value))
        else:
            self.notify(OutageEnded(call=call.key))


def retrying(call: PendingCall, verdict: Verdict, delay: float) -> Retrying:
    """Return what is told of an attempt that failed and will be repeated."""
    return Retrying(
        call=call.key,
        attempt=call.history.attempts,
        reason=verdict.known.value,
        delay_seconds=delay,
        status=verdict.error.status if isinstance(verdict.error, APIStatusError) else None,
    )


def abandoned(call: str, error: BaseException, attempts: int = 0, charges: Charges | None = None) -> Abandoned:
    """Return what is told of a call that was cancelled, or that another exception than a `NebulaError` broke off."""
    name = None if _is_cancellation(error) else type(error).__name__
    return Abandoned(call=call, attempts=attempts, charges=charges or Charges(), error=name)


def _is_cancellation(error: BaseException) -> bool:
    try:
        return isinstance(error, anyio.get_cancelled_exc_class())
    except NoEventLoopError:  # a coroutine that nobody awaits any more is closed at any time
        return False
