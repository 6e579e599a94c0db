"""A job whose lines are for either API, or for both: what is paid for is stored or noted, and not bought twice."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import httpx
import jobs
import pytest
from attrs import evolve
from jobs import assert_within, cut_off, fail_folder_syncs, pictures, query, run_until, spooled, write

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.recovery import Recovery
from nebula_async.bulk.report import Report
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.emulator import Emulator
from nebula_async.errors import ContentPolicyError, DownloadError, InvalidRequestError, JobError, QuotaExhaustedError
from nebula_async.events import Sent
from nebula_async.images.media import read_media
from nebula_async.results import Failure

pytestmark = pytest.mark.anyio

SCHNELL = "black-forest-labs/FLUX.1-schnell"
CAREFUL = evolve(jobs.CAREFUL, concurrency=1)
PLAIN = {"width": None, "height": None}
THREE = {"model": SCHNELL, "dialect": "inference", "n": 3, "size": "64x64"}
TWO = {**PLAIN, "dialect": "inference", "n": 2, "size": "64x64"}
HEADER = ("prompt", "dialect", "width", "height", "n", "size")
ROWS = (
    ("a cat", "", "64", "64", "", ""),
    ("two cats", "inference", "", "", "2", "64x64"),
    ("three cats", "serverless", "64", "64", "", ""),
)
STORED = [f"00000/{name}.png" for name in ("000000000-a-cat", "000000001-two-cats-1", "000000001-two-cats")]
STORED += ["00000/000000002-three-cats.png"]


def write_table(folder: Path, *rows: tuple[str, ...], suffix: str = ".csv") -> Path:
    """Write rows as a manifest of one kind."""
    path = folder / f"prompts{suffix}"
    separator = {".csv": ",", ".tsv": "\t"}.get(suffix)
    if separator:
        lines = [separator.join(cells) for cells in (HEADER, *rows)]
    else:
        named = [{name: cell for name, cell in zip(HEADER, cells, strict=True) if cell} for cells in rows]
        lines = [
            json.dumps({name: int(cell) if cell.isdecimal() else cell for name, cell in one.items()}) for one in named
        ]
    path.write_text("\n".join(lines))
    return path


def opened(manifest: Path, emulator: Emulator, **options):
    """Open the job of a manifest without any parameters of its own but a model."""
    return jobs.opened(manifest, emulator, **{**options, "defaults": PLAIN | options.get("defaults", {})})


async def run(manifest: Path, emulator: Emulator, **options) -> Report:
    """Run the job of a manifest."""
    async with opened(manifest, emulator, **options) as job:
        return await job.run()


def notes(out: Path) -> list[str | None]:
    """Return what the ledger says about what went wrong, by item."""
    return [error for (error,) in query(out, "SELECT error FROM item ORDER BY seq")]


def urls(out: Path) -> list[str]:
    """Return the URLs in the ledger."""
    return [url for (url,) in query(out, "SELECT url FROM output WHERE url IS NOT NULL ORDER BY seq, idx")]


def asked_of(emulator: Emulator) -> list[tuple[str, str]]:
    """Return which API was asked for which prompt."""
    paths = {"/api/v1/images/generation": "serverless", "/v1/images/generate": "inference"}
    return sorted((record.prompt, paths[record.path]) for record in emulator.journal.generations)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
async def test_each_line_is_sent_to_the_api_that_it_names(tmp_path, emulator, suffix):
    """Rows of both APIs are one job in a file of any kind; all pictures of a row are stored, and none is sent again."""
    manifest = write_table(tmp_path, *ROWS, suffix=suffix)
    report = await run(manifest, emulator)
    assert (3, 4, Charges(4, 4), 0) == (report.done, report.spending.pictures, report.charges, report.exit_code)
    assert [("a cat", "serverless"), ("three cats", "serverless"), ("two cats", "inference")] == asked_of(emulator)
    assert STORED == pictures(tmp_path / "out")
    assert 0o700 == (tmp_path / "out/.nebula").stat().st_mode & 0o777

    emulator.reset()
    report = await run(manifest, emulator)
    assert ((), 3, 0) == (emulator.journal.requests, report.done, report.exit_code)


async def test_defaults_say_what_a_file_of_prompts_cannot(tmp_path, emulator):
    """A text file has no columns: its API, and what is asked of it, are the job's defaults."""
    report = await run(write(tmp_path, "a cat", "a dog"), emulator, defaults=TWO)
    assert (2, 4, "$0.0076") == (report.done, report.spending.pictures, str(report.spending))
    assert [("a cat", "inference"), ("a dog", "inference")] == asked_of(emulator)


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ({"n": 2}, "no line is for an API that has n: leave that out, or give a dialect"),
        ({"dialect": "inference", "width": 64, "seed": 1}, "no line is for an API that has seed, width"),
        ({"size": 7}, "size must be width x height in pixels"),
        ({"colour": "red"}, "unknown field colour; known are"),
        ({"dialect": "inferance"}, "dialect must be one of inference, serverless; got 'inferance'"),
        ({"dialect": "inference", "n": 11}, "n must be a whole number from 1 to 10; got 11"),
    ],
)
async def test_defaults_that_no_line_could_have_are_refused(tmp_path, emulator, defaults, said):
    """What is wrong with the options of a job is said at once, and no line is blamed for it."""
    with pytest.raises(InvalidRequestError, match=said):
        await run(write(tmp_path, "a cat"), emulator, defaults=defaults)
    assert () == emulator.journal.requests


async def test_defaults_are_for_the_lines_whose_api_has_them(tmp_path, emulator):
    """In a file for both APIs each default fills in the lines that can have it, and no other."""
    rows = [("a cat", "", "", "", "", ""), ("a dog", "inference", "", "", "", "")]
    await run(
        write_table(tmp_path, *rows), emulator, defaults={"width": 48, "height": 32, "size": "32x16", "model": SCHNELL}
    )
    sizes = {record.prompt: (record.width, record.height) for record in emulator.journal.generations}
    assert {"a cat": (48, 32), "a dog": (32, 16)} == sizes


@pytest.mark.parametrize("was", ["", "inference"])
async def test_a_line_that_changes_its_api_is_refused(tmp_path, emulator, was):
    """What was paid for by one API is not passed off as the other's: the line is named, and nothing is sent."""
    now = {"": "inference", "inference": ""}[was]
    await run(write_table(tmp_path, ROWS[0], ("a dog", was, "", "", "", "")), emulator)
    emulator.reset()
    with pytest.raises(JobError, match=r"was begun with other input: line 3 of prompts.csv"):
        await run(write_table(tmp_path, ROWS[0], ("a dog", now, "", "", "", "")), emulator)
    with pytest.raises(JobError, match=r"was begun with other input: line 3 of prompts.csv"):
        await run(write_table(tmp_path, ROWS[0], ("a dog", "inference", "", "", "3", "")), emulator)
    assert () == emulator.journal.requests


async def test_naming_the_api_that_was_meant_changes_nothing(tmp_path, emulator):
    """A column `dialect` that is added later, and says what was so anyway, is no other job."""
    await run(write_table(tmp_path, ROWS[0]), emulator)
    emulator.reset()
    report = await run(write_table(tmp_path, ("a cat", "serverless", *ROWS[0][2:])), emulator)
    assert ((), 1) == (emulator.journal.requests, report.done)


async def test_a_refused_prompt_costs_nothing_and_the_others_are_made(tmp_path, emulator):
    """The content policy refuses one line; it is sent again only when that is asked."""
    told = []
    manifest = write(tmp_path, "some gore", "a cat")
    report = await run(manifest, emulator, defaults=TWO, on_result=told.append)
    assert (1, 1, Charges(2, 2), 1) == (report.done, report.rejected, report.charges, report.exit_code)
    assert [ContentPolicyError] == [type(result.error) for result in told if isinstance(result, Failure)]

    emulator.reset()
    await run(manifest, emulator, defaults=TWO)
    assert () == emulator.journal.requests
    assert 1 == (await run(manifest, emulator, defaults=TWO, retry_failed=True)).rejected
    assert [("some gore", "inference")] == asked_of(emulator)


async def test_an_account_without_credit_stops_a_mixed_job(tmp_path, start):
    """When one API refuses the account, nothing more is sent to either, and the rest waits (F24)."""
    emulator = start(faults=["402:@2"])
    report = await run(write_table(tmp_path, *ROWS), emulator, config=CAREFUL)
    assert (3, 1, 2, 0) == (report.exit_code, report.done, report.waiting, report.rejected)
    assert QuotaExhaustedError is type(report.stopped_by)
    assert 0 == (await run(write_table(tmp_path, *ROWS), emulator)).exit_code
    assert 4 == emulator.journal.charged


async def test_a_row_of_pictures_that_cannot_be_fetched_waits_at_its_urls(tmp_path, emulator):
    """Paid for and not here: each URL is in the ledger and works for who reads it; nothing is sent again, and once the
    pictures may be fetched the same job does (F38).
    """
    told, manifest = [], write(tmp_path, "a cat")
    for _ in range(2):
        report = await run(manifest, emulator, defaults=TWO, hosts=(), on_result=told.append)
        assert (1, 0, 3, Charges(2, 2)) == (report.unfetched, report.waiting, report.exit_code, report.charges)
    assert ([DownloadError] * 2, 2) == ([type(failure.error) for failure in told], emulator.journal.charged)
    assert [image.url for image in told[0].error.images] == urls(tmp_path / "out")
    async with httpx.AsyncClient(trust_env=False) as http:
        assert [64, 64] == [read_media((await http.get(url)).content).width for url in urls(tmp_path / "out")]

    report = await run(manifest, emulator, defaults=TWO)
    assert (1, 0, Charges(2, 2), 2) == (report.done, report.exit_code, report.charges, emulator.journal.charged)
    assert (2, []) == (len(pictures(tmp_path / "out")), spooled(tmp_path / "out"))


@pytest.mark.parametrize("count", [1, 2])
async def test_a_storage_that_is_down_stops_the_job(tmp_path, count):
    """When picture after picture is paid for and cannot be fetched, nothing more is bought."""
    asked = []

    def reply(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(410)
        asked.append(request)
        images = [{"url": f"https://pictures.example/{len(asked)}-{number}"} for number in range(count)]
        return httpx.Response(200, json={"status": "success", "data": {"images": images}})

    config = Config(
        base_url="http://localhost/api/v1",
        inference_url="http://localhost/v1",
        concurrency=4,
        retry=RetryPolicy(backoff=0),
    )
    manifest = write(tmp_path, *(f"cat {number}" for number in range(100)))
    defaults = {"model": SCHNELL, "dialect": "inference", "n": count, "size": "64x64"}
    async with (
        AsyncNebula("sk-1", config=config, transport=httpx.MockTransport(reply)) as nebula,
        BulkJob(manifest, tmp_path / "out", nebula, defaults=defaults) as job,
    ):
        report = await job.run()
    assert (3, DownloadError) == (report.exit_code, type(report.stopped_by))
    assert 4 <= len(asked) <= 12
    assert (len(asked), 100 - len(asked)) == (report.bad, report.waiting)
    assert len(asked) * count == len(urls(tmp_path / "out"))


def fail_writes(monkeypatch, number: int, *, of: range) -> None:
    """Let the writes of these numbers into part files fail, counted from 1."""
    real, written = os.pwrite, []

    def pwrite(file: int, data: bytes, offset: int) -> int:
        if Path(f"/proc/self/fd/{file}").readlink().suffix == ".part":
            written.append(file)
            if len(written) in of:
                raise OSError(number, os.strerror(number))
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


async def test_a_disk_that_is_full_for_a_moment_loses_nothing(tmp_path, emulator, monkeypatch):
    """What is being received waits for room and is stored; meanwhile nothing more is bought, and the job says why
    (F48).
    """
    fail_writes(monkeypatch, errno.ENOSPC, of=range(1, 3))
    report = await run(write(tmp_path, "a cat", "a dog"), emulator, config=CAREFUL, defaults=TWO)
    assert (3, 1, 1, Charges(2, 2)) == (report.exit_code, report.done, report.waiting, report.charges)
    assert f"the disk of {tmp_path / 'out'} is full; make room, then repeat the command" == str(report.stopped_by)
    report = await run(write(tmp_path, "a cat", "a dog"), emulator, config=CAREFUL, defaults=TWO)
    assert (2, 4, 4) == (report.done, emulator.journal.charged, len(pictures(tmp_path / "out")))


@pytest.mark.parametrize("first", [1, 2])
async def test_urls_are_kept_where_storing_fails(tmp_path, emulator, monkeypatch, first):
    """A picture that the disk does not keep is fetched by the next run, and not paid for again (F48)."""
    manifest = write(tmp_path, "a cat", "a dog")
    fail_writes(monkeypatch, errno.EIO, of=range(first, 100))
    report = await run(manifest, emulator, config=CAREFUL, defaults=TWO)
    assert (3, 1, 1, Charges(2, 2)) == (report.exit_code, report.unfetched, report.waiting, report.charges)
    assert "Input/output error" in str(report.stopped_by)
    monkeypatch.undo()

    report = await run(manifest, emulator, config=CAREFUL, defaults=TWO)
    assert (2, 0, Charges(4, 4), 4) == (report.done, report.exit_code, report.charges, emulator.journal.charged)
    assert (4, []) == (len(pictures(tmp_path / "out")), spooled(tmp_path / "out"))


async def test_the_pictures_of_a_row_that_arrive_are_stored_and_what_lacks_is_noted(tmp_path):
    """Where some of a row's pictures cannot be fetched, the others are kept, and all that was paid for is counted."""

    def reply(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            places = ("http://pictures.example/1", "https://pictures.example/2", "https://pictures.example/3")
            images = [{"url": place} for place in places]
            return httpx.Response(200, json={"status": "success", "data": {"images": images}})
        return httpx.Response(200, content=PICTURE)

    config = Config(base_url="http://localhost/api/v1", inference_url="http://localhost/v1")
    async with (
        AsyncNebula("sk-1", config=config, transport=httpx.MockTransport(reply)) as nebula,
        BulkJob(
            write(tmp_path, "a cat"),
            tmp_path / "out",
            nebula,
            defaults={"model": SCHNELL, "dialect": "inference", "n": 3},
        ) as job,
    ):
        told: list = []
        job.on_result = told.append
        report = await job.run()
    assert (0, 1, 2, Charges(3, 3)) == (report.done, report.unfetched, report.pictures, report.charges)
    assert 2 == report.spending.pictures
    assert [1] == [result.missing for result in told]
    assert ["00000/000000000-a-cat-1.png", "00000/000000000-a-cat-2.png"] == pictures(tmp_path / "out")
    assert ["1 of 3 pictures are missing"] == notes(tmp_path / "out")


PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010100000000376ef9240000000a49444154789c6368000000820081"
    "77cd72b60000000049454e44ae426082"
)
"""The smallest PNG: one pixel."""


async def test_another_file_at_the_name_of_a_further_picture_is_kept(tmp_path, emulator):
    """A further picture takes the next free name when a file has come to its own."""
    foreign = tmp_path / "out/images/00000/000000000-a-cat-1.png"

    def put_there(event: object) -> None:
        if isinstance(event, Sent):
            foreign.parent.mkdir(exist_ok=True)
            foreign.write_bytes(PICTURE)

    assert 0 == (await run(write(tmp_path, "a cat"), emulator, defaults=TWO, observer=put_there)).exit_code
    assert PICTURE == foreign.read_bytes()
    assert [f"00000/000000000-a-cat{copy}.png" for copy in ("-1-1", "-1", "")] == pictures(tmp_path / "out")


async def test_a_stopped_job_counts_every_picture_that_may_have_been_paid_for(tmp_path, start):
    """Stopped while three pictures are made, a job says that up to so many may be paid for; three are more than may be
    paid for twice without the user's word.
    """
    emulator = start(faults=["delay=60:@1"])
    manifest, three = write(tmp_path, "a cat"), TWO | {"n": 3}
    async with opened(manifest, emulator, defaults=three) as job:
        await run_until(job, lambda: emulator.journal.charged == 3)
    async with opened(manifest, emulator, defaults=three) as job:
        assert Recovery(given_up=1) == job.recovery
        assert Charges(0, 3) == (await job.report()).charges
    report = await run(manifest, emulator, defaults=three, resend_unknown=True)
    assert (1, 0, 6) == (report.done, report.exit_code, emulator.journal.charged)
    assert_within(6, report.charges)


async def test_a_drained_job_fetches_the_pictures_that_are_in_flight(tmp_path, emulator):
    """A request that was sent when the job is drained is finished to its last picture; the next run sends the rest."""
    manifest, told = write(tmp_path, "a cat", "a dog", "a hen", "an owl"), []

    def drain(event: object) -> None:
        if isinstance(event, Sent):
            job.drain()

    async with opened(manifest, emulator, config=CAREFUL, observer=drain, defaults=TWO) as job:
        job.on_result = told.append
        report = await job.run()
    assert (130, 1, 3, Charges(2, 2)) == (report.exit_code, report.done, report.waiting, report.charges)
    assert [2] == [len(result.images) for result in told]
    report = await run(manifest, emulator, defaults=TWO)
    assert (0, 8, 8) == (report.exit_code, emulator.journal.charged, len(pictures(tmp_path / "out")))


@pytest.mark.parametrize("option", [{}, {"provenance": True}], ids=["plain", "told"])
async def test_a_row_that_was_fetched_and_not_noted_is_not_stored_twice(tmp_path, emulator, monkeypatch, option):
    """Ended between storing and noting, a job fetches what it had, pays for none of it again and stores it once."""
    manifest, out = write(tmp_path, "a cat"), tmp_path / "out"
    fail_folder_syncs(monkeypatch)
    report = await run(manifest, emulator, defaults=TWO, durability="power", **option)
    assert (3, 1, Charges(2, 2)) == (report.exit_code, report.unfetched, report.charges)
    assert "the job cannot go on writing: Input/output error; what was received is kept" in str(report.stopped_by)
    monkeypatch.undo()
    before = pictures(out)
    report = await run(manifest, emulator, defaults=TWO, durability="power", **option)
    assert (2, 1, before, []) == (emulator.journal.charged, report.done, pictures(out), spooled(out))
    assert (Charges(2, 2), 2) == (report.charges, report.pictures)


async def test_a_row_of_which_a_part_came_is_made_again_and_loses_nothing(tmp_path, emulator):
    """Of a reply that lacked a picture the others are kept when the row is bought again, beside the new ones."""
    manifest, out = write(tmp_path, "a cat"), tmp_path / "out"
    await run(manifest, emulator, defaults=TWO)
    before = pictures(out)
    cut_off(out, 0, received=1)
    report = await run(manifest, emulator, defaults=TWO)
    assert (0, 1, 1, Charges(1, 2)) == (report.done, report.bad, report.pictures, report.charges)
    report = await run(manifest, emulator, defaults=TWO, retry_failed=True)
    assert (1, 0, 4) == (report.done, report.exit_code, emulator.journal.charged)
    assert set(before) < set(pictures(out))
    told = {json.loads(line)["file_name"] for line in (out / "images/metadata.jsonl").read_text().splitlines()}
    assert told <= set(pictures(out))
