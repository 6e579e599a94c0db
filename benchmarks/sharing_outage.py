"""What processes that share a limit over Redis do while it is away, for all or for one of them, and when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen
from redis_server import RedisServer
from sharing import Crowd, Member, OpenGate, asking, serving
from slow_link import Link, slow_link
from traffic import Traffic, traffic_of

BEFORE, AWAY, AFTER = 15.0, 20.0, 26.0
LEAST_WHILE_AWAY, FULL, MOST_SECONDS_BACK = 0.80, 0.95, 10.0
STRETCH = 10.0
"""Whether the rate is the full one is seen over so many seconds."""

STEP = 0.1


@frozen
class Trouble:
    """A way for Redis to be away, and how it comes back."""

    name: str
    begin: Callable[[], object]
    end: Callable[[], object]


def troubles(redis: RedisServer, link: Link) -> list[Trouble]:
    """Return all ways; over the link one process reaches Redis."""
    return [
        Trouble("killed, and comes back empty", redis.stop, redis.start),
        Trouble("stopped, connections stay", redis.pause, redis.resume),
        Trouble("cut off from one process", link.cut, link.mend),
    ]


@frozen
class Outage:
    """The requests of a run in which Redis was away from one moment to another."""

    traffic: Traffic
    away_at: float
    back_at: float

    @property
    def while_away(self) -> Traffic:
        """The requests of the time without Redis."""
        return self.traffic.part(self.away_at, self.back_at - self.away_at)

    @property
    def seconds_back(self) -> float:
        """How long after Redis came back the rate was the full one; infinite if it never was."""
        last = self.traffic.began + self.traffic.seconds - STRETCH
        starts = [self.back_at + STEP * step for step in range(int((last - self.back_at) / STEP))]
        full = (start for start in starts if self.traffic.part(start, STRETCH).goodput >= FULL)
        return next(full, float("inf")) - self.back_at

    @property
    def is_good(self) -> bool:
        """Whether all targets were reached."""
        is_used = self.while_away.goodput >= LEAST_WHILE_AWAY and self.seconds_back <= MOST_SECONDS_BACK
        return is_used and self.traffic.is_within_limit


def survive_outages(
    crowd: Crowd, redis: RedisServer, gate_over: Callable[[str], OpenGate], *, has_series: bool, away: float = AWAY
) -> bool:
    """Take Redis away from processes that use it, in each way, print what they do, and say whether that was right."""
    print(f"{crowd}; Redis is away for {away:g} s after {BEFORE:g} s\n")
    print("| Redis | accepted before, a minute | while away, of the limit | full rate again after, s ", end="")
    print("| refused | most in 60 s |\n|---|---|---|---|---|---|")
    with slow_link(redis.port) as link:
        gates = [gate_over(link.url), *[gate_over(redis.url)] * (crowd.processes - 1)]
        outages = {trouble.name: live_through(crowd, gates, trouble, away) for trouble in troubles(redis, link)}
    print(f"| *targets* | | {LEAST_WHILE_AWAY:.0%} | {MOST_SECONDS_BACK:g} | | {crowd.per_minute} |\n")
    if has_series:
        for name, outage in outages.items():
            show_series(name, outage)
    return all(outage.is_good for outage in outages.values())


def live_through(crowd: Crowd, gates: list[OpenGate], trouble: Trouble, away: float) -> Outage:
    """Take Redis away once, print what happened, and return it."""
    with serving(crowd, window="sliding") as emulator:
        config = crowd.config(emulator.base_url)
        with asking([Member(name, config, gate) for name, gate in zip(crowd.names, gates, strict=True)]):
            time.sleep(BEFORE)
            away_at = time.time()
            trouble.begin()
            time.sleep(away)
            trouble.end()
            back_at = time.time()
            time.sleep(AFTER)
        outage = Outage(traffic_of(emulator, crowd.per_minute, crowd.names), away_at, back_at)
    traffic = outage.traffic
    before = traffic.part(traffic.began, away_at - traffic.began)
    print(f"| {trouble.name} | {before.goodput * crowd.per_minute:.0f} | {outage.while_away.goodput:.1%} ", end="")
    print(f"| {outage.seconds_back:.1f} | {traffic.refused} | {traffic.busiest} |", flush=True)
    return outage


def show_series(name: str, outage: Outage) -> None:
    """Print what was accepted and refused in each second."""
    print(f"Redis {name}: accepted, refused in each second")
    for second, (accepted, refused) in enumerate(outage.traffic.series):
        at = outage.traffic.began + second
        mark = "away" if outage.away_at - 1 < at < outage.back_at else ""
        print(f"{second:4} {accepted:4} {refused:4} {mark}".rstrip())
    print(flush=True)
