"""Real processes share a limit over a real Redis: fairly, without Redis too, and without those that were killed."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import anyio
import pytest
from attrs import define, field

from nebula_async.config import Config
from nebula_async.integrations.redis import LEASE_SECONDS, RedisGate

pytestmark = pytest.mark.anyio

KEY = "sk-emulator"
PER_MINUTE = 1_200
PER_SECOND = PER_MINUTE / 60

NOTICED = 2.0
"""After so many seconds everyone knows that Redis is away."""

SEND = """
import math, sys, time, anyio
from nebula_async.config import Config
from nebula_async.integrations.redis import RedisGate

async def send(gate, seconds):
    while True:
        async with gate.slot("bulk", deadline=math.inf):
            print(time.monotonic(), flush=True)
            await anyio.sleep(seconds)
            await gate.accepted()

async def run(url, key, per_minute, at_once, seconds, shared):
    config = Config(rate_limit=float(per_minute), concurrency=int(at_once))
    async with RedisGate(url, api_key=key, config=config, shared_concurrency=int(shared) or None) as gate:
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        async with anyio.create_task_group() as group:
            for _ in range(int(at_once)):
                group.start_soon(send, gate, float(seconds))

anyio.run(run, *sys.argv[1:])
"""


@define
class Sender:
    """A process that takes as many turns as it gets from `go` on, and says when: by a clock that all of them have."""

    process: subprocess.Popen[str]
    sent: list[float] = field(factory=list)

    def wait_until_ready(self) -> None:
        """Wait until it shares the limit."""
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        """Let it begin."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def wait_until_it_sends(self, count: int = 1) -> None:
        """Wait until it has sent so many more."""
        self.sent += [float(self.process.stdout.readline()) for _ in range(count)]

    def kill(self) -> None:
        """Kill it, and read what it said."""
        self.process.kill()
        self.sent += [float(line) for line in self.process.communicate()[0].split()]

    def between(self, began: float, ended: float) -> int:
        """How many it sent meanwhile."""
        return sum(began <= moment < ended for moment in self.sent)


@pytest.fixture
def start(redis_server) -> Iterator[Callable[..., Sender]]:
    """Start a process that sends over the Redis of the test; it is killed when the test ends."""
    with ExitStack() as stack:

        def run(*, at_once: int = 4, seconds: float = 0.0, shared: int = 0) -> Sender:
            given = (redis_server.url, KEY, PER_MINUTE, at_once, seconds, shared)
            process = subprocess.Popen(
                [sys.executable, "-c", SEND, *map(str, given)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(_end, process)
            return Sender(process)

        yield run


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()


def _most_within(seconds: float, senders: list[Sender]) -> int:
    """Return how many all of them sent at most in any stretch of so many seconds."""
    moments = sorted(moment for sender in senders for moment in sender.sent)
    return max(sum(began <= moment < began + seconds for moment in moments) for began in moments)


def _fairness(shares: list[int]) -> float:
    """Return Jain's index."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


def test_four_processes_share_a_limit(start):
    """Four processes use a limit together, each as much as the others, and none of them more than it allows."""
    senders = [start() for _ in range(4)]
    for sender in senders:
        sender.wait_until_ready()
    for sender in senders:
        sender.go()
    for sender in senders:
        sender.wait_until_it_sends()
    began = time.monotonic()
    time.sleep(4)
    ended = time.monotonic()
    for sender in senders:
        sender.kill()
    shares = [sender.between(began, ended) for sender in senders]
    assert 0.85 * PER_SECOND * (ended - began) < sum(shares)
    assert _most_within(4, senders) <= 4 * PER_SECOND + 4
    assert _fairness(shares) > 0.98


def test_redis_is_killed_and_comes_back(start, redis_server):
    """Without Redis the processes go on with less than their shares, nobody joins, and with it they are as before
    (F61).
    """
    senders = [start() for _ in range(3)]
    for sender in senders:
        sender.wait_until_ready()
        sender.go()
    for sender in senders:
        sender.wait_until_it_sends(5)
    redis_server.stop()
    away = time.monotonic()
    late = start()
    late.go()
    time.sleep(NOTICED + 2)
    redis_server.start()
    back = time.monotonic()
    late.wait_until_ready()
    late.wait_until_it_sends()
    joined = time.monotonic()
    time.sleep(2)
    ended = time.monotonic()
    everyone = [*senders, late]
    for sender in everyone:
        sender.kill()
    assert 0.7 * PER_SECOND * (back - away - NOTICED) < sum(sender.between(away + NOTICED, back) for sender in senders)
    assert min(late.sent) > back
    assert 0.7 * PER_SECOND * (ended - joined) < sum(sender.between(joined, ended) for sender in everyone)
    assert _most_within(4, everyone) <= 4 * PER_SECOND + 8


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "silent"])
async def test_the_slots_of_a_process_that_is_gone_are_free_within_its_lease(start, redis_server, is_killed):
    """What a process held of the slots that all share goes to whoever waits: at once where others can see that it was
    killed, and once its lease is over where it is only silent, as it is on another machine.
    """
    sender = start(at_once=2, seconds=60, shared=2)
    sender.wait_until_ready()
    sender.go()
    sender.wait_until_it_sends(2)
    config = Config(rate_limit=PER_MINUTE, concurrency=2)
    async with RedisGate(redis_server.url, api_key=KEY, config=config, shared_concurrency=2) as gate:
        assert not await _has_slot(gate, 0.5)
        sender.process.send_signal(signal.SIGKILL if is_killed else signal.SIGSTOP)
        if is_killed:
            sender.process.wait()
        else:
            assert not await _has_slot(gate, 0.5)
            _let_pass(LEASE_SECONDS, redis_server)
        assert await _has_slot(gate, 5)


async def _has_slot(gate: RedisGate, seconds: float) -> bool:
    """Whether there is a slot within so many seconds."""
    with anyio.move_on_after(seconds):
        async with gate.slot("calls", deadline=math.inf):
            return True
    return False


def _let_pass(seconds: float, redis_server) -> None:
    """Let the clock by which leases end go on."""
    (turns,) = redis_server.run("KEYS", "*:turns")
    redis_server.run("HINCRBYFLOAT", turns, "offset", seconds)
