"""Processes of a host that use the same account have one rate, one hold and one day together."""

from __future__ import annotations

import os
import stat
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from host import Meeting, attempts

from nebula_async.client import AsyncNebula
from nebula_async.config import Config
from nebula_async.engine.host_store import HostStore, state_folders
from nebula_async.errors import ConfigurationError, RateLimitError
from nebula_async.events import SharingLost

pytestmark = pytest.mark.anyio

MODEL = "black-forest-labs/FLUX.1-schnell"


@pytest.fixture
def meeting(tmp_path: Path) -> Meeting:
    """A folder where gates meet."""
    return Meeting(tmp_path / "state")


async def test_the_rate_is_that_of_all(meeting):
    """Two gates together send no faster than one may, and each gets half of it."""
    gates, left = [meeting.gate(1_200) for _ in range(2)], {}
    begun = anyio.current_time()

    async def use(number: int) -> None:
        left[number] = await attempts(gates[number], 10)

    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(use, number)
    order = sorted((moment, number) for number, moments in left.items() for moment in moments)
    assert order[-1][0] - begun >= 19 * 0.05
    assert 10 <= sum(earlier[1] != later[1] for earlier, later in pairwise(order))
    assert [20, 20] == [gate.limits.used_today for gate in gates]


async def test_a_refusal_of_one_holds_the_other(meeting):
    """What the server asks of one process all of them wait for, those that hold a turn already included."""
    one, other = meeting.gate(120), meeting.gate(120)
    begun = anyio.current_time()
    async with one.slot(), anyio.create_task_group() as group:
        left: list[float] = []

        async def follow() -> None:
            left.extend(await attempts(other, 1))

        group.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        hold = await one.throttled(sent_at=begun, delay=0.8, is_limit=True)
    assert 0.8 <= hold.seconds < 1
    assert min(left) >= begun + 0.8
    assert (await one.throttled(sent_at=begun, delay=30.0, is_limit=True)).seconds > 29
    with pytest.raises(RateLimitError, match="held for longer than this call may take"):
        async with other.slot(deadline=anyio.current_time() + 5):
            pytest.fail("too early")
    assert other.limits.held_seconds > 25


async def test_refusals_of_one_moment_are_one_cut(meeting):
    """Refusals of requests that were under way in two processes together cut the rate once."""
    one, other = meeting.gate(600), meeting.gate(600)
    await attempts(one, 3)
    sent_at = anyio.current_time()
    await one.throttled(sent_at=sent_at, delay=2.0, is_limit=True)
    believed = other.limits.per_minute
    assert 0.0 == (await other.throttled(sent_at=sent_at, delay=1.0, is_limit=True)).seconds
    assert (believed, believed) == (one.limits.per_minute, other.limits.per_minute)


async def test_the_day_is_that_of_all(meeting):
    """What one process used of the day is used for the others, and for those that come later."""
    one = meeting.gate(6_000, per_day=3)
    await attempts(one, 2)
    assert 2 == meeting.gate(6_000, per_day=3).limits.used_today
    await attempts(meeting.gate(6_000, per_day=3), 1)
    for gate in (one, meeting.gate(6_000, per_day=3)):
        with pytest.raises(RateLimitError, match="daily quota") as caught:
            await gate.slot().__aenter__()
        assert caught.value.is_daily


async def test_a_day_that_was_closed_for_one_is_closed_for_all(meeting):
    """Where the server refuses for hours nobody asks; one request a minute sees about a belief, whosever it is."""
    one, other = meeting.gate(), meeting.gate()
    async with one.slot():
        hold = await one.throttled(sent_at=anyio.current_time(), delay=7200.0, is_limit=True)
    assert hold.is_daily
    with pytest.raises(RateLimitError) as caught:
        await other.slot().__aenter__()
    assert pytest.approx(7200, abs=5) == caught.value.retry_after
    assert other.limits.closed_seconds > 7000


async def test_a_belief_about_the_day_is_doubted_once_a_minute(meeting, monkeypatch):
    """Where the day only seems to be over, one request of all processes goes out in a minute."""
    clock = [20_000 * 86_400.0 + 43_200]
    monkeypatch.setattr("time.time", lambda: clock[0])
    gates = [meeting.gate(6_000), meeting.gate(6_000)]
    gates[0].account.change(lambda state, _now: state.allowance.quota.close(clock[0], None))

    async def may_enter(number: int) -> bool:
        try:
            async with gates[number].slot():
                return True
        except RateLimitError:
            return False

    assert [False, False] == [await may_enter(number) for number in (0, 1)]
    clock[0] += 60
    assert [True, False, False] == [await may_enter(number) for number in (1, 0, 1)]
    clock[0] += 60
    assert await may_enter(0)
    await gates[0].accepted()
    assert [True, True] == [await may_enter(number) for number in (1, 0)]


async def test_who_stops_waiting_leaves_the_turn_to_the_next(meeting):
    """A turn that was reserved for a call that was cancelled is used by the next call of the process."""
    gate = meeting.gate(120)
    [begun] = await attempts(gate, 1)
    with anyio.move_on_after(0.1):
        async with gate.slot():
            pytest.fail("too early")
    [left] = await attempts(gate, 1)
    assert 0.5 <= left - begun < 0.9


async def test_calls_go_before_bulk_within_a_process(meeting):
    """The lanes of each process are its own: a call takes the turn that a job waits for."""
    gate, order = meeting.gate(120), []
    await attempts(gate, 1)

    async def enter(lane: str, *, task_status=anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async with gate.slot(lane):
            order.append(lane)

    async with anyio.create_task_group() as group:
        for lane in ("bulk", "calls"):
            await group.start(enter, lane)
            await anyio.wait_all_tasks_blocked()
    assert ["calls", "bulk"] == order


async def test_slots_are_those_of_a_process(meeting):
    """Each process has as many requests under way as it was told, whatever the others have."""
    one, other = meeting.gate(concurrency=1, backoff=0), meeting.gate(concurrency=1, backoff=0)
    async with one.slot(), other.slot():
        assert [(1, 1), (1, 1)] == [(gate.limits.in_flight, gate.limits.concurrency) for gate in (one, other)]


async def test_a_limit_that_the_api_names_is_news_for_all(meeting):
    """A lower limit in a reply's header counts for every process at once."""
    one, other = meeting.gate(600), meeting.gate(600)
    await attempts(other, 1)
    await one.learn(60.0)
    assert pytest.approx(58.8) == other.limits.per_minute


async def test_clients_share_what_they_are_asked_to(emulator, monkeypatch, tmp_path):
    """With `shared_by="host"` clients of one key count together; one with another key, or by itself, does not."""
    monkeypatch.setenv("NEBULA_STATE_DIR", str(tmp_path / "state"))

    def client(key: str = emulator.key, shared_by: str = "host", limit: int = 6_000) -> AsyncNebula:
        config = Config(base_url=emulator.base_url, shared_by=shared_by, rate_limit=limit)
        return AsyncNebula(key, config=config)

    async with client() as nebula:
        await nebula.generate("a cat", model=MODEL, width=64, height=64)
        assert 1 == nebula.limits.used_today
    used = [each.limits.used_today for each in (client(limit=600), client("sk-other"), client(shared_by="process"))]
    assert [1, 0, 0] == used


async def test_no_key_is_kept_and_nobody_else_reads(emulator, monkeypatch, tmp_path):
    """The file is the user's alone, and holds neither the key nor a URL nor a prompt."""
    monkeypatch.setenv("NEBULA_STATE_DIR", str(tmp_path / "made" / "state"))
    async with AsyncNebula(emulator.key, config=Config(base_url=emulator.base_url, shared_by="host")) as nebula:
        await nebula.generate("a canary", model=MODEL, width=64, height=64)
    [file] = (tmp_path / "made" / "state").iterdir()
    assert (0o700, 0o600) == (stat.S_IMODE(file.parent.stat().st_mode), stat.S_IMODE(file.stat().st_mode))
    for secret in (emulator.key, "127.0.0.1", "canary"):
        assert secret.encode() not in file.read_bytes()


async def test_sharing_is_a_choice_of_two():
    """Anything but a process or the host is refused, and a sibling cannot change it."""
    with pytest.raises(ConfigurationError, match="shared_by must be one of host, process; got 'galaxy'"):
        Config(shared_by="galaxy")
    with pytest.raises(ConfigurationError, match="with_options cannot change shared_by"):
        AsyncNebula("sk-1").with_options(shared_by="host")


async def test_the_folder_is_found_from_the_environment(monkeypatch, tmp_path):
    """A folder of one's own counts, else the usual one for state, else one of this user for temporary files."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    temporary = tmp_path / f"nebula-async-{os.getuid()}"
    assert (Path("/a/b"),) == state_folders({"NEBULA_STATE_DIR": "/a/b", "XDG_STATE_HOME": "/c"})
    assert (Path("/c/nebula-async"), temporary) == state_folders({"XDG_STATE_HOME": "/c"})
    assert (Path("/home/me/.local/state/nebula-async"), temporary) == state_folders({})
    assert (temporary,) == state_folders({"XDG_STATE_HOME": "not/absolute"})


async def test_the_first_folder_that_can_be_used_counts(tmp_path):
    """Where the usual folder cannot be made, the temporary one is used, and nobody is bothered."""
    (tmp_path / "file").touch()
    store = HostStore((tmp_path / "file" / "state", tmp_path / "spare"))
    assert "done" == store.change("a", lambda _text: ("{}", "done"))
    assert tmp_path / "spare" == store.path.parent


async def test_a_folder_of_others_is_not_trusted(meeting):
    """Where others may write nothing is kept: the process goes on by itself, with all of its limit, and says so."""
    meeting.folder.mkdir(mode=0o777)
    meeting.folder.chmod(0o777)
    gate = meeting.gate(6_000)
    await attempts(gate, 3)
    [event] = meeting.events
    assert isinstance(event, SharingLost)
    assert not event.is_waiting
    assert "writable by nobody else" in event.reason
    assert pytest.approx(5_880) == gate.limits.per_minute
    assert 3 == gate.limits.used_today
    assert [] == list(meeting.folder.iterdir())


async def test_accounts_of_long_ago_are_forgotten(meeting):
    """Rows that nobody used for days go when the file is opened next."""
    await attempts(meeting.gate(), 1)
    meeting.run("INSERT INTO account VALUES ('old', '{}', date('now', '-3 days'))")
    store = HostStore((meeting.folder,))
    assert None is store.read("old")
