"""One call in a terminal: after a few seconds it says how long it is waited for."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio
from attrs import define, field

from nebula_async.cli.beside import accompanied
from nebula_async.cli.connection import say_notice
from nebula_async.cli.lines import columns_of, fitted
from nebula_async.cli.notices import FOR_PROGRAMS, Notice
from nebula_async.cli.outlet import Outlet
from nebula_async.cli.output import say
from nebula_async.cli.progress import LAST_WORD_SECONDS, shows_a_line
from nebula_async.client import AsyncNebula
from nebula_async.printing import on_one_line
from nebula_async.quantities import duration

SILENT_SECONDS = 3.0
"""Who waits no longer is told nothing."""

Value = TypeVar("Value")


@define(eq=False)
class Waiting:
    """Shows how long a call takes, on stderr if that is a terminal, and tells what happens meanwhile."""

    _outlet: Outlet | None = field(default=None, init=False)

    async def around(self, work: Callable[[], Awaitable[Value]], nebula: AsyncNebula, what: str) -> Value:
        """Return what comes of some work, while it is shown that `what` is waited for. Raises what the work raises."""
        if not shows_a_line(sys.stderr):
            return await work()
        self._outlet = Outlet(sys.stderr)
        try:
            return await accompanied(work, partial(_count, nebula, what, self._outlet))
        finally:
            self._outlet.close(seconds=LAST_WORD_SECONDS)
            self._outlet = None

    def say(self, text: str) -> None:
        """Tell something above the line that is shown."""
        if self._outlet is None:
            say(text)
        else:
            self._outlet.line(fitted(on_one_line(text), columns_of(self._outlet.stream)))

    def notice(self, notice: Notice) -> None:
        """Tell what happened, unless the line shows it."""
        if self._outlet is None:
            say_notice(notice)
        elif notice.name not in FOR_PROGRAMS:
            self.say(notice.text)


async def _count(nebula: AsyncNebula, what: str, outlet: Outlet) -> None:
    began = anyio.current_time()
    await anyio.sleep(SILENT_SECONDS)
    while True:
        held = nebula.limits.held_seconds
        why = f"; too many requests, {duration(held)} to go" if held else ""
        outlet.show(partial(_cut, f"waiting for {what}: {duration(int(anyio.current_time() - began))}{why}"))
        await anyio.sleep(1)


def _cut(text: str, columns: int) -> str:
    return text[: max(columns - 1, 1)]
