"""Signals that are noted, for work that ends between two of its steps and leaves nothing half done."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deaf_for(seconds: float) -> Iterator[None]:
    """Let signals pass for so many seconds; one that comes later raises `KeyboardInterrupt`."""
    until = time.monotonic() + seconds

    def pass_over(_number: int, _: object) -> None:
        if time.monotonic() > until:
            raise KeyboardInterrupt

    usual: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, pass_over)
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


@contextmanager
def noted_signals(on_signal: Callable[[], object] = lambda: None) -> Iterator[list[int]]:
    """Give the list of the signals that came, of each of which `on_signal` is told at once.

    A second one of a kind does what it always does: it ends the command where it stands.
    """
    came: list[int] = []

    def note(number: int, _: object) -> None:
        came.append(number)
        signal.signal(number, usual[signal.Signals(number)])
        on_signal()

    usual: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
