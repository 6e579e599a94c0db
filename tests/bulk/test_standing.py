"""Who only looks at a job sees how it stands, wherever its pictures are and whatever became of its last run."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest
from jobs import CAREFUL, opened, query, run

from nebula_async.bulk.bucket import STORE
from nebula_async.bulk.command import COMMAND, Command
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.lock import Holder, holder_of
from nebula_async.bulk.rebuild import rebuild
from nebula_async.bulk.standing import read_standing
from nebula_async.errors import JobError

pytestmark = pytest.mark.anyio


async def test_the_last_run_is_told_as_it_ended(manifest, emulator):
    """What the last run noted of itself is what its report.json says of it."""
    await run(manifest, emulator)
    out = manifest.parent / "out"
    standing = read_standing(out)
    assert json.loads((out / "report.json").read_text())["this_run"] == standing.last_run
    assert (None, False, str(out / "images")) == (standing.holder, standing.is_running, standing.place)
    assert 4 == standing.summary.report.total


async def test_a_job_that_runs_is_seen_to_run(manifest, emulator):
    """Its process is named, and looking at it takes nothing away from it."""
    out = manifest.parent / "out"
    async with opened(manifest, emulator) as job:
        before = read_standing(out)
        assert (Holder(os.getpid(), was_killed=False), None) == (before.holder, before.last_run)
        await job.run()
    assert None is read_standing(out).holder


async def test_a_run_that_never_began_is_no_run(manifest, emulator):
    """A job that was opened and left, as after a question, has no last run, and was not killed."""
    async with opened(manifest, emulator):
        pass
    standing = read_standing(manifest.parent / "out")
    assert (None, None, None, 4) == (
        standing.holder, standing.last_run, standing.ended, standing.summary.report.waiting,
    )  # fmt: skip


def test_a_lock_that_a_killed_process_left_is_told_from_one_that_is_held(tmp_path):
    """The system frees the lock of a process that was killed, and its note stays."""
    path = tmp_path / "job.lock"
    path.write_text("process 4711\n5\n")
    assert Holder(4711, was_killed=True) == holder_of(path)
    with path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert Holder(4711, was_killed=False) == holder_of(path)
    for text in ("closed\n5\n", "", "process x\n", "4711\n"):
        path.write_text(text)
        assert None is holder_of(path)
    assert None is holder_of(tmp_path / "nowhere")


async def test_pictures_in_a_store_are_told_by_their_url(manifest, emulator):
    """A job whose pictures are elsewhere is told by its folder."""
    await run(manifest, emulator)
    out = manifest.parent / "out"
    query(out, "INSERT INTO meta VALUES (?, 's3://bucket/cats')", STORE)
    assert "s3://bucket/cats/images" == read_standing(out).place


async def test_a_rebuilt_job_is_told_as_far_as_it_is_known(manifest, emulator):
    """A ledger that was made of the pictures alone does not know how many there should be, nor how long they took."""
    await run(manifest, emulator)
    out = manifest.parent / "out"
    (out / ".nebula/ledger.db").unlink()
    rebuild(JobFolder(out))
    standing = read_standing(out)
    report, summary = standing.summary.report, standing.summary
    assert (4, 4, None, None) == (report.total, report.done, summary.latency, standing.command)
    assert "0.0076" == f"{summary.cost_at_least:f}"
    assert sum(each.pictures for each in summary.timeline) == 4


async def test_the_causes_of_a_rebuilt_job_are_kept(manifest, start):
    """What a ledger of this version, or of the one before, tells of failures is there after a rebuild."""
    await run(manifest, start(faults=["400=invalid_size:1"]), config=CAREFUL)
    out = manifest.parent / "out"
    rebuild(JobFolder(out))
    assert ["BadRequestError invalid_size"] == [cause.cause for cause in read_standing(out).summary.causes]
    query(out, "ALTER TABLE item DROP COLUMN cause")
    for column in ("cause", "seconds"):
        query(out, f"ALTER TABLE attempt DROP COLUMN {column}")
    query(out, "PRAGMA user_version = 3")
    with pytest.raises(JobError, match="of an older version of nebula_async"):
        read_standing(out)
    rebuild(JobFolder(out))
    assert [("not noted", 4)] == [(cause.cause, cause.items) for cause in read_standing(out).summary.causes]


async def test_a_price_that_somebody_wrote_ends_nothing(manifest, emulator):
    """A row of the metadata with a cost that is no amount is of a picture whose price is not known."""
    await run(manifest, emulator)
    out = manifest.parent / "out"
    metadata = out / "images/metadata.jsonl"
    rows = [json.loads(line) | {"cost": "a lot"} for line in metadata.read_text().splitlines()]
    metadata.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (out / ".nebula/ledger.db").unlink()
    rebuild(JobFolder(out))
    assert 4 == read_standing(out).summary.unpriced
    assert 0 == (await run(manifest, emulator)).exit_code


async def test_the_command_of_a_job_is_kept_with_its_places(manifest, emulator):
    """Words, the folder where they were given, and that of the job."""
    out = manifest.parent / "out"
    async with opened(manifest, emulator, command=Command(("bulk", "it's \udcff.txt"), "/some where")):
        pass
    assert Command(("bulk", "it's \udcff.txt"), "/some where", str(out)) == read_standing(out).command


@pytest.mark.parametrize("noted", [None, "", "{}", "[1, 2, 3]", '["bulk", "/", "/"]', '[["bulk"], 5, ""]', "[[", '"x"'])
def test_what_is_no_command_is_none(noted):
    """A ledger that somebody changed by hand ends nothing."""
    assert None is Command.read(noted)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_what_is_no_job_is_refused(tmp_path: Path, name):
    """A folder that is none is one sentence."""
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="is not the folder of a job"):
        read_standing(tmp_path / name)


async def test_a_command_that_is_not_in_the_ledger_stays_unknown(manifest, emulator):
    """A job that was begun from Python has none."""
    await run(manifest, emulator)
    out = manifest.parent / "out"
    assert [] == query(out, "SELECT * FROM meta WHERE key = ?", COMMAND)
    assert None is read_standing(out).command
