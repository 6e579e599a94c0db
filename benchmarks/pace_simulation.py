"""A discrete event simulation of clients that share an account: processes, one queue, slots, and a server's limit."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from attrs import define, field, frozen
from pace_clients import Client
from pace_servers import Server

MINUTE = 60.0


@frozen(kw_only=True)
class Setting:
    """What happens round a client: who wants how much, how long replies take, what the server says and when it changes.

    `retry_after` is what a refusal names: nothing, the true wait ("true"), the true wait in whole seconds ("whole"), or
    a number. A reply takes `reply_seconds` in the median, log-normal with this spread; a refusal something between the
    two of `refusal_seconds`. Without a number of `requests` more is wanted without end.
    """

    seed: int
    seconds: float
    slots: int
    retry_after: str | float | None = None
    processes: int = 4
    requests: int | None = None
    reply_seconds: float = 3.0
    reply_spread: float = 0.35
    refusal_seconds: tuple[float, float] = (0.02, 0.2)
    late_seconds: tuple[float, float] = (0.0, 0.0)
    changes: tuple[tuple[float, float], ...] = ()


@define
class Outcome:
    """When requests were accepted and refused, how many each process sent, and when the last was answered."""

    accepted: list[float] = field(factory=list)
    refused: list[float] = field(factory=list)
    sent: list[int] = field(factory=list)
    ended_at: float = math.inf

    def goodput(self, began: float, ended: float, per_minute: float) -> float:
        """Return what was accepted in that time, as a share of the limit."""
        return _within(self.accepted, began, ended) / (per_minute / MINUTE * (ended - began))

    def refusals(self, began: float, ended: float) -> float:
        """Return which share of what was sent in that time was refused."""
        refused = _within(self.refused, began, ended)
        return refused / max(refused + _within(self.accepted, began, ended), 1)


def _within(moments: list[float], began: float, ended: float) -> int:
    return bisect_left(moments, ended) - bisect_left(moments, began)


@frozen
class Request:
    """One request: whose it is, when it left last, and how often."""

    process: int
    sent_at: float = -math.inf
    tries: int = 0


def simulate(client: Client, server: Server, setting: Setting) -> Outcome:
    """Play a setting from 0 to its end, or until all requests were answered."""
    return _Simulation(client, server, setting).run()


@define
class _Simulation:
    client: Client
    server: Server
    setting: Setting
    outcome: Outcome = field(factory=Outcome)
    now: float = 0.0
    free: int = field(init=False)
    chance: Random = field(init=False)
    waiting: deque[Request] = field(factory=deque)
    retrying: deque[Request] = field(factory=deque)
    wakes_at: float = math.inf
    left: float = math.inf
    _events: list[tuple[float, int, Callable[..., None], Any]] = field(factory=list)
    _order: count[int] = field(factory=count)

    def __attrs_post_init__(self) -> None:
        setting = self.setting
        self.chance, self.free = Random(setting.seed), setting.slots  # noqa: S311
        self.outcome.sent = [0] * setting.processes
        wanted = setting.requests or setting.processes * setting.slots
        self.waiting.extend(Request(number % setting.processes) for number in range(wanted))
        self.left = setting.requests or math.inf
        for moment, per_minute in setting.changes:
            self.at(moment, self.change, per_minute)
        self.sleep(0.0)

    def run(self) -> Outcome:
        """Handle event after event."""
        while self._events and self.left:
            self.now, _, handle, subject = heapq.heappop(self._events)
            if self.now >= self.setting.seconds:
                return self.outcome
            handle(subject)
        self.outcome.ended_at = self.now
        return self.outcome

    def at(self, moment: float, handle: Callable[[Any], None], subject: object) -> None:
        """Let something happen later."""
        heapq.heappush(self._events, (moment, next(self._order), handle, subject))

    def wake(self, moment: float) -> None:
        """The timer of the first in the queue has run out, or one that was set before it."""
        if moment == self.wakes_at:
            self.wakes_at = math.inf
            self.let_leave()

    def let_leave(self) -> None:
        """Let requests leave as long as the client lets them: first those that kept their slots, then who finds one."""
        while self.retrying or (self.waiting and self.free):
            wait = self.client.wait(self.now)
            if wait > 0:
                return self.sleep(wait)
            self.client.sent(self.now)
            if self.retrying:
                self.send(self.retrying.popleft())
                continue
            self.free -= 1
            self.send(self.waiting.popleft())
        return None

    def sleep(self, seconds: float) -> None:
        """Set the timer."""
        moment = self.now + seconds + self.chance.uniform(*self.setting.late_seconds)
        if moment < self.wakes_at - 1e-9:
            self.wakes_at = moment
            self.at(moment, self.wake, moment)

    def send(self, request: Request) -> None:
        """Send one request, and see what the server says to it."""
        request = Request(request.process, self.now, request.tries + 1)
        self.outcome.sent[request.process] += 1
        wait = self.server.take(self.now)
        if wait > 0:
            self.outcome.refused.append(self.now)
            self.at(self.now + self.chance.uniform(*self.setting.refusal_seconds), self.refuse, (request, wait))
            return
        self.outcome.accepted.append(self.now)
        seconds = self.setting.reply_seconds * self.chance.lognormvariate(0, self.setting.reply_spread)
        self.at(self.now + seconds, self.accept, request)

    def accept(self, request: Request) -> None:
        """A reply has come."""
        self.client.accepted(self.now, is_wanted=bool(self.waiting and self.free))
        self.free += 1
        self.left -= 1
        if self.setting.requests is None:
            self.waiting.append(Request(request.process))
        self.let_leave()

    def refuse(self, refusal: tuple[Request, float]) -> None:
        """A refusal has come."""
        request, wait = refusal
        delay = self.named(wait)
        own = self.client.refused(self.now, sent_at=request.sent_at, delay=delay, tries=request.tries)
        if own is not None:
            return self.at(self.now + own, self.send_again, request)
        self.free += 1
        self.waiting.append(request)
        return self.let_leave()

    def send_again(self, request: Request) -> None:
        """A request has waited long enough by itself."""
        self.retrying.append(request)
        self.let_leave()

    def named(self, wait: float) -> float | None:
        """Return what the header of a refusal says."""
        if self.setting.retry_after == "true":
            return wait
        if self.setting.retry_after == "whole":
            return max(1.0, math.ceil(wait))
        return self.setting.retry_after if isinstance(self.setting.retry_after, float) else None

    def change(self, per_minute: float) -> None:
        """The limit changes, and nobody says so."""
        self.server.change(self.now, per_minute)
