"""What the tests of the pace share: requests that leave when they may, and refusals of them."""

from __future__ import annotations

from itertools import pairwise

from wire import seeded

from nebula_async.engine.pace import Pace


def refuse(pace: Pace, now: float, *, sent_at: float, delay: float | None = None, is_limit: bool = True) -> float:
    """Tell of a refusal; return for how long everyone is held."""
    return pace.throttled(now, sent_at=sent_at, delay=delay, source=seeded(4), is_limit=is_limit)


def send(pace: Pace, now: float, count: int) -> list[float]:
    """Let so many leave as soon as they may; return when."""
    left = []
    for _ in range(count):
        now += pace.wait(now)
        pace.release(now)
        left.append(now)
    return left


def use(pace: Pace, now: float, seconds: float, *, is_wanted: bool = True) -> float:
    """Let everything leave that may, and be accepted at once; return the time it is then."""
    until = now + seconds
    while now < until:
        [now] = send(pace, now, 1)
        pace.accepted(now, is_wanted=is_wanted)
    return now


def found(per_second: float) -> Pace:
    """Return a pace that was told no limit, grew to that rate, stayed there for a while, and was refused at 0.0."""
    pace = Pace(None)
    left = send(pace, -60.0, 8)[-1]
    while pace.wait(left) > 1 / per_second:
        pace.accepted(-57.0, is_wanted=True)
    use(pace, -20.0, 20.2, is_wanted=False)
    refuse(pace, 0.2, sent_at=0.0)
    return pace


def gaps(left: list[float]) -> list[float]:
    """Return the seconds between one and the next."""
    return [later - earlier for earlier, later in pairwise(left)]
