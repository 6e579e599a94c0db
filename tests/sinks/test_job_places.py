"""Where a job puts its pictures is a place of its own that takes them, or is refused before anything is paid for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from s3_servers import S3Server
from store_jobs import COMMAND, SMALL, assert_stored, objects, outputs, run, start_command

from nebula_async.bulk.export.exporter import export_job
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.rebuild import rebuild
from nebula_async.errors import ConfigurationError, JobError
from nebula_async.sinks.object_shelf import open_shelf

pytestmark = pytest.mark.anyio


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
    emulator.assert_charged(4)


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
    emulator.assert_charged(8)


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
    emulator.assert_charged(4)


def test_a_shell_needs_no_folder_and_is_told_which(manifest, emulator, moto_server: S3Server):
    """The folder of the job is called as the input is, which is said; `plan` finds it there."""
    url = moto_server.fresh_url()
    with start_command(manifest, emulator, url, moto_server.address) as process:
        out, err = process.communicate(timeout=60)
    assert 0 == process.returncode, err
    assert out.startswith("4 of 4 items done\n")
    assert f"{url}/images" in out
    assert "what the job knows of its pictures is kept in prompts (--job names another folder); do not lose it" in err
    assert_stored(manifest.parent / "prompts", open_shelf(url, moto_server.options))
    small = [f"--{name}={SMALL[name]}" for name in ("model", "width", "height")]
    plan = [COMMAND, "plan", manifest.name, *small, "--out", url]
    told = subprocess.run(plan, cwd=manifest.parent, capture_output=True, text=True)
    assert "not sent again: 4 done\n" in told.stdout
    wrong = subprocess.run([*plan[:-1], "memory://"], cwd=manifest.parent, capture_output=True, text=True)
    assert (2, "nebula-async: memory:// is gone") == (wrong.returncode, wrong.stderr[:31])
