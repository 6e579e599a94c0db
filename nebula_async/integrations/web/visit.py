"""One visit: work that is done for a visitor, and what is known of it when it ends, whoever ended it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import anyio
from attrs import define, field

from nebula_async.charges import Charges
from nebula_async.events import Abandoned, Event, Failed, Generated, Observer
from nebula_async.integrations.web.http_errors import new_reference

_current: ContextVar[Visit | None] = ContextVar("nebula_async_visit", default=None)


@define(eq=False)
class Visit:
    """Work for a visitor, in a scope of its own.

    `charges` sums up what all calls inside of it have cost, those that were cancelled included. `is_over` tells that
    the work ended by itself, `has_left` that its visitor did before, `is_departed` that it goes on all the same, and
    `stopped_by` why the application cancelled it.
    """

    reference: str = field(factory=new_reference)
    charges: Charges = field(factory=Charges)
    error: Exception | None = None
    has_left: bool = False
    is_departed: bool = False
    is_over: bool = False
    stopped_by: str | None = None
    scope: anyio.CancelScope = field(factory=lambda: anyio.CancelScope())
    done: anyio.Event = field(factory=lambda: anyio.Event())

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work inside of the scope, and keep the exception that it ends with."""
        before = _current.set(self)
        try:
            with self.scope:
                await work()
                self.is_over = True
        except Exception as error:  # noqa: BLE001 - whoever waits for it raises it, bare
            self.error, self.is_over = error, True
        finally:
            _current.reset(before)
            self.done.set()

    def stop(self, reason: str) -> None:
        """Cancel the work."""
        self.stopped_by = reason
        self.scope.cancel()


def noting(observer: Observer) -> Observer:
    """Return the observer, which from now on also lets each visit note what its calls cost."""

    def note(event: Event, /) -> None:
        visit = _current.get()
        if visit is not None and isinstance(event, Generated | Failed | Abandoned):
            visit.charges += event.charges
        observer(event)

    return note
