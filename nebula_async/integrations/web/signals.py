"""That a server was told to end, before it says so: the end of a lifespan comes after the last request."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], Any]

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def noticing_signals(notice: Callable[[], None]) -> Iterator[bool]:
    """Call `notice` when SIGTERM or SIGINT reaches the server of this process, and let the server have it as before.

    Yields whether it will be called: only where a server handles SIGTERM itself, in this very thread. Nothing is
    handled in its stead. `notice` is called between two instructions of whatever runs: it may set a value, no more.
    """
    if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGTERM)):
        yield False
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    noticed = {number: _after(notice, handler) for number, handler in handlers.items() if callable(handler)}
    before = {number: signal.signal(number, handler) for number, handler in noticed.items()}
    try:
        yield True
    finally:
        for number, handler in noticed.items():
            if signal.getsignal(number) is handler:  # else it was replaced, and is no more ours
                signal.signal(number, before[number])


def _after(notice: Callable[[], None], handler: Handler) -> Handler:
    def handle(number: int, frame: FrameType | None) -> Any:
        notice()
        return handler(number, frame)

    return handle
