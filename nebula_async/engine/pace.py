"""When the next request may leave: a pure state machine, the clock handed in."""

from __future__ import annotations

import math
from random import Random

from attrs import define, field

from nebula_async.engine.retry import jittered_upward

HEADROOM = 0.98
LONGEST_BACKOFF = 30.0

FEWEST_HOLDS = 3
"""After fewer, a server that asks for long waits has not refused often enough to say that it always will."""


@define
class Pace:
    """Spreads requests evenly under a known limit, and holds everyone after a refusal.

    One hold for each epoch: refusals of requests sent before the hold began belong to it, and lengthen it only where
    the server names a later moment.
    """

    per_minute: float | None
    backoff: float = 1.0
    _next: float = field(default=-math.inf, init=False)
    _held_until: float = field(default=-math.inf, init=False)
    _held_at: float = field(default=-math.inf, init=False)
    _holds: int = field(default=0, init=False)
    _refusing_since: float | None = field(default=None, init=False)

    def wait(self, now: float) -> float:
        """Return the seconds until a request may leave; 0 for at once."""
        return max(0.0, self._next - now, self._held_until - now)

    def release(self, now: float) -> None:
        """A request leaves now."""
        if self.per_minute is not None:
            self._next = max(self._next, now) + 60 / (HEADROOM * self.per_minute)

    def accepted(self, now: float = 0.0, *, is_wanted: bool = True) -> None:  # noqa: ARG002 - the interface comes first
        """A request was accepted: the limit has room. `is_wanted` says that somebody is waiting for the pace."""
        self._holds = 0
        self._refusing_since = None

    def throttled(
        self, now: float, *, sent_at: float, delay: float | None, source: Random, is_limit: bool = True
    ) -> float:
        """A request sent at `sent_at` was refused; return the seconds that everyone is held, 0 for no new hold."""
        if is_limit and self._refusing_since is None:
            self._refusing_since = now
        is_new = sent_at >= self._held_at
        if not is_new and now + (delay or 0) <= max(self._held_until, now):
            return 0.0
        seconds = jittered_upward(delay, source) if delay else self._drawn(source)
        if is_new:
            self._held_at = now
            self._holds += 1
        self._held_until = max(self._held_until, now + seconds)
        return self._held_until - now

    def refusing_for(self, now: float) -> float:
        """Return for how many seconds the limit has refused and accepted nothing; 0 until several holds have passed."""
        if self._refusing_since is None or self._holds < FEWEST_HOLDS:
            return 0.0
        return now - self._refusing_since

    def held_for(self, now: float) -> float:
        """Return the seconds that the hold still lasts; 0 for none."""
        return max(0.0, self._held_until - now)

    def learn(self, per_minute: float) -> None:
        """A server names its limit: lower the ceiling, never raise it."""
        self.per_minute = per_minute if self.per_minute is None else min(self.per_minute, per_minute)

    def believed(self, now: float) -> float | None:  # noqa: ARG002 - the interface comes first
        """Return how many requests a minute it would let leave; `None` for no idea yet."""
        return None if self.per_minute is None else HEADROOM * self.per_minute

    def _drawn(self, source: Random) -> float:
        longest = min(LONGEST_BACKOFF, 2.0 ** min(self._holds, 10))
        return self.backoff * longest * source.uniform(0.5, 1)
