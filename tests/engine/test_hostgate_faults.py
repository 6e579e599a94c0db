"""The file in which processes meet may be locked, damaged or gone: nobody stops for long, and nobody sends too much."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from host import Meeting, attempt, attempts

from nebula_async.engine.host_account import CAUTION, PATIENCE_SECONDS
from nebula_async.engine.hostgate import HostGate
from nebula_async.errors import RateLimitError
from nebula_async.events import Event, SharingLost, SharingRegained

pytestmark = pytest.mark.anyio

PER_MINUTE = 1_200
GAP = 60 / (0.98 * PER_MINUTE)


@pytest.fixture
def meeting(tmp_path: Path) -> Meeting:
    """A folder where gates meet."""
    return Meeting(tmp_path / "state")


async def pair(meeting: Meeting) -> list[HostGate]:
    """Return two gates that know of each other, and of five requests of today."""
    gates = [meeting.gate(PER_MINUTE), meeting.gate(PER_MINUTE)]
    for gate, count in zip(gates * 2, (2, 1, 1, 1), strict=True):
        await attempts(gate, count)
    return gates


async def held(gates: list[HostGate]) -> None:
    """Let one of them be refused, so that all are held for a minute."""
    hold = await gates[0].throttled(sent_at=anyio.current_time(), delay=60.0, is_limit=True)
    assert hold.seconds >= 60
    with pytest.raises(RateLimitError):
        async with gates[1].slot(deadline=anyio.current_time() + 1):
            pytest.fail("too early")


def delete_row(meeting: Meeting) -> None:
    """Take all rows away."""
    meeting.run("DELETE FROM account")


def drop_table(meeting: Meeting) -> None:
    """Take the table away."""
    meeting.run("DROP TABLE account")


def delete_file(meeting: Meeting) -> None:
    """Take the file away."""
    meeting.file.unlink()


def delete_folder(meeting: Meeting) -> None:
    """Take the folder away, with the file in it."""
    meeting.file.unlink()
    meeting.folder.rmdir()


def empty_file(meeting: Meeting) -> None:
    """Leave nothing in the file."""
    os.truncate(meeting.file, 0)


def cut_file(meeting: Meeting) -> None:
    """Leave half of the file."""
    os.truncate(meeting.file, meeting.file.stat().st_size // 2)


def fill_file(meeting: Meeting) -> None:
    """Write something else over the file."""
    meeting.file.write_bytes(b"not a database " * 5_000)


def replace_file(meeting: Meeting) -> None:
    """Put something else in the place of the file."""
    other = meeting.folder / "other"
    other.write_bytes(b"not a database " * 5_000)
    other.replace(meeting.file)


def garble_row(meeting: Meeting) -> None:
    """Write bytes into the rows that are no text."""
    meeting.run("UPDATE account SET state = CAST(x'fffefd' AS TEXT)")


def edit_row(meeting: Meeting) -> None:
    """Write something else into the rows."""
    meeting.run("UPDATE account SET state = '{}'")


@pytest.mark.parametrize(
    "damage",
    [
        delete_row, drop_table, delete_file, delete_folder, empty_file, cut_file, fill_file, replace_file, edit_row,
        garble_row,
    ],
)  # fmt: skip
async def test_what_is_lost_is_written_again(meeting, damage):
    """Whatever becomes of the file, processes that know of a hold and of the day still do, and so do new ones (F62)."""
    gates = await pair(meeting)
    await held(gates)
    damage(meeting)
    for gate in (gates[1], gates[0], meeting.gate(PER_MINUTE)):
        with pytest.raises(RateLimitError, match="held for longer than this call may take"):
            async with gate.slot(deadline=anyio.current_time() + 1):
                pytest.fail("too early")
        assert 5 == gate.limits.used_today
    assert [] == meeting.events
    assert 0o600 == meeting.file.stat().st_mode & 0o777


async def test_while_the_file_is_locked_each_goes_on_with_its_share(meeting):
    """Processes that know of each other send on, each with a little less than its half, and say so once (F62)."""
    gates = await pair(meeting)
    left: dict[int, list[float]] = {}

    async def use(number: int) -> None:
        left[number] = await attempts(gates[number], 5)

    with meeting.locked():
        begun = anyio.current_time()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for number in range(2):
                    group.start_soon(use, number)
        ended = anyio.current_time()
    assert PATIENCE_SECONDS <= min(map(min, left.values())) - begun + 1e-3
    assert ended - begun < PATIENCE_SECONDS + 3
    assert all(
        later - earlier > 2 * GAP / CAUTION - 0.02 for moments in left.values() for earlier, later in pairwise(moments)
    )
    assert [SharingLost, SharingLost] == [type(event) for event in meeting.events]
    assert all("is locked by another process" in event.reason and not event.is_waiting for event in meeting.events)


async def test_what_happened_while_it_was_locked_is_told_afterwards(meeting):
    """Once the file is free the processes share again at their next request: today's count, and a hold (F62)."""
    gates = await pair(meeting)
    with meeting.locked():
        await attempts(gates[0], 2)
        await gates[0].throttled(sent_at=anyio.current_time(), delay=30.0, is_limit=True)
        assert 4 + 2 == gates[0].limits.used_today
    with pytest.raises(RateLimitError):
        async with gates[0].slot(deadline=anyio.current_time() + 1):
            pytest.fail("too early")
    assert [SharingLost, SharingRegained] == [type(event) for event in meeting.events]
    assert 7 == gates[1].limits.used_today
    assert 25 < gates[1].limits.held_seconds <= 36


async def test_nobody_joins_while_it_is_locked(meeting):
    """A process that the others cannot know of waits until the file is free, and then sends at once (F62)."""
    await pair(meeting)
    new, left, told = meeting.gate(PER_MINUTE), [], anyio.Event()

    def observe(event: Event) -> None:
        meeting.events.append(event)
        told.set()

    new.notify = observe
    async with anyio.create_task_group() as group:
        with meeting.locked():
            group.start_soon(attempt, new, left)
            with anyio.fail_after(PATIENCE_SECONDS + 3):
                await told.wait()
            assert [] == left
            unlocked_at = anyio.current_time()
    assert left[0] - unlocked_at < 1
    lost, regained = meeting.events
    assert (True, SharingRegained()) == (lost.is_waiting, regained)


async def test_a_lock_does_not_hold_up_the_loop(meeting):
    """While another process has the file locked, everything else in this one goes on."""
    [gate, _] = await pair(meeting)
    ticks = [anyio.current_time()]
    async with anyio.create_task_group() as group:
        with meeting.locked():
            group.start_soon(attempts, gate, 20)
            while ticks[-1] - ticks[0] < 0.3:
                await anyio.sleep(0.001)
                ticks.append(anyio.current_time())
    assert 0.2 > max(later - earlier for earlier, later in pairwise(ticks))


async def test_a_lock_of_a_moment_is_waited_for(meeting):
    """A file that is locked for a moment costs that moment, and nobody is bothered."""
    [gate, _] = await pair(meeting)
    async with anyio.create_task_group() as group:
        with meeting.locked():
            group.start_soon(attempts, gate, 2)
            await anyio.sleep(0.1)
    assert ([], 7) == (meeting.events, gate.limits.used_today)


async def test_two_moments_are_not_a_long_time(meeting):
    """A file that was locked a while ago and is again, for a moment each, is not taken for locked all the time."""
    [gate, _] = await pair(meeting)
    for _ in range(2):
        with meeting.locked(), anyio.move_on_after(0.05):
            await attempts(gate, 1)
        await anyio.sleep(1.1 * PATIENCE_SECONDS)
    assert [] == meeting.events


async def test_a_glance_does_not_wait(meeting):
    """`limits` says what was known last while the file is locked."""
    [_, gate] = await pair(meeting)
    with meeting.locked():
        assert 5 == gate.limits.used_today


async def test_where_nothing_can_be_kept_each_goes_on_by_itself(meeting):
    """A file in the place of the folder costs a word, and no request; when it is gone, the processes share."""
    meeting.folder.touch()
    gate = meeting.gate(PER_MINUTE)
    await attempts(gate, 3)
    [event] = meeting.events
    assert isinstance(event, SharingLost)
    assert str(meeting.folder) in event.reason
    meeting.folder.unlink()
    with anyio.fail_after(10):
        while len(meeting.events) < 2:
            await attempts(gate, 1)
    assert SharingRegained() == meeting.events[-1]
    assert gate.limits.used_today == meeting.gate(PER_MINUTE).limits.used_today > 3


async def test_two_loops_in_one_process_share(meeting):
    """Event loops of one process, in threads of their own, wait for each other's turns."""
    gate, begun = meeting.gate(PER_MINUTE), anyio.current_time()

    def use() -> None:
        anyio.run(attempts, gate, 5)

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(anyio.to_thread.run_sync, use)
    assert 10 == gate.limits.used_today
    assert anyio.current_time() - begun > 9 * GAP - 0.01
