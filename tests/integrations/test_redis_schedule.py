"""The turns that Redis hands out are those that a pace alone would, at any rate, after any pause and any hold."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from random import Random

import anyio
import pytest
from members import account_at, met
from redis_server import RedisServer

from nebula_async.engine.allowance import LONGEST_AHEAD, Allowance
from nebula_async.engine.host_account import CAUTION
from nebula_async.engine.pace import LATENESS, Pace
from nebula_async.integrations import redis_account
from nebula_async.integrations.redis_account import LEASE_SECONDS, PRESENT_SECONDS, RedisAccount

SCRIPT = Path(redis_account.__file__).with_name("redis_meet.lua").read_text()
NEARLY = 5e-6


def account(server: RedisServer, per_minute: float, name: str = "one") -> RedisAccount:
    """Return what a member knows of an account."""
    return account_at(server.url, per_minute, name=name)


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(4))
async def test_turns_are_those_of_a_pace(redis_server, seed):
    """Held against `Pace` itself, told the same at the same moments of Redis' clock."""
    source = Random(seed)  # noqa: S311
    per_minute = 10 ** source.uniform(2.7, 4.5)
    member, pace = account(redis_server, per_minute), Pace(per_minute)
    async with member.link.opened():
        await member.settle()
        for _ in range(40):
            match source.randrange(4):
                case 0:
                    seconds = source.uniform(0, 0.1)
                    pace.hold(await member.change(partial(hold, seconds)), seconds)
                case 1:
                    await anyio.sleep(source.uniform(0, 4 / per_minute * 60))
                case _:
                    await compare(member, pace, source.randrange(1, 5))


def hold(seconds: float, allowance: Allowance, now: float, _today: float) -> float:
    """Hold everyone; return when."""
    allowance.pace.hold(now, seconds)
    return now


async def compare(member: RedisAccount, pace: Pace, count: int) -> None:
    """Reserve so many turns with both."""
    answer = await member._meet(count)
    now = float(answer["now"])
    turns = [now + float(turn) for turn in answer["turns"]]
    for turn in turns:
        expected = now + pace.wait(now)
        assert pytest.approx(expected, abs=NEARLY) == turn
        pace.release(expected)
        pace._last += turn - expected  # what is cut off in writing does not add up
    assert count == len(turns)


@pytest.mark.anyio
async def test_nobody_reserves_far_ahead(redis_server):
    """Turns are reserved half a minute ahead at most."""
    member = account(redis_server, 60)
    async with member.link.opened():
        await member.settle()
        granted = await member.meet(64)
        assert LONGEST_AHEAD / 1.021 <= len(granted.turns) <= LONGEST_AHEAD + 1
        again = await member.meet(1)
        assert () == again.turns
        assert 0 < again.again <= 5


@pytest.mark.anyio
async def test_what_left_by_the_course_is_counted(redis_server):
    """A decision knows how many requests left since the last one, and when."""
    member, other = account(redis_server, 6_000), account(redis_server, 6_000, "other")
    async with member.link.opened(), other.link.opened():
        await member.settle()
        for _ in range(3):
            await member.meet(10)
            await other.meet(10)
        tally = await other.change(lambda allowance, _now, _today: allowance.pace._rate.tally)
        assert 60 == tally.total
        await member.meet(5)
        assert 65 == (await member.change(lambda allowance, _now, _today: allowance.pace._rate.tally)).total


@pytest.mark.anyio
async def test_a_clock_that_goes_back_stops_nobody(redis_server):
    """After the clock of Redis' machine was set back turns go on as if nothing had been."""
    member = account(redis_server, 600)
    async with member.link.opened():
        await member.settle()
        [before] = (await member.meet(1)).turns
        now = float(redis_server.run("HGET", "nebula:{cats}:turns", "now"))
        last = float(redis_server.run("HGET", "nebula:{cats}:turns", "last"))
        redis_server.run("HSET", "nebula:{cats}:turns", "now", now + 5_000, "last", last + 5_000)
        [after] = (await member.meet(1)).turns
        assert after - before < 1


@pytest.mark.anyio
async def test_who_waits_for_a_slot_keeps_its_place(redis_server):
    """Of those that wait for a slot that all share the first gets it, whatever it said or decided meanwhile."""
    holder, first, second = (account_at(redis_server.url, 60_000, name=name, shared=1) for name in ("a", "b", "c"))
    async with met(holder, first, second):
        holder.slots = lambda: 1
        await holder.hear()
        for waiting in (first, second):
            waiting.wants = lambda: True
            assert () == (await waiting.meet(1)).turns
            await waiting.hear()
            await waiting.change(lambda *_: None)
        holder.slots = lambda: 0
        await holder.hear()
        assert () == (await second.meet(1)).turns
        first.wants = lambda: False
        await first.hear()
        assert 1 == len((await second.meet(1)).turns)


def test_what_stands_in_the_script_stands_here_too():
    """Numbers that both sides go by are the same."""
    found = re.search(r"local LEASE, PRESENT, GRACE, CAUTION = ([\d.]+), ([\d.]+), [\d.]+, ([\d.]+)", SCRIPT)
    assert (LEASE_SECONDS - 2, PRESENT_SECONDS, CAUTION) == tuple(map(float, found.groups()))
    found = re.search(r"local AHEAD, MOST_LATE, .* = ([\d.]+), ([\d.]+),", SCRIPT)
    assert (LONGEST_AHEAD, LATENESS) == tuple(map(float, found.groups()))
