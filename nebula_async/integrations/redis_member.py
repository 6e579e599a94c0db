"""The task of a member: it is heard of, reserves turns for who waits, and knows when it has to go on alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import anyio
from anyio.abc import TaskStatus
from attrs import define, field

from nebula_async.engine.lanes import Lanes
from nebula_async.errors import ConfigurationError
from nebula_async.events import Event, SharingLost, SharingRegained
from nebula_async.integrations.redis_account import LEASE_SECONDS, PRESENT_SECONDS, RedisAccount
from nebula_async.integrations.redis_link import ANSWER_SECONDS, LinkLostError, LinkRefusedError, said
from nebula_async.integrations.redis_standing import Granted
from nebula_async.integrations.redis_turns import RedisTurns

BEAT_SECONDS = 0.5
AGAIN_SECONDS = 0.2
"""Redis is tried again after so many seconds, and right away after the first failure."""

OVERLAP_SECONDS = 3.0
"""So long before its lease is over at the latest a member gives up the share that others get then."""

FEWEST_FAILURES = 2
"""One failure may be a moment of this process or of a connection."""


@define(eq=False, repr=False)
class Membership:
    """Everything that is asked of Redis for the turns of a member is asked in one task, one thing after the other."""

    account: RedisAccount
    notify: Callable[[Event], None]
    concurrency: int
    turns: RedisTurns = field(init=False)
    lanes: Lanes = field(init=False)
    _woken: anyio.Event = field(factory=lambda: anyio.Event(), init=False)
    _beat_at: float = field(default=-math.inf, init=False)
    _failures: int = field(default=0, init=False)
    _has_ended: bool = field(default=False, init=False)
    _gone_at: float = field(default=-math.inf, init=False)
    _began_at: float = field(factory=lambda: anyio.current_time(), init=False)
    _has_told: bool = field(default=False, init=False)
    _status: TaskStatus[None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.turns = RedisTurns(self.account, self.wake)
        self.lanes = Lanes(self.turns, self.concurrency)
        self.account.slots, self.account.wants = self.slots, self.wants

    def wake(self) -> None:
        """Somebody may want a turn, or has left a slot that others wait for."""
        self._woken.set()

    def slots(self) -> int:
        """Return how many requests are in flight or have a turn reserved."""
        return self.concurrency - self.lanes.free + len(self.turns)

    def wants(self) -> bool:
        """Whether somebody here waits for a turn that none is reserved for."""
        return min(self.lanes.waiting, self.lanes.free) > len(self.turns)

    @property
    def in_flight(self) -> int:
        """How many requests are in flight."""
        return self.concurrency - self.lanes.free

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Be a member until cancelled; it has begun when Redis was asked once.

        Raises `ConfigurationError` where Redis refuses at once what the URL says.
        """
        self._status = task_status
        while True:
            lost = await self._until_lost()
            if isinstance(lost, LinkRefusedError) and self._status is not None:
                raise ConfigurationError(str(lost)) from lost
            self._lose(lost)
            self._begin()
            await anyio.sleep(AGAIN_SECONDS if self._failures > 1 else 0)

    def end(self) -> None:
        """Let those who wait know that nothing comes any more."""
        self.turns.is_over = True
        self.lanes.call_all()

    async def leave(self) -> None:
        """Be no member any more, if Redis can be told within a moment; else the lease ends it."""
        if not self.account.has_asked:
            return
        with anyio.move_on_after(2 * ANSWER_SECONDS, shield=True), suppress(Exception):
            async with self.account.link.opened():
                await self.account.leave()

    def _begin(self) -> None:
        if self._status is not None:
            self._status.started()
            self._status = None

    async def _until_lost(self) -> LinkLostError:
        try:
            async with self.account.link.opened():
                return await self._keep_meeting()
        except ConfigurationError as error:
            return LinkRefusedError(str(error))
        except Exception as error:  # noqa: BLE001 - a task of coredis' own failed
            return LinkLostError(f"Redis at {self.account.link.address} cannot be used: {said(error)}", error)

    async def _keep_meeting(self) -> LinkLostError:
        try:
            await self.account.link.connect()
            while True:
                await self._round()
                self._begin()
                await self._nap()
        except LinkLostError as error:
            return error

    async def _round(self) -> None:
        now = anyio.current_time()
        if now >= self._beat_at + BEAT_SECONDS or self._failures:
            await self._beat()
        if count := self.turns.wanted(self.lanes, now):
            await self._reserve(count)

    async def _beat(self) -> None:
        await self.account.hear()
        await self.account.settle()
        self._beat_at = self.account.met_at
        self._regain()
        if self.turns.held_for() or self.turns.over_for():
            self.lanes.call_all()

    async def _reserve(self, count: int) -> None:
        granted = await self.account.meet(count)
        standing = self.account.standing
        if standing is not None and standing.is_stale:
            granted = await self.account.reserve()
        self._keep(granted)

    def _keep(self, granted: Granted) -> None:
        self.turns.add(granted.turns)
        if not granted.turns:
            self.turns.ask_at = anyio.current_time() + granted.again
        self.lanes.call_first()

    async def _nap(self) -> None:
        now = anyio.current_time()
        with anyio.move_on_after(min(self._beat_at + BEAT_SECONDS - now, self.turns.next_look(self.lanes, now))):
            await self._woken.wait()
        self._woken = anyio.Event()

    def _lose(self, lost: LinkLostError) -> None:
        self._failures += 1
        self.account.lost()
        now = anyio.current_time()
        silent = now - max(self.account.met_at, self._began_at)
        if not self._has_told and self._failures >= FEWEST_FAILURES and silent >= PRESENT_SECONDS:
            self._part(str(lost))
        is_unproven = silent >= LEASE_SECONDS - OVERLAP_SECONDS and now - self._gone_at > PRESENT_SECONDS
        if self._is_gone(lost) and not is_unproven:
            self._gone_at = now
        elif is_unproven:  # what is proven only later does not say who had the share meanwhile
            self.account.keep_still()

    def _is_gone(self, lost: LinkLostError) -> bool:
        """Whether nobody can reach Redis, as far as one member can tell: it hung up, and now nobody listens.

        A wall that turns connections away does not end one that stands. At an address of this machine it may be a way
        to Redis of its own that ended, if there are members on others.
        """
        self._has_ended |= lost.is_ended or (lost.is_refused and self._failures == 1)
        return lost.is_refused and self._has_ended and not (self.account.link.is_near and self.account.has_far_members)

    def _part(self, reason: str) -> None:
        standing = self.account.standing
        is_member = standing is not None and standing.is_known
        if is_member:
            self.account.go_alone(self.turns.last)
        self._has_told = True
        self.notify(SharingLost(reason=reason, is_waiting=not is_member))
        self.lanes.call_all()

    def _regain(self) -> None:
        self._failures, self._has_ended = 0, False
        if self._has_told:
            self._has_told = False
            self.notify(SharingRegained())
            self.lanes.call_all()
