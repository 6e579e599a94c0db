"""What becomes of the slots of a process that is killed, or not heard of any more, while it holds some that all share.

That a process of the same host was killed, the others can see. One that was stopped is to them what one on another
machine is that was killed: it is silent.
"""

from __future__ import annotations

import time

from attrs import frozen
from sharing import Asking, Crowd, Member, OpenGate, asking, serving
from traffic import in_flight

from nebula_async import Config
from nebula_async.emulator import Emulator

SHARED_AT_ONCE = 16
"""How many requests all processes together may have in flight."""

UNPACED = 60_000
"""Known and high, so that pacing stays out of it."""

SETTLING, LONGEST = 6.0, 120.0
MORE_SECONDS = 6.0
GLANCE_SECONDS = 0.02


ENDS = {"killed": Asking.end, "not heard of any more": Asking.stop}


@frozen
class Slots:
    """A lost process: how many slots it held; when the others had the first and the last of them, in seconds from its
    end; and what those others had in flight at most.
    """

    held: int
    first_after: float
    all_after: float
    most: int


def free_slots(crowd: Crowd, open_gate: OpenGate, lease_seconds: float) -> bool:
    """End processes that hold slots, print when others have them, and say whether that was within the lease."""
    print(f"{crowd.processes} processes, {SHARED_AT_ONCE} at a time together\n")
    print("| one is | slots it held | first used by another after, s | all after | most in flight without it |")
    print("|---|---|---|---|---|")
    rows = [lose_one(crowd, open_gate, name) for name in ENDS]
    print(f"| *targets* | | | {lease_seconds:g} | {SHARED_AT_ONCE} |\n", flush=True)
    return all(slots.all_after <= lease_seconds and slots.most <= SHARED_AT_ONCE for slots in rows)


def lose_one(crowd: Crowd, open_gate: OpenGate, name: str) -> Slots:
    """End the process that holds most, watch the others until they hold everything, and print when that was."""
    with serving(crowd, window="sliding") as emulator:
        config = Config(base_url=emulator.base_url, rate_limit=UNPACED, concurrency=SHARED_AT_ONCE)
        with asking([Member(each, config, open_gate) for each in crowd.names]) as members:
            time.sleep(SETTLING)
            victim, held = in_flight(emulator).most_common(1)[0]
            ENDS[name](next(each for each in members if each.member.name == victim))
            slots = watch(emulator, victim, held)
    figures = f"{slots.first_after:.2f} | {slots.all_after:.2f} | {slots.most}"
    print(f"| {name} | {slots.held} | {figures} |", flush=True)
    return slots


def watch(emulator: Emulator, victim: str, held: int) -> Slots:
    """Watch those that are left until they hold all slots, and some seconds more."""
    killed = time.monotonic()
    seen: list[tuple[float, int]] = []
    while (seconds := time.monotonic() - killed) < LONGEST:
        seen.append((seconds, sum(count for name, count in in_flight(emulator).items() if name != victim)))
        if first_with(seen, SHARED_AT_ONCE) < seconds - MORE_SECONDS:
            break
        time.sleep(GLANCE_SECONDS)
    first = first_with(seen, SHARED_AT_ONCE - held + 1)
    return Slots(held, first, first_with(seen, SHARED_AT_ONCE), max(count for _, count in seen))


def first_with(seen: list[tuple[float, int]], count: int) -> float:
    """Return when so many were in flight for the first time; infinite for never."""
    return min((at for at, found in seen if found >= count), default=float("inf"))
