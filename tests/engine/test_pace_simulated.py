"""The rate controller against simulated servers: it uses a limit fully, and is hardly ever refused."""

from __future__ import annotations

import heapq
import math
from collections import deque
from itertools import count

import pytest
from wire import seeded

from nebula_async.engine.gate import slots_for
from nebula_async.engine.pace import Pace

MINUTE = 60.0


class Bucket:
    """Tokens come back one by one, up to ten."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute, self.tokens, self.filled_at = per_minute, 10.0, 0.0

    def take(self, now: float) -> float:
        """Accept and return 0, or return the seconds until the next token."""
        self.tokens = min(10.0, self.tokens + (now - self.filled_at) * self.per_minute / MINUTE)
        self.filled_at = now
        if self.tokens < 1 - 1e-9:
            return (1 - self.tokens) * MINUTE / self.per_minute
        self.tokens -= 1
        return 0.0


class FixedWindow:
    """So many in each minute of the clock."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute, self.window, self.used = per_minute, -1.0, 0

    def take(self, now: float) -> float:
        """Accept and return 0, or return the seconds until the next minute."""
        if now // MINUTE != self.window:
            self.window, self.used = now // MINUTE, 0
        if self.used >= self.per_minute:
            return (self.window + 1) * MINUTE - now
        self.used += 1
        return 0.0


class SlidingWindow:
    """So many in any minute."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute, self.taken = per_minute, deque()

    def take(self, now: float) -> float:
        """Accept and return 0, or return the seconds until the oldest is a minute old."""
        while self.taken and self.taken[0] + MINUTE <= now:
            self.taken.popleft()
        if len(self.taken) >= self.per_minute:
            return self.taken[0] + MINUTE - now
        self.taken.append(now)
        return 0.0


class Simulation:
    """Who shares an account asks for more than may leave; replies take about 3 s, refusals less. Time is a number."""

    def __init__(self, pace, server, slots, *, names_delay, reply=(2.0, 4.0), refusal=(0.02, 0.2), wanted=math.inf):
        self.pace, self.server, self.free, self.wanted = pace, server, slots, wanted
        self.names_delay, self.reply, self.refusal = names_delay, reply, refusal
        self.accepted, self.refused, self.chance = [], [], seeded(3)
        self.events, self.order, self.now, self.wakes_at = [], count(), 0.0, math.inf

    def run(self, until: float) -> None:
        """Play on until then, or until everything wanted was answered."""
        self._leave()
        while self.events and self.events[0][0] < until:
            self.now, _, handle, facts = heapq.heappop(self.events)
            handle(*facts)
            self._leave()

    def goodput(self, began: float, ended: float) -> float:
        """Return the share of the limit that was used."""
        accepted = sum(began <= moment < ended for moment in self.accepted)
        return accepted / (self.server.per_minute / MINUTE * (ended - began))

    def refusals(self, began: float, ended: float) -> float:
        """Return the share of what was sent that was refused."""
        refused, accepted = (sum(began <= moment < ended for moment in each) for each in (self.refused, self.accepted))
        return refused / (refused + accepted)

    def _leave(self) -> None:
        while self.wanted and self.free:
            if (wait := self.pace.wait(self.now)) > 0:
                self._sleep(self.now + wait)
                return
            self.pace.release(self.now)
            self.free, self.wanted = self.free - 1, self.wanted - 1
            if wait := self.server.take(self.now):
                self.refused.append(self.now)
                self._at(self.now + self.chance.uniform(*self.refusal), self._refuse, self.now, wait)
                continue
            self.accepted.append(self.now)
            self._at(self.now + self.chance.uniform(*self.reply), self._accept)

    def _sleep(self, moment: float) -> None:
        if moment < self.wakes_at:
            self.wakes_at = moment
            self._at(moment, self._wake, moment)

    def _wake(self, moment: float) -> None:
        self.wakes_at = math.inf if moment == self.wakes_at else self.wakes_at

    def _accept(self) -> None:
        self.pace.accepted(self.now, is_wanted=self.free > 0 and self.wanted > 0)
        self.free += 1

    def _refuse(self, sent_at: float, wait: float) -> None:
        delay = max(1.0, math.ceil(wait)) if self.names_delay else None
        self.pace.throttled(self.now, sent_at=sent_at, delay=delay, source=self.chance)
        self.free, self.wanted = self.free + 1, self.wanted + 1

    def _at(self, moment: float, handle, *facts: float) -> None:
        heapq.heappush(self.events, (moment, next(self.order), handle, facts))


DELAYS = pytest.mark.parametrize("names_delay", [False, True], ids=["429 alone", "Retry-After"])


@pytest.mark.parametrize("per_minute", [60, 600, 3_000])
@pytest.mark.parametrize("server", [Bucket, FixedWindow, SlidingWindow])
def test_a_known_limit_is_used_fully_and_never_exceeded(server, per_minute):
    """Who names the tier gets 97 % of it from any kind of server, and no refusal."""
    played = Simulation(Pace(per_minute), server(per_minute), slots_for(per_minute), names_delay=False)
    played.run(180)

    assert [] == played.refused
    assert played.goodput(0, 180) >= 0.97


@DELAYS
@pytest.mark.parametrize(("server", "most_refused"), [(Bucket, 0.012), (FixedWindow, 0.02)])
def test_an_unknown_limit_is_found(server, most_refused, names_delay):
    """Without a tier the limit is found within 100 seconds, and then used nearly as well."""
    played = Simulation(Pace(None), server(600), 256, names_delay=names_delay)
    played.run(300)

    assert played.refusals(100, 300) <= most_refused
    assert played.goodput(120, 300) >= 0.95


@DELAYS
@pytest.mark.parametrize("server", [Bucket, FixedWindow])
def test_a_limit_that_is_halved_is_found_again(server, names_delay):
    """When a limit is halved, and nobody says so, the new one is used after 20 seconds or at the next window (F26)."""
    played = Simulation(Pace(600), server(600), slots_for(600), names_delay=names_delay)
    played.run(120)
    played.server.per_minute = 300
    played.run(420)

    assert played.refusals(120, 420) <= 0.03
    assert played.goodput(120, 420) >= 0.92
    assert min(played.goodput(began, began + 30) for began in range(140, 390, 30)) >= 0.8 * (server is Bucket)


@DELAYS
def test_a_limit_that_is_restored_is_used_again(names_delay):
    """When a limit that had been halved is what it was, the tier is reached again within two minutes (F26)."""
    played = Simulation(Pace(600), Bucket(600), slots_for(600), names_delay=names_delay)
    played.server.per_minute = 300
    played.run(200)
    played.server.per_minute = 600
    played.run(440)

    assert 0 == played.refusals(200, 440)
    assert played.goodput(320, 440) >= 0.97


@pytest.mark.parametrize("refusal", [(0.005, 0.02), (0.2, 0.2)], ids=["at once", "after 0.2 s"])
@DELAYS
def test_two_hundred_at_once_are_all_answered(names_delay, refusal):
    """200 prompts, 64 at a time, to a server that takes ten a second: all are answered within 24 s (19 is ideal), with
    at most 20 refusals, though no limit is known.
    """
    played = Simulation(
        Pace(None), Bucket(600), 64, names_delay=names_delay, reply=(0.2, 0.2), refusal=refusal, wanted=200
    )
    played.run(1_000)

    assert 200 == len(played.accepted)
    assert played.now <= 24
    assert len(played.refused) <= 20
