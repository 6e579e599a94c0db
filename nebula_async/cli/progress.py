"""How a run is going, on stderr: one line that changes on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import math
import os
import time
from functools import partial
from typing import Protocol, TextIO

from attrs import define, field

from nebula_async.bulk.outcome import about_missing
from nebula_async.cli.lines import fitted, shortened, with_short_fact
from nebula_async.cli.live_line import Look, last_line, live_line, log_line
from nebula_async.cli.outlet import Outlet
from nebula_async.cli.tally import Course, Standing
from nebula_async.items import Result
from nebula_async.printing import on_one_line
from nebula_async.results import Failure

LIVE_SECONDS = 0.25
LOOKING_SECONDS = 1.0
"""How often a line that changes is drawn, at most, and how often a log looks whether a line is due."""

SECONDS_BETWEEN_LINES = 5.0
IDLE_SECONDS = 60.0
"""Seconds between lines of a log, and between those where nothing happens, as while the next day is waited for."""

LAST_WORD_SECONDS = 2.0
"""How long a reader that is slow is waited for at the end."""

MOST_FAILURES_TOLD = 20
MOST_OF_PROMPT, FEWEST_OF_PROMPT = 40, 12
"""Columns: a prompt takes a fifth of a terminal, within these."""

MORE_FAILURES = "more failures are noted in the job's ledger, and not told one by one"

NO_TERMINALS = ("dumb", "unknown")


class Progress(Protocol):
    """What shows how a run is going. `seconds` is how often it wants to know."""

    outlet: Outlet

    @property
    def seconds(self) -> float:
        """How often it wants to know, in seconds."""
        ...

    def show(self, standing: Standing) -> None:
        """Show how it is going."""
        ...

    def end(self, standing: Standing) -> None:
        """Show the last of it, and nothing more."""
        ...


def progress_on(stream: TextIO | None) -> Progress:
    """Return what shows progress on a stream: one line that changes on a terminal that can do so, else lines."""
    outlet = Outlet(stream)
    return LiveProgress(outlet, look_of(stream)) if shows_a_line(stream) else LogProgress(outlet)


def shows_a_line(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal on which a line can be changed."""
    is_terminal = stream is not None and not stream.closed and stream.isatty()
    return is_terminal and os.environ.get("TERM", "").lower() not in NO_TERMINALS


def look_of(stream: TextIO | None) -> Look:
    """Return what a terminal can show, by its encoding and the environment."""
    return Look(is_unicode=_shows(stream, "━─·"), has_colour=not os.environ.get("NO_COLOR"))


def _shows(stream: TextIO | None, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


@define(eq=False)
class LiveProgress:
    """One line that changes, below whatever else is told; it is gone at the end."""

    outlet: Outlet
    look: Look
    seconds: float = LIVE_SECONDS

    def show(self, standing: Standing) -> None:
        """Draw it at the terminal's width of that moment."""
        self.outlet.show(partial(self._draw, standing))

    def end(self, _standing: Standing) -> None:
        """Remove it."""
        self.outlet.close(seconds=LAST_WORD_SECONDS)

    def _draw(self, standing: Standing, width: int) -> str:
        return live_line(standing, width, self.look)


@define(eq=False)
class LogProgress:
    """A line after a second, one every few seconds, and a last one; none while the one before is not read."""

    outlet: Outlet
    seconds: float = LOOKING_SECONDS
    between: float = SECONDS_BETWEEN_LINES
    _began: float = field(factory=time.monotonic, init=False)
    _told: float = field(default=-math.inf, init=False)
    _last: tuple[int, Course] | None = field(default=None, init=False)
    _is_begun: bool = field(default=False, init=False)

    def show(self, standing: Standing) -> None:
        """Write a line, if one is due."""
        self._is_begun = True
        now, news = time.monotonic(), (standing.left, standing.course)
        between = self.between if news != self._last else IDLE_SECONDS
        if now - self._began < self.seconds or now - self._told < between or not self.outlet.is_idle:
            return
        self._told, self._last = now, news
        self.outlet.line(log_line(standing))

    def end(self, standing: Standing) -> None:
        """Write what the run came to, if it had something to do."""
        if self._is_begun:
            self.outlet.line(last_line(standing))
        self.outlet.close(seconds=LAST_WORD_SECONDS)


@define(eq=False)
class Failures:
    """Tells failures one by one, up to a number."""

    told: int = field(default=0, init=False)

    def line_about(self, result: Result, columns: int | None) -> str | None:
        """Return what is to be told of a result on a terminal of so many columns (`None`: in a log), `None` where that
        is nothing.
        """
        if not isinstance(result, Failure) and not result.missing:
            return None
        self.told += 1
        if self.told > MOST_FAILURES_TOLD:
            is_first = self.told == MOST_FAILURES_TOLD + 1
            return fitted(MORE_FAILURES, columns) if is_first else None
        return _about(result, columns)


def _about(result: Result, columns: int | None) -> str:
    """Return the number of an item, as its file has it, its prompt, the fact and its cost; the next step is told for
    each cause, at the end.
    """
    prompt = shortened(result.request.prompt, _room_for_prompt(columns))
    if isinstance(result, Failure):
        head, fact, cost = "failed", result.error.message, f"; {result.error.paid}"
    else:
        head, fact, cost = "incomplete", about_missing(result.missing, result.request.pictures) or "", ""
    about = on_one_line(f"{head}: item {result.index}, {prompt!r}: ")
    return with_short_fact(about, on_one_line(fact), cost, columns)


def _room_for_prompt(columns: int | None) -> int:
    return MOST_OF_PROMPT if columns is None else min(max(columns // 5, FEWEST_OF_PROMPT), MOST_OF_PROMPT)
