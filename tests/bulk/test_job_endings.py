"""How a job ends that cannot go on: nothing is lost, nothing is paid twice, and what is missing is said."""

from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from jobs import CATS, SMALL, opened, query, run, write

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.recovery import Recovery
from nebula_async.bulk.report import Spending
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.errors import DownloadError, JobError, OutcomeUnknownError, SinkError
from nebula_async.events import Sent
from nebula_async.requests import ImageRequest
from nebula_async.results import Failure, Generation

pytestmark = pytest.mark.anyio

Disk = namedtuple("Disk", "total used free")


async def test_a_picture_whose_url_is_gone_is_bad_and_the_job_goes_on(manifest):
    """What is paid for and cannot be fetched is told with its URL, noted in the ledger, and not asked for
    again (F37).
    """
    asked, told = [], []

    def reply(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(404)
        asked.append(json.loads(request.content)["prompt"])
        return httpx.Response(200, json={"data": [{"url": f"https://pictures.example/{len(asked)}.png"}]})

    config = Config(base_url="http://localhost", retry=RetryPolicy(backoff=0))
    for _ in range(2):
        async with (
            AsyncNebula("sk-1", config=config, transport=httpx.MockTransport(reply)) as nebula,
            BulkJob(manifest, manifest.parent / "out", nebula, defaults=SMALL, on_result=told.append) as job,
        ):
            report = await job.run()
        assert (4, 0, 1, Charges(4, 4)) == (report.bad, report.waiting, report.exit_code, report.charges)

    urls = {f"https://pictures.example/{number}.png" for number in range(1, 5)}
    assert sorted(CATS) == sorted(asked)
    assert [(DownloadError, Charges(1, 1))] * 4 == [(type(result.error), result.error.charges) for result in told]
    assert urls == {image.url for result in told for image in result.error.images}
    noted = query(manifest.parent / "out", "SELECT url FROM output UNION SELECT url FROM output")
    assert urls == {url for (url,) in noted}


async def test_a_folder_belongs_to_one_server(manifest, start):
    """Pictures of another server are not mixed in: the folder is refused by both names, and nothing is sent."""
    first, second = start(), start()
    await run(manifest, first)
    with pytest.raises(JobError, match="use another output folder") as caught:
        await run(manifest, second)

    assert f"was begun with {first.base_url} and " in str(caught.value)
    assert f", and this is {second.base_url} and " in str(caught.value)
    assert () == second.journal.requests


async def test_a_server_may_be_named(manifest, start):
    """Where the address changes and the server is the same, `server` names it."""
    first, second = start(), start()
    await run(manifest, first, server="ours")
    report = await run(manifest, second, server="ours")

    assert (0, ()) == (report.exit_code, second.journal.requests)
    with pytest.raises(JobError, match="was begun with ours, and this is theirs"):
        await run(manifest, second, server="theirs")


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["deleted", "emptied"])
async def test_a_picture_that_is_gone_is_missed_and_made_again_when_asked(manifest, emulator, lose):
    """A job is not done when a picture is not there; it is paid for again only when the user says so."""
    await run(manifest, emulator)
    emulator.reset()
    lose(manifest.parent / "out/images/00000/000000002-three-cats.png")
    async with opened(manifest, emulator) as job:
        assert Recovery(gone=1) == job.recovery
        report = await job.run()
    assert (3, 1, 1, Charges(4, 4)) == (report.done, report.bad, report.exit_code, report.charges)
    assert () == emulator.journal.requests

    report = await run(manifest, emulator, retry_failed=True)
    assert (4, 0, Charges(5, 5)) == (report.done, report.exit_code, report.charges)
    assert ["three cats"] == [record.prompt for record in emulator.journal.generations]


async def test_a_disk_without_room_stops_the_job_before_anything_is_sent(manifest, emulator, monkeypatch):
    """No picture is paid for that could not be stored; the job says how much room it needs (F48)."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Disk(2**40, 2**40 - 2**20, 2**20))
    report = await run(manifest, emulator)

    assert (3, 0, 4, Charges(0, 0)) == (report.exit_code, report.done, report.waiting, report.charges)
    told = str(report.stopped_by)
    assert told.startswith(f"no more pictures can be stored in {manifest.parent / 'out'}: 1 MB are free, and ")
    assert re.search(r"\b(7[0-9]|8[0-9]) MB are wanted for those under way; make room, then repeat", told)
    assert () == emulator.journal.requests

    monkeypatch.undo()
    assert 0 == (await run(manifest, emulator)).exit_code


@pytest.mark.parametrize(
    ("faults", "spent", "charges"),
    [
        (["cut:@1"], "$0.0095", Charges(5, 5)),
        (["drop:@1"], "$0.0076 to $0.0095", Charges(4, 5)),
        (["malformed:@1"], "$0.0076", Charges(4, 4)),
        (["429:@1"], "$0.0076", Charges(4, 4)),
    ],
)
async def test_what_a_run_spent_counts_every_attempt(manifest, start, faults, spent, charges):
    """Lost and unusable replies are in the bill, certain or not; refusals are not."""
    emulator = start(faults=faults)
    report = await run(manifest, emulator)

    assert (spent, charges) == (str(report.spending), report.charges)
    assert report.spending.at_least <= emulator.journal.spent <= report.spending.at_most


def test_spending_counts_models_without_a_price_apart():
    """What has no known price is counted in pictures, failures included."""
    spending, request = Spending(), ImageRequest("a cat", model="no/such")
    spending.add(Generation(request=request, images=(), charges=Charges(1, 2)), None)
    spending.add(Failure(request=request, error=OutcomeUnknownError("lost", charges=Charges(0, 1))), None)

    assert (3, Decimal(0), "$0") == (spending.unpriced, spending.at_most, str(spending))


async def test_a_job_makes_its_own_client(manifest, start, monkeypatch):
    """Without a client the job uses one that the environment describes, and closes it: no warning is left."""
    emulator = start()
    monkeypatch.setenv("NEBULA_API_KEY", emulator.key)
    monkeypatch.setenv("NEBULA_BASE_URL", emulator.base_url)
    async with BulkJob(manifest, out=manifest.parent / "out", defaults=SMALL) as job:
        report = await job.run()

    assert (4, 4) == (report.done, emulator.journal.charged)


async def test_a_folder_that_vanishes_stops_the_job_before_more_is_paid_for(manifest, emulator):
    """When the output folder goes, nothing more is sent (F51)."""
    config = Config(concurrency=1)
    out = manifest.parent / "out"
    report = await run(manifest, emulator, config=config, on_result=lambda _result: shutil.rmtree(out))
    assert 3 == report.exit_code
    assert f"the output folder {out} is gone; nothing more is sent; put it back, then repeat" == str(report.stopped_by)
    emulator.assert_charged(1)
    assert not out.exists()


async def test_a_picture_that_cannot_be_stored_is_said_to_be_paid_for(tmp_path, emulator):
    """When the output folder goes while a picture is made, the job stops and says that it was paid for (F51)."""
    manifest, out, told = write(tmp_path, *CATS), tmp_path / "out", []

    def remove(event):
        if isinstance(event, Sent):
            shutil.rmtree(out, ignore_errors=True)

    config = Config(concurrency=1)
    report = await run(manifest, emulator, config=config, observer=remove, on_result=told.append)
    assert (3, 1, Charges(1, 1)) == (report.exit_code, report.unknown, report.charges)
    assert "the disk did not keep the picture: No such file" in str(report.stopped_by)
    assert Charges(1, 1) == report.stopped_by.charges
    assert [SinkError] == [type(result.error) for result in told]
    emulator.assert_charged(1)
    assert not out.exists()
