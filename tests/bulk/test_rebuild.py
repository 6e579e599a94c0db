"""A job whose ledger is damaged or gone is not bought again: a new ledger is made of the pictures."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.lock import JobLock
from nebula_async.bulk.rebuild import Rebuilt, rebuild
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.errors import JobError

pytestmark = pytest.mark.anyio

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
PROMPTS = [f"cat {number}" for number in range(6)]


@pytest.fixture
def out(tmp_path):
    """Where the job stores."""
    return tmp_path / "out"


@pytest.fixture
def job(tmp_path, out, emulator):
    """Open a job of six prompts."""
    manifest = tmp_path / "prompts.txt"
    manifest.write_text("\n".join(PROMPTS))
    config = Config(base_url=emulator.base_url, retry=RetryPolicy(backoff=0))

    @asynccontextmanager
    async def opened(**options):
        async with (
            AsyncNebula(emulator.key, config=config) as nebula,
            BulkJob(manifest, out, nebula, defaults=SMALL, **options) as job,
        ):
            yield job

    return opened


async def run(job, **options):
    """Run the job and return how it stands."""
    async with job(**options) as opened:
        return await opened.run()


def scratch(path: Path) -> None:
    """Overwrite most of a file."""
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))


def cut(path: Path) -> None:
    """Cut a file in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [scratch, cut])
async def test_a_damaged_ledger_is_refused_with_the_way_out(job, out, emulator, damage):
    """A job with a damaged ledger sends nothing and names the command that helps; after it, nothing is bought again
    (F60).
    """
    await run(job)
    damage(out / ".nebula" / "ledger.db")
    with pytest.raises(JobError, match=f"nebula-async rebuild {out}"):
        await run(job)
    made = rebuild(JobFolder(out))
    assert 6 == made.read + made.found
    report = await run(job)
    assert (6, 0, 6) == (report.done, report.exit_code, emulator.journal.charged)


async def test_a_ledger_that_is_gone_is_made_of_the_pictures(job, out, emulator):
    """Pictures and their metadata are enough to go on: charges, names and requests are known again (F60)."""
    before = await run(job)
    (out / ".nebula" / "ledger.db").unlink()
    with pytest.raises(JobError, match="all would be paid for again"):
        await run(job)
    assert Rebuilt(read=0, found=6, unclear=0, undescribed=0, unowned=0) == rebuild(JobFolder(out))
    after = await run(job)
    assert (before.charges, before.pictures, 6) == (after.charges, after.pictures, emulator.journal.charged)


async def test_what_an_old_ledger_tells_is_kept(job, out, emulator):
    """Rebuilding a ledger that can be read loses nothing: also items that may have been paid for stay known as such."""
    emulator.reset()
    await run(job, limit=3)
    assert 3 == rebuild(JobFolder(out)).read
    assert (out / ".nebula" / "ledger.db.old").exists()
    report = await run(job)
    assert (6, 6) == (report.done, emulator.journal.charged)


async def test_a_picture_that_nothing_describes_is_told(job, out):
    """Pictures without a row belong to no item; damaged ones are not taken for done, and both are said."""
    await run(job)
    (out / ".nebula" / "ledger.db").unlink()
    lines = (out / "images" / "metadata.jsonl").read_text().splitlines()
    (out / "images" / "metadata.jsonl").write_text("\n".join([*lines[:4], "{", lines[4][:50]]))
    damaged = out / "images" / json.loads(lines[0])["file_name"]
    damaged.write_bytes(damaged.read_bytes()[:-30])
    assert Rebuilt(read=0, found=3, unclear=0, undescribed=3, unowned=0) == rebuild(JobFolder(out))


async def test_rows_that_others_changed_are_taken_as_far_as_they_tell(job, out, emulator):
    """A row without its cost and charges still says whose a picture is; one with a wrong number says nothing."""
    await run(job)
    (out / ".nebula" / "ledger.db").unlink()
    path = out / "images" / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for name in ("cost", "charges_at_least", "charges_at_most"):
        del rows[0][name]
    rows[1] |= {"cost": 5, "charges_at_most": "all"}
    rows[2]["number"], rows[3]["number"] = -1, 2**63
    path.write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, 7, None]))
    assert Rebuilt(read=0, found=4, unclear=0, undescribed=2, unowned=0) == rebuild(JobFolder(out))
    report = await run(job)
    assert (6, 8) == (report.done, emulator.journal.charged)


async def test_what_was_received_for_nobody_known_is_kept(job, out):
    """A whole picture in the spool whose item is not known any more is paid for: it is put aside, not removed."""
    await run(job)
    (out / ".nebula" / "ledger.db").unlink()
    (stored,) = (out / "images").glob("*/000000005*")
    data = stored.read_bytes()
    stored.rename(out / ".nebula" / "spool" / "5.1.0.part")
    assert Rebuilt(read=0, found=5, unclear=0, undescribed=0, unowned=1) == rebuild(JobFolder(out))
    assert data == (out / "recovered" / "5.1.0.png").read_bytes()


async def test_a_job_that_runs_is_not_rebuilt(job, out):
    """The ledger of a job that a process has is left alone."""
    await run(job)
    lock = JobLock.take(out / ".nebula" / "job.lock")
    lock.opened()
    with pytest.raises(JobError, match="is in use by process"):
        rebuild(JobFolder(out))
    lock.release()


def test_a_folder_that_is_no_job_is_refused(shell, tmp_path):
    """Rebuilding what never was a job says so, with exit code 2 from a shell."""
    with pytest.raises(JobError, match="is not the folder of a job"):
        rebuild(JobFolder(tmp_path))
    ended = shell.run("rebuild", tmp_path)
    assert (2, True) == (ended.code, "is not the folder of a job" in ended.err)
