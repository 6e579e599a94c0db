"""Members that meet in Redis have one rate, one hold, one day and, where they ask for it, one number of slots."""

from __future__ import annotations

import json
import pickle
from contextlib import AsyncExitStack
from functools import partial
from itertools import pairwise

import anyio
import pytest
from members import ACCOUNT, Members, attempts, until
from redis_server import RedisServer

from nebula_async.client import AsyncNebula
from nebula_async.config import Config, Tier
from nebula_async.errors import ConfigurationError, DeadlineError, RateLimitError
from nebula_async.integrations.redis import RedisGate

pytestmark = pytest.mark.anyio

MODEL = "black-forest-labs/FLUX.1-schnell"
KEPT_SECONDS = 2 * 86_400


@pytest.fixture
def members(redis_server: RedisServer) -> Members:
    """The members of an account, none yet."""
    return Members(redis_server)


async def test_the_rate_is_that_of_all(members):
    """Two gates together send no faster than one may, and each gets half of it."""
    left: dict[int, list[float]] = {}

    async def use(gate: RedisGate, number: int) -> None:
        left[number] = await attempts(gate, 10)

    async with members.gate(1_200) as one, members.gate(1_200) as other:
        async with anyio.create_task_group() as group:
            for number, gate in enumerate((one, other)):
                group.start_soon(use, gate, number)
        order = sorted((moment, number) for number, moments in left.items() for moment in moments)
        assert 19 * 0.05 <= order[-1][0] - order[0][0] < 2
        assert 10 <= sum(earlier[1] != later[1] for earlier, later in pairwise(order))
        await until(lambda: [20, 20] == [gate.limits.used_today for gate in (one, other)])
        assert [5 * 0.98 * 240] * 2 == [pytest.approx(gate.limits.per_minute) for gate in (one, other)]


async def test_a_refusal_of_one_holds_the_other(members):
    """What the server asks of one member all of them wait for, those that have a turn already included."""
    async with members.gate(120) as one, members.gate(120) as other:
        await attempts(other, 1)
        begun = anyio.current_time()
        async with one.slot(), anyio.create_task_group() as group:
            hold = await one.throttled(sent_at=anyio.current_time(), delay=1.2, is_limit=True)
            left: list[float] = []

            async def follow() -> None:
                left.extend(await attempts(other, 1))

            await until(lambda: other.limits.held_seconds > 0)
            group.start_soon(follow)
        assert 1.2 <= hold.seconds < 2
        assert min(left) >= begun + 1.2
        hold = await one.throttled(sent_at=anyio.current_time(), delay=30.0, is_limit=True)
        assert hold.seconds > 29
        await until(lambda: other.limits.held_seconds > 25)
        with pytest.raises(RateLimitError, match="held for longer than this call may take"):
            async with other.slot(deadline=anyio.current_time() + 5):
                pytest.fail("too early")


def redis_slots(members: Members) -> int:
    """Return how many slots are in use or reserved."""
    return sum(json.loads(text)["slots"] for text in members.server.run("HVALS", members.key("members")))


async def test_who_waits_with_a_turn_hears_of_a_hold(members):
    """A turn that was reserved before a hold does not count any more."""
    async with members.gate(80) as one, members.gate(80) as other:
        await attempts(other, 1)
        async with anyio.create_task_group() as group:
            left: list[float] = []

            async def follow() -> None:
                left.extend(await attempts(other, 1))

            group.start_soon(follow)
            await until(lambda: 1 == redis_slots(members))
            held_at = anyio.current_time()
            await one.throttled(sent_at=held_at, delay=1.2, is_limit=True)
        assert left[0] >= held_at + 1.2


async def test_refusals_of_one_moment_are_one_cut(members):
    """Refusals of requests that were under way in two members together cut the rate once."""
    async with members.gate(600) as one, members.gate(600) as other:
        await attempts(one, 3)
        sent_at = anyio.current_time()
        await one.throttled(sent_at=sent_at, delay=2.0, is_limit=True)
        assert 0.0 == (await other.throttled(sent_at=sent_at, delay=1.0, is_limit=True)).seconds
        believed = one.limits.per_minute
        await until(lambda: believed == other.limits.per_minute)


async def test_after_a_refusal_one_goes_ahead_for_all(members):
    """After a hold that nobody named one request of all members goes out, and the others follow when it passed."""
    async with members.gate(6_000) as one, members.gate(6_000) as other:
        await attempts(one, 2)
        await one.throttled(sent_at=anyio.current_time() - 0.3, delay=None, is_limit=True)
        left: list[float] = []

        async def use(gate: RedisGate) -> None:
            left.extend(await attempts(gate, 3))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for gate in (one, other):
                    group.start_soon(use, gate)
        left.sort()
        assert left[1] - left[0] >= 0.4


async def test_a_limit_that_nobody_knows_is_found_together(members):
    """Without a limit the first few leave at once, whoever they are, and the rate grows with what is accepted."""
    async with members.gate() as one, members.gate() as other:
        with anyio.fail_after(20):
            left = [*await attempts(one, 6), *await attempts(other, 12)]
        assert 18 == len(left)
        assert 0.5 < max(left) - min(left) < 15


async def test_the_day_is_that_of_all(members):
    """What one member used of the day is used for the others, and for those that come later."""
    tier = Tier("cats", per_minute=6_000, per_day=3)
    async with members.gate(tier=tier) as one:
        await attempts(one, 2)
    async with members.gate(tier=tier) as one, members.gate(tier=tier) as other:
        assert (2, 3) == (one.limits.used_today, one.limits.per_day)
        await attempts(other, 1)
        await until(lambda: 3 == one.limits.used_today)
        for gate in (one, other):
            with pytest.raises(RateLimitError, match="daily quota") as caught, anyio.fail_after(5):
                await gate.slot().__aenter__()
            assert caught.value.is_daily


async def test_a_day_that_was_closed_for_one_is_closed_for_all(members):
    """Where the server refuses for hours nobody asks, and who waits with a turn hears of it."""
    async with members.gate(600) as one, members.gate(600) as other:
        async with one.slot():
            hold = await one.throttled(sent_at=anyio.current_time(), delay=7200.0, is_limit=True)
        assert hold.is_daily
        await until(lambda: other.limits.closed_seconds > 7000)
        with pytest.raises(RateLimitError) as caught:
            await other.slot().__aenter__()
        assert pytest.approx(7200, abs=5) == caught.value.retry_after


async def test_the_lowest_limit_that_was_given_counts(members):
    """A member with a lower limit slows all down as long as it is one, and the others are as fast as before then."""
    async with members.gate(6_000) as one:
        async with members.gate(600):
            await until(lambda: one.limits.per_minute < 600)
            left = await attempts(one, 4)
            assert left[-1] - left[0] > 0.25
        await until(lambda: one.limits.per_minute > 600)


async def test_a_limit_that_the_api_names_is_news_for_all(members):
    """A lower limit in a reply's header counts for every member, and is told once."""
    async with members.gate(600) as one, members.gate(600) as other:
        await one.learn(60.0)
        await until(lambda: pytest.approx(58.8) == other.limits.per_minute)
        version = members.server.run("HGET", members.key("turns"), "version")
        await one.learn(60.0)
        assert version == members.server.run("HGET", members.key("turns"), "version")


async def test_slots_may_be_those_of_all(members):
    """With `shared_concurrency` no more are under way than that, and whoever waits gets one in turn."""
    gates = [members.gate(60_000, shared_concurrency=4) for _ in range(3)]
    under_way, most, done = 0, 0, dict.fromkeys(range(3), 0)

    async def use(number: int, gate: RedisGate) -> None:
        nonlocal under_way, most
        async with gate.slot():
            under_way += 1
            most = max(most, under_way)
            await anyio.sleep(0.05)
            under_way -= 1
            done[number] += 1

    async with AsyncExitStack() as stack:
        for gate in gates:
            await stack.enter_async_context(gate)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for _ in range(12):
                    for number, gate in enumerate(gates):
                        group.start_soon(use, number, gate)
    assert (4, [12, 12, 12]) == (most, list(done.values()))


async def test_who_stops_waiting_leaves_the_turn_to_the_next(members):
    """A turn that was reserved for a call that was cancelled is used by the next call of the member."""
    async with members.gate(120) as gate:
        [begun] = await attempts(gate, 1)
        with anyio.move_on_after(0.1):
            async with gate.slot():
                pytest.fail("too early")
        [left] = await attempts(gate, 1)
        assert 0.5 <= left - begun < 0.9


async def test_calls_go_before_bulk_within_a_member(members):
    """The lanes of each member are its own: a call takes the turn that a job waits for."""
    order: list[str] = []

    async def enter(gate: RedisGate, lane: str, *, task_status=anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async with gate.slot(lane):
            order.append(lane)

    async with members.gate(120) as gate:
        await attempts(gate, 1)
        async with anyio.create_task_group() as group:
            for lane in ("bulk", "calls"):
                await group.start(enter, gate, lane)
    assert ["calls", "bulk"] == order


async def test_storms_of_cancellations_leave_nothing_behind(members):
    """After hundreds of calls that were cancelled at any moment no slot is held, and the rate is what it was."""
    async with members.gate(12_000, concurrency=8) as gate:
        for number in range(60):
            with anyio.move_on_after(0.0005 * number):
                await attempts(gate, 20)
        assert (0, 0) == (gate.limits.in_flight, gate.limits.waiting)
        begun = anyio.current_time()
        await attempts(gate, 40)
        assert anyio.current_time() - begun < 1


async def test_who_leaves_is_no_member_any_more(members):
    """A gate that is left frees its place at once, and so does one whose task was cancelled."""
    async with members.gate(600) as one:
        async with members.gate(600):
            assert 2 == len(members.names)
        assert 1 == len(members.names)
        with anyio.move_on_after(0.3):
            async with members.gate(600):
                await anyio.sleep_forever()
        assert 1 == len(members.names)
        assert 0 == one.limits.in_flight
    assert [] == members.names


async def test_everything_is_forgotten_in_the_end(members):
    """Each key in Redis expires, and all of them lie in one slot of a cluster."""
    async with members.gate(600) as gate:
        await attempts(gate, 2)
        names = members.server.run("KEYS", "*")
        assert sorted(map(members.key, ("marks", "members", "policy", "turns"))) == sorted(names)
        assert all(KEPT_SECONDS - 60 < members.server.run("TTL", name) <= KEPT_SECONDS for name in names)


async def test_a_gate_serves_a_client(members, emulator):
    """A client sends through the gate that it was given; Redis learns neither the key nor the URL nor the prompt."""
    config = Config(base_url=emulator.base_url, rate_limit=6_000)
    gate = RedisGate(members.server.url, api_key=emulator.key, config=config)
    async with gate, AsyncNebula(emulator.key, config=config, gate=gate) as nebula:
        await nebula.generate("a canary", model=MODEL, width=64, height=64)
        assert 1 == nebula.limits.used_today
        kept = " ".join(
            str(members.server.run({"hash": "HGETALL", "string": "GET"}.get(kind, "TYPE"), name))
            for name in members.server.run("KEYS", "*")
            if (kind := members.server.run("TYPE", name))
        )
    for secret in (emulator.key, emulator.base_url, "canary"):
        assert secret not in kept + gate.account


async def test_accounts_are_apart(members):
    """Members of another account have a rate of their own."""
    async with members.gate(60) as one, members.gate(60, account="dogs") as other:
        with anyio.fail_after(0.9):
            await attempts(one, 1)
            await attempts(other, 1)


async def test_a_gate_travels_before_it_is_entered(members):
    """A gate can be pickled: what comes out is one more member, also of a gate that is in use."""
    async with members.gate(600, shared_concurrency=5) as gate:
        gate._observer = None
        other = pickle.loads(pickle.dumps(gate))  # noqa: S301 - our own bytes
        assert (gate.account, gate.config, 5) == (other.account, other.config, other.shared_concurrency)
        async with other:
            assert 2 == len(members.names)
    make = partial(RedisGate, members.server.url, account=ACCOUNT)
    assert ACCOUNT == pickle.loads(pickle.dumps(make))().account  # noqa: S301 - our own bytes


async def test_a_gate_has_to_be_entered(members):
    """A gate outside of its block, or one that is entered twice, says so in one sentence; its limits can be read."""
    gate = members.gate(600)
    assert (588.0, 0) == (pytest.approx(gate.limits.per_minute), gate.limits.in_flight)
    with pytest.raises(ConfigurationError, match="is not entered; use it inside"):
        await gate.slot().__aenter__()
    async with gate:
        with pytest.raises(ConfigurationError, match="is entered already"):
            await gate.__aenter__()
    await gate.accepted()
    async with gate:
        await attempts(gate, 1)


async def test_who_waits_hears_that_the_gate_was_left(members):
    """A call that still waits when its gate is left ends with one sentence, not never."""
    caught: list[BaseException] = []

    async def wait(gate: RedisGate) -> None:
        try:
            await attempts(gate, 1)
        except* ConfigurationError as errors:
            caught.extend(errors.exceptions)

    async with anyio.create_task_group() as group, members.gate(60) as gate:
        await attempts(gate, 1)
        for _ in range(2):
            group.start_soon(wait, gate)
        await until(lambda: 2 == gate.limits.waiting)
    assert ["the RedisGate was left while this call waited"] * 2 == [error.message.split(";")[0] for error in caught]


async def test_another_loop_has_a_gate_of_its_own(members):
    """A gate that is used in another event loop says so."""
    async with members.gate(600) as gate:

        def use() -> None:
            anyio.run(attempts, gate, 1)

        with pytest.RaisesGroup(pytest.RaisesExc(ConfigurationError, match="another event loop")):
            await anyio.to_thread.run_sync(use)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1", "begins with none of redis://, rediss://, unix://"),
        ("127.0.0.1:6379", "begins with none"),
        ("redis://h?tls=1", "has an option that is none of db, ssl_ca_certs"),
        ("redis://h?db=one", "names a database that is no number"),
        ("redis://", "names no host"),
        ("redis://h:port", "has a host or a port that is none"),
        ("redis://h:6379/cats", "names a database that is no number"),
        (f"redis://h/{'1' * 5000}", "has 5010 characters, more than 4096"),
        (f"redis://h/{'1' * 10}", "names a database that is no number"),
        ("redis://h/²", "names a database that is no number"),
        ("unix://", "names no file"),
        (None, "must be a str; got NoneType"),
    ],
)
async def test_a_url_that_is_none_is_refused(url, problem):
    """What is wrong with a URL is said when the gate is made."""
    with pytest.raises(ConfigurationError, match=problem):
        RedisGate(url, account=ACCOUNT)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"account": "a b"}, "account must be letters, digits"),
        ({"account": ""}, "account must be letters, digits"),
        ({"account": "a", "shared_concurrency": 0}, "shared_concurrency must be a whole number"),
        ({"account": "a", "shared_concurrency": True}, "shared_concurrency must be a whole number"),
        ({}, "no API key"),
    ],
)
async def test_bad_arguments_are_refused(arguments, problem):
    """What is wrong with an argument is said when the gate is made."""
    with pytest.raises(ConfigurationError, match=problem):
        RedisGate("redis://127.0.0.1:6379", **arguments)


async def test_a_password_is_shown_nowhere(members, emulator):
    """A wrong password is one sentence at the entrance, and no password is in what is shown."""
    with RedisServer({"requirepass": "right-one"}) as guarded:
        async with RedisGate(guarded.url, account=ACCOUNT, config=Config(rate_limit=600)) as gate:
            await attempts(gate, 1)
            assert "right-one" not in repr(gate)
        for url in (guarded.url.replace("right-one", "wrong-one"), guarded.url.replace(":right-one@", "")):
            with pytest.raises(ConfigurationError, match=rf"127.0.0.1:{guarded.port} refuses") as caught:
                await RedisGate(url, account=ACCOUNT).__aenter__()
            assert "-one" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_a_call_ends_with_its_deadline(members, emulator):
    """A call that waits for its turn for longer than it may ends as with any other gate."""
    async with members.gate(1) as gate:
        await attempts(gate, 1)
        config = Config(base_url=emulator.base_url, timeouts=0.5)
        async with AsyncNebula(emulator.key, config=config, gate=gate) as nebula:
            with pytest.raises(DeadlineError):
                await nebula.generate("a cat", model=MODEL, width=64, height=64)
