"""What a client told of its calls, call by call: the books that a service's journal is held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from nebula_async.events import Abandoned, Event, Failed, Generated, Sent


@frozen
class Entry:
    """What a call ended with: the event's name, and between how many and how many pictures it may have cost."""

    event: str
    at_least: int
    at_most: int


@define(eq=False)
class EventLog:
    """An observer that keeps which calls were sent and how they ended; `handed`: pictures handed to a response."""

    handed: int = 0
    sent: set[str] = field(factory=set, init=False)
    ended: dict[str, Entry] = field(factory=dict, init=False)

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, Sent):
            self.sent.add(event.call)
        elif isinstance(event, Generated | Failed | Abandoned):
            self.ended[event.call or ""] = Entry(type(event).__name__, event.charges.at_least, event.charges.at_most)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        ended = {call: [entry.event, entry.at_least, entry.at_most] for call, entry in self.ended.items()}
        return {"handed": self.handed, "sent": sorted(self.sent), "ended": ended}


@frozen
class Books:
    """What an application's client told of its calls."""

    handed: int
    sent: Sequence[str]
    ended: Mapping[str, Entry]

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Books:
        """Read what `EventLog.as_dict` wrote."""
        return cls(told["handed"], told["sent"], {call: Entry(*entry) for call, entry in told["ended"].items()})

    def count(self, event: str) -> int:
        """Return how many calls ended with an event of that name."""
        return sum(entry.event == event for entry in self.ended.values())

    @property
    def abandoned(self) -> str:
        """How many calls were broken off before they were sent, then, and when pictures had come."""
        bounds = Counter((each.at_least, each.at_most) for each in self.ended.values() if each.event == "Abandoned")
        others = bounds.total() - bounds[0, 0] - bounds[0, 1] - bounds[1, 1]
        return f"{bounds[0, 0]}, {bounds[0, 1]}, {bounds[1, 1]}" + (f", {others} otherwise" if others else "")

    def wrong(self, charged: Mapping[str, int]) -> list[str]:
        """Return, a line each, what these books and those of the service, pictures by call, do not agree on."""
        silent = [f"{call} was sent, and nothing said how it ended" for call in self.sent if call not in self.ended]
        unknown = [f"{call} was charged {charged[call]}, and never sent" for call in charged if call not in self.sent]
        outside = [
            f"{call} was charged {charged.get(call, 0)}; its {entry.event} says {entry.at_least} to {entry.at_most}"
            for call, entry in self.ended.items()
            if not entry.at_least <= charged.get(call, 0) <= entry.at_most
        ]
        return [*silent, *unknown, *outside]
