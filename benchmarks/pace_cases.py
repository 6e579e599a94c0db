"""What is simulated for the rate controller, clients, servers and limits, and what is measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from random import Random

from attrs import frozen
from pace_clients import AwsAdaptive, Client, Ours, SimpleBackoff
from pace_servers import Bucket, FixedWindow, Server, SlidingWindow
from pace_simulation import MINUTE, Outcome, Setting, simulate

from nebula_async.engine.gate import slots_for
from nebula_async.engine.pace import Pace

HALVED_AT, RESTORED_AT, ENDED_AT = 300.0, 600.0, 900.0
LEARNT_AT, STABLE_AFTER = 100.0, 20.0
STEADY, LEARNT, HALVED, RESTORED = "steady", "after 100 s", "halved", "restored"

SLOTS_WITHOUT_LIMIT = 256
LATE = (0.0002, 0.001)

SERVERS: dict[str, Callable[[float], Server]] = {
    "bucket of 1": lambda per_minute: Bucket(per_minute, 1),
    "bucket of 10": lambda per_minute: Bucket(per_minute, 10),
    "bucket of 10 s": lambda per_minute: Bucket(per_minute, per_minute / 6),
    "bucket of a minute": lambda per_minute: Bucket(per_minute, per_minute),
    "fixed window": FixedWindow,
    "fixed window, 17 s late": partial(FixedWindow, phase=17.0),
    "sliding window": SlidingWindow,
}
PHASES = {"fixed window": 0.0, "fixed window, 17 s late": 17.0}

CLIENTS: dict[str, Callable[[float, Random], Client]] = {
    "limit known": lambda per_minute, source: Ours(Pace(per_minute), source),
    "limit not known": lambda _, source: Ours(Pace(None), source),
    "simple back-off": lambda _, source: SimpleBackoff(source),
    "AWS adaptive": lambda _, source: AwsAdaptive(source),
}
KNOWN, FOUND, SIMPLE, AWS = CLIENTS

BURST_REQUESTS, BURST_SLOTS = 200, 64


@frozen
class Case:
    """One run: who sends to which server, what its refusals name, and whether timers are late."""

    client: str
    server: str
    per_minute: int
    retry_after: str | None
    seed: int
    is_late: bool = False


@frozen
class Figure:
    """What one part of a run came to, as shares; `lowest` is the goodput of its worst stretch."""

    goodput: float
    refusals: float
    lowest: float


def measure(case: Case) -> dict[str, Figure]:
    """Play a case: the limit is halved after 300 s and restored after 600. Return what its parts came to."""
    limit = float(case.per_minute)
    setting = Setting(
        seed=case.seed,
        seconds=ENDED_AT + MINUTE,
        slots=SLOTS_WITHOUT_LIMIT if case.client == FOUND else slots_for(limit),
        retry_after=case.retry_after,
        late_seconds=LATE if case.is_late else (0.0, 0.0),
        changes=((HALVED_AT, limit / 2), (RESTORED_AT, limit)),
    )
    client = CLIENTS[case.client](limit, Random(case.seed + 1_000))  # noqa: S311
    outcome = simulate(client, SERVERS[case.server](limit), setting)
    return {
        STEADY: _figure(outcome, case.server, 0.0, HALVED_AT, limit),
        LEARNT: _figure(outcome, case.server, LEARNT_AT, HALVED_AT, limit),
        HALVED: _figure(outcome, case.server, HALVED_AT, RESTORED_AT, limit / 2),
        RESTORED: _figure(outcome, case.server, RESTORED_AT, ENDED_AT, limit),
    }


def _figure(outcome: Outcome, server: str, began: float, ended: float, per_minute: float) -> Figure:
    """Return a part's figures. Refusals are of all of it; goodput is of whole windows, where there are such; stretches
    are windows, or else half minutes, the first of which begins 20 s after the part.
    """
    refusals = outcome.refusals(began, ended)
    step, first = MINUTE / 2, began + STABLE_AFTER
    if server in PHASES:
        phase = PHASES[server]
        began = math.ceil((began - phase) / MINUTE) * MINUTE + phase
        ended = math.floor((ended - phase) / MINUTE) * MINUTE + phase
        step, first = MINUTE, began
    starts = (first + step * number for number in range(int((ended - first) // step)))
    lowest = min(outcome.goodput(start, start + step, per_minute) for start in starts)
    return Figure(outcome.goodput(began, ended, per_minute), refusals, lowest)


@frozen
class Burst:
    """200 requests, 64 at a time, to a bucket of ten that refills ten times a second and answers after 0.2 s."""

    retry_after: str | float | None
    refusal_seconds: tuple[float, float]
    seed: int


@frozen
class BurstFigure:
    """How many were accepted and refused, and when the last was answered."""

    accepted: int
    refused: int
    seconds: float


def measure_burst(burst: Burst) -> BurstFigure:
    """Play a burst, by a client that knows no limit."""
    setting = Setting(
        seed=burst.seed,
        seconds=300,
        slots=BURST_SLOTS,
        retry_after=burst.retry_after,
        processes=1,
        requests=BURST_REQUESTS,
        reply_seconds=0.2,
        reply_spread=0.0,
        refusal_seconds=burst.refusal_seconds,
    )
    client = Ours(Pace(None), Random(burst.seed + 1_000))  # noqa: S311
    outcome = simulate(client, Bucket(600, 10), setting)
    return BurstFigure(len(outcome.accepted), len(outcome.refused), outcome.ended_at)
