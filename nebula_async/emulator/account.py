"""The account behind the keys: who may call, how often, and with what money."""

import math
import threading
from collections.abc import Callable
from decimal import Decimal
from email.utils import formatdate

import attrs

from nebula_async.emulator.limits import Allowance, Limits
from nebula_async.emulator.refusals import Refusal

LEAST_BALANCE = Decimal("0.01")
KEY_PREFIXES = ("ak_", "sk-")


@attrs.define(eq=False)
class Account:
    """One account: its keys, its limits and its credit. Safe to use from any thread."""

    keys: frozenset[str]
    limits: Limits
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
            self._allowance = self.limits.start()

    def knows(self, authorization: str | None) -> bool:
        """Whether an `Authorization` header holds one of the keys."""
        return _token(authorization) in self.keys

    def check_key(self, authorization: str | None) -> None:
        """Refuse with 401 a missing or malformed key and with 404 an unknown one, as observed of dialect A."""
        if self.knows(authorization):
            return
        if (_token(authorization) or "").startswith(KEY_PREFIXES):
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
        match self.retry_after:
            case "seconds":
                return {"Retry-After": str(max(1, math.ceil(wait)))}
            case "http-date":
                return {"Retry-After": formatdate(math.ceil(now + wait), usegmt=True)}
            case "ms":
                return {"Retry-After-Ms": str(max(1, math.ceil(wait * 1000)))}
        return {}


def _token(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
