"""What sharing over Redis costs: commands, CPU of Redis and of those who share, and bytes that Redis keeps."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import anyio
from attrs import frozen
from redis_server import RedisServer

from nebula_async import Config
from nebula_async.engine.gate import Gate

SECONDS = 8.0
CROWDS = [(4, 600), (4, 3_000), (100, 3_000), (100, 30_000)]
"""Members, and requests a minute of all."""

AT_ONCE = 64
CALLS, SCRIPT = "cmdstat_", "evalsha"

OpenGateWith = Callable[[Config], AbstractAsyncContextManager[Gate]]


@frozen
class Counted:
    """What Redis has counted since it was started, and what this process has: calls of scripts and other commands,
    seconds of CPU, bytes.
    """

    calls: Counter[str]
    redis_seconds: float
    own_seconds: float
    redis_bytes: int


@frozen
class Cost:
    """What so many members took for so many requests in so many seconds; `key_bytes` is what Redis keeps of them."""

    members: int
    per_minute: int
    sent: int
    seconds: float
    calls: Counter[str]
    redis_seconds: float
    own_seconds: float
    redis_bytes: int
    key_bytes: int

    def __str__(self) -> str:
        used = self.sent / (self.per_minute / 60 * self.seconds)
        scripts = self.calls[SCRIPT] / self.sent
        calls = f"{scripts:.2f} | {self.calls.total() / self.sent - scripts:.1f}"
        redis = f"{self.redis_seconds / self.sent * 1e6:.0f} | {self.redis_seconds / self.seconds:.1%}"
        own = f"{self.own_seconds / self.sent * 1e6:.0f}"
        size = f"{self.redis_bytes / 1024:.0f} | {self.key_bytes / 1024:.1f}"
        return f"| {self.members} | {self.per_minute} | {used:.1%} | {calls} | {redis} | {own} | {size} |"


def show_cost(redis: RedisServer, open_gate: OpenGateWith) -> bool:
    """Print what sharing costs for some numbers of members, all of them in this process and without any pictures."""
    print(f"the gate alone, {SECONDS:g} s each; all members in one process\n")
    print("| members | a minute | of the limit | scripts run for a request | commands in them ", end="")
    print("| Redis: CPU for a request, us ", end="")
    print("| of a core | member: CPU for a request, us | Redis: KB more than empty | in keys |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    costs = [anyio.run(measure, redis, open_gate, *crowd) for crowd in CROWDS]
    print(flush=True)
    return all(cost.sent for cost in costs)


async def measure(redis: RedisServer, open_gate: OpenGateWith, members: int, per_minute: int) -> Cost:
    """Let members use the limit for some seconds, and print what it took."""
    redis.run("FLUSHALL")
    empty = count(redis)
    async with opened(open_gate, members, per_minute) as gates:
        before, begun = count(redis), time.monotonic()
        sent = await use(gates)
        seconds, after = time.monotonic() - begun, count(redis)
        key_bytes = sum(redis.run("MEMORY", "USAGE", key) for key in redis.run("KEYS", "*"))
    cost = Cost(
        members=members,
        per_minute=per_minute,
        sent=sent,
        seconds=seconds,
        calls=after.calls - before.calls - Counter(info=1),
        redis_seconds=after.redis_seconds - before.redis_seconds,
        own_seconds=after.own_seconds - before.own_seconds,
        redis_bytes=after.redis_bytes - empty.redis_bytes,
        key_bytes=key_bytes,
    )
    print(cost, flush=True)
    return cost


@asynccontextmanager
async def opened(open_gate: OpenGateWith, members: int, per_minute: int) -> AsyncIterator[list[Gate]]:
    """Open the gates of so many members."""
    config = Config(rate_limit=per_minute, concurrency=AT_ONCE)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_gate(config)) for _ in range(members)]


async def use(gates: list[Gate]) -> int:
    """Send all that the limit allows for some seconds, and return how much that was."""
    sent = 0

    async def send(gate: Gate) -> None:
        nonlocal sent
        while True:
            async with gate.slot("bulk", deadline=math.inf):
                sent += 1
                await gate.accepted()

    with anyio.move_on_after(SECONDS):
        async with anyio.create_task_group() as group:
            for gate in gates:
                group.start_soon(send, gate)
    return sent


def count(redis: RedisServer) -> Counted:
    """Return what was counted so far."""
    lines = [line.partition(":") for line in redis.run("INFO", "everything").splitlines()]
    info = {name: value for name, _, value in lines}
    return Counted(
        calls=Counter({name.removeprefix(CALLS): calls_of(info[name]) for name in info if name.startswith(CALLS)}),
        redis_seconds=float(info["used_cpu_sys"]) + float(info["used_cpu_user"]),
        own_seconds=time.process_time(),
        redis_bytes=int(info["used_memory"]),
    )


def calls_of(statistics: str) -> int:
    """Return how often a command was called, of what Redis says about it (`calls=3,usec=…`)."""
    return int(statistics.removeprefix("calls=").partition(",")[0])
