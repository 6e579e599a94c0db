"""Who waits for a gate, in one event loop: one after the other, for a free slot and for the pace."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, Protocol, TypeAlias

import anyio
from attrs import define, field

from nebula_async.errors import DAY, RateLimitError

Lane: TypeAlias = Literal["calls", "bulk"]
"""Those who await one call go before those who wait for many."""


class Turns(Protocol):
    """When the first of all who wait may leave; all that it returns is in seconds from now."""

    def wait(self) -> float:
        """Return after how long the first should look again; 0: it may leave, and then `take` is called at once."""
        ...

    def take(self) -> None:
        """The first leaves."""
        ...

    def held_for(self) -> float:
        """Return how long everyone is held; 0 for no hold."""
        ...

    def over_for(self) -> float:
        """Return how long nobody may ask, because the day is over; else 0."""
        ...


@define(eq=False, repr=False)
class _Ticket:
    """A place in a lane; it is called when it is worth looking again."""

    called: anyio.Event = field(factory=lambda: anyio.Event())  # by its bare name half of anyio would be imported here


@define(eq=False, repr=False)
class Lanes:
    """Two lanes, first come first served in each; `free` slots are left.

    Only the first of all looks at the pace: a hold, a new rate and the day's end are for all who still wait.
    """

    turns: Turns
    free: int
    _calls: OrderedDict[_Ticket, None] = field(factory=OrderedDict, init=False)
    _bulk: OrderedDict[_Ticket, None] = field(factory=OrderedDict, init=False)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._calls) + len(self._bulk)

    @property
    def is_pace_waited_for(self) -> bool:
        """Whether somebody waits although there is a free slot."""
        return self.free > 0 and self.waiting > 0

    @asynccontextmanager
    async def slot(self, lane: Lane, deadline: float) -> AsyncIterator[None]:
        """Wait for one's turn and hold a slot inside the block; where there is nothing to wait for, that is no
        checkpoint.

        Raises `RateLimitError` where nobody may leave before the deadline, or before tomorrow. Who is cancelled while
        waiting has taken nothing.
        """
        if self.waiting or self._seconds_to_wait(deadline, is_first=True) > 0:
            await self._queue(self._calls if lane == "calls" else self._bulk, deadline)
        self.free -= 1
        self.turns.take()
        try:
            yield
        finally:
            self.free += 1
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
        wait = self.turns.wait() if is_first and self.free else math.inf
        held = self.turns.held_for()
        if over := self.turns.over_for():
            raise _refusal("the daily quota is used up", over, scope=DAY)
        if held and anyio.current_time() + held > deadline:  # else the deadline itself says so
            raise _refusal("all requests are held for longer than this call may take", held)
        return wait


def _refusal(text: str, seconds: float, scope: str | None = None) -> RateLimitError:
    return RateLimitError(text, retryable=True, status=429, retry_after=seconds, scope=scope)
