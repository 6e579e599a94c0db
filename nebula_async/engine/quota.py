"""How many requests of the day are left: a pure count, the wall clock handed in."""

from __future__ import annotations

from attrs import define, field

DAY_SECONDS = 86_400
PROBE_SECONDS = 60.0
"""That the day is over may be a wrong belief: one request in so many seconds is sent all the same."""

MOST_BACK_SECONDS = 3600.0
"""A clock that is set back by more had been wrong, and so had the day by it."""


@define(eq=False)
class DailyQuota:
    """The requests that an account may make before 00:00 UTC (the tiers of the API's overview page).

    Those accepted are counted, of this process or of all that share the count; `close` says that the API accepts no
    more. Times are Unix time.
    """

    per_day: int | None = None
    _used: int = field(default=0, init=False)
    _day: int = field(default=0, init=False)
    _closed_until: float = field(default=0.0, init=False)
    _is_named: bool = field(default=False, init=False)
    _asked_at: float = field(default=0.0, init=False)
    _later: int | None = field(default=None, init=False)

    def used(self, now: float) -> int:
        """Return how many were accepted today."""
        day = int(now // DAY_SECONDS)
        if day > self._day:  # a clock that is set back a little gives nothing twice
            self._day, self._used = day, 0
            self.per_day, self._later = self.per_day if self._later is None else self._later, None
        if self._day * DAY_SECONDS - now > MOST_BACK_SECONDS:
            self._day = day
        return self._used

    def part(self, now: float, used: int, members: int) -> DailyQuota:
        """Return the count of one of so many that go on alone: its part of what is left, and of each day after it."""
        if self.per_day is None:
            mine = DailyQuota()
        else:
            mine = DailyQuota(used + max(0, self.per_day - used) // members)
            mine._later = self.per_day // members
        mine._day, mine._used = int(now // DAY_SECONDS), used
        return mine

    def count(self, now: float, times: int = 1) -> None:
        """One more was accepted, or so many, so the day is not over."""
        self._used = self.used(now) + times
        self._closed_until = 0.0

    def agree(self, now: float, used: int, asked_at: float) -> None:
        """So many were accepted today and the last was sent then, by what others counted."""
        self.used(now)
        self._used, self._asked_at = used, asked_at

    @property
    def closing(self) -> tuple[float, bool, float]:
        """Until when nothing more is accepted, whether the API said so, and when the last request was sent."""
        return self._closed_until, self._is_named, self._asked_at

    def close(self, now: float, seconds: float | None) -> None:
        """Nothing more is accepted: for so many seconds as the API said, else until 00:00 UTC, as it seems."""
        self._closed_until = now + (_seconds_left(now) if seconds is None else seconds)
        self._is_named, self._asked_at = seconds is not None, now

    def seconds_closed(self, now: float) -> float:
        """Return the seconds for which nothing more is accepted, else 0."""
        if self.is_used_up(now):
            return _seconds_left(now)
        if self._asked_at - now > MOST_BACK_SECONDS:
            return 0.0
        return min(max(0.0, self._closed_until - now), DAY_SECONDS)

    def seconds_over(self, now: float) -> float:
        """Return how long nobody may ask, else 0: what only seems so is doubted once a minute."""
        is_certain = self.is_used_up(now) or self._is_named or 0 <= now - self._asked_at < PROBE_SECONDS
        return self.seconds_closed(now) if is_certain else 0.0

    def asked(self, now: float) -> None:
        """A request leaves."""
        self._asked_at = now

    def is_used_up(self, now: float) -> bool:
        """Whether as many were accepted today as the account may make."""
        used = self.used(now)
        return self.per_day is not None and used >= self.per_day


def _seconds_left(now: float) -> float:
    return DAY_SECONDS - now % DAY_SECONDS
