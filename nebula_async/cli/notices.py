"""What users are told while a command runs, beside its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from nebula_async.events import (
    Event,
    Held,
    OutageBegan,
    OutageEnded,
    ParameterIgnored,
    QuotaReached,
    Resumed,
    SharingLost,
    SharingRegained,
)

LONG_HOLD = 5.0
"""A wait of so many seconds is worth a word."""

FOR_PROGRAMS = ("held", "resumed")
"""Notices that come and go all the time, so people see them on the line that shows how it is going."""


@frozen
class Notice:
    """Something that happened: its `name` is for programs and stays, its `text` is for people."""

    name: str
    text: str
    seconds: float | None = None


def notice_of(event: Event) -> Notice | None:
    """Return what there is to tell of an event, `None` for one that concerns nobody."""
    tell = NOTICES.get(type(event))
    return None if tell is None else tell(event)


def is_worth_a_line(notice: Notice) -> bool:
    """Whether people want to read it where no line shows how it is going: short waits and their ends are not."""
    return notice.name not in FOR_PROGRAMS or (notice.name == "held" and (notice.seconds or 0) >= LONG_HOLD)


def _about_quota(event: QuotaReached) -> Notice:
    hours, minutes = divmod(round(event.seconds / 60), 60)
    text = f"the day's quota is used up: waiting for the next day, which begins in {hours} h {minutes:02} min"
    return Notice("quota", text, event.seconds)


def _about_hold(event: Held) -> Notice:
    return Notice("held", f"too many requests: everything waits for {event.seconds:.0f} s", event.seconds)


def _about_sharing(event: SharingLost) -> Notice:
    meanwhile = "waiting until it can" if event.is_waiting else "going on by itself"
    reason = f"the rate limit cannot be shared with other commands now ({event.reason})"
    return Notice("sharing_lost", f"note: {reason}; {meanwhile}")


NOTICES: Mapping[type[Event], Callable[[Any], Notice]] = {
    ParameterIgnored: lambda event: Notice("parameter_ignored", f"note: {event.problem}"),
    Held: _about_hold,
    Resumed: lambda event: Notice("resumed", f"requests leave again, after {event.seconds:.0f} s", event.seconds),
    QuotaReached: _about_quota,
    OutageBegan: lambda event: Notice(
        "outage", f"the API does not answer ({event.reason}); asking now and then until it does"
    ),
    OutageEnded: lambda _event: Notice("outage_ended", "the API answers again"),
    SharingLost: _about_sharing,
    SharingRegained: lambda _event: Notice("sharing_regained", "the rate limit is shared with other commands again"),
}
