"""Clients that never wait: for tests, where a back-off teaches nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from random import SystemRandom

from anyio.lowlevel import checkpoint
from attrs import define, field

from nebula_async.client import AsyncNebula
from nebula_async.config import RetryPolicy
from nebula_async.engine.allowance import LONGEST_HOLD, Hold
from nebula_async.engine.gate import Account, Limits, LocalGate, slots_for
from nebula_async.engine.lanes import Lane

NO_WAIT = RetryPolicy(backoff=0)
"""The usual number of attempts, without a wait of our own choice between them."""

UNNAMED_SECONDS = 1.0
"""What a refusal that names no delay is taken to ask for."""


def never_waiting(nebula: AsyncNebula, pass_time: Callable[[float], None]) -> AsyncNebula:
    """Return this client, which from now on lets time pass by that instead of waiting before it tries again."""

    async def sleep(seconds: float) -> None:
        pass_time(seconds)
        await checkpoint()

    nebula._wiring = nebula._wiring.sleeping(sleep)
    nebula.generator = nebula._wiring.generator
    return nebula


def _nothing(_seconds: float) -> None:
    pass


@define(eq=False, repr=False)
class OpenGate:
    """A gate that holds nobody: who is refused with a 429 comes again at once, whatever `Retry-After` says.

    `pass_time` is told how long everyone would have been held, so that an emulator's clock can be put forward instead.
    A delay of more than an hour still means that the day is over, as it does for every gate. Never for the API itself,
    which it would storm.
    """

    concurrency: int = slots_for(None)
    pass_time: Callable[[float], None] = _nothing
    _gate: LocalGate = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._gate = LocalGate(self.concurrency, Account(None, None, NO_WAIT.backoff), SystemRandom())

    @property
    def limits(self) -> Limits:
        """What it believes now: of a limit of the minute, nothing."""
        return self._gate.limits

    def slot(self, lane: Lane, *, deadline: float) -> AbstractAsyncContextManager[None]:
        """Wait for a free slot. Raises `RateLimitError` once the day is over."""
        return self._gate.slot(lane, deadline=deadline)

    async def accepted(self) -> None:
        """An attempt was accepted."""
        await self._gate.accepted()

    async def throttled(self, *, sent_at: float, delay: float | None, is_limit: bool) -> Hold:
        """Let the time pass that was asked for, in no time; close the day where it is over."""
        is_daily = (delay or 0.0) > LONGEST_HOLD
        if not is_daily:
            self.pass_time(delay or UNNAMED_SECONDS)
        return await self._gate.throttled(sent_at=sent_at, delay=delay if is_daily else None, is_limit=is_limit)

    async def learn(self, per_minute: float) -> None:
        """Take no notice of a limit."""
