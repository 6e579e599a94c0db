"""The gate of all processes of a host that use the same account."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from random import Random
from typing import TypeVar

import anyio
from attrs import define, field

from nebula_async.config import Config
from nebula_async.engine.allowance import Hold
from nebula_async.engine.gate import Limits, read_limits, workers_for
from nebula_async.engine.host_account import HostAccount, host_account
from nebula_async.engine.host_state import HostState
from nebula_async.engine.host_store import StoreBusyError
from nebula_async.engine.lanes import Lane, Lanes
from nebula_async.engine.loops import PerLoop
from nebula_async.events import Observer, SharingLost, SharingRegained

Value = TypeVar("Value")

SHUT_OUT_SECONDS = 0.25
"""After how long one looks again who may not even reserve a turn."""

SOONEST, LATEST = 0.0005, 0.003
"""Who finds the state locked looks again after something between the two: a change takes less than either."""


def host_gate(config: Config, key_digest: str, source: Random, notify: Observer) -> HostGate:
    """Return a gate for the account of a key, that all processes of this host share which ask for the same."""
    return HostGate(workers_for(config), host_account(config, key_digest), source, notify)


@define(eq=False, repr=False)
class HostTurns:
    """The turns of an event loop. It reserves one at a time, among all processes, and keeps it until it is taken: so
    each process gets its part, however many wait in it.
    """

    account: HostAccount
    random: Random
    tell: Callable[[], None]
    _reserved: float | None = field(default=None, init=False)

    def wait(self) -> float:
        """Return the seconds until the turn that is reserved, or after which to try again to reserve one."""
        if self._reserved is not None and (seconds := self._reserved - time.monotonic()) > 0:
            return seconds
        try:
            self._reserved, seconds = self.account.change(partial(reserve, reserved=self._reserved))
        except StoreBusyError:
            return self.random.uniform(SOONEST, LATEST)
        self.tell()
        if self.account.is_shut_out:
            self._reserved, seconds = None, SHUT_OUT_SECONDS
        return seconds

    def take(self) -> None:
        """The first leaves."""
        self._reserved = None

    def held_for(self) -> float:
        """Return how long everyone is held."""
        return self.account.known().allowance.pace.held_for(time.monotonic())

    def over_for(self) -> float:
        """Return how long nobody may ask, because the day is over; the turn that is reserved may be to see about it."""
        return 0.0 if self._reserved is not None else self.account.known().allowance.quota.seconds_over(time.time())


def reserve(state: HostState, now: float, *, reserved: float | None) -> tuple[float | None, float]:
    """Return the turn that is reserved and the seconds until then, or no turn and the seconds until the next look."""
    return state.allowance.reserve(now, time.time(), reserved=reserved)


@define(eq=False, repr=False)
class HostGate:
    """A gate whose rate, holds and count of the day are those of all processes of the host; its slots are its own."""

    concurrency: int
    account: HostAccount
    random: Random
    notify: Observer
    _lanes: PerLoop[Lanes] = field(init=False)
    _told: str | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._lanes = PerLoop(
            lambda: Lanes(HostTurns(self.account, self.random, self._tell_of_sharing), self.concurrency)
        )

    @property
    def limits(self) -> Limits:
        """What the processes believe now together."""
        allowance, now = self.account.look().allowance, time.monotonic()
        return read_limits(allowance, now, self._lanes.find(), self.concurrency, self.account.per_minute)

    def slot(self, lane: Lane = "calls", *, deadline: float = math.inf) -> AbstractAsyncContextManager[None]:
        """Wait for a turn and a free slot. Cancellation while waiting leaves the turn to the next of this process."""
        return self._lanes.get().slot(lane, deadline)

    async def accepted(self) -> None:
        """An attempt was accepted: the pace may grow, if it is the pace that is waited for."""
        lanes = self._lanes.get()
        self.account.count()
        is_wanted = lanes.is_pace_waited_for
        await self._change(lambda state, now: state.allowance.pace.accepted(now, is_wanted=is_wanted))
        lanes.call_first()

    async def throttled(self, *, sent_at: float, delay: float | None, is_limit: bool) -> Hold:
        """Hold everyone, or close the day."""
        sent = time.monotonic() - (anyio.current_time() - sent_at)  # the loop's clock is not the host's

        def refuse(state: HostState, now: float) -> Hold:
            return state.allowance.throttled(
                now, time.time(), sent_at=sent, delay=delay, is_limit=is_limit, source=self.random
            )

        hold = await self._change(refuse)
        if hold.seconds or hold.is_daily:
            self._lanes.get().call_all()
        return hold

    async def learn(self, per_minute: float) -> None:
        """Let no more leave than that."""
        if self.account.known().allowance.pace.is_news(per_minute):
            await self._change(lambda state, _now: state.allowance.pace.learn(per_minute))

    async def _change(self, work: Callable[[HostState, float], Value]) -> Value:
        while True:
            try:
                value = self.account.change(work)
            except StoreBusyError:
                await anyio.sleep(self.random.uniform(SOONEST, LATEST))
                continue
            self._tell_of_sharing()
            return value

    def _tell_of_sharing(self) -> None:
        problem, told = self.account.problem, self._told
        if (problem is None) == (told is None):
            return
        self._told = problem
        if problem is None:
            self.notify(SharingRegained())
            return
        self.notify(SharingLost(reason=problem, is_waiting=self.account.is_shut_out))
