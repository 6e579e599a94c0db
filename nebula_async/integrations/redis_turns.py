"""The turns that a member has reserved, in the order in which they come."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import anyio
from attrs import define, field

from nebula_async.engine.allowance import MOST_LATE
from nebula_async.engine.gate import LocalTurns
from nebula_async.engine.lanes import Lanes
from nebula_async.errors import ConfigurationError
from nebula_async.integrations.redis_account import RedisAccount

ROUND_TRIPS, MARGIN_SECONDS = 4, 0.05
"""Turns are reserved for so long ahead: a beat may go before, and the loop may be busy for a moment."""

SLACK_SECONDS = 0.01
"""An answer is dated when it is here, and so are the turns and the hold in it."""

MOST_AT_ONCE = 64

GLANCE_SECONDS = 0.05
"""Who goes on alone and has all the slots that are its share looks again after so many seconds."""


@define(eq=False, repr=False)
class RedisTurns:
    """The turns of a member. It reserves one at a time, among all members, or as many as fall due while Redis answers;
    those that wait here take them, whoever they were reserved for. While Redis is away it has turns of its own.
    """

    account: RedisAccount
    wake: Callable[[], None]
    ask_at: float = field(default=-math.inf, init=False)
    last: float = field(default=-math.inf, init=False)
    is_over: bool = field(default=False, init=False)
    _reserved: deque[float] = field(factory=deque, init=False)

    def __len__(self) -> int:
        return len(self._reserved)

    def wait(self) -> float:
        """Return the seconds until the next turn; without any, one is asked for, and whoever is first is called."""
        if self.is_over:
            raise ConfigurationError("the RedisGate was left while this call waited; keep it open around its calls")
        now = anyio.current_time()
        self._forget(now)
        if self._reserved:
            return max(0.0, self._reserved[0] - now)
        if self.account.alone is not None:
            return LocalTurns(self.account.alone).wait() if self._has_room() else GLANCE_SECONDS
        self.wake()
        return math.inf

    def take(self) -> None:
        """The first leaves."""
        if self._reserved:
            self._reserved.popleft()
            self.wake()
            return
        if self.account.alone is not None:
            LocalTurns(self.account.alone).take()

    def held_for(self) -> float:
        """Return how long everyone is held."""
        if self.account.alone is not None:
            return LocalTurns(self.account.alone).held_for()
        return self.account.standing.held_for(anyio.current_time()) if self.account.standing else 0.0

    def over_for(self) -> float:
        """Return how long nobody may ask, because the day is over; a turn that is reserved may be to see about it."""
        if self._reserved:
            return 0.0
        if self.account.alone is not None:
            return LocalTurns(self.account.alone).over_for()
        standing = self.account.standing
        return standing.closed_for(anyio.current_time()) if standing and standing.is_certain else 0.0

    def add(self, turns: tuple[float, ...]) -> None:
        """So many more are reserved."""
        self._reserved.extend(turns)
        self.last = max((self.last, *turns))

    def wanted(self, lanes: Lanes, now: float) -> int:
        """Return how many turns to reserve now, for who waits and for the time in which Redis answers."""
        missing = min(lanes.waiting, lanes.free) - len(self._reserved)
        if missing <= 0 or now < self.ask_at:
            return 0
        covered, interval = self._covered(now), self._interval()
        if self._reserved and covered >= self._horizon():
            return 0
        count = 1 if not interval else 1 + int((self._horizon() - covered) / interval)
        return min(missing, count, MOST_AT_ONCE)

    def next_look(self, lanes: Lanes, now: float) -> float:
        """Return the seconds after which turns may be wanted, if nothing happens."""
        if min(lanes.waiting, lanes.free) <= len(self._reserved):
            return math.inf
        return max(self.ask_at - now, self._covered(now) - self._horizon(), 0.0)

    def _covered(self, now: float) -> float:
        return max(0.0, self._reserved[-1] - now) if self._reserved else 0.0

    def _horizon(self) -> float:
        return ROUND_TRIPS * self.account.round_trip + MARGIN_SECONDS

    def _interval(self) -> float:
        standing = self.account.standing
        return (standing.interval or 0.0) / standing.share if standing else 0.0

    def _has_room(self) -> bool:
        most, standing = self.account.shared_concurrency, self.account.standing
        return most is None or standing is None or self.account.slots() < max(1, most // standing.members)

    def _forget(self, now: float) -> None:
        """A turn that is too late is lost, and so is one from before a hold, or of a day that is over."""
        while self._reserved and (self._reserved[0] < now - MOST_LATE or self._is_void(self._reserved[0])):
            self._reserved.popleft()
            self.account.unused += 1

    def _is_void(self, turn: float) -> bool:
        standing = self.account.standing
        if standing is None or self.account.alone is not None:
            return False
        slack = self.account.round_trip + SLACK_SECONDS
        is_held = standing.held > 0 and turn < standing.at + standing.held - slack
        return is_held or (standing.is_final and standing.closed_for(turn) > 0)
