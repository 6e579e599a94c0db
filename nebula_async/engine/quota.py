"""How many requests of the day are left: a pure count, the wall clock handed in."""

from __future__ import annotations

from attrs import define, field

DAY_SECONDS = 86_400
PROBE_SECONDS = 60.0
"""That the day is over may be a wrong belief: one request in so many seconds is sent all the same."""


@define
class DailyQuota:
    """The requests that an account may make before 00:00 UTC (the tiers of the API's overview page).

    Those accepted are counted, of this process alone; `close` says that the API accepts no more. Times are Unix time.
    """

    per_day: int | None = None
    _used: int = field(default=0, init=False)
    _day: int = field(default=0, init=False)
    _is_closed: bool = field(default=False, init=False)
    _asked_at: float = field(default=0.0, init=False)

    def used(self, now: float) -> int:
        """Return how many were accepted today."""
        self._turn_page(now)
        return self._used

    def count(self, now: float) -> None:
        """One more was accepted, so the day is not over."""
        self._turn_page(now)
        self._used += 1
        self._is_closed = False

    def close(self, now: float) -> None:
        """Nothing more is accepted today."""
        self._turn_page(now)
        self._is_closed, self._asked_at = True, now

    def seconds_closed(self, now: float) -> float:
        """Return the seconds until 00:00 UTC where nothing more is accepted before, else 0."""
        is_closed = self._is_used_up(now) or self._is_closed
        return DAY_SECONDS - now % DAY_SECONDS if is_closed else 0.0

    def seconds_over(self, now: float) -> float:
        """Return how long nobody may ask, else 0: the API's word for it is doubted once a minute, the own count not."""
        seconds = self.seconds_closed(now)
        is_doubted = not self._is_used_up(now) and not 0 <= now - self._asked_at < PROBE_SECONDS
        return 0.0 if is_doubted else seconds

    def asked(self, now: float) -> None:
        """A request leaves."""
        self._asked_at = now

    def _is_used_up(self, now: float) -> bool:
        used = self.used(now)
        return self.per_day is not None and used >= self.per_day

    def _turn_page(self, now: float) -> None:
        day = int(now // DAY_SECONDS)
        if day > self._day:  # a clock that is set back gives nothing twice
            self._day, self._used, self._is_closed = day, 0, False
