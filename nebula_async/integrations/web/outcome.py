"""How code of others ends, whatever it raises: sinks, middleware, what an application wants to be told."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio


async def outcome_of(work: Callable[[], Awaitable[object]]) -> BaseException | None:
    """Do work, and return what it raises; `None` where it ends well.

    So is a cancellation that nobody here has asked for: code that waits for a task or a future that somebody has
    cancelled raises one, and would end whoever runs it with all that runs beside it. One that was asked for, by a scope
    around this, comes out, and so do `KeyboardInterrupt` and `SystemExit`.
    """
    try:
        await work()
    except BaseException as error:
        if goes_on(error):
            raise
        return error
    return None


def goes_on(error: BaseException) -> bool:
    """Whether an exception is not to be stopped: the end of the process, or a cancellation that was asked for."""
    if isinstance(error, anyio.get_cancelled_exc_class()):
        return anyio.current_effective_deadline() == -math.inf
    return isinstance(error, KeyboardInterrupt | SystemExit)
