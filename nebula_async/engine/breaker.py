"""Keeps the many calls of a job from being sent into an outage: they wait for its end, one of them probing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
from attrs import define, field

from nebula_async.engine.outage import Outage
from nebula_async.engine.verdict import Known, Verdict
from nebula_async.errors import NotSentError

ANSWERS = frozenset({Known.PAID_UNUSABLE, Known.REFUSED, Known.FATAL})
SAYS_NOTHING = frozenset({Known.THROTTLED, Known.PAID_LOST})


@define(eq=False, repr=False)
class Breaker:
    """The outage breaker of one job; handed to each of its calls."""

    outage: Outage
    _changed: anyio.Event = field(factory=anyio.Event, init=False)
    _is_over: bool = field(default=False, init=False)

    @asynccontextmanager
    async def around(self, slot: Callable[[], AbstractAsyncContextManager[None]]) -> AsyncIterator[bool]:
        """Wait for the outage to end, or for one's turn to probe it, then for a slot; says whether it is a probe.

        Where the outage begins meanwhile, the slot is given back.

        Raises `NotSentError` for who would still wait once the job is over, or the outage hopeless.
        """
        while True:
            is_probe = await self._admitted()
            try:
                async with slot():
                    if is_probe or not self.outage.is_open:
                        yield is_probe
                        return
            finally:
                if is_probe:
                    self.outage.end_probe()
                    self._tell()

    def learn(self, verdict: Verdict | None, *, is_probe: bool) -> bool:
        """Learn what became of an attempt, `None` for a success; return whether the outage begins or ends with it."""
        now = anyio.current_time()
        if verdict is not None and verdict.known in SAYS_NOTHING:
            return False
        if verdict is None or verdict.known in ANSWERS:
            has_changed = self.outage.succeeded(now, is_probe=is_probe)
        else:
            has_changed = self.outage.failed(now, is_probe=is_probe)
        self._tell()
        return has_changed

    def open(self) -> bool:
        """Begin the outage, if it has not begun: so much failed that nothing more may be repeated."""
        return self.outage.open(anyio.current_time())

    def give_up(self) -> None:
        """Let nobody wait any longer: the job ends."""
        self._is_over = True
        self._tell()

    async def _admitted(self) -> bool:
        while (seconds := self.outage.wait(anyio.current_time())) > 0:
            if self._is_over or self.outage.is_hopeless:
                raise NotSentError("the API does not answer, and the job waits no longer", retryable=True)
            changed = self._changed
            with anyio.move_on_after(seconds):
                await changed.wait()
        return self.outage.release()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
