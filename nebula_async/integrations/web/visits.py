"""The calls that an application makes for its visitors: watched, finished for those who left, drained at its end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from attrs import define, field

from nebula_async.charges import Charges
from nebula_async.integrations.web.leaving import ClientLeft, Finish, Policy, ShuttingDown
from nebula_async.integrations.web.presence import Presence
from nebula_async.integrations.web.settling import Settlement
from nebula_async.integrations.web.signals import noticing_signals
from nebula_async.integrations.web.visit import Visit
from nebula_async.requests import Request
from nebula_async.results import Generation

logger = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 0.2
"""A signal only leaves a note."""

ENDING_SECONDS = 5.0
"""How long calls that were cancelled may take to end, and pictures that are here to be stored."""

AT_ONCE = 8
"""Requests that begin in one round of the event loop: to begin takes a tenth of a millisecond, and two hundred that
arrive together would hold everybody else up.
"""

MOST_NAMED = 20

END_OF_GRACE, TOO_MANY = "the end of the application", "too many calls without their visitors"


@define(eq=False)
class Visits:
    """All that is under way for the visitors of an application, in one event loop."""

    policy: Policy
    grace_seconds: float
    group: TaskGroup | None = None
    is_draining: bool = field(default=False, init=False)
    running: set[Visit] = field(factory=set, init=False)
    _ends_at: float | None = field(default=None, init=False)
    _idle: anyio.Event = field(factory=lambda: anyio.Event(), init=False)
    _starting: anyio.Semaphore = field(factory=lambda: anyio.Semaphore(AT_ONCE), init=False)

    @property
    def departed(self) -> int:
        """How many calls go on without their visitors."""
        return sum(visit.is_departed for visit in self.running)

    def check_open(self) -> None:
        """Refuse what comes after the end has begun. Raises `ShuttingDown`."""
        if self.is_draining:
            raise ShuttingDown

    async def call(self, presence: Presence, request: Request, call: Callable[[], Awaitable[Generation]]) -> Generation:
        """Make a call as the policy wants it, and return its result. Raises `ClientLeft` and `ShuttingDown`."""
        self.check_open()
        visit, made = Visit(), list[Generation]()

        async def work() -> None:
            made.append(await call())

        async def settle(policy: Finish) -> None:
            await Settlement(visit, request, made[0] if made else None).settle(policy)

        await self.attend(presence, visit, work, settle)
        return made[0]

    async def call_in_turn(
        self, presence: Presence, request: Request, call: Callable[[], Awaitable[Generation]]
    ) -> Generation:
        """Make a call as `call` does, once it is its turn to begin."""
        await self.take_turn()
        return await self.call(presence, request, call)

    async def take_turn(self) -> None:
        """Let a few requests begin in each round of the event loop, and no more."""
        async with self._starting:
            await anyio.lowlevel.checkpoint()

    async def attend(
        self,
        presence: Presence,
        visit: Visit,
        work: Callable[[], Awaitable[None]],
        settle: Callable[[Finish], Awaitable[None]],
    ) -> None:
        """Do work for a visitor as the policy wants it; `settle` is what is done after work that nobody waited for.

        Raises what the work does, `ClientLeft` where the visitor left before it ended, and `ShuttingDown`.
        """
        self.running.add(visit)
        if isinstance(self.policy, Finish) and self.group is not None:
            self.group.start_soon(self._entrusted, visit, work, settle, self.policy)
            await self._until_done(presence, visit, settle, self.policy)
        else:
            await self._here(presence, visit, work)
        if visit.error is not None:
            raise visit.error
        if visit.is_departed or (visit.has_left and visit.scope.cancelled_caught):
            raise ClientLeft
        if visit.stopped_by is not None and not visit.is_over:
            raise ShuttingDown

    async def drain(self) -> None:
        """Give what is under way what is left of the grace, cancel the rest, and log what that may have cost."""
        self.is_draining = True
        await self._end_with_grace()

    def note_end(self) -> None:
        """Take note that the application is to end; safe inside of a signal's handler."""
        self.is_draining = True

    async def end_when_noted(self) -> None:
        """Wait until the end is noted, and cancel after the grace what the server itself would wait for without end."""
        while not self.is_draining:  # noqa: ASYNC110 - a signal's handler may set no event
            await anyio.sleep(LOOK_EVERY_SECONDS)
        await self._end_with_grace()

    async def _here(self, presence: Presence, visit: Visit, work: Callable[[], Awaitable[None]]) -> None:
        async def watch() -> None:
            await presence.wait_until_left()
            visit.has_left = True
            visit.scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                if self.policy != "ignore":
                    group.start_soon(watch)
                await visit.run(work)
                group.cancel_scope.cancel()
        finally:
            self._forget(visit)
            if visit.has_left or not visit.is_over:
                _log_cancelled(visit)

    async def _entrusted(
        self,
        visit: Visit,
        work: Callable[[], Awaitable[None]],
        settle: Callable[[Finish], Awaitable[None]],
        policy: Finish,
    ) -> None:
        """Do the work in the group of the application: whoever waits for it may go."""
        try:
            await visit.run(work)
            if visit.is_departed:
                await settle(policy)
        finally:
            self._forget(visit)

    async def _until_done(
        self, presence: Presence, visit: Visit, settle: Callable[[Finish], Awaitable[None]], policy: Finish
    ) -> None:
        async def watch() -> None:
            await presence.wait_until_left()
            visit.has_left = True
            group.cancel_scope.cancel()

        is_there = False
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                await visit.done.wait()
                group.cancel_scope.cancel()
            is_there = not visit.has_left
        finally:
            if not is_there:  # the visitor left, or the route itself was cancelled, if only in the very last moment
                self._depart(visit, settle, policy)

    def _depart(self, visit: Visit, settle: Callable[[Finish], Awaitable[None]], policy: Finish) -> None:
        visit.has_left = visit.is_departed = True
        if not visit.done.is_set():
            if self.departed > policy.most:
                visit.stop(TOO_MANY)
            return
        if self.group is not None:
            with suppress(RuntimeError):  # the application is over: what the call cost was told when it ended
                self.group.start_soon(self._settled, visit, settle, policy)
                self.running.add(visit)  # it ended in the very moment in which its visitor left

    async def _settled(self, visit: Visit, settle: Callable[[Finish], Awaitable[None]], policy: Finish) -> None:
        try:
            await settle(policy)
        finally:
            self._forget(visit)

    def _forget(self, visit: Visit) -> None:
        self.running.discard(visit)
        if not self.running:
            self._idle.set()

    async def _end_with_grace(self) -> None:
        await self._idle_until(self._end_of_grace())
        stopped = self._stop_all()
        await self._idle_until(anyio.current_time() + ENDING_SECONDS)
        for visit in self.running:
            visit.abandon()
        _log_stopped([visit for visit in stopped if not visit.is_over], f"after the {self.grace_seconds:g} s of grace")

    def _end_of_grace(self) -> float:
        if self._ends_at is None:
            self._ends_at = anyio.current_time() + self.grace_seconds
        return self._ends_at

    def _stop_all(self) -> list[Visit]:
        stopped = [visit for visit in self.running if visit.stopped_by is None and not visit.done.is_set()]
        for visit in stopped:
            visit.stop(END_OF_GRACE)
        for visit in self.running:
            visit.hurry()
        return stopped

    async def _idle_until(self, deadline: float) -> None:
        with anyio.CancelScope(deadline=deadline):
            while self.running:
                if self._idle.is_set():
                    self._idle = anyio.Event()
                await self._idle.wait()


def _log_cancelled(visit: Visit) -> None:
    why = "its visitor left" if visit.has_left else "its route was cancelled"
    logger.info("a call was cancelled, because %s: reference=%s charges=%s", why, visit.reference, visit.charges)


def _log_stopped(stopped: list[Visit], when: str) -> None:
    if stopped:
        charges = sum((visit.charges for visit in stopped), Charges())
        references = ", ".join(visit.reference for visit in stopped[:MOST_NAMED])
        logger.warning(
            "%d calls were cancelled %s; %s pictures may have been paid for: %s",
            len(stopped),
            when,
            charges,
            references,
        )


@asynccontextmanager
async def open_visits(policy: Policy, grace_seconds: float) -> AsyncIterator[Visits]:
    """Keep the visits of an application from its start to its end, where they are drained.

    The exception of the block comes out bare.
    """
    visits, failure = Visits(policy, grace_seconds), None
    with noticing_signals(visits.note_end) as is_noticing:
        async with _group_for(isinstance(policy, Finish) or is_noticing) as visits.group:
            if is_noticing and visits.group is not None:
                visits.group.start_soon(visits.end_when_noted)
            try:
                yield visits
            except Exception as error:  # noqa: BLE001 - raised below: a task group would wrap it
                failure = error
            except BaseException:  # the server does not wait
                _log_stopped(list(visits.running), "at once")
                raise
            await visits.drain()
            if visits.group is not None:
                visits.group.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _group_for(is_needed: bool) -> AbstractAsyncContextManager[TaskGroup | None]:
    """Return a task group where one is needed: fixtures of pytest-asyncio enter and leave lifespans in different tasks,
    which a task group does not bear.
    """
    return anyio.create_task_group() if is_needed else nullcontext()
