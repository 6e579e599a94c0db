"""Four processes on one account over one Redis, 600 a minute: what they get together, and what happens when parts die.

- limit: each way of counting a minute, steady
- outage: Redis killed for 20 s, stopped for 20 s, and cut off from one of the processes for 20 s
- slots: a process killed that holds slots that all share
- jobs: jobs killed and begun again; what is bought twice
- link: one process, 50 ms away from Redis, at 3,000 a minute
- cost: commands, CPU and memory, for up to a hundred members

Prints tables and exits 1 when a target is missed. `sharing.py` is the processes and their server; Redis is Debian's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attrs import frozen
from sharing import KEY, PER_MINUTE, PROCESSES, SECONDS, Crowd, OpenGate, share_all

sys.path.append(str(Path(__file__).parents[1] / "tests" / "integrations"))

from redis_server import RedisServer, why_not
from sharing_cost import show_cost
from sharing_jobs import AT_ONCE as JOB_AT_ONCE
from sharing_jobs import PER_MINUTE as JOBS_PER_MINUTE
from sharing_jobs import kill_workers
from sharing_link import FAR_CROWD, cross_link
from sharing_outage import AWAY, survive_outages
from sharing_slots import SHARED_AT_ONCE, UNPACED, free_slots

from nebula_async import Config
from nebula_async.integrations.redis import LEASE_SECONDS, RedisGate


@frozen
class Given:
    """What was asked for."""

    crowd: Crowd
    seconds: float
    away: float
    has_series: bool


def main() -> int:
    """Measure, print, and say whether all targets were reached."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all by default")
    options.add_argument("--processes", type=int, default=PROCESSES)
    options.add_argument("--per-minute", type=int, default=PER_MINUTE)
    options.add_argument("--seconds", type=float, default=SECONDS, help="how long each way of counting is measured")
    options.add_argument("--away", type=float, default=AWAY, help="for how many seconds Redis is away")
    options.add_argument("--series", action="store_true", help="print each second of an outage")
    given = options.parse_args()
    if unknown := {*given.sections} - {*SECTIONS}:
        options.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if min(given.processes, given.per_minute, given.seconds, given.away) < 1:
        options.error("processes, requests a minute and seconds are 1 at least")
    if reason := why_not():
        options.error(reason)
    chosen = Given(Crowd(given.processes, given.per_minute), given.seconds, given.away, given.series)
    missed = [name for name in given.sections or SECTIONS if not run(name, chosen)]
    print(f"missed: {', '.join(missed)}" if missed else "all targets reached")
    return 1 if missed else 0


def run(name: str, given: Given) -> bool:
    """Run a section with a Redis of its own."""
    print(f"## {name}\n", flush=True)
    with RedisServer() as redis:
        return SECTIONS[name](redis, given)


def gate_of(url: str, per_minute: float, at_once: int, *, shared_concurrency: int | None = None) -> OpenGate:
    """Return what opens the gate of a member, in whichever process."""
    config = Config(rate_limit=per_minute, concurrency=at_once)
    return partial(RedisGate, url, api_key=KEY, config=config, shared_concurrency=shared_concurrency)


def share_limit(redis: RedisServer, given: Given) -> bool:
    """Share a limit, counted in each way."""
    return share_all(given.crowd, given.seconds, gate_of(redis.url, given.crowd.per_minute, given.crowd.at_once))


def lose_redis(redis: RedisServer, given: Given) -> bool:
    """Share a limit while Redis goes away and comes back."""

    def gate_over(url: str) -> OpenGate:
        return gate_of(url, given.crowd.per_minute, given.crowd.at_once)

    return survive_outages(given.crowd, redis, gate_over, has_series=given.has_series, away=given.away)


def lose_process(redis: RedisServer, given: Given) -> bool:
    """Share slots with a process that is killed."""
    crowd = Crowd(given.crowd.processes, UNPACED)
    open_gate = gate_of(redis.url, UNPACED, SHARED_AT_ONCE, shared_concurrency=SHARED_AT_ONCE)
    return free_slots(crowd, open_gate, LEASE_SECONDS)


def lose_jobs(redis: RedisServer, given: Given) -> bool:
    """Share a limit among jobs that are killed."""
    return kill_workers(given.crowd.processes, gate_of(redis.url, JOBS_PER_MINUTE, JOB_AT_ONCE))


def live_far_away(redis: RedisServer, _given: Given) -> bool:
    """Use a limit alone, over a slow link."""
    return cross_link(redis, lambda url: gate_of(url, FAR_CROWD.per_minute, FAR_CROWD.at_once))


def count_cost(redis: RedisServer, _given: Given) -> bool:
    """Count what sharing costs."""
    return show_cost(redis, lambda config: RedisGate(redis.url, api_key=KEY, config=config))


SECTIONS: dict[str, Callable[[RedisServer, Given], bool]] = {
    "limit": share_limit,
    "outage": lose_redis,
    "slots": lose_process,
    "jobs": lose_jobs,
    "link": live_far_away,
    "cost": count_cost,
}


if __name__ == "__main__":
    sys.exit(main())
