"""How a job went over the time in which it ran, and how long its requests took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from attrs import frozen

from nebula_async.bulk.ledger import Ledger

MOST_SLICES = 120
WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400)
"""Seconds that a slice may be long; of more than 120 days, days are put together."""

MOST_RUNS = 500
"""Pauses between earlier ones are not cut out."""

ENDED_AT = "sent_at + coalesce(seconds, 0)"
"""When an attempt had ended: by the clock of its leaving, which is not set anew while it is under way."""

RANKED = """
    SELECT seconds FROM (
        SELECT seconds, row_number() OVER (ORDER BY seconds) AS rank FROM attempt
            WHERE verdict = 'answered' AND seconds IS NOT NULL)
        WHERE rank IN (?, ?, ?, ?) ORDER BY rank"""
ANSWERED = "SELECT count(*) FROM attempt WHERE verdict = 'answered' AND seconds IS NOT NULL"
SHARES = (0.5, 0.9, 0.99, 1.0)


@frozen(kw_only=True)
class Latency:
    """Seconds from the leaving of a request until its whole answer was here, of those that brought pictures.

    Nearest rank: half of the `requests` took `p50` or less, each being one that was measured. Refusals and failures are
    not among them, nor are replies that a later run found; waiting for the limit, and storing, are not counted.
    """

    requests: int
    p50: float
    p90: float
    p99: float
    longest: float


@frozen(kw_only=True)
class Slice:
    """What ended in some `seconds` of a job from a Unix time on: `pictures` that came, requests that failed, those that
    were refused as one too many, and how long half of those that brought pictures took (`None`: there was none).
    """

    start: float
    seconds: float
    pictures: int
    failures: int
    refusals: int
    p50_seconds: float | None


@frozen
class Stretch:
    """A time in which a job ran, and the `pause` before it, that and those before together: Unix times, seconds."""

    start: float
    end: float
    pause: float = 0.0


def read_latency(ledger: Ledger) -> Latency | None:
    """Return how long the requests took, `None` where none was answered; it blocks."""
    ((number,),) = ledger.select(ANSWERED)
    if not number:
        return None
    ranks = [max(math.ceil(share * number), 1) for share in SHARES]
    found = {rank: seconds for rank, (seconds,) in zip(sorted(set(ranks)), ledger.select(RANKED, *ranks), strict=True)}
    p50, p90, p99, longest = (found[rank] for rank in ranks)
    return Latency(requests=number, p50=p50, p90=p90, p99=p99, longest=longest)


def read_stretches(ledger: Ledger) -> tuple[Stretch, ...]:
    """Return when the job had requests under way, one stretch for each run that sent some; it blocks."""
    begins = sorted(at for (at,) in ledger.select("SELECT at FROM event WHERE kind = 'opened'"))[-MOST_RUNS:]
    which = _choice([(at, str(number)) for number, at in enumerate(begins)], of="sent_at")
    times = f"SELECT min(sent_at), max({ENDED_AT}), {which} AS run FROM attempt GROUP BY run ORDER BY 1"  # noqa: S608
    found = [(start, end) for start, end, _ in ledger.select(times)]
    pauses = [max(after[0] - before[1], 0.0) for before, after in pairwise(found)]
    return (
        tuple(
            Stretch(start, max(start, end), pause)
            for (start, end), pause in zip(found, accumulate(pauses, initial=0.0), strict=True)
        )
        if found
        else ()
    )


def running_seconds(stretches: Sequence[Stretch]) -> float:
    """Return how long these stretches are together, without the pauses between them."""
    if not stretches:
        return 0.0
    return max(stretch.end - stretch.pause for stretch in stretches) - stretches[0].start


def read_timeline(ledger: Ledger, stretches: Sequence[Stretch]) -> tuple[Slice, ...]:
    """Return the slices of these stretches, one behind the other without the pauses between them; it blocks."""
    if not stretches:
        return ()
    first, running = stretches[0].start, running_seconds(stretches)
    width = _width(running)
    place = f"CAST(({ENDED_AT} - {first!r} - {_pause_of(stretches)}) / {width} AS INTEGER)"
    found = {number: rest for number, *rest in ledger.select(_slices(place))}
    middles: dict[int, float] = dict(ledger.select(_middles(place)))
    return tuple(
        _slice(number, width, stretches, found.get(number, (0, 0, 0)), middles.get(number))
        for number in range(int(running // width) + 1)
    )


def _slices(place: str) -> str:
    return (
        f"SELECT {place}, total(iif(verdict = 'answered', at_least, 0)),"  # noqa: S608 - numbers
        " sum(verdict NOT IN ('answered', 'throttled')), sum(verdict = 'throttled')"
        " FROM attempt WHERE verdict IS NOT NULL GROUP BY 1"
    )


def _middles(place: str) -> str:
    return (
        "SELECT place, seconds FROM ("  # noqa: S608 - numbers
        "SELECT place, seconds, row_number() OVER (PARTITION BY place ORDER BY seconds) AS rank,"
        " count(*) OVER (PARTITION BY place) AS number FROM ("
        f"SELECT {place} AS place, seconds FROM attempt WHERE verdict = 'answered' AND seconds IS NOT NULL))"
        " WHERE rank = (number + 1) / 2"
    )


def _slice(number: int, width: int, stretches: Sequence[Stretch], counts: Sequence[Any], middle: float | None) -> Slice:
    offset = stretches[0].start + number * width
    pause = max(stretch.pause for stretch in stretches if stretch.start - stretch.pause <= offset)
    pictures, failures, refusals = (int(count) for count in counts)
    return Slice(
        start=offset + pause, seconds=width, pictures=pictures, failures=failures, refusals=refusals, p50_seconds=middle
    )


def _width(running: float) -> int:
    """Return how many seconds a slice is long: the least that is readable and leaves no more than the most slices."""
    last = WIDTHS[-1]
    longest = (int(running / MOST_SLICES / last) + 1) * last
    return next((width for width in WIDTHS if width * MOST_SLICES > running), longest)


def _pause_of(stretches: Sequence[Stretch]) -> str:
    return _choice([(stretch.start, repr(stretch.pause)) for stretch in stretches], of="sent_at")


def _choice(steps: Sequence[tuple[float, str]], *, of: str) -> str:
    """Return SQL for the value of the last step whose number a column is not below; the first stands for all before."""
    if len(steps) < 2:
        return steps[0][1] if steps else "0"
    middle = len(steps) // 2
    less, more = (_choice(half, of=of) for half in (steps[:middle], steps[middle:]))
    return f"CASE WHEN {of} < {steps[middle][0]!r} THEN {less} ELSE {more} END"
