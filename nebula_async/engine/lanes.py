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


@define(eq=False)
class _Ticket:
    """A place in a lane; it is called when it is worth looking again."""

    called: anyio.Event = field(factory=anyio.Event)


@define(eq=False)
class Lanes:
    """Two lanes, first come first served in each; `free` slots are left.

    Only the first of all looks at the pace, and nothing is reserved ahead: a hold, a new rate and the day's end are
    for all who still wait.
    """

    pace: Pace
    quota: DailyQuota
    free: int
    _lanes: dict[Lane, OrderedDict[_Ticket, None]] = field(
        factory=lambda: {"calls": OrderedDict(), "bulk": OrderedDict()}, init=False
    )

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._lanes.values()))

    async def enter(self, lane: Lane, deadline: float) -> None:
        """Wait for one's turn and take a slot; there is no other wait, so a free slot is taken without a checkpoint.

        Raises `RateLimitError` where nobody may leave before the deadline, or before tomorrow.
        """
        ticket = _Ticket()
        self._lanes[lane][ticket] = None
        try:
            while (seconds := self._seconds_to_wait(ticket, deadline)) > 0:
                ticket.called = anyio.Event()
                with anyio.move_on_after(seconds):
                    await ticket.called.wait()
            self.pace.release(anyio.current_time())
            self.quota.asked(time.time())
            self.free -= 1
        finally:
            del self._lanes[lane][ticket]
            self.call_first()

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
        if (first := self._first()) is not None:
            first.called.set()

    def _first(self) -> _Ticket | None:
        return next((next(iter(lane)) for lane in self._lanes.values() if lane), None)

    def _seconds_to_wait(self, ticket: _Ticket, deadline: float) -> float:
        now, held = anyio.current_time(), self.pace.held_for(anyio.current_time())
        if closed := self.quota.seconds_over(time.time()):
            raise _refusal("the daily quota is used up; it is renewed at 00:00 UTC", closed, scope="day")
        if now + held > deadline:
            raise _refusal(f"all requests are held for another {held:.0f} s, longer than this call may take", held)
        is_turn = self.free > 0 and self._first() is ticket
        return self.pace.wait(now) if is_turn else math.inf


def _refusal(text: str, seconds: float, scope: str | None = None) -> RateLimitError:
    return RateLimitError(f"{text}; nothing was sent", retryable=True, status=429, retry_after=seconds, scope=scope)
