"""Who may send, and when."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from random import Random
from typing import Protocol

import anyio
from attrs import define, evolve, field, frozen

from nebula_async.config import Config
from nebula_async.engine.allowance import Allowance, Hold
from nebula_async.engine.lanes import Lane, Lanes
from nebula_async.engine.loops import PerLoop
from nebula_async.engine.pace import Pace
from nebula_async.engine.quota import DailyQuota

SECONDS_IN_FLIGHT = 6.0
SLACK = 1.3
FEWEST_SLOTS, MOST_SLOTS, SLOTS_WITHOUT_LIMIT = 8, 256, 16


@frozen(kw_only=True)
class Limits:
    """What a gate believes of its account at this moment.

    - `per_minute`: requests a minute that it lets leave, `None` while nothing is known and nothing was refused;
      `known_per_minute` is the limit that was given, by tier or by number
    - `held_seconds`: how long everyone still waits after a refusal
    - `per_day`, `used_today`: the day's limit where it is known, and what this process used of it, or all processes of
      the host that share the account (`Config.shared_by`) used together; `closed_seconds`: for how long nothing more is
      accepted, 0 where the day is not over
    - `concurrency`, `in_flight`, `waiting`: requests at a time, now under way, and queueing
    """

    per_minute: float | None
    known_per_minute: float | None
    held_seconds: float
    per_day: int | None
    used_today: int
    closed_seconds: float
    concurrency: int
    in_flight: int
    waiting: int


class Gate(Protocol):
    """Admits the attempts of one account. Times are those of `anyio.current_time`, in seconds."""

    @property
    def limits(self) -> Limits:
        """What it believes now."""
        ...

    def slot(self, lane: Lane, *, deadline: float) -> AbstractAsyncContextManager[None]:
        """Wait for the pace and a free slot, first come first served in each lane; the slot is held inside the block.

        Raises `RateLimitError` at once where the day is over (`is_daily`), or nobody may leave before the deadline.
        Who leaves the block may hold a picture that was paid for: leaving must not be interrupted.
        """
        ...

    async def accepted(self) -> None:
        """An attempt was accepted."""
        ...

    async def throttled(self, *, sent_at: float, delay: float | None, is_limit: bool) -> Hold:
        """An attempt was refused and may come later, after `delay` seconds if the API said so: hold everyone.

        `is_limit` says that the rate limit refused it; else the server is busy.
        """
        ...

    async def learn(self, per_minute: float) -> None:
        """The API names a limit: nothing more than that is let leave."""
        ...


@define(eq=False, repr=False)
class Account:
    """What is known of an account: its limits, how many requests of the day are left, and in each event loop its pace.

    Clients share it, each with slots of its own.
    """

    per_minute: float | None
    per_day: int | None
    backoff: float
    quota: DailyQuota = field(init=False)
    paces: PerLoop[Pace] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.quota = DailyQuota(self.per_day)
        self.paces = PerLoop(self.begin)

    def begin(self) -> Pace:
        """Return the pace of an account of which no more is known than its limit."""
        return Pace(self.per_minute, self.backoff)


def local_gate(config: Config, source: Random) -> LocalGate:
    """Return a gate that nobody shares."""
    return LocalGate(workers_for(config), Account(config.per_minute, config.per_day, config.retry.backoff), source)


def shared_gate(config: Config, name: Hashable, source: Random) -> LocalGate:
    """Return a gate for an account that all clients of this process share that were given the same limits for it."""
    key = (name, config.base_url, config.inference_url)
    return LocalGate(
        workers_for(config), known_account(key, config.per_minute, config.per_day, config.retry.backoff), source
    )


@lru_cache(maxsize=64)
def known_account(_key: Hashable, per_minute: float | None, per_day: int | None, backoff: float) -> Account:
    """Return the account of this key, made when it is first asked for; the 64 used last are remembered."""
    return Account(per_minute, per_day, backoff)


def workers_for(config: Config, concurrency: int | None = None) -> int:
    """Return how many requests are made at a time: `concurrency`, else what the configuration asks for or implies.

    Raises `ConfigurationError` for a number that `Config` would refuse.
    """
    asked = config if concurrency is None else evolve(config, concurrency=concurrency)
    return asked.concurrency or slots_for(config.per_minute)


def slots_for(per_minute: float | None) -> int:
    """Return how many requests should be in flight to use a limit fully at a usual reply time."""
    if per_minute is None:
        return SLOTS_WITHOUT_LIMIT
    return min(max(math.ceil(SLACK * per_minute / 60 * SECONDS_IN_FLIGHT), FEWEST_SLOTS), MOST_SLOTS)


@frozen
class LocalTurns:
    """The turns of one event loop: whoever is first leaves when the pace lets it, and nothing is reserved ahead."""

    allowance: Allowance

    def wait(self) -> float:
        """Return the seconds until the first may leave."""
        return self.allowance.pace.wait(anyio.current_time())

    def take(self) -> None:
        """The first leaves."""
        self.allowance.pace.release(anyio.current_time())
        self.allowance.quota.asked(time.time())

    def held_for(self) -> float:
        """Return how long everyone is held."""
        return self.allowance.pace.held_for(anyio.current_time())

    def over_for(self) -> float:
        """Return how long nobody may ask, because the day is over."""
        return self.allowance.quota.seconds_over(time.time())


@define(eq=False, repr=False)
class LocalGate:
    """The gate of one process: so many slots, and the pace of an account; in each event loop a queue of its own."""

    concurrency: int
    account: Account
    random: Random
    _lanes: PerLoop[Lanes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._lanes = PerLoop(lambda: Lanes(LocalTurns(self._allowance()), self.concurrency))

    @property
    def limits(self) -> Limits:
        """What it believes now; outside of an event loop, what it would begin with."""
        pace = self.account.paces.find()
        allowance = Allowance(pace or self.account.begin(), self.account.quota)
        now = anyio.current_time() if pace else 0.0
        return read_limits(allowance, now, self._lanes.find(), self.concurrency, self.account.per_minute)

    def slot(self, lane: Lane = "calls", *, deadline: float = math.inf) -> AbstractAsyncContextManager[None]:
        """Wait for the pace and a free slot. Cancellation while waiting leaves no trace."""
        return self._lanes.get().slot(lane, deadline)

    async def accepted(self) -> None:
        """An attempt was accepted: the pace may grow, if it is the pace that is waited for."""
        lanes = self._lanes.get()
        self.account.quota.count(time.time())
        self.account.paces.get().accepted(anyio.current_time(), is_wanted=lanes.is_pace_waited_for)
        lanes.call_first()

    async def throttled(self, *, sent_at: float, delay: float | None, is_limit: bool) -> Hold:
        """Hold everyone, or close the day."""
        hold = self._allowance().throttled(
            anyio.current_time(), time.time(), sent_at=sent_at, delay=delay, is_limit=is_limit, source=self.random
        )
        if hold.seconds or hold.is_daily:
            self._lanes.get().call_all()
        return hold

    async def learn(self, per_minute: float) -> None:
        """Let no more leave than that."""
        self.account.paces.get().learn(per_minute)

    def _allowance(self) -> Allowance:
        return Allowance(self.account.paces.get(), self.account.quota)


def read_limits(
    allowance: Allowance, now: float, lanes: Lanes | None, concurrency: int, known_per_minute: float | None
) -> Limits:
    """Return what is believed of an account, and how it is with the queue of a loop, if it has one."""
    pace, quota, today = allowance.pace, allowance.quota, time.time()
    return Limits(
        per_minute=pace.believed(now),
        known_per_minute=known_per_minute,
        held_seconds=pace.held_for(now),
        per_day=quota.per_day,
        used_today=quota.used(today),
        closed_seconds=quota.seconds_closed(today),
        concurrency=concurrency,
        in_flight=concurrency - lanes.free if lanes else 0,
        waiting=lanes.waiting if lanes else 0,
    )
