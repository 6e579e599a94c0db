"""The day that all count begins at 00:00 UTC for everyone, whoever was alone then and whatever a clock did."""

from __future__ import annotations

import time

import pytest
from members import ACCOUNT, account_at, met

from nebula_async.engine.quota import DAY_SECONDS
from nebula_async.integrations.redis_account import RedisAccount

pytestmark = pytest.mark.anyio

TURNS = f"nebula:{{{ACCOUNT}}}:turns"


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The clock of this machine; Redis has the real one."""
    moment = [time.time()]
    monkeypatch.setattr("time.time", lambda: moment[0])
    return moment


def accept(account: RedisAccount, count: int) -> None:
    """Let so many requests be accepted."""
    for _ in range(count):
        account.accepted(0.0, is_wanted=False)


async def test_what_was_used_before_midnight_is_not_of_the_new_day(redis_server, clock):
    """A member that was alone over 00:00 UTC tells of what it used since then, whether it comes back or leaves."""
    back, leaving = account_at(redis_server.url), account_at(redis_server.url, name="two")
    async with met(back, leaving):
        for member in (back, leaving):
            member.go_alone(0.0)
            accept(member, 5)
        clock[0] += DAY_SECONDS
        accept(back, 2)
        await back.hear()
        assert 2 == back.standing.used
        accept(leaving, 1)
        await leaving.leave()
        await back.hear()
        assert 3 == back.standing.used
        await back.leave()
        assert "3" == redis_server.run("HGET", TURNS, "used")


async def test_who_is_alone_over_midnight_has_its_part_of_the_new_day(redis_server, clock):
    """Members that go on apart use no more than the day's limit together, on the next day neither."""
    members = [account_at(redis_server.url, name=name, per_day=100) for name in ("one", "two")]
    async with met(*members):
        accept(members[0], 60)
        for member in members:
            await member.hear()
        await members[0].hear()
        for member in members:
            member.go_alone(0.0)
            assert (60, 80) == (member.used_today(), member.alone.quota.per_day)
        clock[0] += DAY_SECONDS
        for member in members:
            accept(member, 50)
            assert member.alone.quota.is_used_up(clock[0])


async def test_a_day_that_was_closed_for_one_alone_is_closed_for_all(redis_server, clock):
    """What the API said of the day while Redis was away the others hear when it is back."""
    one, two = account_at(redis_server.url), account_at(redis_server.url, name="two")
    async with met(one, two):
        one.go_alone(0.0)
        one.alone.quota.close(clock[0], 7200.0)
        await one.settle()
        await two.hear()
        assert (True, pytest.approx(7200, abs=5)) == (two.standing.is_final, two.standing.closed)


async def test_a_clock_that_was_ahead_closes_no_later_day(redis_server):
    """After the clock of Redis' machine was a year ahead for a moment the day ends at 00:00 UTC as ever."""
    member = account_at(redis_server.url, per_day=10)
    async with met(member):
        today = member._day
        redis_server.run("HSET", TURNS, "day", today + 365, "used", 9)
        await member.hear()
        assert (today, 9, 0.0) == (member._day, member.standing.used, member.standing.closed)
