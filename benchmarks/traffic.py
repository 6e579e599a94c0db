"""What an emulator was asked for, in time: how much, by whom, and how close to the limit."""

from __future__ import annotations

import sys
from collections import Counter

from attrs import evolve, frozen

from nebula_async.emulator import Emulator, RequestRecord

WINDOW_SECONDS = 60.0
REFUSED = 429


@frozen
class Traffic:
    """The requests of some seconds, in order, of members that may send so many a minute together.

    A request is its member's by its prompt. What was still being worked on at the end counts as accepted.
    """

    per_minute: float
    members: list[str]
    began: float
    seconds: float
    requests: list[RequestRecord]

    def part(self, began: float, seconds: float) -> Traffic:
        """Return the requests of a part of the time."""
        within = [record for record in self.requests if began <= record.at < began + seconds]
        return evolve(self, began=began, seconds=seconds, requests=within)

    def first(self, seconds: float) -> Traffic:
        """Return the requests of so many seconds from the first one on."""
        return self.part(self.began, seconds)

    @property
    def refused(self) -> int:
        """How many requests were refused as one too many."""
        return sum(record.status == REFUSED for record in self.requests)

    @property
    def accepted(self) -> int:
        """How many requests were accepted."""
        return len(self.requests) - self.refused

    @property
    def shares(self) -> list[int]:
        """How many requests of each member were accepted."""
        counts = Counter(record.prompt for record in self.requests if record.status != REFUSED)
        return [counts[name] for name in self.members]

    @property
    def goodput(self) -> float:
        """What was accepted, as a share of the limit."""
        return self.accepted / (self.per_minute / 60 * self.seconds)

    @property
    def refusals(self) -> float:
        """Which share of what was sent was refused."""
        return self.refused / max(len(self.requests), 1)

    @property
    def fairness(self) -> float:
        """Jain's index: 1 where all got the same."""
        return sum(self.shares) ** 2 / max(len(self.members) * sum(share**2 for share in self.shares), 1)

    @property
    def busiest(self) -> int:
        """The most requests, refused ones too, in any 60 seconds."""
        times, first, most = [record.at for record in self.requests], 0, 0
        for last, at in enumerate(times):
            while times[first] <= at - WINDOW_SECONDS:
                first += 1
            most = max(most, last - first + 1)
        return most

    @property
    def is_within_limit(self) -> bool:
        """Whether no 60 seconds saw more than the limit."""
        return self.busiest <= self.per_minute

    @property
    def series(self) -> list[tuple[int, int]]:
        """Return for each second how many were accepted, and how many refused."""
        counts = Counter((int(record.at - self.began), record.status == REFUSED) for record in self.requests)
        return [(counts[second, False], counts[second, True]) for second in range(round(self.seconds))]


def traffic_of(emulator: Emulator, per_minute: float, members: list[str]) -> Traffic:
    """Return all that an emulator was asked for so far."""
    records = sorted(emulator.journal.generations, key=lambda record: record.at)
    if not records:
        sys.exit("nothing was asked for: no member got a turn")
    began, ended = records[0].at, records[-1].at
    return Traffic(per_minute, members, began, ended - began, records)


def in_flight(emulator: Emulator) -> Counter[str]:
    """Return how many requests of each member an emulator has not answered yet."""
    return Counter(record.prompt or "" for record in emulator.journal.generations if record.status is None)
