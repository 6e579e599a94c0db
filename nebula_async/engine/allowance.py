"""What an account may send at this moment: its pace and its day, pure, the clocks handed in."""

from __future__ import annotations

from random import Random

from attrs import define, frozen

from nebula_async.engine.pace import Pace
from nebula_async.engine.quota import DailyQuota

CLOSED_SECONDS = 120.0
LONGEST_HOLD = 3600.0
"""Refusals alone for longer than the one, or a wait asked for longer than the other, mean the day's limit."""


@frozen
class Hold:
    """What a refusal means for everyone: a wait of so many seconds (0: none that was not there), or the day's end."""

    seconds: float
    is_daily: bool = False


@define(eq=False)
class Allowance:
    """The pace of an account and its requests of the day; `now` is of a steady clock, `today` is Unix time."""

    pace: Pace
    quota: DailyQuota

    def throttled(
        self, now: float, today: float, *, sent_at: float, delay: float | None, is_limit: bool, source: Random
    ) -> Hold:
        """A request that was sent at `sent_at` was refused: hold everyone, or close the day."""
        named = delay if (delay or 0) > LONGEST_HOLD else None
        if is_limit and (named is not None or self.pace.refusing_for(now) > CLOSED_SECONDS):
            self.quota.close(today, named)
            return Hold(0.0, is_daily=True)
        return Hold(self.pace.throttled(now, sent_at=sent_at, delay=delay, source=source, is_limit=is_limit))
