"""What a process gets of a limit that is far away from Redis."""

from __future__ import annotations

import time
from collections.abc import Callable

from redis_server import RedisServer
from sharing import LEAST_GOODPUT, MOST_REFUSED, Crowd, Member, OpenGate, asking, serving
from slow_link import slow_link
from traffic import Traffic, traffic_of

ROUND_TRIP = 0.05
FAR_CROWD = Crowd(1, 3_000)
SECONDS, SETTLING = 20.0, 2.0


def cross_link(redis: RedisServer, gate_over: Callable[[str], OpenGate]) -> bool:
    """Use a limit over a link with a long round trip, print how fully, and say whether it was enough."""
    print(f"{FAR_CROWD}, {SECONDS:g} s\n")
    print("| round trip to Redis, ms | accepted | refused | goodput |\n|---|---|---|---|")
    near = measure(gate_over(redis.url), 0.0)
    with slow_link(redis.port, ROUND_TRIP) as link:
        far = measure(gate_over(link.url), ROUND_TRIP)
    print(f"| *targets* | | {MOST_REFUSED:.1%} | {LEAST_GOODPUT:.0%} |\n", flush=True)
    return all(each.goodput >= LEAST_GOODPUT and each.refusals <= MOST_REFUSED for each in (near, far))


def measure(open_gate: OpenGate, round_trip: float) -> Traffic:
    """Use the limit for some seconds, and print what came of it."""
    with serving(FAR_CROWD, window="bucket", burst=FAR_CROWD.burst) as emulator:
        config = FAR_CROWD.config(emulator.base_url)
        with asking([Member(each, config, open_gate) for each in FAR_CROWD.names]):
            time.sleep(SECONDS + SETTLING)
        traffic = traffic_of(emulator, FAR_CROWD.per_minute, FAR_CROWD.names)
    traffic = traffic.part(traffic.began + SETTLING / 2, SECONDS)
    figures = f"{traffic.accepted} | {traffic.refused} | {traffic.goodput:.1%}"
    print(f"| {round_trip * 1000:g} | {figures} |", flush=True)
    return traffic
