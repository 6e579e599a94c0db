"""A job that is used wrongly says so, and neither pays nor breaks anything."""

from __future__ import annotations

import anyio
import pytest
from jobs import SMALL

from nebula_async.bulk.job import BulkJob
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.errors import ConfigurationError, JobError

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(emulator):
    """Make a client of the emulator."""
    config = Config(base_url=emulator.base_url, retry=RetryPolicy(backoff=0), concurrency=4)
    return lambda: AsyncNebula(emulator.key, config=config)


@pytest.mark.parametrize(
    "wrong",
    [
        {"retry_failed": "no"}, {"resend_unknown": 1}, {"provenance": "x"}, {"new_key": None}, {"on_result": None},
        {"budget": 5}, {"nebula": 5}, {"out": 5}, {"out": ""}, {"out": "a\0b"}, {"durability": "none"},
        {"when_exhausted": "sleep"},
    ],
    ids=lambda wrong: "-".join(map(str, wrong)),
)  # fmt: skip
async def test_an_argument_of_another_kind_is_refused_by_name(tmp_path, wrong):
    """What would be taken for something else is refused before anything is made."""
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=name):
        BulkJob(**{"manifest": ["a cat"], "out": tmp_path / "out"} | wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"sample": -1}])
async def test_a_wrong_selection_leaves_nothing(tmp_path, client, wrong):
    """A selection of nothing is refused before the given items are written down."""
    async with client() as nebula:
        with pytest.raises(ConfigurationError):
            async with BulkJob(["a cat"], tmp_path / "out", nebula, defaults=SMALL, **wrong):
                pass
    assert not (tmp_path / "out").exists()


async def test_a_client_that_is_closed_is_refused(tmp_path, client, emulator):
    """A job with a closed client does not begin; one whose client is closed meanwhile counts nothing as sent."""
    nebula = client()
    await nebula.aclose()
    with pytest.raises(ConfigurationError, match="closed"):
        async with BulkJob(["a cat"], tmp_path / "out", nebula, defaults=SMALL):
            pass
    assert 0 == len(emulator.journal.generations)


async def test_a_client_that_is_closed_meanwhile_ends_the_job(tmp_path, client, emulator):
    """Items that come after the client was closed wait for another run, and nothing is said to be paid for."""
    async with client() as nebula, BulkJob(["a", "b"], tmp_path / "out", nebula, defaults=SMALL) as job:
        await nebula.aclose()
        report = await job.run()
    assert (3, 2, 0, 0) == (report.exit_code, report.waiting, report.unknown, report.charges.at_most)
    assert "is closed" in str(report.stopped_by)


async def test_a_block_that_is_left_ends_the_run_in_another_task(tmp_path, client, start):
    """Leaving the block while the job runs elsewhere waits for the run to let go of the ledger; nothing is lost."""
    emulator = start()
    config = Config(base_url=emulator.base_url, retry=RetryPolicy(backoff=0), concurrency=8)
    items = [f"cat {number}" for number in range(200)]
    async with AsyncNebula(emulator.key, config=config) as nebula, anyio.create_task_group() as group:
        stored = anyio.Event()
        async with BulkJob(items, tmp_path / "out", nebula, defaults=SMALL, on_result=lambda _: stored.set()) as job:
            group.start_soon(job.run)
            await stored.wait()
    with pytest.raises(JobError, match="is closed"):
        await job.report()
    async with (
        AsyncNebula(emulator.key, config=config) as nebula,
        BulkJob(items, tmp_path / "out", nebula, defaults=SMALL, resend_unknown=True) as job,
    ):
        report = await job.run()
    assert (200, 0) == (report.done, report.exit_code)
    assert report.charges.at_least <= emulator.journal.charged <= report.charges.at_most


async def test_a_job_is_entered_before_it_runs_and_runs_once(tmp_path, client):
    """Running without entering, or twice, says what to do; entering again goes on."""
    async with client() as nebula:
        job = BulkJob(["a cat"], tmp_path / "out", nebula, defaults=SMALL)
        with pytest.raises(JobError, match="async with"):
            await job.run()
        async with job:
            assert 1 == (await job.run()).done
            with pytest.raises(JobError, match="enter it anew"):
                await job.run()
        async with job:
            assert 0 == await job.left()
            assert 1 == (await job.run()).done
