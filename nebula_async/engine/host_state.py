"""What the processes of a host know together of an account, as text and back: pure, the clocks handed in."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable
from typing import Any

from attrs import define, field, fields, has

from nebula_async.engine.allowance import Allowance
from nebula_async.engine.pace import Pace
from nebula_async.engine.quota import DailyQuota

LEASE_SECONDS = 60.0
"""Who has not been heard of for so long is no member any more."""


@define
class Member:
    """A process that uses the account: since when, when it was last heard of, and the limits that it was given."""

    joined_at: float
    seen_at: float
    per_minute: float | None = None
    per_day: int | None = None


@define(eq=False)
class HostState:
    """The allowance of an account and the processes that share it, since the machine was started.

    Times are of the host's steady clock, which begins anew with each start (`boot`); the day's count does not.
    """

    boot: str
    allowance: Allowance = field(factory=lambda: Allowance(Pace(None), DailyQuota()))
    members: dict[str, Member] = field(factory=dict)
    written_at: float = -math.inf

    def enter(self, name: str, now: float, per_minute: float | None, per_day: int | None) -> None:
        """A member is heard of. What counts is the lowest limit that any of them was given."""
        self.members = {key: member for key, member in self.members.items() if _is_alive(member, now)}
        member = self.members.setdefault(name, Member(now, now))
        member.seen_at, member.per_minute, member.per_day = now, per_minute, per_day
        self.allowance.pace.give(_lowest(member.per_minute for member in self.members.values()))
        self.allowance.quota.per_day = _lowest(member.per_day for member in self.members.values())
        self.written_at = now

    def others(self, name: str, now: float) -> list[Member]:
        """Return who shares the account with a member."""
        return [member for key, member in self.members.items() if key != name and _is_alive(member, now)]

    def is_known_to_all(self, name: str, now: float) -> bool:
        """Whether all others have been here since that member joined, so that they leave it its share."""
        me = self.members.get(name)
        others = self.others(name, now)
        return me is not None and _is_alive(me, now) and all(other.seen_at > me.joined_at for other in others)


def write_state(state: HostState) -> str:
    """Return the state as text."""
    return json.dumps(state, default=_plain, separators=(",", ":"))


def read_state(text: str, boot: str, now: float) -> HostState:
    """Return the state of a text; of one that was written before the machine was started, only the day.

    Raises `ValueError` for a text that was damaged.
    """
    try:
        return _read(json.loads(text), boot, now)
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no state of an account: {error}") from error


def _read(found: Any, boot: str, now: float) -> HostState:
    state = HostState(boot)
    _restore(state.allowance.quota, found["allowance"]["quota"])
    if found["boot"] != boot or found["written_at"] > now:
        return state
    _restore(state.allowance.pace, found["allowance"]["pace"])
    for name, member in found["members"].items():
        state.members[name] = Member(0.0, 0.0)
        _restore(state.members[name], member)
    state.written_at = _number(found["written_at"])
    return state


def _restore(target: Any, found: dict[str, Any]) -> None:
    """Give a value its fields; what another version of this library does not know of stays as it begins."""
    for name in (attribute.name for attribute in fields(type(target))):
        if name not in found:
            continue
        old, new = getattr(target, name), found[name]
        if has(type(old)):
            _restore(old, new)
            continue
        setattr(target, name, deque(map(_whole, new), old.maxlen) if isinstance(old, deque) else _number(new, old))


def _whole(found: Any) -> Any:
    return tuple(map(_number, found)) if isinstance(found, list) else _number(found)


def _number(found: Any, old: Any = 0.0) -> Any:
    if old is None and found is None:
        return None
    if not isinstance(found, int | float) or math.isnan(found):  # raises for a whole number that no float can hold
        raise ValueError(f"{found!r} is no number")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, deque):
        return list(value)
    return {attribute.name: getattr(value, attribute.name) for attribute in fields(type(value))}


def _is_alive(member: Member, now: float) -> bool:
    return now - member.seen_at < LEASE_SECONDS


def _lowest(limits: Iterable[Any]) -> Any:
    return min((limit for limit in limits if limit is not None), default=None)
