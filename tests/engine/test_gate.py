"""The gate decides who may send: so many at once, in order, and not faster than the limit."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest
from trio.testing import MockClock
from wire import seeded

from nebula_async.client import AsyncNebula
from nebula_async.config import TIERS, Config, RetryPolicy
from nebula_async.engine.gate import Account, LocalGate, local_gate, slots_for
from nebula_async.errors import RateLimitError

VIRTUAL = pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])


NOON = 20_000 * 86_400.0 + 43_200


def make_gate(
    concurrency: int = 16, per_minute: float | None = None, backoff: float = 1.0, per_day: int | None = None
) -> LocalGate:
    """Return a gate with a source of chance that is always the same."""
    return LocalGate(concurrency, Account(per_minute, per_day, backoff), seeded(8))


@pytest.mark.parametrize(
    ("per_minute", "slots"), [(None, 16), (1, 8), (60, 8), (300, 39), (600, 78), (1_500, 195), (3_000, 256)]
)
def test_slots_follow_from_the_limit(per_minute, slots):
    """The requests in flight are derived from the tier, so that a usual reply time uses the limit fully."""
    assert slots == slots_for(per_minute)


def test_a_gate_follows_its_configuration():
    """Concurrency, limit and back-off are those of the configuration; a rate limit beats the tier's."""
    gate = local_gate(Config(tier="engineer-2", retry=RetryPolicy(backoff=0.5)), seeded(1))
    other = local_gate(Config(tier=TIERS["engineer-2"], rate_limit=30, concurrency=3), seeded(1))

    assert (39, 300, 1_000, 0.5) == (
        gate.concurrency, gate.account.per_minute, gate.account.per_day, gate.account.backoff,
    )  # fmt: skip
    assert (3, 30, 1_000) == (other.concurrency, other.account.per_minute, other.account.per_day)


@pytest.mark.anyio
async def test_slots_are_bounded():
    """No more attempts than slots are under way at once."""
    gate, inside, most = make_gate(3, backoff=0), 0, 0

    async def attempt() -> None:
        nonlocal inside, most
        async with gate.slot():
            inside += 1
            most = max(most, inside)
            await anyio.lowlevel.checkpoint()
            inside -= 1

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(attempt)
    assert (0, 3) == (inside, most)


async def _enter(
    gate: LocalGate, name: object, order: list, lane="calls", *, task_status=anyio.TASK_STATUS_IGNORED
) -> None:
    task_status.started()
    async with gate.slot(lane):
        order.append(name)


@pytest.mark.anyio
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_first_come_first_served(concurrency):
    """Attempts are admitted in the order in which they asked."""
    gate, order = make_gate(concurrency, backoff=0), []
    async with anyio.create_task_group() as group, AsyncExitStack() as held:
        for _ in range(concurrency):
            await held.enter_async_context(gate.slot())
        for name in range(20):
            await group.start(_enter, gate, name, order)
        await anyio.wait_all_tasks_blocked()
        assert [] == order
    assert list(range(20)) == order


@pytest.mark.anyio
@pytest.mark.parametrize("cancelled", [{0}, {3}, {0, 1, 2}, {9}])
async def test_a_cancelled_waiter_leaves_no_trace(cancelled):
    """Whoever stops waiting loses no slot and changes nobody's turn."""
    gate, order, scopes = make_gate(1, backoff=0), [], {}

    async def wait(name: int, *, task_status=anyio.TASK_STATUS_IGNORED) -> None:
        with anyio.CancelScope() as scopes[name]:
            await _enter(gate, name, order, task_status=task_status)

    async with anyio.create_task_group() as group, gate.slot():
        for name in range(10):
            await group.start(wait, name)
        await anyio.wait_all_tasks_blocked()
        for name in cancelled:
            scopes[name].cancel()
        await anyio.wait_all_tasks_blocked()
    assert [name for name in range(10) if name not in cancelled] == order


@pytest.mark.anyio
@VIRTUAL
async def test_a_cancelled_waiter_for_the_pace_leaves_no_trace():
    """Whoever stops waiting for the rate limit gives the turn to the next, at the time it would have had."""
    gate = make_gate(4, per_minute=60)
    async with gate.slot():
        started = anyio.current_time()
    with anyio.move_on_after(0.5):
        async with gate.slot():
            pytest.fail("too early")
    async with gate.slot():
        assert pytest.approx(1 / 0.98) == anyio.current_time() - started


@pytest.mark.anyio
@VIRTUAL
async def test_spacing_under_a_limit():
    """A hundred attempts at 600 a minute leave one by one, a tenth of a second apart, however many slots there are."""
    gate, left = make_gate(50, per_minute=600), []

    async def attempt() -> None:
        async with gate.slot():
            left.append(anyio.current_time())
            await anyio.sleep(3)

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(attempt)
    gaps = [later - earlier for earlier, later in pairwise(left)]
    assert pytest.approx([0.1 / 0.98] * 99) == gaps


@pytest.mark.anyio
@VIRTUAL
async def test_a_refusal_holds_everyone():
    """After one refusal nobody sends until its time has come, those that were waiting already included."""
    gate, left = make_gate(8, per_minute=60), []

    async def attempt() -> None:
        async with gate.slot():
            left.append(anyio.current_time())

    begun = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(attempt)
        await anyio.sleep(0.5)
        held = await gate.throttled(sent_at=begun, delay=60.0, is_limit=True)
    assert begun == left[0]
    assert 60 <= held.seconds <= 65
    assert [True, True] == [moment >= begun + 0.5 + held.seconds for moment in left[1:]]


@pytest.mark.anyio
@VIRTUAL
async def test_a_hold_is_shared_by_a_burst():
    """Refusals of requests that were in flight together are one hold."""
    gate = make_gate()
    sent_at = anyio.current_time()
    await anyio.sleep(1)
    held = [await gate.throttled(sent_at=sent_at, delay=None, is_limit=True) for _ in range(50)]

    assert 1 == sum(each.seconds > 0 for each in held)
    assert not any(each.is_daily for each in held)


@pytest.mark.anyio
async def test_calls_go_before_bulk():
    """Whoever awaits one call is admitted before those who wait for many, each lane in its order."""
    gate, order = make_gate(1), []
    async with anyio.create_task_group() as group, gate.slot():
        for name in ("bulk 1", "call 1", "bulk 2", "call 2"):
            await group.start(_enter, gate, name, order, "calls" if name.startswith("call") else "bulk")
        await anyio.wait_all_tasks_blocked()
        assert 4 == gate.limits.waiting
    assert ["call 1", "call 2", "bulk 1", "bulk 2"] == order


@pytest.mark.anyio
@VIRTUAL
async def test_a_call_that_comes_while_bulk_waits_for_the_pace_takes_its_turn():
    """A job that waits for the next moment of the pace lets a call go first, at that very moment."""
    gate, order = make_gate(8, per_minute=60), []
    async with gate.slot("bulk"):
        pass
    async with anyio.create_task_group() as group:
        await group.start(_enter, gate, "bulk", order, "bulk")
        await anyio.sleep(0.5)
        await group.start(_enter, gate, "call", order)
    assert ["call", "bulk"] == order


@pytest.mark.anyio
@VIRTUAL
async def test_a_hold_beyond_the_deadline_is_said_at_once():
    """Who cannot be admitted in time is told so, and for how long to wait, at once; who waits already, as well."""
    gate = make_gate(1)
    begun = anyio.current_time()

    async def enter() -> RateLimitError:
        with pytest.raises(RateLimitError, match="held for longer than this call may take") as caught:
            async with gate.slot(deadline=begun + 30):
                pytest.fail("too early")
        return caught.value

    async with anyio.create_task_group() as group, gate.slot():
        group.start_soon(enter)
        await anyio.wait_all_tasks_blocked()
        await gate.throttled(sent_at=begun, delay=60.0, is_limit=True)
    error = await enter()

    assert begun == anyio.current_time()
    assert (0, True) == (error.attempts, error.retryable)
    assert 60 <= error.retry_after <= 65


@pytest.mark.anyio
@VIRTUAL
async def test_the_quota_of_the_day_is_counted(monkeypatch):
    """Once a tier's requests of the day were accepted nothing more is admitted, until 00:00 UTC."""
    monkeypatch.setattr("time.time", lambda: NOON)
    gate = make_gate(per_day=2)
    for _ in range(2):
        async with gate.slot():
            await gate.accepted()
    assert (2, 2, 43_200.0) == (gate.limits.per_day, gate.limits.used_today, gate.limits.closed_seconds)
    with pytest.raises(RateLimitError, match="daily quota") as caught:
        async with gate.slot():
            pytest.fail("nothing more today")
    assert (True, 43_200.0) == (caught.value.is_daily, caught.value.retry_after)

    monkeypatch.setattr("time.time", lambda: NOON + 43_200)
    async with gate.slot():
        pass
    assert (0, 0.0) == (gate.limits.used_today, gate.limits.closed_seconds)


@pytest.mark.anyio
@VIRTUAL
async def test_a_day_that_the_server_closed_is_probed_once_a_minute(monkeypatch):
    """Where a server refuses for minutes one request a minute goes out; the first that is accepted ends it (F25)."""
    clock = [NOON]
    monkeypatch.setattr("time.time", lambda: clock[0])
    gate = make_gate()

    async def may_enter() -> bool:
        try:
            async with gate.slot():
                return True
        except RateLimitError:
            return False

    for _ in range(100):
        hold = await gate.throttled(sent_at=anyio.current_time(), delay=None, is_limit=True)
        await anyio.sleep(hold.seconds)
    assert (0.0, True) == (hold.seconds, hold.is_daily)
    assert not await may_enter()
    clock[0] += 60
    assert [True, False, False] == [await may_enter() for _ in range(3)]
    clock[0] += 60
    assert await may_enter()
    await gate.accepted()
    assert [True, True] == [await may_enter() for _ in range(2)]


@pytest.mark.anyio
@VIRTUAL
async def test_hours_that_the_server_names_are_waited_out(monkeypatch):
    """Where a server asks for hours of waiting nothing is sent before, whatever the date."""
    clock = [NOON]
    monkeypatch.setattr("time.time", lambda: clock[0])
    gate = make_gate()
    assert (await gate.throttled(sent_at=0.0, delay=50_000.0, is_limit=True)).is_daily
    for passed in (0, 60, 43_200, 49_999):
        clock[0] = NOON + passed
        with pytest.raises(RateLimitError) as caught:
            async with gate.slot():
                pytest.fail("too early")
        assert 50_000 - passed == caught.value.retry_after
    clock[0] = NOON + 50_000
    async with gate.slot():
        pass


@pytest.mark.anyio
@VIRTUAL
async def test_who_waits_hears_that_the_day_is_over():
    """All that queue when the day is closed are told at once."""
    gate, told = make_gate(1), []

    async def enter() -> None:
        try:
            async with gate.slot():
                pytest.fail("nothing more today")
        except RateLimitError as error:
            told.append(error.is_daily)

    async with anyio.create_task_group() as group, gate.slot():
        for _ in range(5):
            group.start_soon(enter)
        await anyio.wait_all_tasks_blocked()
        await gate.throttled(sent_at=0.0, delay=7200.0, is_limit=True)
        await anyio.wait_all_tasks_blocked()
        assert [True] * 5 == told


@pytest.mark.anyio
async def test_limits_say_what_is_believed():
    """A glance at the gate: its limit, what is under way, what waits."""
    gate = make_gate(2, per_minute=600)
    async with gate.slot():
        limits = gate.limits
    assert (600, pytest.approx(588), 2, 1, 0, 0.0) == (
        limits.known_per_minute, limits.per_minute, limits.concurrency, limits.in_flight, limits.waiting,
        limits.held_seconds,
    )  # fmt: skip


def test_limits_are_there_without_an_event_loop():
    """Also before anything was sent, the limits can be looked at."""
    assert (None, 0, 16) == (
        make_gate().limits.per_minute,
        make_gate().limits.in_flight,
        make_gate().limits.concurrency,
    )


@pytest.mark.anyio
@VIRTUAL
async def test_a_limit_that_the_server_names_is_kept():
    """A policy that the server names lowers the pace at once."""
    gate, left = make_gate(50), []
    await gate.learn(60)
    for _ in range(20):
        async with gate.slot():
            left.append(anyio.current_time())
    assert pytest.approx([1 / 0.98] * 9) == [later - earlier for earlier, later in pairwise(left[-10:])]


def account_of(**options) -> Account:
    """Return what a client made with these options knows of its account; the client itself is gone."""
    return AsyncNebula(**{"api_key": "sk-1", "base_url": "http://localhost"} | options)._wiring.gate.account


def test_clients_of_one_account_share_its_limit():
    """In one process an account has one limit, however many clients come and go; other keys and limits have another."""
    account = account_of()
    assert account is account_of()
    assert account is account_of(concurrency=3)
    for options in ({"api_key": "sk-2"}, {"rate_limit": 60}, {"base_url": "http://localhost:81"}):
        assert account is not account_of(**options)


@pytest.mark.anyio
@VIRTUAL
async def test_a_hold_is_for_all_clients_of_an_account():
    """Clients that share an account share its pace and its holds, each with slots of its own."""
    account = Account(600, None, 1.0)
    one, other = LocalGate(1, account, seeded(1)), LocalGate(1, account, seeded(2))
    async with one.slot():
        begun = anyio.current_time()
        async with other.slot():
            assert pytest.approx(0.1 / 0.98) == anyio.current_time() - begun
        await other.throttled(sent_at=begun, delay=30.0, is_limit=True)
    async with one.slot():
        assert anyio.current_time() - begun >= 30


def test_each_loop_has_a_queue_of_its_own():
    """One gate serves event loops one after the other: what one of them held up does not hold up the next."""
    gate = make_gate(1, per_minute=1)

    async def enter() -> str:
        async with gate.slot():
            return "in"

    assert ["in"] * 3 == [anyio.run(enter, backend=backend) for backend in ("asyncio", "trio", "asyncio")]


@pytest.mark.asyncio
async def test_native_cancellation_leaves_no_trace():
    """`task.cancel()` of waiters at any moment takes no slot away."""
    gate = make_gate(2)

    async def attempt() -> None:
        async with gate.slot():
            await asyncio.sleep(0)

    for rounds in range(50):
        tasks = [asyncio.create_task(attempt()) for _ in range(6)]
        for _ in range(rounds % 5):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with gate.slot(), gate.slot():
        pass
