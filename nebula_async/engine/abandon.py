"""Work that may never end, in a thread that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TypeVar

import anyio
from anyio import from_thread
from anyio.lowlevel import current_token

Value = TypeVar("Value")


async def abandonable(work: Callable[..., Value], *arguments: object) -> Value:
    """Return what `work` returns, or raise what it raises, in a thread of its own.

    Cancellation leaves the thread to itself: neither the event loop nor the end of the process waits for it, as both
    do for the threads of the loop, in which a silent name server or network drive would hold up the end.
    """
    outcome: Future[Value] = Future()
    done, token = anyio.Event(), current_token()

    def run() -> None:
        try:
            outcome.set_result(work(*arguments))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            outcome.set_exception(error)
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            from_thread.run_sync(done.set, token=token)

    Thread(target=run, name="nebula-async abandonable", daemon=True).start()
    await done.wait()
    return outcome.result()
