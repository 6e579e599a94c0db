"""Again or not, and when: a pure decision."""

from __future__ import annotations

from random import Random

from attrs import define, field, frozen

from nebula_async.charges import Charges
from nebula_async.config import Idempotency, RetryPolicy
from nebula_async.engine.verdict import CERTAINLY_FREE, PERHAPS_PAID, Known, Verdict
from nebula_async.errors import APIStatusError


@frozen
class Backoff:
    """Full jitter: a delay drawn from 0 to `base` doubled for each attempt before, at most `cap`; in seconds."""

    base: float
    cap: float

    def draw(self, attempt: int, source: Random) -> float:
        """Return the delay after attempt number `attempt`, counted from 1."""
        doublings = min(attempt - 1, 30)
        return source.uniform(0, min(self.cap, self.base * 2**doublings))


SHORT = Backoff(0.5, 8)
LONG = Backoff(2, 30)

BACKOFFS = {
    Known.NOT_SENT: SHORT,
    Known.THROTTLED: SHORT,
    Known.GATEWAY_REFUSED: SHORT,
    Known.SERVER_FAILED: SHORT,
    Known.UNKNOWN: LONG,
    Known.PAID_LOST: LONG,
}


PRICE = 10
"""A repetition costs as much as so many successes earn."""


@define(eq=False)
class RetryBudget:
    """What all calls of a client together may repeat: so many requests ahead of its successes, which earn more.

    It begins full. However much fails, no more than a tenth is sent on top once it has been used up.
    """

    _spent: int = field(default=0, init=False)

    def take(self, budget: float) -> bool:
        """Take one repetition, if there is one; `budget` is how many there are at most."""
        if self._spent + PRICE > budget * PRICE:
            return False
        self._spent += PRICE
        return True

    def earn(self) -> None:
        """A request succeeded."""
        self._spent = max(0, self._spent - 1)


@define(eq=False)
class History:
    """What a call for so many pictures has tried.

    `attempts` were started, `counted` of those that failed count against the policy, and `perhaps_paid` may have cost
    something. Under one replayed key all attempts together are charged once.
    """

    pictures: int
    is_replayed: bool = False
    attempts: int = 0
    counted: int = 0
    perhaps_paid: int = 0
    charges: Charges = field(factory=Charges)

    def add(self, verdict: Verdict, *, is_counted: bool) -> None:
        """Add an attempt that failed."""
        self.counted += is_counted
        self.perhaps_paid += self.pictures > 0 and verdict.known in PERHAPS_PAID
        self.charge(verdict.known.charges)

    def charge(self, each: Charges) -> None:
        """Add what an attempt is charged for each picture."""
        new, old = each * self.pictures, self.charges
        at_most = max(old.at_most, new.at_most) if self.is_replayed else old.at_most + new.at_most
        at_least = max(old.at_least, new.at_least) if self.is_replayed else old.at_least + new.at_least
        self.charges = Charges(at_least, at_most)


def delay_before_next(
    verdict: Verdict, history: History, policy: RetryPolicy, idempotency: Idempotency, source: Random
) -> float | None:
    """Return the seconds to wait before the next attempt, `None` where there is to be none.

    The delay of a throttled attempt that asks for pictures is 0: the gate holds everyone until the limit has room.
    """
    if not _may_repeat(verdict, history, policy, idempotency):
        return None
    asked = verdict.error.retry_after if isinstance(verdict.error, APIStatusError) else None
    if asked is not None and asked > policy.longest_delay:
        return None
    if verdict.known is Known.THROTTLED and history.pictures:
        return 0.0
    if asked:  # a moment that is past names none
        return jittered_upward(asked, source)
    return policy.backoff * BACKOFFS[verdict.known].draw(history.counted, source)


def jittered_upward(seconds: float, source: Random) -> float:
    """Return a delay that the server asked for, a little longer: never early, and not everyone at once."""
    return seconds + source.uniform(0, min(0.1 * seconds + 0.25, 5))


def _may_repeat(verdict: Verdict, history: History, policy: RetryPolicy, idempotency: Idempotency) -> bool:
    if history.counted >= policy.attempts or not verdict.error.retryable:
        return False
    if verdict.known in PERHAPS_PAID:
        return idempotency == "replay" or history.perhaps_paid <= policy.resend_unknown
    return verdict.known in CERTAINLY_FREE
