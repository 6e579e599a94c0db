"""What an account may send at this moment: its pace and its day, pure, the clocks handed in."""

from __future__ import annotations

from random import Random

from attrs import define, frozen

from nebula_async.engine.pace import Pace
from nebula_async.engine.quota import DailyQuota

CLOSED_SECONDS = 120.0
LONGEST_HOLD = 3600.0
"""Refusals alone for longer than the one, or a wait asked for longer than the other, mean the day's limit."""

LONGEST_AHEAD = 30.0
"""A turn is reserved so many seconds ahead at most; who has to wait for longer looks again before."""

LOOK_AGAIN_SECONDS = 5.0
"""After how long one looks again who may not send yet."""

MOST_LATE = 1.0
"""A turn that is not taken within so many seconds is lost: whoever was stopped does not send what was saved up."""


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

    def reserve(self, now: float, today: float, *, reserved: float | None = None) -> tuple[float | None, float]:
        """Return the turn that is reserved and the seconds until then, or no turn and the seconds until the next look.

        One that was reserved before still counts, unless everyone is held since, the day is used up, or it is too late.
        """
        pace, quota = self.pace, self.quota
        if reserved is not None:
            if pace.held_for(reserved) == 0 and now - reserved <= MOST_LATE and not quota.is_used_up(today):
                return reserved, max(0.0, reserved - now)
            pace.take_back()
        seconds = pace.wait(now)
        if quota.seconds_over(today) or seconds > (0.0 if pace.is_trying else LONGEST_AHEAD):
            return None, min(seconds, LOOK_AGAIN_SECONDS) or LOOK_AGAIN_SECONDS
        pace.release(now + seconds)
        quota.asked(today)
        return now + seconds, seconds
