"""A job whose pictures go to an object store: one object for each, whatever happens; its ledger is the truth."""

from __future__ import annotations

import json
import signal
import subprocess
from functools import partial
from threading import Barrier

import anyio
import pytest
from s3_servers import BUCKET
from store_jobs import NAMES, SMALL, assert_stored, objects, opened, run, start_command, write

from nebula_async.bulk import bucket
from nebula_async.bulk.recovery import Recovery
from nebula_async.charges import Charges
from nebula_async.errors import JobError
from nebula_async.images.provenance import read_provenance
from nebula_async.sinks.object_shelf import open_shelf

pytestmark = pytest.mark.anyio

PATIENCE = 60.0


async def test_pictures_are_objects_and_all_else_is_in_the_folder(manifest, emulator, s3_server):
    """A job leaves one object for each line, tells its URL, and puts the metadata beside them."""
    url, told = s3_server.fresh_url(), []
    async with opened(manifest, emulator, url, s3_server.options, on_result=told.append) as job:
        report = await job.run()
        assert (f"{url}/images", manifest.parent / "job") == (job.pictures, job.folder)
    assert (0, 4, Charges(4, 4), 4) == (report.exit_code, report.done, report.charges, emulator.journal.charged)
    assert_stored(manifest.parent / "job", open_shelf(url, s3_server.options))
    assert [f"{url}/{name}" for name in NAMES] == sorted(result.image.stored for result in told)
    names = {"report.json", "failed.jsonl", "images", "gallery", ".nebula"}
    assert names == {path.name for path in job.folder.iterdir()}


async def test_the_same_job_again_sends_nothing_and_stores_nothing(manifest, emulator, moto_server, fault_proxy):
    """What the ledger says is stored is not asked for again, of the API or of the store."""
    url = moto_server.fresh_url()
    await run(manifest, emulator, url, fault_proxy.options)
    emulator.reset()
    fault_proxy.seen.clear()
    assert 0 == (await run(manifest, emulator, f"{url}/", fault_proxy.options)).exit_code
    assert () == emulator.journal.requests
    assert ["PUT", "GET", "POST", "GET", "GET"] == [name.replace("HEAD", "GET") for name in fault_proxy.seen]


async def test_uploads_do_not_wait_for_each_other(manifest, emulator, moto_server, fault_proxy):
    """As many pictures are on their way into the store as there are requests in flight."""
    url, all_four = moto_server.fresh_url(), Barrier(4)
    async with opened(manifest, emulator, url, fault_proxy.options, concurrency=4) as job:
        fault_proxy.faults += [lambda: all_four.wait(PATIENCE)] * 4
        report = await job.run()
    assert (4, 0, False) == (report.done, report.exit_code, all_four.broken)


@pytest.mark.parametrize("fault", ["500", "cut", "lose the answer"])
async def test_a_store_that_fails_for_a_while_is_waited_for(tmp_path, emulator, moto_server, fault_proxy, fault):
    """A picture is put again until the store takes it, is one object, and is bought once."""
    url, manifest = moto_server.fresh_url(), write(tmp_path, "a cat")
    async with opened(manifest, emulator, url, fault_proxy.options) as job:
        fault_proxy.faults += [fault] * 5  # more than one put repeats by itself
        report = await job.run()
    assert (1, 0, 1) == (report.done, report.exit_code, emulator.journal.charged)
    assert_stored(tmp_path / "job", open_shelf(url, moto_server.options), NAMES[:1])


async def test_a_store_that_goes_down_stops_the_job_and_the_next_run_stores_what_was_paid_for(
    manifest, emulator, own_rclone, monkeypatch
):
    """Nothing more is bought than was under way; what came is kept, and is an object as soon as there is a store."""
    monkeypatch.setattr(bucket, "PATIENCE_SECONDS", 0.0)
    url = f"s3://{BUCKET}/cats"
    async with opened(manifest, emulator, url, own_rclone.start().options) as job:
        own_rclone.kill()
        report = await job.run()
        kept = len(list((job.folder / ".nebula" / "spool").glob("*.reply")))
    charged = emulator.journal.charged
    assert (3, 0, 4 - charged) == (report.exit_code, report.done, report.waiting)
    assert 1 <= kept == charged <= 2
    problem = (
        rf"^pictures cannot be stored: {url}: the store could not be reached.*spool, and the next run stores them$"
    )
    with pytest.raises(JobError, match=problem):
        raise report.stopped_by

    store = own_rclone.start().options
    async with opened(manifest, emulator, url, store) as job:
        assert Recovery(adopted=charged) == job.recovery
        report = await job.run()
    assert (4, 0, Charges(4, 4), 4) == (report.done, report.exit_code, report.charges, emulator.journal.charged)
    assert_stored(manifest.parent / "job", open_shelf(url, store))


async def test_a_store_that_is_still_down_is_said_before_anything_is_sent(manifest, emulator, own_rclone):
    """The next run needs the store too: it is refused in one sentence, and loses nothing."""
    url, server = f"s3://{BUCKET}/cats", own_rclone.start()
    own_rclone.kill()
    with pytest.raises(JobError, match=r"^pictures could not be stored, so nothing was sent: .* \(no connection\)$"):
        await run(manifest, emulator, url, server.options)
    assert () == emulator.journal.requests


async def test_a_job_that_is_stopped_does_not_wait_for_a_store_that_hangs(tmp_path, emulator, moto_server, fault_proxy):
    """What was received is settled by the next run, without another charge."""
    url, manifest = moto_server.fresh_url(), write(tmp_path, "a cat")
    async with opened(manifest, emulator, url, fault_proxy.options) as job:
        fault_proxy.faults.append("hang")
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(job.run)
                await anyio.to_thread.run_sync(fault_proxy.was_reached.wait, PATIENCE)
                job.stop()
        assert job.was_stopped
    async with opened(manifest, emulator, url, moto_server.options) as job:
        assert Recovery(adopted=1) == job.recovery
        assert 0 == (await job.run()).exit_code
    emulator.assert_charged(1)
    assert_stored(tmp_path / "job", open_shelf(url, moto_server.options), NAMES[:1])


@pytest.mark.parametrize("fault", ["500", "lose the answer"])
async def test_metadata_that_could_not_be_put_are_put_by_the_next_run(
    tmp_path, emulator, moto_server, fault_proxy, fault
):
    """The run says that they are missing."""
    url, manifest = moto_server.fresh_url(), write(tmp_path, "a cat")
    async with opened(manifest, emulator, url, fault_proxy.options) as job:
        fault_proxy.faults += [lambda: None, *[fault] * 4]
        report = await job.run()
    assert (1, 3) == (report.done, report.exit_code)
    assert str(report.stopped_by).startswith("the metadata could not be put beside the pictures: s3://")
    assert 0 == (await run(manifest, emulator, url, moto_server.options)).exit_code
    assert_stored(tmp_path / "job", open_shelf(url, moto_server.options), NAMES[:1])


async def test_pictures_at_urls_are_fetched_and_stored(tmp_path, emulator, s3_server):
    """A reply of URLs ends as objects too."""
    url, manifest = s3_server.fresh_url(), tmp_path / "prompts.jsonl"
    line = {"prompt": "a cat", "dialect": "inference", "n": 2, "size": "64x64", "response_format": "url"}
    manifest.write_text(json.dumps(line))
    told = []
    report = await run(
        manifest, emulator, url, s3_server.options, defaults={"model": SMALL["model"]}, on_result=told.append
    )
    two = ["images/00000/000000000-a-cat.png", "images/00000/000000000-a-cat-1.png"]
    assert (0, 2, 2) == (report.exit_code, report.pictures, emulator.journal.charged)
    assert [f"{url}/{name}" for name in two] == [image.stored for image in told[0].images]
    assert_stored(tmp_path / "job", open_shelf(url, s3_server.options), two)


async def test_how_a_picture_was_made_can_be_written_into_the_object(tmp_path, emulator, moto_server):
    """`provenance` works as it does in a folder."""
    url, manifest = moto_server.fresh_url(), write(tmp_path, "a cat")
    await run(manifest, emulator, url, moto_server.options, provenance=True)
    shelf = open_shelf(url, moto_server.options)
    assert_stored(tmp_path / "job", shelf, NAMES[:1])
    assert "a cat" == read_provenance(objects(shelf)[NAMES[0]]).request["prompt"]


@pytest.mark.parametrize("is_put", [True, False], ids=["once it is there", "before it is there"])
def test_a_job_that_is_killed_at_its_puts_has_one_object_each(manifest, emulator, moto_server, fault_proxy, is_put):
    """Killed at a picture, at the recovery of it, at another one and at the metadata, a job pays for each once."""
    url, folder = moto_server.fresh_url(), manifest.parent / "prompts"
    for puts_before in (3, 2, 3, 5):  # the first two are those of the check: deleting is a post
        process = start_command(manifest, emulator, url, fault_proxy.address, "--concurrency", "1")
        fault_proxy.faults[:] = [lambda: None] * puts_before + [partial(kill, process, is_put=is_put)]
        process.communicate(timeout=60)
        assert -signal.SIGKILL == process.returncode
    fault_proxy.faults.clear()
    with start_command(manifest, emulator, url, fault_proxy.address) as process:
        out, _ = process.communicate(timeout=60)

    assert 0 == process.returncode
    assert out.startswith("4 of 4 items done\n")
    assert f"{url}/images" in out
    emulator.assert_charged(4)
    assert_stored(folder, open_shelf(url, moto_server.options))


def kill(process: subprocess.Popen[str], *, is_put: bool) -> str:
    """Kill who puts something, and pass it on or not."""
    process.kill()
    return "go on" if is_put else "hang up"
