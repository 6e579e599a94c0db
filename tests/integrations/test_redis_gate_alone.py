"""Who is alone without Redis keeps below its share, and keeps still where the others may have that."""

from __future__ import annotations

import json

import anyio
import pytest
from members import Members, account_at, attempts, met, until
from redis_server import RedisServer
from relay import relay_to

from nebula_async.engine.host_account import CAUTION
from nebula_async.engine.pace import HEADROOM
from nebula_async.events import SharingLost
from nebula_async.integrations import redis_member
from nebula_async.integrations.redis_account import PRESENT_SECONDS
from nebula_async.integrations.redis_address import Address
from nebula_async.integrations.redis_link import Link, LinkLostError

BOTH_LOOPS, ONE_LOOP = pytest.mark.anyio, pytest.mark.asyncio

PER_MINUTE = 600
BELIEVED = HEADROOM * PER_MINUTE


@pytest.fixture
def members(redis_server: RedisServer) -> Members:
    """The members of an account, none yet."""
    return Members(redis_server)


@pytest.fixture
def _short_lease(monkeypatch):
    """Let a lease be over for its member as soon as it goes on alone."""
    monkeypatch.setattr(redis_member, "LEASE_SECONDS", redis_member.OVERLAP_SECONDS + PRESENT_SECONDS)


async def until_alone(members: Members) -> None:
    """Wait until a member goes on alone."""
    await until(lambda: any(isinstance(event, SharingLost) for event in members.events))


def add_far_member(members: Members) -> None:
    """Let there be a member on another machine, of which nothing more is heard."""
    [own] = [json.loads(text) for text in members.server.run("HVALS", members.key("members"))]
    members.server.run("HSET", members.key("members"), "elsewhere-1-cats", json.dumps(own))


@ONE_LOOP
@pytest.mark.usefixtures("_short_lease")
async def test_who_finds_redis_gone_for_all_keeps_its_share(members):
    """Where Redis was killed and nobody listens any more, a member goes on with its share beyond its lease."""
    async with members.gate(PER_MINUTE) as gate:
        await attempts(gate, 1)
        members.server.stop()
        await until_alone(members)
        await anyio.sleep(0.5)  # it is refused a few times more
        assert pytest.approx(CAUTION * BELIEVED) == gate.limits.per_minute


@ONE_LOOP
@pytest.mark.usefixtures("_short_lease")
async def test_who_is_refused_keeps_still_when_its_lease_is_over(members):
    """A member that Redis lets in no more cannot know whether others are: it gives up its share with its lease."""
    async with members.gate(PER_MINUTE) as gate:
        await attempts(gate, 1)
        members.server.run("CONFIG", "SET", "requirepass", "new")
        members.server.options["requirepass"] = "new"
        members.server.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until_alone(members)
        await until(lambda: gate.limits.per_minute <= 1.01 * (1 - HEADROOM) * BELIEVED)


@ONE_LOOP
@pytest.mark.usefixtures("_short_lease")
async def test_whose_own_way_ended_keeps_still_when_its_lease_is_over(members):
    """Where Redis' address is one of this machine and members are on others, what ended may be a tunnel of its own."""
    async with relay_to(members.server.port) as relay:
        members.url = f"redis://127.0.0.1:{relay.port}/0"
        async with members.gate(PER_MINUTE) as gate:
            await attempts(gate, 1)
            add_far_member(members)
            account = gate._entered.member.account
            await until(lambda: account.has_far_members and account.standing.is_known)
            relay.end()
            await until_alone(members)
            await until(lambda: gate.limits.per_minute <= 1.01 * (1 - HEADROOM) / 2 * BELIEVED)


@BOTH_LOOPS
async def test_only_where_nobody_listens_redis_is_gone(redis_server, tmp_path):
    """A connection that is refused is told from a Redis that hung up, or that lets nobody in."""

    async def what_is_lost(url: str) -> tuple[bool, bool]:
        link = Link(Address(url), "cats")
        async with link.opened():
            with pytest.raises(LinkLostError) as lost:
                await link.connect()
        return lost.value.is_ended, lost.value.is_refused

    redis_server.run("CONFIG", "SET", "requirepass", "new")
    assert (False, False) == await what_is_lost(redis_server.url)
    assert (False, True) == await what_is_lost(f"unix://{tmp_path}/none.sock")
    redis_server.stop()
    assert (False, True) == await what_is_lost(redis_server.url)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, lambda connection: connection.aclose())
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no Django
        assert (True, False) == await what_is_lost(f"redis://127.0.0.1:{port}/0")
        group.cancel_scope.cancel()


@ONE_LOOP
async def test_that_redis_hung_up_is_seen(redis_server):
    """Whoever had a connection to a Redis that is killed is told that this ended, and then that nobody listens."""
    link = Link(Address(redis_server.url), "cats")
    async with link.opened():
        await link.connect()
        redis_server.stop()
        with pytest.raises(LinkLostError) as ended:
            await link.connect()
        assert ended.value.is_ended
        with pytest.raises(LinkLostError) as refused:
            await link.connect()
        assert refused.value.is_refused


@ONE_LOOP
async def test_who_does_not_hear_keeps_its_share_with_the_others(redis_server):
    """A member that Redis hears, and that does not hear Redis, goes by what it knew: the others leave it that much."""
    async with relay_to(redis_server.port) as relay:
        deaf, other = account_at(f"redis://127.0.0.1:{relay.port}/0"), account_at(redis_server.url, name="other")
        async with met(deaf):
            assert 1 == deaf.standing.members
        async with met(other):
            while anyio.current_time() < deaf.met_at + PRESENT_SECONDS:
                relay.mend()
                async with deaf.link.opened():
                    await deaf.link.connect()
                    relay.deafen()
                    with pytest.raises(LinkLostError):
                        await deaf.hear()
                await other.hear()
            assert (2, 1) == (other.standing.members, deaf.standing.members)
            assert other.standing.share + CAUTION / deaf.standing.members <= 1.001


@ONE_LOOP
async def test_a_limit_that_is_named_to_one_alone_counts_again_afterwards(members):
    """What the API names while Redis is away a member keeps its part of; named again with Redis it counts for all."""
    async with members.gate(PER_MINUTE) as gate, members.gate(PER_MINUTE) as other:
        account = gate._entered.member.account
        await until(lambda: 2 == account.standing.members)
        account.go_alone(0.0)
        await gate.learn(120.0)
        assert pytest.approx(CAUTION / 2 * HEADROOM * 120) == gate.limits.per_minute
        await until(lambda: account.alone is None)
        await gate.learn(120.0)
        await until(lambda: pytest.approx(HEADROOM * 120) == other.limits.per_minute)


@ONE_LOOP
async def test_who_was_cancelled_while_it_entered_is_no_member(members):
    """A gate whose first answer was still under way when its task was cancelled leaves all the same."""
    async with relay_to(members.server.port, 0.05) as relay:
        members.url = f"redis://127.0.0.1:{relay.port}/0"
        async with anyio.create_task_group() as group:

            async def enter() -> None:
                async with members.gate(PER_MINUTE):
                    pytest.fail("too early")

            group.start_soon(enter)
            await until(lambda: members.names)
            group.cancel_scope.cancel()
        assert [] == members.names
