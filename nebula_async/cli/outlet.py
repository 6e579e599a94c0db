"""A stream that is written to from a thread of its own: who reads slowly, or not at all, holds up nobody."""

from __future__ import annotations

import io
import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO, TypeAlias

from attrs import define, field

MOST_WAITING = 2**23
"""Characters that may wait for a reader; lines beyond are left out."""

GATHERING_SECONDS = 0.1
"""What comes within so many seconds is written at once."""

CALM = 10.0
"""After a write that took long, nothing is drawn for so many times as long: most of a slow line stays free."""

LONG_WRITE = 0.02
LONGEST_CALM = 10.0

Draw: TypeAlias = Callable[[int], str]
"""Returns the line to be shown on a terminal of so many columns: at least one short of them, codes of colours aside."""

CLEAR = "\r\x1b[K"
COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")


@define(eq=False)
class Outlet:
    """Writes lines, and on a terminal below them one that changes.

    None of its methods waits, but for `flush` and `close`. A stream that is closed, full or has no reader takes nothing
    more, and that is no error. It writes to the stream's descriptor: what was printed before should be flushed.
    """

    stream: TextIO | None
    is_gone: bool = field(default=False, init=False)
    _descriptor: int = field(default=-1, init=False)
    _encoding: str = field(default="utf-8", init=False)
    _lines: deque[str] = field(factory=deque, init=False)
    _waiting: int = field(default=0, init=False)
    _left_out: int = field(default=0, init=False)
    _draw: Draw | None = field(default=None, init=False)
    _drawn: str = field(default="", init=False)
    _calm_until: float = field(default=0.0, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _news: threading.Event = field(factory=threading.Event, init=False)
    _closing: threading.Event = field(factory=threading.Event, init=False)

    def __attrs_post_init__(self) -> None:
        try:
            self._descriptor = -1 if self.stream is None else self.stream.fileno()
        except (io.UnsupportedOperation, ValueError):  # it is no file, or closed
            self._descriptor = -1
        self.is_gone = self._descriptor < 0
        self._encoding = getattr(self.stream, "encoding", None) or "utf-8"

    @property
    def is_idle(self) -> bool:
        """Whether all lines are written."""
        return not self._waiting

    @property
    def left_out(self) -> int:
        """How many lines were left out, because too many waited for the reader."""
        return self._left_out

    def line(self, text: str, *, is_needed: bool = False) -> None:
        """Write a line; one that is needed is not left out, however many wait."""
        if self.is_gone or self._closing.is_set():
            return
        with self._lock:
            if self._waiting >= MOST_WAITING and not is_needed:
                self._left_out += 1
                return
            self._waiting += len(text) + 1
            self._lines.append(text)
        self._wake()

    def show(self, draw: Draw | None) -> None:
        """Show this as the line that changes, in place of what is shown; `None`: nothing any more."""
        if not (self.is_gone or self._closing.is_set()):
            self._draw = draw
            self._wake()

    def flush(self, *, seconds: float) -> None:
        """Wait until all is written, for so many seconds at most. Blocks."""
        until = time.monotonic() + seconds
        while self._waiting and not self.is_gone and time.monotonic() < until:
            time.sleep(GATHERING_SECONDS / 10)

    def close(self, *, seconds: float | None = None) -> None:
        """Wait until all is written and the line that changes is gone, for so many seconds at most. Blocks."""
        self._draw = None
        self._closing.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="nebula-async outlet", daemon=True)
            self._thread.start()
        if not self._news.is_set():
            self._news.set()

    def _run(self) -> None:
        is_last = False
        while not is_last and not self.is_gone:
            self._news.wait()
            self._closing.wait(GATHERING_SECONDS)
            self._news.clear()
            is_last = self._closing.is_set()
            lines, draw = self._taken(), self._draw
            self._write(lines, self._next(draw, is_last=is_last, has_lines=bool(lines)))

    def _taken(self) -> list[str]:
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
        return lines

    def _next(self, draw: Draw | None, *, is_last: bool, has_lines: bool) -> str | None:
        """Return what is to be shown now, `None` for what is shown already."""
        if is_last or draw is None:
            return "" if self._drawn else None
        if not has_lines and time.monotonic() < self._calm_until:
            return None
        if self._is_in_background():
            return "" if has_lines else None
        return draw(self._width())

    def _write(self, lines: list[str], shown: str | None) -> None:
        if not lines and (shown is None or shown == self._drawn):
            return
        shown = self._drawn if shown is None else shown
        text = self._cleared() if self._drawn else ""
        text += "".join(f"{line}\n" for line in lines)
        text += f"{shown}\x1b[K" if shown else ""
        began = time.monotonic()
        self._put(text.encode(self._encoding, "backslashreplace"))
        took = time.monotonic() - began
        if took > LONG_WRITE:
            self._calm_until = time.monotonic() + min(CALM * took, LONGEST_CALM)
        self._drawn = shown
        with self._lock:
            self._waiting -= sum(len(line) + 1 for line in lines)

    def _cleared(self) -> str:
        """Return what removes the line that is shown, also where the terminal became narrower and broke it in two."""
        rows_above = (len(COLOUR_CODES.sub("", self._drawn)) - 1) // self._width()
        return f"\x1b[{rows_above}A\r\x1b[J" if rows_above else CLEAR

    def _put(self, data: bytes) -> None:
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # somebody else made it so
                    select.select([], [self._descriptor], [], 1.0)
        except OSError:
            self.is_gone = True

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._descriptor).columns or 80
        except OSError:
            return 80

    def _is_in_background(self) -> bool:
        """Whether the terminal is another job's, as after Ctrl-Z and bg: a line that changes would be in its way."""
        try:
            return os.tcgetpgrp(self._descriptor) != os.getpgrp()
        except OSError:  # it is no terminal of this session
            return False
