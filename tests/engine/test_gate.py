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

from nebula_async.config import TIERS, Config, RetryPolicy
from nebula_async.engine.gate import LocalGate, local_gate, slots_for

VIRTUAL = pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])


def make_gate(concurrency: int = 16, per_minute: float | None = None, backoff: float = 1.0) -> LocalGate:
    """Return a gate with a source of chance that is always the same."""
    return LocalGate(concurrency, per_minute, backoff, seeded(8))


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

    assert (39, 300, 0.5) == (gate.concurrency, gate.per_minute, gate.backoff)
    assert (3, 30) == (other.concurrency, other.per_minute)


@pytest.mark.anyio
async def test_slots_are_bounded():
    """No more attempts than slots are under way at once."""
    gate, inside, most = make_gate(3), 0, 0

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


async def _enter(gate: LocalGate, name: int, order: list[int], *, task_status=anyio.TASK_STATUS_IGNORED) -> None:
    task_status.started()
    async with gate.slot():
        order.append(name)


@pytest.mark.anyio
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_first_come_first_served(concurrency):
    """Attempts are admitted in the order in which they asked."""
    gate, order = make_gate(concurrency), []
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
    gate, order, scopes = make_gate(1), [], {}

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
        held = gate.throttled(sent_at=begun, delay=60.0, is_limit=True)
    assert begun == left[0]
    assert 60 <= held <= 65
    assert [True, True] == [moment >= begun + 0.5 + held for moment in left[1:]]


@pytest.mark.anyio
@VIRTUAL
async def test_a_hold_is_shared_by_a_burst():
    """Refusals of requests that were in flight together are one hold."""
    gate = make_gate()
    sent_at = anyio.current_time()
    await anyio.sleep(1)
    held = [gate.throttled(sent_at=sent_at, delay=None, is_limit=True) for _ in range(50)]

    assert 1 == sum(seconds > 0 for seconds in held)
    assert 0.0 == gate.refusing_for()


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
