"""How often an account may call: its tier, and how the minute and the day are counted."""

import math
from collections import deque
from typing import Literal, Protocol

import attrs

MINUTE_SECONDS = 60
DAY_SECONDS = 86_400

Window = Literal["bucket", "fixed", "sliding"]


@attrs.frozen
class Tier:
    """How many pictures an account may ask for; None is unlimited."""

    per_minute: int | None = None
    per_day: int | None = None


# The vendor's table; the day ends at 00:00 UTC.
TIERS = {
    "engineer-1": Tier(60, 200),
    "engineer-2": Tier(300, 1_000),
    "engineer-3": Tier(600, 2_000),
    "expert-1": Tier(1_500),
    "expert-2": Tier(3_000),
}


class Count(Protocol):
    """One limit. A clock that was set back only restarts it."""

    def wait(self, now: float) -> float:
        """Return the seconds until a call is free, 0 when one is."""

    def take(self, now: float) -> None:
        """Count a call, after `wait` has said that one is free."""


@attrs.define(eq=False)
class TokenBucket:
    """Calls come back one by one, at the rate of the minute, up to a burst."""

    per_minute: int
    burst: int
    tokens: float = attrs.field(init=False)
    filled_at: float | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = float(self.burst)

    def wait(self, now: float) -> float:
        """Return the seconds until a token is there."""
        elapsed = max(0.0, now - (now if self.filled_at is None else self.filled_at))
        self.tokens = min(self.burst, self.tokens + elapsed * self.per_minute / MINUTE_SECONDS)
        self.filled_at = now
        # One billionth forgives what adding up fractions of a token loses.
        return 0.0 if self.tokens >= 1 - 1e-9 else (1 - self.tokens) * MINUTE_SECONDS / self.per_minute

    def take(self, now: float) -> None:  # noqa: ARG002 - a count's signature
        """Take a token."""
        self.tokens -= 1


@attrs.define(eq=False)
class FixedWindow:
    """So many calls between two full minutes, or two midnights UTC, of the clock."""

    most: int
    seconds: int
    window: int | None = attrs.field(default=None, init=False)
    used: int = attrs.field(default=0, init=False)

    def wait(self, now: float) -> float:
        """Return the seconds until the next window."""
        window = math.floor(now / self.seconds)
        if window != self.window:
            self.window, self.used = window, 0
        return 0.0 if self.used < self.most else (window + 1) * self.seconds - now

    def take(self, now: float) -> None:  # noqa: ARG002 - a count's signature
        """Count a call of this window."""
        self.used += 1


@attrs.define(eq=False)
class SlidingWindow:
    """So many calls within any stretch of this length."""

    most: int
    seconds: int
    taken: "deque[float]" = attrs.field(factory=deque, init=False)

    def wait(self, now: float) -> float:
        """Return the seconds until the oldest call has left the window."""
        if self.taken and now < self.taken[-1]:
            self.taken.clear()
        while self.taken and self.taken[0] + self.seconds <= now:
            self.taken.popleft()
        return 0.0 if len(self.taken) < self.most else self.taken[0] + self.seconds - now

    def take(self, now: float) -> None:
        """Remember a call until it leaves the window."""
        self.taken.append(now)


@attrs.frozen
class Limits:
    """What an account is allowed; `burst` is the bucket's."""

    tier: Tier
    window: Window
    burst: int

    def start(self) -> "Allowance":
        """Return the allowance of an account that has not called yet."""
        minute = () if self.tier.per_minute is None else (self._minute(self.tier.per_minute),)
        day = () if self.tier.per_day is None else (FixedWindow(self.tier.per_day, DAY_SECONDS),)
        return Allowance((*minute, *day))

    def _minute(self, per_minute: int) -> Count:
        match self.window:
            case "fixed":
                return FixedWindow(per_minute, MINUTE_SECONDS)
            case "sliding":
                return SlidingWindow(per_minute, MINUTE_SECONDS)
        return TokenBucket(per_minute, self.burst)


@attrs.frozen
class Allowance:
    """Several limits at once; refused calls cost nothing."""

    counts: tuple[Count, ...]

    def take(self, now: float) -> float:
        """Take one call and return 0, or take nothing and return the seconds until one is free."""
        wait = max((count.wait(now) for count in self.counts), default=0.0)
        if wait == 0:
            for count in self.counts:
                count.take(now)
        return wait
