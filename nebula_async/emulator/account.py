"""The account behind the keys: who may call, how often, and with what money."""

import math
import threading
from collections.abc import Callable
from decimal import Decimal
from email.utils import formatdate

import attrs

from nebula_async.emulator.refusals import Refusal

DAY_SECONDS = 86_400
LEAST_BALANCE = Decimal("0.01")
KEY_PREFIXES = ("ak_", "sk-")


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


@attrs.define(eq=False)
class Allowance:
    """A token bucket by the minute and a count by the UTC day; refused calls cost nothing."""

    tier: Tier
    burst: int
    tokens: float = attrs.field(init=False)
    filled_at: float | None = attrs.field(default=None, init=False)
    day: int | None = attrs.field(default=None, init=False)
    used_today: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = float(self.burst)

    def take(self, now: float) -> float:
        """Take one call and return 0, or take nothing and return the seconds until one is free."""
        self._refill(now)
        wait = max(self._minute_wait(), self._day_wait(now))
        if wait == 0:
            self.tokens -= 1
            self.used_today += 1
        return wait

    def _refill(self, now: float) -> None:
        # A clock that was set back only restarts the count.
        elapsed = max(0.0, now - (now if self.filled_at is None else self.filled_at))
        self.tokens = min(self.burst, self.tokens + elapsed * (self.tier.per_minute or 0) / 60)
        self.filled_at = now
        today = math.floor(now / DAY_SECONDS)
        if today != self.day:
            self.day, self.used_today = today, 0

    def _minute_wait(self) -> float:
        # One billionth forgives what adding up fractions of a token loses.
        if self.tier.per_minute is None or self.tokens >= 1 - 1e-9:
            return 0.0
        return (1 - self.tokens) * 60 / self.tier.per_minute

    def _day_wait(self, now: float) -> float:
        if self.tier.per_day is None or self.used_today < self.tier.per_day:
            return 0.0
        return DAY_SECONDS - now % DAY_SECONDS


@attrs.define(eq=False)
class Account:
    """One account: its keys, its limits and its credit. Safe to use from any thread."""

    keys: frozenset[str]
    tier: Tier
    burst: int
    credit: Decimal
    retry_after: str | None
    clock: Callable[[], float]
    balance: Decimal = attrs.field(init=False)
    _allowance: Allowance = attrs.field(init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Restore the credit and the limits of the start."""
        with self._lock:
            self.balance = self.credit
            self._allowance = Allowance(self.tier, self.burst)

    def check_key(self, authorization: str | None) -> None:
        """Refuse with 401 a missing or malformed key and with 404 an unknown one, as observed of the service."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() == "bearer" and token in self.keys:
            return
        if scheme.lower() == "bearer" and token.startswith(KEY_PREFIXES):
            raise Refusal(404, "API key not found")
        raise Refusal(401, "Missing or invalid API key")

    def admit(self) -> None:
        """Count one call, or refuse it with 429."""
        now = self.clock()
        with self._lock:
            wait = self._allowance.take(now)
        if wait:
            raise Refusal(429, "Rate limit exceeded", headers=self._retry_after(now, wait))

    def check_credit(self, price: Decimal) -> None:
        """Refuse with 402 when the balance does not cover the price; calls in flight are not reserved for."""
        if self.balance < max(price, LEAST_BALANCE):
            raise Refusal(402, "Insufficient credit balance")

    def pay(self, cost: Decimal) -> None:
        """Take the cost from the balance."""
        with self._lock:
            self.balance -= cost

    def _retry_after(self, now: float, wait: float) -> dict[str, str]:
        seconds = max(1, math.ceil(wait))
        match self.retry_after:
            case "seconds":
                return {"Retry-After": str(seconds)}
            case "http-date":
                return {"Retry-After": formatdate(math.ceil(now + wait), usegmt=True)}
            case "ms":
                return {"Retry-After-Ms": str(max(1, math.ceil(wait * 1000)))}
        return {}
