"""A run leaves a page to look at; it costs the run nothing, and nothing that befalls it befalls the run."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import anyio
import pytest
from galleries import Page, fill, opened, photograph, write
from PIL import Image as Pillow

from nebula_async.emulator import Emulator
from nebula_async.errors import ConfigurationError

pytestmark = pytest.mark.anyio

CATS = ("a cat", "two cats", "three cats", "four cats")


async def run(out: Path, emulator: Emulator, *, items=CATS, **options):
    """Run a job, and return it once it has ended."""
    async with opened(items, out, emulator, **options) as job:
        await job.run()
    return job


async def test_a_run_leaves_a_page_with_thumbnails(tmp_path, emulator):
    """The page is there with the run's end, each picture with its thumbnail, and no thread or process stays."""
    job = await run(tmp_path / "cats", emulator)
    assert (tmp_path / "cats" / "gallery" / "index.html", ()) == (job.gallery_page, job.gallery_notes)
    page = Page.read(tmp_path / "cats")
    assert list(CATS) == page.column("prompt")
    for thumbnail in page.column("thumbnail"):
        with Pillow.open(tmp_path / "cats" / "gallery" / "thumbnails" / thumbnail) as picture:
            assert ("WEBP", (64, 64)) == (picture.format, picture.size)
    report = json.loads((tmp_path / "cats" / "report.json").read_text())
    assert report == page.summary["report"] | {"written": report["written"]}
    assert not [thread for thread in threading.enumerate() if "thumbnails" in thread.name]


async def test_the_folder_of_pictures_holds_pictures_alone(tmp_path, emulator):
    """What loads as a data set is not touched by the gallery."""
    await run(tmp_path / "with", emulator)
    emulator.reset()
    await run(tmp_path / "without", emulator, gallery=False)
    names = [sorted(path.name for path in (tmp_path / out / "images").rglob("*")) for out in ("with", "without")]
    assert names[0] == names[1]
    assert not (tmp_path / "without" / "gallery").exists()


async def test_a_run_with_nothing_to_do_writes_nothing(tmp_path, emulator):
    """A job that is done resumes at once: its page stays as it is, also where thumbnails are missing."""
    await run(tmp_path / "cats", emulator)
    summary = tmp_path / "cats" / "gallery" / "data" / "summary.js"
    before = (summary.stat().st_ino, summary.stat().st_mtime_ns)
    shutil.rmtree(tmp_path / "cats" / "gallery" / "thumbnails")
    job = await run(tmp_path / "cats", emulator)
    assert before == (summary.stat().st_ino, summary.stat().st_mtime_ns)
    assert (summary.parents[1] / "index.html", ()) == (job.gallery_page, job.gallery_notes)
    assert not (tmp_path / "cats" / "gallery" / "thumbnails").exists()


async def test_the_next_run_shows_what_it_added(tmp_path, emulator):
    """A job that goes on writes its page anew."""
    await run(tmp_path / "cats", emulator, limit=2)
    assert list(CATS[:2]) == Page.read(tmp_path / "cats").column("prompt")
    await run(tmp_path / "cats", emulator)
    page = Page.read(tmp_path / "cats")
    assert list(CATS) == page.column("prompt")
    assert None not in page.column("thumbnail")


async def test_a_page_that_cannot_be_written_fails_no_run(tmp_path, emulator):
    """The pictures are what counts: the run ends as it would, and a note says what to do."""
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "gallery").write_text("a file of mine")
    async with opened(CATS, tmp_path / "cats", emulator) as job:
        report = await job.run()
    assert (0, None) == (report.exit_code, job.gallery_page)
    (note,) = job.gallery_notes
    assert "the gallery was not written: " in note
    assert f"`nebula-async gallery {tmp_path / 'cats'}`" in note
    assert "a file of mine" == (tmp_path / "cats" / "gallery").read_text()


async def test_pictures_of_a_folder_that_is_not_ours_get_no_thumbnails(tmp_path, emulator):
    """Files of somebody else in a folder `gallery` stay as they are, and the note says so."""
    (tmp_path / "cats" / "gallery").mkdir(parents=True)
    (tmp_path / "cats" / "gallery" / "index.html").write_text("mine")
    job = await run(tmp_path / "cats", emulator)
    assert ["index.html"] == [path.name for path in (tmp_path / "cats" / "gallery").iterdir()]
    assert "move them away" in job.gallery_notes[0]


async def test_a_run_that_is_cancelled_leaves_a_page(tmp_path, emulator):
    """What came before is shown, and nobody waits for thumbnails."""
    async with (
        opened((f"cat {n}" for n in range(500)), tmp_path / "cats", emulator) as job,
        anyio.create_task_group() as group,
    ):
        job.on_result = lambda result: group.cancel_scope.cancel() if result.index == 5 else None
        group.start_soon(job.run)
    page = Page.read(tmp_path / "cats")
    assert 6 <= len(page.entries) < 500
    assert (page.column("state").count("done")) == page.summary["report"]["pictures"]


@pytest.mark.parametrize("ending", ["drain", "stop", "cancel"])
async def test_who_does_not_wait_for_thumbnails_gets_the_page_at_once(tmp_path, emulator, ending):
    """A run that has its pictures can be told to leave the thumbnails; one that hangs holds up nobody."""
    came = anyio.Event()

    def hang(result):
        picture = tmp_path / "cats" / result.image.stored
        picture.unlink()
        os.mkfifo(picture)  # no thumbnail of it ever comes
        came.set()

    async with opened(["a cat"], tmp_path / "cats", emulator, on_result=hang) as job:
        async with anyio.create_task_group() as group:
            group.start_soon(job.run)
            await came.wait()
            (picture,) = (tmp_path / "cats" / "images").rglob("*.png")
            writing = await anyio.to_thread.run_sync(os.open, picture, os.O_WRONLY)  # waits until it is read
            group.cancel_scope.cancel() if ending == "cancel" else getattr(job, ending)()
        os.close(writing)
    assert [None] == Page.read(tmp_path / "cats").column("thumbnail")
    assert job.gallery_notes[0].startswith("thumbnails: 0 of 1; ")
    assert not list((tmp_path / "cats").rglob("*.failed"))


async def test_thumbnails_that_are_not_made_are_counted(tmp_path, emulator, monkeypatch):
    """A run makes thumbnails for a bounded time, and says how the rest is made."""
    monkeypatch.setattr("nebula_async.bulk.ending.SECONDS_AFTER_RUN", -1.0)
    async with opened(CATS, tmp_path / "my cats", emulator) as job:
        job.drain()  # before anything was offered
        await job.run()
    async with opened(CATS, tmp_path / "my cats", emulator, on_result=lambda _: job.drain()) as job:
        await job.run()
    (note,) = job.gallery_notes
    assert note.startswith("thumbnails: ")
    assert f"`nebula-async gallery '{tmp_path / 'my cats'}'` makes the rest" in note


async def test_a_hostile_picture_costs_the_run_nothing(tmp_path, emulator):
    """A picture of which no thumbnail can be made is shown by itself, and asked about by no note."""
    await run(tmp_path / "cats", emulator)
    pictures = sorted((tmp_path / "cats" / "images").rglob("*.png"))
    pictures[0].write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    pictures[1].write_bytes(photograph())
    fill(tmp_path / "cats")
    write(tmp_path / "cats")
    assert [True, False, False, False] == [name is None for name in Page.read(tmp_path / "cats").column("thumbnail")]


async def test_a_running_job_can_be_looked_at(tmp_path, emulator):
    """The page can be written while the job runs, by what it has noted so far."""
    seen = []

    def look(result):
        if result.index == 2:
            write(tmp_path / "cats")
            seen.append(len(Page.read(tmp_path / "cats").entries))

    await run(tmp_path / "cats", emulator, on_result=look, concurrency=1)
    assert 3 <= seen[0] <= 4
    assert 4 == len(Page.read(tmp_path / "cats").entries)


async def test_names_that_a_page_has_to_encode_are_written_as_they_are(tmp_path, emulator):
    """Folders may be called anything: the page knows them by their names."""
    out = tmp_path / 'it\'s 100% #1? "猫"'
    await run(out, emulator, items=["a cat"])
    summary = Page.read(out).summary
    assert (out.name, str(out)) == (summary["title"], summary["job"])


async def test_gallery_is_a_switch(tmp_path, emulator):
    """Anything but a boolean is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match="gallery"):
        async with opened(CATS, tmp_path / "cats", emulator, gallery="no"):
            pass
