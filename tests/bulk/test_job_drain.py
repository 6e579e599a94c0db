"""Whatever ends a job in the middle, what had been sent is received, stored and noted before the job lets go."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import anyio
import pytest
from jobs import opened, pictures, query, run, run_until, spooled, until, write

from nebula_async.bulk import execution
from nebula_async.bulk.recovery import Recovery
from nebula_async.charges import Charges
from nebula_async.config import Config, RetryPolicy
from nebula_async.events import Held, Sent
from nebula_async.results import Failure, Generation

EIGHT = Config(retry=RetryPolicy(backoff=0), concurrency=8)
PATIENCE = 40.0


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    """Sixteen prompts, of which eight are in flight at a time."""
    return write(tmp_path, *(f"cat {number}" for number in range(16)))


@pytest.fixture
def slow(start):
    """Every reply comes half a second after it is paid for."""
    return start(faults=["delay=0.5:1"])


def assert_stored(out: Path, number: int) -> None:
    """Exactly so many are done, each is stored, nothing is open and nothing is left behind."""
    states = query(out, "SELECT state, count(*) FROM item WHERE state != 'pending' GROUP BY state")
    assert [("done", number)] == states
    assert (number, []) == (len(pictures(out)), spooled(out))


@pytest.mark.anyio
async def test_a_drained_job_finishes_what_is_in_flight_and_resumes_with_the_rest(manifest, emulator):
    """Draining loses nothing that was sent; the next run sends only what was not (F41, F57)."""
    async with opened(manifest, emulator) as job:
        job.on_result = lambda _result: job.drain()
        report = await job.run()
    charged = emulator.journal.charged
    assert (130, charged) == (report.exit_code, report.done)
    assert 0 < report.waiting
    emulator.reset()
    report = await run(manifest, emulator)
    assert (4, 0, 4 - charged) == (report.done, report.exit_code, emulator.journal.charged)


@pytest.mark.anyio
async def test_a_job_that_is_drained_before_it_runs_sends_nothing(manifest, emulator):
    """Who drains early is heard."""
    async with opened(manifest, emulator) as job:
        job.drain()
        report = await job.run()
    assert (130, 4, ()) == (report.exit_code, report.waiting, emulator.journal.requests)


@pytest.mark.anyio
async def test_a_cancelled_job_stores_all_that_was_sent(eight, slow):
    """Cancelled by a scope while eight requests are paid for and not answered, a job stores all eight, and no more
    (F41).
    """
    async with opened(eight, slow, config=EIGHT) as job, anyio.create_task_group() as group:
        group.start_soon(job.run)
        await until(lambda: slow.journal.charged == 8)
        group.cancel_scope.cancel()
    assert_stored(eight.parent / "out", 8)
    assert 8 == slow.journal.charged


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [1, 3])
async def test_a_job_that_asyncio_cancels_stores_all_that_was_sent(eight, slow, times):
    """`Task.cancel`, also more than once, ends a job when all that it had sent is stored (F40)."""

    async def work() -> None:
        async with opened(eight, slow, config=EIGHT) as job:
            await job.run()

    task = asyncio.create_task(work())
    await until(lambda: slow.journal.charged == 8)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_stored(eight.parent / "out", 8)
    assert 8 == slow.journal.charged


@pytest.mark.asyncio
async def test_a_timeout_around_a_job_loses_nothing(eight, slow):
    """`asyncio.timeout` is a cancellation, too: it comes out as a `TimeoutError`, and what was sent is stored."""
    async with opened(eight, slow, config=EIGHT) as job:
        with pytest.raises(TimeoutError):  # noqa: PT012 - the timeout is set while it runs
            async with asyncio.timeout(None) as timeout:
                job.on_result = lambda _result: timeout.reschedule(0)
                await job.run()
    assert_stored(eight.parent / "out", slow.journal.charged)


@pytest.mark.anyio
async def test_leaving_the_results_stores_what_is_in_flight(eight, slow):
    """Who takes one result and leaves the block has all those stored that were sent."""
    async with opened(eight, slow, config=EIGHT) as job:
        async with job.results() as results:
            async for result in results:
                assert (eight.parent / "out" / result.image.stored).is_file()
                break
        report = await job.report()
    assert_stored(eight.parent / "out", report.done)
    assert slow.journal.charged == report.done


@pytest.mark.anyio
async def test_what_has_arrived_is_stored_although_the_job_is_cancelled(manifest, emulator):
    """A picture that is here is paid for: cancelling the job waits until it is stored and noted."""
    async with opened(manifest, emulator) as job:
        with anyio.CancelScope() as scope:
            job.on_result = lambda _result: scope.cancel()
            await job.run()
        assert scope.cancelled_caught
        report = await job.report()
    assert 1 <= report.done == len(pictures(manifest.parent / "out")) == emulator.journal.charged


@pytest.mark.anyio
async def test_an_exception_of_on_result_ends_the_run_and_loses_nothing(manifest, emulator):
    """What listens may fail: its own exception comes out, and what had been sent is stored and noted."""

    def fail(result: Generation | Failure) -> None:
        raise KeyError(result.index)

    with pytest.raises(KeyError):
        await run(manifest, emulator, on_result=fail)
    charged = emulator.journal.charged
    async with opened(manifest, emulator) as job:
        assert Recovery() == job.recovery
        assert charged == (await job.report()).done
        assert 4 == (await job.run()).done
    emulator.assert_charged(4)


@pytest.mark.anyio
async def test_a_drain_has_an_end(manifest, start, monkeypatch):
    """A server that never answers holds a cancelled job for a minute at most; what is open is the next run's to say
    (F57).
    """
    monkeypatch.setattr(execution, "DRAIN_SECONDS", 0.1)
    emulator = start(faults=["delay=60:@1-2"])
    with anyio.fail_after(PATIENCE):
        async with opened(manifest, emulator) as job, anyio.create_task_group() as group:
            group.start_soon(job.run)
            await until(lambda: emulator.journal.charged == 2)
            group.cancel_scope.cancel()
    assert job.was_stopped
    report = await run(manifest, emulator, resend_unknown=True)
    assert (4, 6) == (report.done, emulator.journal.charged)


@pytest.mark.anyio
async def test_a_stopped_job_ends_at_once(manifest, start):
    """`stop` waits for no server."""
    emulator = start(faults=["delay=60:1"])
    with anyio.fail_after(PATIENCE):
        async with opened(manifest, emulator) as job:
            await run_until(job, lambda: emulator.journal.charged == 2)
            report = await job.report()
    assert (0, 2, 2, Charges(0, 2)) == (report.done, report.unknown, report.waiting, report.charges)


@pytest.mark.anyio
async def test_a_stopped_job_fetches_no_more_pictures(tmp_path, start):
    """What waits at its URLs waits for the next run, also where many do; it is not paid for again."""
    emulator = start()
    manifest = write(tmp_path, *(f"cat {number}" for number in range(12)))
    several = {"dialect": "inference", "n": 1, "size": "64x64", "width": None, "height": None}
    await run(manifest, emulator, defaults=several)
    out = tmp_path / "out"
    for seq, path, row in (found := query(out, "SELECT seq, path, row FROM output")):
        (out / path).unlink()
        draft = {**json.loads(row), "provenance": json.loads(json.loads(row)["provenance"])}
        change = "UPDATE output SET path = NULL, sha256 = NULL, bytes = NULL, expires_at = 4e9, row = ? WHERE seq = ?"
        query(out, change, json.dumps(draft), seq)
    query(out, "UPDATE item SET state = 'urls'")
    async with opened(manifest, emulator, defaults=several) as job:
        job.on_result = lambda _result: job.stop()
        report = await job.run()
    assert 12 == len(found)
    assert 0 < report.unfetched
    report = await run(manifest, emulator, defaults=several)
    assert (12, 12, Charges(12, 12)) == (report.done, emulator.journal.charged, report.charges)


@pytest.mark.anyio
async def test_a_drain_ends_what_waits_for_a_rate_limit(manifest, emulator):
    """What still queues for its turn is not sent after a drain, and waits for another run."""
    config = Config(rate_limit=1, concurrency=4, retry=RetryPolicy(backoff=0))
    async with opened(manifest, emulator, config=config) as job:
        job.on_result = lambda _result: job.drain()
        with anyio.fail_after(PATIENCE):
            report = await job.run()

    assert 1 == len(emulator.journal.requests)
    assert (1, 3, 0, 130, Charges(1, 1)) == (
        report.done, report.waiting, report.unknown, report.exit_code, report.charges,
    )  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize("options", [{"faults": ["429:1"]}, {"per_minute": 1, "burst": 1}], ids=["all", "after one"])
async def test_a_drain_ends_what_is_held_by_refusals(manifest, start, options):
    """While everyone is held because the server refuses, a drain ends the run at once, and its charges are exact."""
    emulator, sent = start(**options), []
    config = Config(concurrency=4)

    def watch(event: object) -> None:
        sent.append(event)
        if isinstance(event, Held):
            job.drain()
            sent.clear()

    async with opened(manifest, emulator, config=config, observer=watch) as job:
        with anyio.fail_after(PATIENCE):
            report = await job.run()

    charged = emulator.journal.charged
    assert (charged, 4 - charged, 0) == (report.done, report.waiting, report.unknown)
    assert (130, Charges(charged, charged)) == (report.exit_code, report.charges)
    assert [] == [event for event in sent if isinstance(event, Sent)]


@pytest.mark.anyio
async def test_a_drain_ends_a_repetition_that_is_held(tmp_path, start):
    """A call that may be paid for, and is held before it is sent once more, ends as it stands on a drain."""
    emulator = start(faults=["drop:@1", "429:@2-99"])

    def watch(event: object) -> None:
        if isinstance(event, Held):
            job.drain()

    async with opened(write(tmp_path, "a cat"), emulator, config=Config(), observer=watch) as job:
        with anyio.fail_after(PATIENCE):
            report = await job.run()
    assert (1, Charges(0, 1), 1) == (report.unknown, report.charges, emulator.journal.charged)


@pytest.mark.anyio
async def test_a_job_whose_opening_is_cancelled_lets_go_of_its_folder(manifest, emulator):
    """Cancelled in the moment it opens, a job holds no lock."""
    with anyio.move_on_after(-1):
        async with opened(manifest, emulator):
            pass
    assert 4 == (await run(manifest, emulator)).done


@pytest.mark.asyncio
async def test_an_opening_that_asyncio_cancels_lets_go_of_its_folder(tmp_path, emulator):
    """A timeout around the opening of a long job leaves its folder to the next one, in this process too."""
    manifest = write(tmp_path, *(f"cat {number}" for number in range(30_000)))

    async def work() -> None:
        async with opened(manifest, emulator):
            await asyncio.sleep(math.inf)

    task = asyncio.create_task(work())
    await until((tmp_path / "out/.nebula/job.lock").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with opened(manifest, emulator) as job:
        assert 30_000 == job.total
