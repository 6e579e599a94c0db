"""When the next request may leave: a pure state machine, the clock handed in."""

from __future__ import annotations

import math
from random import Random

from attrs import define, field

from nebula_async.engine.retry import jittered_upward

HEADROOM = 0.98
LONGEST_BACKOFF = 30.0


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

    def accepted(self) -> None:
        """A request was accepted: the limit has room."""
        self._holds = 0
        self._refusing_since = None

    def throttled(self, now: float, *, sent_at: float, delay: float | None, source: Random) -> float:
        """A request sent at `sent_at` was refused; return the seconds that everyone is held, 0 for no new hold."""
        is_new = sent_at >= self._held_at
        if self._refusing_since is None:
            self._refusing_since = now
        if delay is None and not is_new:
            return 0.0
        seconds = self._drawn(source) if delay is None else jittered_upward(delay, source)
        if is_new:
            self._held_at = now
            self._holds += 1
        before = self._held_until
        self._held_until = max(before, now + seconds)
        return self._held_until - now if is_new or self._held_until > before else 0.0

    def refusing_for(self, now: float) -> float:
        """Return for how many seconds there have been refusals and nothing else."""
        return 0.0 if self._refusing_since is None else now - self._refusing_since

    def _drawn(self, source: Random) -> float:
        longest = min(LONGEST_BACKOFF, 2.0 ** min(self._holds, 10))
        return self.backoff * longest * source.uniform(0.5, 1)
