"""One account as one of its members knows it: what Redis said last, what it has not been told, what follows alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import Random
from typing import Any, TypeVar

import anyio
from attrs import define, evolve, field

from nebula_async.engine.allowance import Allowance
from nebula_async.engine.host_account import CAUTION
from nebula_async.engine.host_state import HostState, read_state
from nebula_async.engine.pace import HEADROOM, Pace
from nebula_async.engine.quota import DAY_SECONDS, DailyQuota
from nebula_async.integrations.redis_decision import written
from nebula_async.integrations.redis_link import Link
from nebula_async.integrations.redis_names import ended_members, host
from nebula_async.integrations.redis_standing import Granted, Standing

Value = TypeVar("Value")

LEASE_SECONDS = 60.0
"""Within so many seconds what a member held that is not heard of any more is free: Redis counts two seconds less."""

PRESENT_SECONDS = 1.5
"""Who may not have heard of the others for so long may have gone on alone: until its lease ends, or as long as it asks
and does not hear, they leave it its share. It is three beats, and what was heard is known one beat later.
"""

SOON_SECONDS = 0.01
CLOCK = "redis"
"""What names the clock of a state: it does not begin anew with a machine."""


@define(eq=False, repr=False)
class RedisAccount:
    """What a member knows; `slots` says how many requests it has in flight or reserved, `wants` whether more wait.

    What is decided, it decides as a process alone would, with the same `Pace` and `DailyQuota`, on what all know: each
    decision is written only where nobody decided meanwhile.
    """

    link: Link
    name: str
    per_minute: float | None
    per_day: int | None
    shared_concurrency: int | None
    backoff: float
    random: Random
    slots: Callable[[], int] = lambda: 0
    wants: Callable[[], bool] = lambda: False
    standing: Standing | None = field(default=None, init=False)
    alone: Allowance | None = field(default=None, init=False)
    met_at: float = field(default=-math.inf, init=False)
    round_trip: float = field(default=0.0, init=False)
    unused: int = field(default=0, init=False)
    has_asked: bool = field(default=False, init=False)
    _allowance: Allowance = field(init=False)
    _accepted: int = field(default=0, init=False)
    _told: int = field(default=0, init=False)
    _told_on: int = field(default=0, init=False)
    _part: float = field(default=1.0, init=False)
    _heard: float | None = field(default=None, init=False)
    _untaught: list[bool] = field(factory=list, init=False)
    _day: int = field(default=0, init=False)
    _text: str = field(default="", init=False)
    _version: int = field(default=0, init=False)
    _others: dict[str, int] = field(factory=dict, init=False)
    _ended: list[str] = field(factory=list, init=False)
    _is_back: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._allowance = Allowance(Pace(self.per_minute, self.backoff), DailyQuota(self.per_day))

    @property
    def believed(self) -> float | None:
        """How many requests a minute leave, as far as that is known."""
        return (self.alone or self._allowance).pace.believed(0.0)

    @property
    def has_far_members(self) -> bool:
        """Whether any of the others is not known to be a process of this host."""
        return any(not host() or name.partition("-")[0] != host() for name in self._others)

    def used_today(self) -> int:
        """Return how many requests of today all members had accepted, as far as this one knows."""
        if self.alone is not None:
            return self.alone.quota.used(time.time())
        return (self.standing.used if self.standing else 0) + self._accepted - self._told

    def accepted(self, now: float, *, is_wanted: bool) -> None:
        """A request was accepted: that is told, and taught to all if it can teach anything, with the next beat."""
        self._forget_yesterday()
        self._accepted += 1
        if self.alone is not None:
            self.alone.quota.count(time.time())
            self.alone.pace.accepted(now, is_wanted=is_wanted)
        elif self._allowance.pace.is_learning or (self.standing and self.standing.closed):
            self._untaught.append(is_wanted)

    async def meet(self, count: int = 0) -> Granted:
        """Be heard of, tell what is untold, and reserve up to so many turns. Raises `LinkLostError`."""
        answer = await self._meet(count)
        turns = tuple(self.met_at + float(turn) for turn in answer["turns"])
        return Granted(turns, float(answer["again"]))

    async def hear(self) -> None:
        """Be heard of, and hear of the others; that it heard of new ones, and that some have ended, is told at once."""
        known = self._others
        await self.meet()
        if self._ended or known.keys() != self._others.keys():
            await self.meet()

    async def reserve(self) -> Granted:
        """Reserve a turn by a decision: where none follows from the last."""
        turn, seconds = await self.change(lambda allowance, now, today: allowance.reserve(now, today))
        return Granted((self.met_at + seconds,), 0.0) if turn is not None else Granted((), seconds)

    async def settle(self) -> None:
        """Decide what follows from the limits that members were given, and from what was accepted or held meanwhile."""
        is_behind = self.standing is None or self.standing.is_stale or self.alone is not None
        if not is_behind and not self._untaught:
            return
        taught = len(self._untaught)

        def teach(allowance: Allowance, now: float, today: float) -> None:
            for is_wanted in self._untaught[:taught]:
                allowance.pace.accepted(now, is_wanted=is_wanted)
            if taught and self.alone is None:
                allowance.quota.count(today, 0)

        await self.change(teach)
        del self._untaught[:taught]
        self.alone = None

    async def change(self, work: Callable[[Allowance, float, float], Value]) -> Value:
        """Decide something with what all know and Redis' time, `now` of its steady clock and `today`.

        `work` may be called more than once, the last time is the one that counts. Raises `LinkLostError`.
        """
        while True:
            answer = await self._meet(0, is_reading=True)
            now, today = float(answer["now"]), float(answer["wall"])
            state = self._state(answer, now, today)
            value = work(state.allowance, now, today)
            if await self.link.agree(decision := written(answer, state, now, self._version)):
                self._text, self._version, self._allowance = decision["text"], decision["version"], state.allowance
                self._note(state.allowance, now, today)
                return value
            await anyio.sleep(self.random.uniform(0, SOON_SECONDS))

    def go_alone(self, last_turn: float) -> None:
        """Go on with less than one's share of what was known last, after the turn that was reserved last."""
        standing, now, today = self.standing or Standing(at=self.met_at), anyio.current_time(), time.time()
        pace = self._allowance.pace.part(CAUTION / standing.members)
        pace.follow(last_turn, 0, ())
        pace.hold(now, standing.held_for(now))
        quota = DailyQuota(standing.per_day).part(today, self.used_today(), standing.members)
        if standing.is_certain and standing.closed_for(now) and not quota.is_used_up(today):
            quota.close(today, standing.closed_for(now) if standing.is_final else None)
        self.alone, self._part = Allowance(pace, quota), CAUTION / standing.members

    def keep_still(self) -> None:
        """Go on with the little that nobody else is given: the lease is over, and others may have the share."""
        if self.alone is not None and self.standing is not None:
            self._part = (1 - HEADROOM) / self.standing.members
            self.alone.pace.give(self._allowance.pace.part(self._part).per_minute)

    def lost(self) -> None:
        """Redis was not reached: if it is again, it may have forgotten everything, so it is told who there was."""
        self._is_back = True

    async def leave(self) -> None:
        """Be no member any more. Raises `LinkLostError`."""
        self._forget_yesterday()
        await self.link.leave(self.name, self._accepted, self._told)

    def is_news(self, per_minute: float) -> bool:
        """Whether a limit that the API names changes anything, for all or for a member that is alone."""
        allowance = self.alone or self._allowance
        return allowance.pace.is_news(self._part_of(allowance) * per_minute)

    def learn(self, per_minute: float, allowance: Allowance) -> None:
        """The API names the account's limit; a member that is alone has its part of it."""
        allowance.pace.learn(self._part_of(allowance) * per_minute)

    def _part_of(self, allowance: Allowance) -> float:
        return self._part if allowance is self.alone else 1.0

    def _forget_yesterday(self) -> None:
        """What was accepted before 00:00 UTC and is not told by then counts for no day that is still of use."""
        day = int(time.time() // DAY_SECONDS)
        if day > self._told_on:
            self._told, self._told_on = self._accepted, day

    async def _meet(self, count: int, *, is_reading: bool = False) -> dict[str, Any]:
        self._forget_yesterday()
        self.has_asked = True
        accepted, unused, is_back, ended = self._accepted, self.unused, self._is_back, self._ended
        begun = anyio.current_time()
        answer = await self.link.meet(
            {
                "member": self.name,
                "count": count,
                "slots": self.slots(),
                "wants": self.wants(),
                "heard": self._heard,
                "knew": self.standing.members if self.standing else None,
                "shared": self.shared_concurrency,
                "per_minute": self.per_minute,
                "per_day": self.per_day,
                "mine": accepted,
                "told": self._told,
                "used": self.standing.used if self.standing else 0,
                "day": self._day,
                "unused": unused,
                "version": -1 if is_reading else self._version,
                "others": list(self._others.items()) if is_back else [],
                "dead": ended,
            }
        )
        self.met_at = anyio.current_time()
        self.round_trip += 0.2 * (self.met_at - begun - self.round_trip)
        self._told, self.unused, self._ended = max(self._told, accepted), self.unused - unused, []
        self._is_back = self._is_back and not is_back
        self._take(answer)
        return answer

    def _take(self, answer: Mapping[str, Any]) -> None:
        known = {name: answer[name] for name in ("members", "is_known", "is_stale", "given", "share", "used")}
        ends = {name: answer[name] for name in ("held", "closed", "is_certain", "is_final")}
        per_day, interval = answer.get("per_day"), answer.get("interval")
        self.standing = Standing(at=self.met_at, per_day=per_day, interval=interval, **known, **ends)
        self._day, self._heard = answer["day"], float(answer["now"])
        policy = answer.get("policy")
        if policy and policy["text"] and answer["version"] != self._version:
            self._text, self._version = policy["text"], answer["version"]
            self._allowance = self._read(float(answer["now"])).allowance
        if "others" in answer:
            self._others = dict(answer["others"])
            self._ended = ended_members(self._others)

    def _read(self, now: float) -> HostState:
        with suppress(ValueError):  # nothing was decided yet, or by something else than this library
            return read_state(self._text, CLOCK, now)
        return HostState(CLOCK)

    def _state(self, answer: Mapping[str, Any], now: float, today: float) -> HostState:
        """Return what all decided last, brought up to this moment."""
        state, policy = self._read(now), answer["policy"]
        pace, quota = state.allowance.pace, state.allowance.quota
        pace.backoff = self.backoff
        pace.give(answer.get("per_minute"))
        marks = [
            (float(moment), int(float(left)) - policy["seen_left"]) for moment, left in map(str.split, policy["marks"])
        ]
        pace.follow(float(policy["last"]), policy["left"], [mark for mark in marks if mark[1] > 0])
        quota.per_day = answer.get("per_day")
        quota.agree(today, answer["used"], float(policy["asked_at"]))
        if self.alone is not None:
            self._tell_what_was_alone(self.alone, state.allowance, now, today)
        return state

    def _tell_what_was_alone(self, alone: Allowance, allowance: Allowance, now: float, today: float) -> None:
        held = alone.pace.held_for(anyio.current_time())
        if held > allowance.pace.held_for(now):
            allowance.pace.hold(now, held)
        closed_until, is_named, _ = alone.quota.closing
        closed = closed_until - time.time()
        if closed > allowance.quota.seconds_closed(today):
            allowance.quota.close(today, closed if is_named else None)

    def _note(self, allowance: Allowance, now: float, today: float) -> None:
        """A decision counts at once for whoever waits here."""
        closed = allowance.quota.seconds_closed(today)
        _, is_named, _ = allowance.quota.closing
        is_final = is_named or allowance.quota.is_used_up(today)
        is_certain = closed == 0 or allowance.quota.seconds_over(today) > 0
        self.standing = evolve(
            self.standing or Standing(at=self.met_at),
            held=allowance.pace.held_for(now),
            closed=closed,
            is_certain=is_certain,
            is_final=is_final,
            is_stale=allowance.pace.course is None,
        )
