"""How a run is going: its results counted, and what follows from them for the rest."""

from __future__ import annotations

import math
import time
from decimal import Decimal
from typing import Literal, TypeAlias

from attrs import define, field, frozen

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.plan import Plan, lasting
from nebula_async.cli.rate import RecentRate
from nebula_async.client import AsyncNebula
from nebula_async.engine.gate import Limits
from nebula_async.errors import DownloadError
from nebula_async.items import Result
from nebula_async.results import Failure, Generation

SHOWN_WINDOW, EXPECTED_WINDOW = 60.0, 300.0
"""Seconds over which the rate is taken that is shown, and the one by which the time left is told."""

LIMITS_EVERY = 1.0
"""Seconds between two looks at the limits, which may be in a file that processes share."""

LONG_HOLD, SHORT_HOLD = 60.0, 1.5
"""A hold beyond the first is no part of the usual rate; one below the second is not worth a word."""

FEWEST_OVERDUE, MOST_HOLDS = 3, 3
"""Where so many should have ended and none has, or none after so many holds, nobody knows how long it takes."""

Course: TypeAlias = Literal["running", "held", "quota", "outage", "draining"]
"""What a run does: it sends, it waits after refusals, for the next day, for an answer, or for what is in flight."""


@frozen(kw_only=True)
class Standing:
    """How a job stands at a moment.

    - `total`, `done`, `failed`, `left`: items of the whole job, earlier runs included; `in_flight` of those left
    - `pictures`, `refusals`, `cost_at_least`, `cost_at_most`, `seconds`: of this run; `unpriced` pictures are not in
      its cost, because nobody knows their price
    - `projected`: USD that this run will have cost, as it seems; `None` where a price is not known
    - `per_minute`: pictures, over the last minute; `None` at first
    - `limit_per_minute`, `per_day`, `used_today`: requests; `None` where no limit is known
    - `course`, and for how many seconds it lasts, as far as that is known
    - `seconds_left` until all is done, waits for the next days included, as it seems
    """

    total: int
    done: int
    failed: int
    left: int
    in_flight: int
    pictures: int
    refusals: int
    seconds: float
    per_minute: float | None
    cost_at_least: Decimal
    cost_at_most: Decimal
    unpriced: int
    projected: Decimal | None
    limit_per_minute: float | None
    per_day: int | None
    used_today: int
    course: Course
    course_seconds: float
    seconds_left: float | None


@define(eq=False)
class Tally:
    """Counts the results of a run. `expected` is what the items left cost in USD, `None` where a price is not known."""

    job: BulkJob
    nebula: AsyncNebula
    total: int
    done: int
    failed: int
    left: int
    expected: Decimal | None
    per_second: float | None
    """The rate that was planned with, until there is one."""

    _began: float = field(factory=time.monotonic, init=False)
    _ended_at: float = field(factory=time.monotonic, init=False)
    _items: int = field(default=0, init=False)
    _shown: RecentRate = field(factory=lambda: RecentRate(SHOWN_WINDOW), init=False)
    _usual: RecentRate = field(factory=lambda: RecentRate(EXPECTED_WINDOW), init=False)
    _held: float = field(default=0.0, init=False)
    _holds: int = field(default=0, init=False)
    _limits: Limits = field(init=False)
    _looked_at: float = field(default=-math.inf, init=False)

    @classmethod
    async def of(cls, job: BulkJob, nebula: AsyncNebula, plan: Plan | None) -> Tally:
        """Return the tally of a job that is about to run by a plan; `None`: there is nothing to send."""
        report, left = await job.report(), await job.left()
        expected = Decimal(0) if plan is None else plan.cost
        return cls(
            job,
            nebula,
            total=job.total,
            done=report.done,
            failed=job.total - report.done - report.unfetched - left,
            left=left + report.unfetched,
            expected=None if plan is not None and plan.unpriced else expected,
            per_second=None if plan is None else plan.duration.per_minute / 60,
        )

    def add(self, result: Result, price: Decimal | None) -> None:
        """Count a result, of which one picture costs so much."""
        self._items += 1
        self._ended_at, self._holds = time.monotonic(), 0
        self.left = max(self.left - 1, 0)
        if isinstance(result, Failure) or result.missing:
            self.failed += 1
        else:
            self.done += 1
        if self.expected and price and not _was_bought_before(result):
            self.expected = max(self.expected - result.request.pictures * price, Decimal(0))

    def standing(self) -> Standing:
        """Return how it stands. To be called now and then: each time is a sample of the rate."""
        now, job, spent = time.monotonic(), self.job, self.job.spending
        limits = self._look(now)
        held = max(limits.held_seconds - (now - self._looked_at), 0.0)
        self._count_hold(held)
        course, course_seconds = self._course(limits, held)
        is_waiting = course in ("quota", "outage") or held > LONG_HOLD
        self._shown.look(now, spent.pictures, is_waiting=is_waiting)
        self._usual.look(now, self._items, is_waiting=is_waiting)
        shown = self._shown.per_second
        return Standing(
            total=self.total,
            done=self.done,
            failed=self.failed,
            left=self.left,
            in_flight=job.in_flight,
            pictures=spent.pictures,
            refusals=job.refusals,
            seconds=(now if self.left else self._ended_at) - self._began,
            per_minute=None if shown is None else 60 * shown,
            cost_at_least=spent.at_least,
            cost_at_most=spent.at_most,
            unpriced=spent.unpriced,
            projected=self._projected(),
            limit_per_minute=_limit(limits),
            per_day=limits.per_day,
            used_today=limits.used_today,
            course=course,
            course_seconds=course_seconds,
            seconds_left=self._seconds_left(now, limits, held),
        )

    def _look(self, now: float) -> Limits:
        if now - self._looked_at >= LIMITS_EVERY:
            self._limits, self._looked_at = self.nebula.limits, now
        return self._limits

    def _count_hold(self, held: float) -> None:
        """Count the holds since something ended: one more has begun where there is longer to wait than before."""
        self._holds += held > self._held + SHORT_HOLD
        self._held = held

    def _course(self, limits: Limits, held: float) -> tuple[Course, float]:
        if self.job.is_draining:
            return "draining", 0.0
        if self.job.is_cut_off:
            return "outage", 0.0
        if limits.closed_seconds:
            return "quota", limits.closed_seconds
        return ("held", held) if held > SHORT_HOLD else ("running", 0.0)

    def _projected(self) -> Decimal | None:
        if self.expected is None:
            return None
        allowed = self.job.affordable
        rest = self.expected if allowed is None else min(self.expected, allowed)
        return self.job.spending.at_most + (Decimal(0) if self.job.is_draining else rest)

    def _seconds_left(self, now: float, limits: Limits, held: float) -> float | None:
        items, per_second = self.job.in_flight if self.job.is_draining else self.left, self._expected_rate(limits)
        if not items:
            return 0.0
        if not per_second or self.job.is_cut_off or self._is_stalled(now, limits, per_second):
            return None
        per_day = math.inf if limits.per_day is None else limits.per_day
        if limits.closed_seconds and limits.used_today < per_day:  # the API said so, and the count did not
            opens_at = time.time() + limits.closed_seconds
            return limits.closed_seconds + lasting(items, per_second, per_day, opens_at, 0)[0]
        seconds, _ = lasting(items, per_second, per_day, time.time(), limits.used_today)
        return max(seconds, held) + (held if held > LONG_HOLD else 0.0)

    def _expected_rate(self, limits: Limits) -> float | None:
        """Return items a second: as it was, or as was planned, and no more than requests may leave."""
        per_second = (self._usual.per_second if self._items else None) or self.per_second
        return min(per_second, (limits.per_minute or math.inf) / 60) if per_second else None

    def _is_stalled(self, now: float, limits: Limits, per_second: float) -> bool:
        """Whether nothing has ended for long, although the rate lets expect it, or hold after hold; and the day is not
        over.
        """
        is_overdue = (now - self._ended_at) * per_second > FEWEST_OVERDUE
        is_hopeless = self._holds > MOST_HOLDS
        has_waited = now - self._ended_at > SHOWN_WINDOW and (is_overdue or is_hopeless)
        return has_waited and not limits.closed_seconds


def _was_bought_before(result: Result) -> bool:
    """Whether a result is of pictures that an earlier run paid for, and that only had to be fetched."""
    if isinstance(result, Generation):
        return result.attempts == 0
    return result.error.attempts == 0 and isinstance(result.error, DownloadError)


def _limit(limits: Limits) -> float | None:
    """Return the limit in force: the one that is known, unless requests leave more slowly by what was refused."""
    believed, known = limits.per_minute, limits.known_per_minute
    if believed is None or known is None:
        return believed or known
    return known if believed >= 0.97 * known else believed
