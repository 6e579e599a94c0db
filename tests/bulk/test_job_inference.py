"""A job whose lines are for either API, or for both: what is paid for is stored or noted, and not bought twice."""

from __future__ import annotations

import errno
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import anyio
import httpx
import pytest
from attrs import evolve

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
CAREFUL = Config(retry=RetryPolicy(backoff=0, resend_unknown=0), concurrency=1)
TWO = {"dialect": "inference", "n": 2, "size": "64x64"}
HEADER = ("prompt", "dialect", "width", "height", "n", "size")
ROWS = (
    ("a cat", "", "64", "64", "", ""),
    ("two cats", "inference", "", "", "2", "64x64"),
    ("three cats", "serverless", "64", "64", "", ""),
)
STORED = [f"00000/{name}.png" for name in ("000000000-a-cat", "000000001-two-cats-1", "000000001-two-cats")]
STORED += ["00000/000000002-three-cats.png"]


@pytest.fixture
def start() -> Iterator[Callable[..., Emulator]]:
    """Start an emulator with these options; it stops when the test ends."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Emulator(credit="1000000", **options))


def write(folder: Path, *rows: tuple[str, ...], suffix: str = ".csv") -> Path:
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


def prompts(folder: Path, *texts: str) -> Path:
    """Write a manifest of prompts alone."""
    path = folder / "prompts.txt"
    path.write_text("\n".join(texts))
    return path


@asynccontextmanager
async def opened(manifest: Path, emulator: Emulator, *, config: Config | None = None, observer=None, **options):
    """Open the job of a manifest, into `out` beside it, two requests in flight and no waits between attempts."""
    config = evolve(
        config or Config(retry=RetryPolicy(backoff=0), concurrency=2),
        base_url=emulator.base_url,
        inference_url=emulator.inference_url,
        allowed_image_hosts=options.pop("hosts", (emulator.storage_host,)),
    )
    defaults = {"model": SCHNELL} | options.pop("defaults", {})
    async with (
        AsyncNebula(emulator.key, config=config, observer=observer) as nebula,
        BulkJob(manifest, manifest.parent / "out", nebula, defaults=defaults, **options) as job,
    ):
        yield job


async def run(manifest: Path, emulator: Emulator, **options) -> Report:
    """Run the job of a manifest."""
    async with opened(manifest, emulator, **options) as job:
        return await job.run()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in the emulator's thread."""
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread without our events
            await anyio.sleep(0.005)


def pictures(out: Path) -> list[str]:
    """Return the names of all pictures, each of which is whole."""
    files = sorted((out / "images").rglob("*.png"))
    for path in files:
        read_media(path.read_bytes())
    return [path.relative_to(out / "images").as_posix() for path in files]


def notes(out: Path) -> list[str | None]:
    """Return what the ledger says about what went wrong, by item."""
    with closing(sqlite3.connect(out / ".nebula" / "ledger.db")) as ledger:
        return [error for (error,) in ledger.execute("SELECT error FROM item ORDER BY number")]


def asked(emulator: Emulator) -> list[tuple[str, str]]:
    """Return which API was asked for which prompt."""
    paths = {"/api/v1/images/generation": "serverless", "/v1/images/generate": "inference"}
    return sorted((record.prompt, paths[record.path]) for record in emulator.journal.generations)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
async def test_each_line_is_sent_to_the_api_that_it_names(tmp_path, emulator, suffix):
    """Rows of both APIs are one job in a file of any kind; all pictures of a row are stored, and none is sent again."""
    manifest = write(tmp_path, *ROWS, suffix=suffix)
    report = await run(manifest, emulator)
    assert (3, 4, Charges(4, 4), 0) == (report.done, report.spending.pictures, report.charges, report.exit_code)
    assert [("a cat", "serverless"), ("three cats", "serverless"), ("two cats", "inference")] == asked(emulator)
    assert STORED == pictures(tmp_path / "out")
    assert 0o700 == (tmp_path / "out/.nebula").stat().st_mode & 0o777

    emulator.reset()
    report = await run(manifest, emulator)
    assert ((), 3, 0) == (emulator.journal.requests, report.done, report.exit_code)


async def test_defaults_say_what_a_file_of_prompts_cannot(tmp_path, emulator):
    """A text file has no columns: its API, and what is asked of it, are the job's defaults."""
    report = await run(prompts(tmp_path, "a cat", "a dog"), emulator, defaults=TWO)
    assert (2, 4, "$0.0076") == (report.done, report.spending.pictures, str(report.spending))
    assert [("a cat", "inference"), ("a dog", "inference")] == asked(emulator)


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
        await run(prompts(tmp_path, "a cat"), emulator, defaults=defaults)
    assert () == emulator.journal.requests


async def test_defaults_are_for_the_lines_whose_api_has_them(tmp_path, emulator):
    """In a file for both APIs each default fills in the lines that can have it, and no other."""
    rows = [("a cat", "", "", "", "", ""), ("a dog", "inference", "", "", "", "")]
    await run(write(tmp_path, *rows), emulator, defaults={"width": 48, "height": 32, "size": "32x16", "model": SCHNELL})
    sizes = {record.prompt: (record.width, record.height) for record in emulator.journal.generations}
    assert {"a cat": (48, 32), "a dog": (32, 16)} == sizes


@pytest.mark.parametrize("was", ["", "inference"])
async def test_a_line_that_changes_its_api_is_refused(tmp_path, emulator, was):
    """What was paid for by one API is not passed off as the other's: the line is named, and nothing is sent."""
    now = {"": "inference", "inference": ""}[was]
    await run(write(tmp_path, ROWS[0], ("a dog", was, "", "", "", "")), emulator)
    emulator.reset()
    with pytest.raises(JobError, match=r"was begun with other input: line 3 of prompts.csv"):
        await run(write(tmp_path, ROWS[0], ("a dog", now, "", "", "", "")), emulator)
    with pytest.raises(JobError, match=r"was begun with other input: line 3 of prompts.csv"):
        await run(write(tmp_path, ROWS[0], ("a dog", "inference", "", "", "3", "")), emulator)
    assert () == emulator.journal.requests


async def test_naming_the_api_that_was_meant_changes_nothing(tmp_path, emulator):
    """A column `dialect` that is added later, and says what was so anyway, is no other job."""
    await run(write(tmp_path, ROWS[0]), emulator)
    emulator.reset()
    report = await run(write(tmp_path, ("a cat", "serverless", *ROWS[0][2:])), emulator)
    assert ((), 1) == (emulator.journal.requests, report.done)


async def test_a_refused_prompt_costs_nothing_and_the_others_are_made(tmp_path, emulator):
    """The content policy refuses one line; it is sent again only when that is asked."""
    told = []
    manifest = prompts(tmp_path, "some gore", "a cat")
    report = await run(manifest, emulator, defaults=TWO, on_result=told.append)
    assert (1, 1, Charges(2, 2), 1) == (report.done, report.rejected, report.charges, report.exit_code)
    assert [ContentPolicyError] == [type(result.error) for result in told if isinstance(result, Failure)]

    emulator.reset()
    await run(manifest, emulator, defaults=TWO)
    assert () == emulator.journal.requests
    assert 1 == (await run(manifest, emulator, defaults=TWO, retry_failed=True)).rejected
    assert [("some gore", "inference")] == asked(emulator)


async def test_an_account_without_credit_stops_a_mixed_job(tmp_path, start):
    """When one API refuses the account, nothing more is sent to either, and the rest waits."""
    emulator = start(faults=["402:@2"])
    report = await run(write(tmp_path, *ROWS), emulator, config=CAREFUL)
    assert (3, 1, 2, 0) == (report.exit_code, report.done, report.waiting, report.rejected)
    assert QuotaExhaustedError is type(report.stopped_by)
    assert 0 == (await run(write(tmp_path, *ROWS), emulator)).exit_code
    assert 4 == emulator.journal.charged


async def test_a_row_of_pictures_that_cannot_be_fetched_is_bad_and_its_urls_are_noted(tmp_path, emulator):
    """Paid for and not here: each URL is in the ledger and works for who reads it, and nothing is sent again."""
    told, manifest = [], prompts(tmp_path, "a cat")
    for exit_code in (3, 1):
        report = await run(manifest, emulator, defaults=TWO, hosts=(), on_result=told.append)
        assert (1, 0, exit_code, Charges(2, 2)) == (report.bad, report.waiting, report.exit_code, report.charges)
    (failure,) = told
    assert (DownloadError, Charges(2, 2), 2) == (
        type(failure.error), failure.error.charges, emulator.journal.charged,
    )  # fmt: skip
    (note,) = notes(tmp_path / "out")
    urls = re.findall(r"http://\S+?\.png", note)
    assert [image.url for image in failure.error.images] == urls
    async with httpx.AsyncClient(trust_env=False) as http:
        assert [64, 64] == [read_media((await http.get(url)).content).width for url in urls]

    report = await run(manifest, emulator, defaults=TWO, retry_failed=True)
    assert (1, 0, Charges(4, 4)) == (report.done, report.exit_code, report.charges)


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
    manifest = prompts(tmp_path, *(f"cat {number}" for number in range(100)))
    defaults = {"model": SCHNELL, **TWO, "n": count}
    async with (
        AsyncNebula("sk-1", config=config, transport=httpx.MockTransport(reply)) as nebula,
        BulkJob(manifest, tmp_path / "out", nebula, defaults=defaults) as job,
    ):
        report = await job.run()
    assert (3, DownloadError) == (report.exit_code, type(report.stopped_by))
    assert 4 <= len(asked) <= 12
    assert (len(asked), 100 - len(asked)) == (report.bad, report.waiting)
    assert len(asked) * count == sum(note.count("https://pictures.example/") for note in notes(tmp_path / "out"))


def fill_the_disk(monkeypatch, *, before: int) -> None:
    """Let the system find no room for new files from this one on, counted from 1."""
    opened, real = [], Path.open

    def refuse(path: Path, mode: str = "r", *arguments, **options):
        opened.extend([path] if "x" in mode else [])
        if "x" in mode and len(opened) >= before:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)


async def test_urls_are_kept_where_storing_fails(tmp_path, emulator, monkeypatch):
    """A picture that finds no room on the disk can still be fetched: its URL is in the ledger."""
    fill_the_disk(monkeypatch, before=1)
    report = await run(prompts(tmp_path, "a cat"), emulator, defaults=TWO)
    assert (1, 3, Charges(2, 2)) == (report.bad, report.exit_code, report.charges)
    assert 2 == notes(tmp_path / "out")[0].count("/generated/")


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
            prompts(tmp_path, "a cat"), tmp_path / "out", nebula, defaults={"model": SCHNELL, **TWO, "n": 3}
        ) as job,
    ):
        told: list = []
        job.on_result = told.append
        report = await job.run()
    assert (0, 1, 2, Charges(3, 3)) == (report.done, report.bad, report.pictures, report.charges)
    assert (2, 1) == (report.spending.pictures, report.exit_code)
    assert [1] == [result.missing for result in told]
    assert STORED[0] in pictures(tmp_path / "out")
    assert "1 of 3 pictures are missing; http://pictures.example/1" in str(notes(tmp_path / "out")[0])


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

    assert 0 == (await run(prompts(tmp_path, "a cat"), emulator, defaults=TWO, observer=put_there)).exit_code
    assert PICTURE == foreign.read_bytes()
    assert [f"00000/000000000-a-cat{copy}.png" for copy in ("-1-1", "-1", "")] == pictures(tmp_path / "out")


async def test_a_disk_that_fills_up_between_two_pictures_of_a_row_stops_the_job(tmp_path, emulator, monkeypatch):
    """What could not be stored is said to be paid for, the picture that could is kept, and nothing more is sent."""
    fill_the_disk(monkeypatch, before=2)
    report = await run(prompts(tmp_path, "a cat", "a dog"), emulator, config=CAREFUL, defaults=TWO)
    assert (3, 1, 1, Charges(2, 2)) == (report.exit_code, report.bad, report.waiting, report.charges)
    assert "a picture that was paid for cannot be stored: No space left on device" == str(report.stopped_by)
    assert (2, ["00000/000000000-a-cat-1.png"]) == (emulator.journal.charged, pictures(tmp_path / "out"))

    monkeypatch.undo()
    report = await run(prompts(tmp_path, "a cat", "a dog"), emulator, defaults=TWO, retry_failed=True)
    assert (2, 0, Charges(6, 6)) == (report.done, report.exit_code, report.charges)
    assert 5 == len(pictures(tmp_path / "out"))


async def test_a_cancelled_job_counts_every_picture_that_may_have_been_paid_for(tmp_path, start):
    """Stopped while three pictures are made, a job says that up to so many may be paid for, and sends them again."""
    emulator = start(faults=["delay=60:@1"])
    manifest, three = prompts(tmp_path, "a cat"), TWO | {"n": 3}
    async with opened(manifest, emulator, defaults=three) as job, anyio.create_task_group() as group:
        group.start_soon(job.run)
        await until(lambda: emulator.journal.charged == 3)
        group.cancel_scope.cancel()
    async with opened(manifest, emulator, defaults=three) as job:
        assert Recovery(sent_again=1) == job.recovery
        assert Charges(0, 6) == (await job.report()).charges
        report = await job.run()
    assert (1, 0, 6) == (report.done, report.exit_code, emulator.journal.charged)
    assert report.charges.at_least <= 6 <= report.charges.at_most


async def test_a_drained_job_fetches_the_pictures_that_are_in_flight(tmp_path, emulator):
    """A request that was sent when the job is drained is finished to its last picture; the next run sends the rest."""
    manifest, told = prompts(tmp_path, "a cat", "a dog", "a hen", "an owl"), []

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


def mark_sent(out: Path) -> None:
    """Leave the first item's row as a run does that is killed after it has sent the item."""
    with closing(sqlite3.connect(out / ".nebula" / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE item SET state = 'sent', at_least = 0, at_most = 0, at_stake = 4, pictures = 0")
        ledger.execute("UPDATE item SET name = replace(name, '.png', '')")


async def test_a_row_that_was_stored_and_not_noted_is_taken_over(tmp_path, emulator):
    """The first picture is stored last: where it is, all are, and none of them is bought again."""
    manifest, out = prompts(tmp_path, "a cat"), tmp_path / "out"
    await run(manifest, emulator, defaults=TWO)
    mark_sent(out)
    emulator.reset()
    async with opened(manifest, emulator, defaults=TWO) as job:
        assert Recovery(adopted=1) == job.recovery
        report = await job.run()
    assert ((), 1, 2) == (emulator.journal.requests, report.done, len(pictures(out)))
    assert (Charges(2, 4), 2) == (report.charges, report.pictures)


async def test_a_row_that_was_stored_in_part_is_made_again_and_loses_nothing(tmp_path, emulator):
    """Killed between two pictures of a row, a job asks again, says so, and replaces none that is there."""
    manifest, out = prompts(tmp_path, "a cat"), tmp_path / "out"
    await run(manifest, emulator, defaults=TWO)
    mark_sent(out)
    (out / "images/00000/000000000-a-cat.png").unlink()
    kept = (out / "images/00000/000000000-a-cat-1.png").read_bytes()
    async with opened(manifest, emulator, defaults=TWO) as job:
        assert Recovery(sent_again=1) == job.recovery
        report = await job.run()
    assert (0, 4, kept) == (
        report.exit_code, emulator.journal.charged, (out / "images/00000/000000000-a-cat-1.png").read_bytes(),
    )  # fmt: skip
    assert [f"00000/000000000-a-cat{copy}.png" for copy in ("-1-1", "-1", "")] == pictures(out)
