"""One visit: work that is done for a visitor, and what is known of it when it ends, whoever ended it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import anyio
from attrs import define, field

from nebula_async.charges import Charges
from nebula_async.events import Abandoned, Event, Failed, Generated, Observer
from nebula_async.integrations.web.http_errors import new_reference
from nebula_async.integrations.web.outcome import outcome_of

_current: ContextVar[Visit | None] = ContextVar("nebula_async_visit", default=None)

TELLING_SECONDS, LAST_WORD_SECONDS = 10.0, 1.0
"""How long it may take to tell how a call ended: usually, and once the grace of the application is over."""


@define(eq=False)
class Visit:
    """Work for a visitor, in a scope of its own, and what is done after it where nobody waited for it.

    `charges` sums up what all calls inside of it have cost, those that were cancelled included. `is_over` tells that
    the work ended by itself, `has_left` that its visitor did before, `is_departed` that it goes on all the same, and
    `stopped_by` why the application cancelled it. What it has made is stored inside of `storing`, a shield, and told
    inside of `telling`.
    """

    reference: str = field(factory=new_reference)
    charges: Charges = field(factory=Charges)
    error: BaseException | None = None
    has_left: bool = False
    is_departed: bool = False
    is_over: bool = False
    stopped_by: str | None = None
    telling_seconds: float = field(factory=lambda: TELLING_SECONDS)
    scope: anyio.CancelScope = field(factory=lambda: anyio.CancelScope())
    storing: anyio.CancelScope = field(factory=lambda: anyio.CancelScope(shield=True))
    telling: anyio.CancelScope = field(factory=lambda: anyio.CancelScope())
    done: anyio.Event = field(factory=lambda: anyio.Event())

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work inside of the scope, and keep what it raises: whoever waits for it raises that, bare."""
        before = _current.set(self)
        try:
            with self.scope:
                self.error = await outcome_of(work)
                self.is_over = self.error is None or isinstance(self.error, Exception)
        finally:
            _current.reset(before)
            self.done.set()

    def stop(self, reason: str) -> None:
        """Cancel the work."""
        self.stopped_by = reason
        self.scope.cancel()

    def hurry(self) -> None:
        """Leave little time to tell how it ended."""
        self.telling_seconds = LAST_WORD_SECONDS
        self.telling.deadline = min(self.telling.deadline, anyio.current_time() + LAST_WORD_SECONDS)

    def abandon(self) -> None:
        """Cancel what is done after the work, the storing of what is paid for included."""
        self.storing.cancel()
        self.telling.cancel()


def noting(observer: Observer) -> Observer:
    """Return the observer, which from now on also lets each visit note what its calls cost."""

    def note(event: Event, /) -> None:
        visit = _current.get()
        if visit is not None and isinstance(event, Generated | Failed | Abandoned):
            visit.charges += event.charges
        observer(event)

    return note
