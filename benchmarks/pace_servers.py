"""Three ways in which a server counts requests a minute: a bucket, fixed windows of the clock, a sliding window."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from attrs import define, field

MINUTE = 60.0


class Server(Protocol):
    """A server's limit. Refused requests cost nothing."""

    def take(self, now: float) -> float:
        """Accept a request and return 0, or refuse it and return the seconds until one would be accepted."""

    def change(self, now: float, per_minute: float) -> None:
        """Change the limit."""


@define
class Bucket:
    """Tokens come back one by one, up to a burst; one of more than ten shrinks and grows with the limit."""

    per_minute: float
    burst: float
    _tokens: float = field(init=False)
    _filled_at: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, now: float) -> float:
        """Take a token."""
        self._fill(now)
        if self._tokens < 1 - 1e-9:
            return (1 - self._tokens) * MINUTE / self.per_minute
        self._tokens -= 1
        return 0.0

    def change(self, now: float, per_minute: float) -> None:
        """Change what comes back, and a large burst with it."""
        self._fill(now)
        if self.burst > 10:
            self.burst *= per_minute / self.per_minute
        self.per_minute = per_minute
        self._tokens = min(self._tokens, self.burst)

    def _fill(self, now: float) -> None:
        self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.per_minute / MINUTE)
        self._filled_at = now


@define
class FixedWindow:
    """So many requests in each minute of the server's clock, which is `phase` seconds late."""

    per_minute: float
    phase: float = 0.0
    _window: int | None = field(default=None, init=False)
    _used: int = field(default=0, init=False)

    def take(self, now: float) -> float:
        """Use one of this minute's."""
        window = math.floor((now - self.phase) / MINUTE)
        if window != self._window:
            self._window, self._used = window, 0
        if self._used >= self.per_minute:
            return (window + 1) * MINUTE + self.phase - now
        self._used += 1
        return 0.0

    def change(self, now: float, per_minute: float) -> None:  # noqa: ARG002 - a server's signature
        """Change what this minute has."""
        self.per_minute = per_minute


@define
class SlidingWindow:
    """So many requests in any minute."""

    per_minute: float
    _taken: deque[float] = field(factory=deque, init=False)

    def take(self, now: float) -> float:
        """Remember a request for a minute."""
        while self._taken and self._taken[0] + MINUTE <= now:
            self._taken.popleft()
        if len(self._taken) >= self.per_minute:
            return self._taken[len(self._taken) - int(self.per_minute)] + MINUTE - now
        self._taken.append(now)
        return 0.0

    def change(self, now: float, per_minute: float) -> None:  # noqa: ARG002 - a server's signature
        """Change what a minute has."""
        self.per_minute = per_minute
