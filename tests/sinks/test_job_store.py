"""A job whose pictures go to an object store: one object for each, whatever happens; its ledger is the truth."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Barrier
from typing import Any

import anyio
import pytest
from s3_servers import BUCKET, KEYS, S3Server

from nebula_async.bulk import bucket
from nebula_async.bulk.export.exporter import export_job
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.rebuild import rebuild
from nebula_async.bulk.recovery import Recovery
from nebula_async.bulk.report import Report
from nebula_async.bulk.states import Output
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.emulator import Emulator
from nebula_async.errors import ConfigurationError, JobError
from nebula_async.images.media import read_media
from nebula_async.images.provenance import read_provenance
from nebula_async.sinks.object_shelf import ObjectShelf, open_shelf

pytestmark = pytest.mark.anyio

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
CATS = ("a cat", "two cats", "three cats", "four cats")
NAMES = [
    "images/00000/000000000-a-cat.png",
    "images/00000/000000001-two-cats.png",
    "images/00000/000000002-three-cats.png",
    "images/00000/000000003-four-cats.png",
]
MARK, METADATA = ".nebula-job", "images/metadata.jsonl"
COMMAND = Path(sys.executable).with_name("nebula-async")
PATIENCE = 20.0


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four prompts."""
    return write(tmp_path, *CATS)


def write(folder: Path, *prompts: str) -> Path:
    """Write a manifest of prompts."""
    path = folder / "prompts.txt"
    path.write_text("\n".join(prompts))
    return path


@asynccontextmanager
async def opened(
    manifest: Path, emulator: Emulator, url: str, store: dict[str, Any], *, concurrency: int = 2, **options: Any
) -> AsyncIterator[BulkJob]:
    """Open the job of a manifest, its folder `job` beside it."""
    config = Config(
        base_url=emulator.base_url, inference_url=emulator.inference_url, retry=RetryPolicy(backoff=0),
        concurrency=concurrency, allowed_image_hosts=(emulator.storage_host,),
    )  # fmt: skip
    options = {"defaults": SMALL, "job": manifest.parent / "job"} | options
    async with (
        AsyncNebula(emulator.key, config=config) as nebula,
        BulkJob(manifest, url, nebula, store_options=store, **options) as job,
    ):
        yield job


async def run(manifest: Path, emulator: Emulator, url: str, store: dict[str, Any], **options: Any) -> Report:
    """Run the job of a manifest."""
    async with opened(manifest, emulator, url, store, **options) as job:
        return await job.run()


def objects(shelf: ObjectShelf) -> dict[str, bytes]:
    """Return all objects."""
    return {name: bytes(shelf.store.get(name).bytes()) for name in names(shelf)}


def names(shelf: ObjectShelf) -> list[str]:
    """Return the names of all objects."""
    return sorted(found["path"] for page in shelf.store.list() for found in page)


def outputs(folder: Path) -> list[Output]:
    """Return what the ledger says of the pictures."""
    with closing(Ledger.read(folder / ".nebula" / "ledger.db")) as ledger:
        return list(ledger.outputs())


def assert_stored(folder: Path, shelf: ObjectShelf, expected: list[str] = NAMES) -> None:
    """Each picture is one object, as the ledger and the metadata say; there is none besides, and none in the folder."""
    found = objects(shelf)
    assert sorted([MARK, METADATA, *expected]) == sorted(found)
    assert expected == [output.path for output in outputs(folder)]
    for output in outputs(folder):
        data = found[output.path]
        assert (output.sha256, output.bytes) == (sha256(data).hexdigest(), len(data))
        read_media(data)
    rows = [json.loads(line) for line in found[METADATA].splitlines()]
    assert sorted(expected) == sorted(f"images/{row['file_name']}" for row in rows)
    assert not JobFolder(folder).holds_pictures()
    assert [] == list((folder / ".nebula" / "spool").iterdir())


async def test_pictures_are_objects_and_all_else_is_in_the_folder(manifest, emulator, s3_server):
    """A job leaves one object for each line, tells its URL, and puts the metadata beside them."""
    url, told = s3_server.fresh_url(), []
    async with opened(manifest, emulator, url, s3_server.options, on_result=told.append) as job:
        report = await job.run()
        assert (f"{url}/images", manifest.parent / "job") == (job.pictures, job.folder)
    assert (0, 4, Charges(4, 4), 4) == (report.exit_code, report.done, report.charges, emulator.journal.charged)
    assert_stored(manifest.parent / "job", open_shelf(url, s3_server.options))
    assert [f"{url}/{name}" for name in NAMES] == sorted(result.image.stored for result in told)
    assert {"report.json", "failed.jsonl", "images", ".nebula"} == {path.name for path in job.folder.iterdir()}


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
    assert 1 == emulator.journal.charged
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


def start_command(manifest: Path, emulator: Emulator, url: str, address: str, *options: str) -> subprocess.Popen[str]:
    """Start the command on a job, its folder beside the manifest."""
    settings = {
        "NEBULA_API_KEY": emulator.key,
        "NEBULA_BASE_URL": emulator.base_url,
        "AWS_ACCESS_KEY_ID": KEYS["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": KEYS["secret_access_key"],
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
    }
    parameters = ["--model", SMALL["model"], "--width", "64", "--height", "64"]
    return subprocess.Popen(
        [COMMAND, "bulk", manifest.name, "--out", url, *parameters, *options],
        cwd=manifest.parent, env=os.environ | settings, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


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
    assert out.startswith(f"4 of 4 are in {url}/images; this run: ")
    assert 4 == emulator.journal.charged
    assert_stored(folder, open_shelf(url, moto_server.options))


def kill(process: subprocess.Popen[str], *, is_put: bool) -> str:
    """Kill who puts something, and pass it on or not."""
    process.kill()
    return "go on" if is_put else "hang up"


@pytest.mark.parametrize(
    ("url", "options", "problem"),
    [
        ("s3://nowhere/cats", {}, "there is no such bucket, container or folder; make it first"),
        ("s3://pictures/cats", {"secret_access_key": "other"}, "the store refuses the credentials, .*Signature"),
        ("s3://pictures/cats", {"endpoint": "http://127.0.0.1:9"}, r"the store could not be reached.*no connection\)"),
    ],
    ids=["no bucket", "wrong key", "nobody there"],
)
async def test_a_store_that_takes_nothing_is_refused_before_anything_is_sent(
    manifest, emulator, rclone_server, url, options, problem
):
    """What is wrong with the place is told before a picture is paid for."""
    with pytest.raises(JobError, match=f"^pictures could not be stored, so nothing was sent: {url}: {problem}"):
        await run(manifest, emulator, url, rclone_server.options | options)
    assert () == emulator.journal.requests


async def test_two_jobs_do_not_share_a_place(manifest, emulator, s3_server):
    """Another job, or one that has lost its folder, is refused: its pictures would take the names of those there."""
    url = s3_server.fresh_url()
    await run(manifest, emulator, url, s3_server.options)
    with pytest.raises(JobError, match="holds the pictures of another job, which would be replaced"):
        await run(manifest, emulator, url, s3_server.options, job=manifest.parent / "another")
    assert 4 == emulator.journal.charged


async def test_a_job_that_was_begun_stays_where_its_pictures_are(manifest, emulator, moto_server):
    """A folder whose pictures are in a store is taken for nothing else, and the other way round."""
    url, job = moto_server.fresh_url(), manifest.parent / "job"
    await run(manifest, emulator, url, moto_server.options)
    for place, options in ((f"{url}-2", {}), (job, {"job": None})):
        with pytest.raises(JobError, match=f"/job was begun with its pictures in {url}, and now they are to go to "):
            await run(manifest, emulator, place, moto_server.options, **options)
    await run(manifest, emulator, manifest.parent / "out", {}, job=None)
    with pytest.raises(JobError, match="/out was begun with its pictures in that folder, and now they are to go to s3"):
        await run(manifest, emulator, url, moto_server.options, job=manifest.parent / "out")
    assert 8 == emulator.journal.charged


@pytest.mark.parametrize(
    ("out", "job", "problem"),
    [
        ("memory://", "job", "^memory:// is gone with the process, and a job is not: give another URL, or a folder$"),
        ("file:///tmp/cats", "job", "^file:///tmp/cats is a folder of this machine: give its path, /tmp/cats$"),
        ("http://localhost/cats", "job", "is no URL of an object store: it must be like s3://bucket/prefix"),
        ("s3:/bucket/cats", None, "^s3:/bucket/cats is no URL: give text with two slashes, such as s3://bucket/pref"),
        (Path("s3://bucket/cats"), None, "^s3:/bucket/cats is no URL"),
        ("s3://bucket/cats", None, "^pictures go to s3://bucket/cats, and all else about the job into a folder: give"),
        ("cats", "job", r"^a job whose pictures go to the folder cats keeps all else there too: leave out job"),
    ],
)  # fmt: skip
async def test_places_that_cannot_be_meant(manifest, emulator, monkeypatch, out, job, problem):
    """They are refused in one sentence, and nothing is made."""
    monkeypatch.chdir(manifest.parent)
    with pytest.raises(ConfigurationError, match=problem):
        await run(manifest, emulator, out, {}, job=job)
    assert [manifest] == list(manifest.parent.iterdir())


async def test_what_needs_the_pictures_here_says_how_to_bring_them(manifest, emulator, moto_server):
    """An export and a rebuild of such a job are refused; with the pictures beside the metadata they work."""
    url, folder = moto_server.fresh_url(), manifest.parent / "job"
    await run(manifest, emulator, url, moto_server.options)
    advice = (
        f"^the pictures of .*/job are in {url}; bring them here first, such as with aws s3 sync {url}/images .*/job/im"
    )
    for work in (lambda: export_job(folder, "webdataset"), lambda: rebuild(JobFolder(folder))):
        with pytest.raises(JobError, match=advice):
            work()
    before = outputs(folder)
    for name, data in objects(open_shelf(url, moto_server.options)).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    assert 4 == export_job(folder, "webdataset").pictures
    assert 4 == rebuild(JobFolder(folder)).read
    assert before == outputs(folder)
    assert 0 == (await run(manifest, emulator, url, moto_server.options)).exit_code
    assert 4 == emulator.journal.charged


def test_a_shell_needs_no_folder_and_is_told_which(manifest, emulator, moto_server: S3Server):
    """The folder of the job is called as the input is, which is said; `plan` finds it there."""
    url = moto_server.fresh_url()
    with start_command(manifest, emulator, url, moto_server.address) as process:
        out, err = process.communicate(timeout=60)
    assert 0 == process.returncode, err
    assert out.startswith(f"4 of 4 are in {url}/images; this run: 4 pictures in ")
    assert "what the job knows of its pictures is kept in prompts (--job names another folder); do not lose it" in err
    assert_stored(manifest.parent / "prompts", open_shelf(url, moto_server.options))
    plan = [COMMAND, "plan", manifest.name, "--model", SMALL["model"], "--out", url]
    told = subprocess.run(plan, cwd=manifest.parent, capture_output=True, text=True)
    assert "not sent again: 4 done\n" in told.stdout
    wrong = subprocess.run([*plan[:-1], "memory://"], cwd=manifest.parent, capture_output=True, text=True)
    assert (2, "nebula-async: memory:// is gone") == (wrong.returncode, wrong.stderr[:31])
