"""Redis may be killed, stopped, emptied or far away: nobody stops for long, and together nobody sends too much."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import anyio
import pytest
from members import ACCOUNT, Members, attempt, attempts, until
from redis_server import RedisServer
from relay import relay_to

from nebula_async.engine.host_account import CAUTION
from nebula_async.errors import RateLimitError
from nebula_async.events import SharingLost, SharingRegained
from nebula_async.integrations.redis import RedisGate

BOTH_LOOPS, ONE_LOOP = pytest.mark.anyio, pytest.mark.asyncio
"""Waiting for a Redis that is away takes seconds: what is of no loop in particular is tried on one."""

PER_MINUTE = 1_200
GAP = 60 / (0.98 * PER_MINUTE)
HERE = Path(__file__).parent

HOLD_SLOTS = """
import sys, anyio
from nebula_async import Config
from nebula_async.integrations.redis import RedisGate
async def hold(url, account):
    config = Config(rate_limit=60_000, concurrency=4)
    async with RedisGate(url, account=account, config=config, shared_concurrency=4) as gate, gate.slot(), gate.slot():
        print("holding", flush=True)
        await anyio.sleep_forever()
anyio.run(hold, *sys.argv[1:])
"""


@pytest.fixture
def members(redis_server: RedisServer) -> Members:
    """The members of an account, none yet."""
    return Members(redis_server)


@asynccontextmanager
async def pair(members: Members, per_minute: float = PER_MINUTE) -> AsyncIterator[list[RedisGate]]:
    """Two gates that know of each other, and of five requests of today."""
    async with members.gate(per_minute) as one, members.gate(per_minute) as other:
        await attempts(one, 3)
        await attempts(other, 2)
        await until(lambda: [5, 5] == [gate.limits.used_today for gate in (one, other)])
        await anyio.sleep(0.6)  # each is heard of once more, so that both know that both know
        yield [one, other]


async def seconds_of(gate: RedisGate, count: int, tries: int = 3) -> float:
    """Return how long so many attempts take, the least of some tries: a busy machine is not what is measured."""
    seconds = []
    for _ in range(tries):
        begun = anyio.current_time()
        await attempts(gate, count)
        seconds.append(anyio.current_time() - begun)
    return min(seconds)


async def until_lost(members: Members, count: int = 2) -> None:
    """Wait until so many went on alone."""
    await until(lambda: count == len([event for event in members.events if isinstance(event, SharingLost)]))


async def until_regained(members: Members, count: int = 2) -> None:
    """Wait until so many share again."""
    await until(lambda: count == members.events.count(SharingRegained()))


@pytest.mark.parametrize("away", ["stop", "pause"])
@ONE_LOOP
async def test_without_redis_each_goes_on_with_its_share(members, away):
    """Members that know of each other send on, each with a little less than its half, and say so once (F61)."""
    async with pair(members) as gates:
        getattr(members.server, away)()
        left: dict[int, list[float]] = {}

        async def use(number: int) -> None:
            left[number] = await attempts(gates[number], 5)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for number in range(2):
                    group.start_soon(use, number)
        for moments in left.values():  # who is woken late is nearer to the next
            assert median(later - earlier for earlier, later in pairwise(moments[1:])) > 2 * GAP / CAUTION - 0.02
        assert [False, False] == [event.is_waiting for event in members.events]
        assert all(str(members.server.port) in event.reason for event in members.events)
        assert [10, 10] == [gate.limits.used_today for gate in gates]
        if away == "pause":
            members.server.resume()


@BOTH_LOOPS
async def test_an_empty_redis_learns_again_what_was_known(members):
    """After a Redis that kept nothing has come back the members share again: the day, a hold, and each other (F61)."""
    async with pair(members) as gates:
        hold = await gates[0].throttled(sent_at=anyio.current_time(), delay=60.0, is_limit=True)
        assert hold.seconds >= 60
        await until(lambda: gates[1].limits.held_seconds > 50)
        members.server.stop()
        await until_lost(members)
        members.server.start()
        await until_regained(members)
        async with members.gate(PER_MINUTE) as new:
            for gate in (*gates, new):
                with pytest.raises(RateLimitError, match="held for longer than this call may take"):
                    async with gate.slot(deadline=anyio.current_time() + 1):
                        pytest.fail("too early")
                assert 5 == gate.limits.used_today
        assert 2 == len(members.names)


@ONE_LOOP
async def test_what_happened_meanwhile_is_told_afterwards(members):
    """What a member was told and had accepted while Redis was away counts for all once it is back."""
    async with pair(members) as gates:
        members.server.stop()
        await until_lost(members)
        await attempts(gates[0], 2)
        assert 7 == gates[0].limits.used_today
        await gates[0].throttled(sent_at=anyio.current_time(), delay=30.0, is_limit=True)
        members.server.start()
        await until_regained(members)
        await until(lambda: 7 == gates[1].limits.used_today and 25 < gates[1].limits.held_seconds)


@ONE_LOOP
async def test_nothing_is_counted_twice_after_a_stop(members):
    """A Redis that was stopped does afterwards what it was asked meanwhile: the day's count is right all the same."""
    async with pair(members) as gates:
        members.server.pause()
        await attempts(gates[0], 3)
        await until_lost(members)
        members.server.resume()
        await until_regained(members)
        await until(lambda: [8, 8] == [gate.limits.used_today for gate in gates])
        await anyio.sleep(0.6)
        assert [8, 8] == [gate.limits.used_today for gate in gates]


@BOTH_LOOPS
async def test_nobody_joins_without_redis(members):
    """A member that never met the others waits until Redis is there, says so, and then sends (F61)."""
    members.server.stop()
    begun, left = anyio.current_time(), []
    async with members.gate(PER_MINUTE) as gate, anyio.create_task_group() as group:
        assert anyio.current_time() - begun < 3
        group.start_soon(attempt, gate, left)
        await until_lost(members, 1)
        assert members.events[0].is_waiting
        await anyio.sleep(0.3)
        assert [] == left
        members.server.start()
        started_at = anyio.current_time()
        await until(lambda: left)
        assert left[0] - started_at < 2
        assert SharingRegained() == members.events[-1]


@ONE_LOOP
async def test_a_short_absence_is_waited_for(members):
    """A Redis that is started again at once costs that moment, and nobody is bothered."""
    async with pair(members) as gates:
        members.server.stop()
        members.server.start()
        await attempts(gates[0], 3)
        await attempts(gates[1], 3)
        await until(lambda: [11, 11] == [gate.limits.used_today for gate in gates])
    assert [] == members.events


@pytest.mark.parametrize("command", [("SCRIPT", "FLUSH"), ("FLUSHALL",), ("CLIENT", "KILL", "TYPE", "normal")])
@ONE_LOOP
async def test_what_redis_loses_is_given_again(members, command):
    """Scripts, keys or connections that are gone are not noticed, but for a moment."""
    async with pair(members) as gates:
        members.server.run(*command)
        for gate in gates:
            with anyio.fail_after(3):
                await attempts(gate, 3)
        await until(lambda: [11, 11] == [gate.limits.used_today for gate in gates])
        await until(lambda: 2 == len(members.names))
    assert [] == members.events


@pytest.mark.parametrize(("setting", "value", "usual"), [("requirepass", "new", ""), ("maxmemory", "1", "0")])
@ONE_LOOP
async def test_a_redis_that_refuses_is_as_good_as_none(members, setting, value, usual):
    """Where Redis takes no more writes or no more of this password, members go on alone, and share again later."""
    async with pair(members) as gates:
        members.server.run("CONFIG", "SET", setting, value)
        if setting == "requirepass":
            members.server.options["requirepass"] = value
            members.server.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until_lost(members)
        await attempts(gates[0], 2)
        members.server.run("CONFIG", "SET", setting, usual)
        members.server.options.clear()
        await until_regained(members)
        await until(lambda: [7, 7] == [gate.limits.used_today for gate in gates])


@ONE_LOOP
async def test_the_others_leave_room_for_one_that_is_cut_off(members):
    """While one member cannot reach Redis the others keep off its share, and so nobody can join on top of it (F61)."""
    async with relay_to(members.server.port) as relay, members.gate(PER_MINUTE) as one:
        far = Members(members.server, members.events, f"redis://127.0.0.1:{relay.port}/0")
        async with far.gate(PER_MINUTE) as other:
            await attempts(one, 1)
            await anyio.sleep(0.6)
            relay.cut()
            await until_lost(members, 1)
            gates, left = (one, other), []
            begun = anyio.current_time()

            async def use(gate: RedisGate) -> None:
                while anyio.current_time() < begun + 3:
                    await attempt(gate, left)

            async with anyio.create_task_group() as group:
                for gate in gates:
                    for _ in range(3):
                        group.start_soon(use, gate)
            assert 0.8 * 3 / GAP < len([moment for moment in left if moment < begun + 3]) <= 3 / GAP + 2
            relay.mend()
            await until_regained(members, 1)


@ONE_LOOP
async def test_a_member_far_away_loses_no_rate(members):
    """At 50 ms from Redis one member alone uses 3,000 a minute."""
    async with relay_to(members.server.port, 0.025) as relay:
        far = Members(members.server, members.events, f"redis://127.0.0.1:{relay.port}/0")
        async with far.gate(3_000, concurrency=64) as gate:
            await attempts(gate, 30)
            assert await seconds_of(gate, 60) < 1.1 * 60 / (0.98 * 50)
    assert [] == members.events


@BOTH_LOOPS
async def test_the_slots_of_a_process_that_was_killed_are_free(members):
    """What a killed process of this host held the others have within seconds."""
    command = [sys.executable, "-c", HOLD_SLOTS, members.server.url, ACCOUNT]
    async with await anyio.open_process(command, stderr=None) as process:
        assert (await process.stdout.receive()).startswith(b"holding")
        async with members.gate(60_000, shared_concurrency=4) as gate, gate.slot(), gate.slot():
            with anyio.move_on_after(0.5) as scope:
                await attempts(gate, 1)
            assert scope.cancelled_caught
            process.kill()
            with anyio.fail_after(6):
                await attempts(gate, 1)
        assert [] == members.names
