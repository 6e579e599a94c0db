"""Who waits for a gate, in one event loop: one after the other, for a free slot and for the pace."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import Literal, TypeAlias

import anyio
from attrs import define, field

from nebula_async.engine.pace import Pace
from nebula_async.engine.quota import DailyQuota
from nebula_async.errors import RateLimitError

Lane: TypeAlias = Literal["calls", "bulk"]
"""Those who await one call go before those who wait for many."""


@define(eq=False, repr=False)
class _Ticket:
    """A place in a lane; it is called when it is worth looking again."""

    called: anyio.Event = field(factory=lambda: anyio.Event())  # by its bare name half of anyio would be imported here


@define(eq=False, repr=False)
class Lanes:
    """Two lanes, first come first served in each; `free` slots are left.

    Only the first of all looks at the pace, and nothing is reserved ahead: a hold, a new rate and the day's end are
    for all who still wait.
    """

    pace: Pace
    quota: DailyQuota
    free: int
    _calls: OrderedDict[_Ticket, None] = field(factory=OrderedDict, init=False)
    _bulk: OrderedDict[_Ticket, None] = field(factory=OrderedDict, init=False)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._calls) + len(self._bulk)

    async def enter(self, lane: Lane, deadline: float) -> None:
        """Wait for one's turn and take a slot; where there is nothing to wait for, that is no checkpoint.

        Raises `RateLimitError` where nobody may leave before the deadline, or before tomorrow.
        """
        if self.waiting or self._seconds_to_wait(deadline, is_first=True) > 0:
            await self._queue(self._calls if lane == "calls" else self._bulk, deadline)
        self.free -= 1
        self.pace.release(anyio.current_time())
        self.quota.asked(time.time())

    def leave(self) -> None:
        """Give the slot back."""
        self.free += 1
        self.call_first()

    def accepted(self) -> None:
        """An attempt was accepted: the pace may grow, if it is the pace that is waited for."""
        self.pace.accepted(anyio.current_time(), is_wanted=self.free > 0 and self.waiting > 0)
        self.call_first()

    def call_first(self) -> None:
        """Let the first look again."""
        for ticket in self._calls or self._bulk:
            ticket.called.set()
            break

    def call_all(self) -> None:
        """Let everyone look again: whether it can still be in time."""
        for ticket in (*self._calls, *self._bulk):
            ticket.called.set()

    async def _queue(self, lane: OrderedDict[_Ticket, None], deadline: float) -> None:
        ticket = _Ticket()
        lane[ticket] = None
        try:
            while (seconds := self._seconds_to_wait(deadline, is_first=self._is_first(ticket))) > 0:
                ticket.called = anyio.Event()
                with anyio.move_on_after(seconds):
                    await ticket.called.wait()
        finally:
            del lane[ticket]
            self.call_first()  # who takes the slot now has taken it before the next one runs

    def _is_first(self, ticket: _Ticket) -> bool:
        return ticket is next(iter(self._calls or self._bulk))

    def _seconds_to_wait(self, deadline: float, *, is_first: bool) -> float:
        now = anyio.current_time()
        held = self.pace.held_for(now)
        if closed := self.quota.seconds_over(time.time()):
            raise _refusal(f"the daily quota is used up for another {closed:.0f} s", closed, scope="day")
        if now + held > deadline:
            raise _refusal(f"all requests are held for another {held:.0f} s, longer than this call may take", held)
        return self.pace.wait(now) if is_first and self.free else math.inf


def _refusal(text: str, seconds: float, scope: str | None = None) -> RateLimitError:
    return RateLimitError(f"{text}; nothing was sent", retryable=True, status=429, retry_after=seconds, scope=scope)
