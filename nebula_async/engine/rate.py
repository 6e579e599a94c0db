"""How many requests a second a server takes, as far as its refusals tell: pure, the clock handed in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from attrs import define, field

SLOWEST, FASTEST = 0.02, 100_000.0

FIRST_BURST = 8
FIRST_RATE = 2.0
"""While nothing is known, so many leave at once, and then so many a second, until a first reply has come."""

QUICKEST_REPLY, SLOWEST_REPLY = 1.0, 10.0
"""An unknown rate doubles with each reply time, and that is taken to be within these bounds."""

FEWEST_ACCEPTED = 16
"""A rate that is refused before so many were accepted has hardly been tried."""

DIP, RISE = 0.04, 0.15
"""After a refusal the rate is so far below the limit that was seen; a unit of growth later it is there, and another
one later so far above. From then on it doubles with each unit.
"""

SHORTEST_CALM, CALM_REQUESTS, QUICK_CALM = 8.0, 20.0, 30.0
LONGEST_CALM, LONG_CALM_REQUESTS = 40.0, 100.0
CALMEST = 3
"""The first unit. Each time that a limit is seen again the unit doubles, until the limit is tried no more often than
once in so many seconds or requests. The limit of a window is known that well at once.
"""

RISE_SECONDS, RISE_REQUESTS = 20.0, 64.0
"""The units after it."""

SAME = 0.1

MINUTE = 60.0
OVER_THE_WINDOW = 1.03
"""A window is used up a little before its end: so it is used fully, and the limit is seen again."""

LONGEST_UNUSED = 10.0

RECENT_REQUESTS, SHORTEST_RECENT = 25.0, 3.0

MARK_SECONDS, MARKS = 0.5, 160


def clamp(value: float, lowest: float, highest: float) -> float:
    """Return the value within its bounds; the higher one counts where they cross."""
    return min(max(value, lowest), highest)


@define(eq=False)
class Tally:
    """Counts the requests that left, without those that were refused."""

    total: int = 0
    first_at: float = math.inf
    _marks: deque[tuple[float, int]] = field(factory=lambda: deque(maxlen=MARKS), init=False)

    def add(self, now: float) -> None:
        """A request leaves."""
        self.total += 1
        self.first_at = min(self.first_at, now)
        if not self._marks or now - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.append((now, self.total))

    def catch_up(self, left: int, marks: Iterable[tuple[float, int]]) -> None:
        """So many more left; `marks` say when, and how many of them until then."""
        for moment, count in marks:
            self.first_at = min(self.first_at, moment)
            self._marks.append((moment, self.total + count))
        self.total += left

    def take_back(self) -> None:
        """One of those that left was refused."""
        self.total -= 1

    def since(self, moment: float) -> float:
        """Return nearly how many left since a moment of the last minute."""
        later = (math.inf, self.total + 1)
        for mark in reversed(self._marks):
            if mark[0] <= moment:
                share = (moment - mark[0]) / (later[0] - mark[0])
                return max(0.0, self.total - mark[1] - share * (later[1] - mark[1]))
            later = mark
        return max(0.0, self.total - later[1] + 1)


@define(eq=False)
class Rate:
    """What a server is believed to take: the ceiling, or about the level at which it last refused, or nothing yet.

    After a refusal the rate dips below the level, comes back to it, and then tries more. How often it tries is a matter
    of requests rather than seconds, so that the share of refusals does not depend on the limit. It grows only while
    more is wanted, and however it fell, never above the ceiling.
    """

    ceiling: float
    tally: Tally = field(factory=Tally, init=False)
    _untried: float = field(default=FIRST_RATE, init=False)
    _reply_seconds: float | None = field(default=None, init=False)
    _level: float | None = field(default=None, init=False)
    _grown: float = field(default=0.0, init=False)
    _confirmed: int = field(default=0, init=False)
    _used_up_at: float | None = field(default=None, init=False)
    _used_up_total: int = field(default=0, init=False)
    _held_since: float = field(default=0.0, init=False)

    @property
    def is_known(self) -> bool:
        """Whether anything is known: a limit was named, or one was seen."""
        return self._level is not None or math.isfinite(self.ceiling)

    @property
    def per_second(self) -> float:
        """The rate of this moment."""
        if self._level is None:
            return self.ceiling if self.is_known else self._untried
        return clamp(self._level * self._shape(), SLOWEST, min(self.ceiling, FASTEST))

    @property
    def is_learning(self) -> bool:
        """Whether the rate is not simply the ceiling: nothing is known, or a refusal showed less."""
        return self._level is not None or not self.is_known

    def accepted(self, now: float, seconds: float, *, is_wanted: bool) -> None:
        """A request was accepted, so many seconds after the one before or the end of a hold. Grow if more is wanted."""
        if self._reply_seconds is None:
            self._reply_seconds = clamp(now - self.tally.first_at, QUICKEST_REPLY, SLOWEST_REPLY)
            self._untried = max(self._untried, FIRST_BURST / self._reply_seconds)
        if not is_wanted:
            return
        if self._level is None:
            self._untried = min(self._untried + 1 / self._reply_seconds, FASTEST)
            return
        per_second = self.per_second
        self._grown += clamp(seconds, 0, max(5.0, 2 / per_second)) / self._unit(per_second)

    def held(self, seconds: float) -> None:
        """Nothing leaves for so many seconds more."""
        self._held_since += seconds

    def used_up(self, now: float, sent_at: float) -> None:
        """A request was refused after others had been accepted: the limit was used up at this rate."""
        if not self.is_known and self.tally.total < FEWEST_ACCEPTED:
            self._untried = max(self._untried / 2, SLOWEST)
            return
        is_late = self._level is None or self._grown >= 0.5  # else the refusal before this one was misread
        before, self._level = self._level, max(self._seen(now, sent_at), SLOWEST)
        is_same = before is not None and abs(self._level / before - 1) < SAME
        self._confirmed = min(self._confirmed + is_late, 20) if is_same else 0
        self._grown = 0.0
        if is_late:
            self._used_up_at, self._used_up_total, self._held_since = sent_at, self.tally.total, 0.0

    def closed(self) -> None:
        """A request was refused and no other accepted before: that says nothing of the rate."""
        self._grown = 0.0

    def opened(self, closed_at: float, opened_at: float, used_at: float) -> None:
        """A limit that was still closed at `closed_at` opened about `opened_at`, and was used at `used_at`.

        What the last minute took is the limit of a window. One that is closed for longer says nothing of the rate.
        """
        self._grown = 0.0
        most = self.tally.since(closed_at - MINUTE)
        if self._level is None or most <= 1:
            return
        unused = clamp(used_at - opened_at, 0, LONGEST_UNUSED)
        minute = clamp(opened_at - self.tally.first_at, 2 * unused + 1, MINUTE)
        took = max(self.tally.since(opened_at - MINUTE), most / 2)  # when the window began is known roughly
        level = OVER_THE_WINDOW * took / (minute - unused)
        if level < self._level:
            self._level = max(level, SLOWEST)
            self._confirmed = max(self._confirmed, CALMEST)

    def _shape(self) -> float:
        if self._grown < 1:
            return 1 - DIP * (1 - self._grown) ** 3
        return (1 + RISE * min(self._grown - 1, 1) ** 3) * math.exp2(clamp(self._grown - 2, 0, 20))

    def _unit(self, per_second: float) -> float:
        """Return the seconds that a unit of growth takes."""
        if self._grown >= 1:
            return max(RISE_SECONDS, RISE_REQUESTS / per_second)
        calm = clamp(CALM_REQUESTS / per_second, SHORTEST_CALM, QUICK_CALM) * math.exp2(self._confirmed)
        return min(calm, max(LONGEST_CALM, LONG_CALM_REQUESTS / per_second))

    def _seen(self, now: float, sent_at: float) -> float:
        """Return the limit that a refusal shows, at most the rate that was tried, and at least about half of it."""
        tried = self.per_second
        if self._level is None or self._used_up_at is None or self._grown >= 2:
            return clamp(self._recent(now, tried), tried / 2, tried)
        passed = self.tally.total - self._used_up_total
        seconds = max(sent_at - self._used_up_at, 1e-3)
        if self._grown < 0.5:  # more than what passed in all the time; less than without the holds
            most = min(passed / max(seconds - self._held_since, 1e-3), 0.97 * tried)
            least = max(tried / 2, self.tally.since(now - MINUTE) / MINUTE / 2)
            return clamp(math.sqrt(most * (passed + 0.5) / seconds), least, 0.97 * tried)
        if self._grown < 1:
            return min(tried, 0.75 * tried + 0.25 * passed / seconds)
        return (self._level + tried) / 2

    def _recent(self, now: float, tried: float) -> float:
        """Return the rate of the last requests that passed, since the last refusal."""
        window = clamp(RECENT_REQUESTS / tried, SHORTEST_RECENT, MINUTE)
        began_at = max(now - window, self.tally.first_at if self._used_up_at is None else self._used_up_at)
        return self.tally.since(began_at) / max(now - began_at, 1e-3)
