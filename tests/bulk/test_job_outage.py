"""A job outlives an outage of the API: it probes, loses no item, and ends where there is no hope."""

from __future__ import annotations

import itertools
from pathlib import Path

import anyio
import httpx
import pybase64
import pytest
from attrs import define, field

from nebula_async.bulk.job import BulkJob
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.errors import NotSentError
from nebula_async.events import OutageBegan, OutageEnded

pytestmark = pytest.mark.anyio

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 16, "height": 16}
PATIENCE = 40.0

PNG = pybase64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")


@define(eq=False)
class Service(httpx.AsyncBaseTransport):
    """The API, unreachable for the requests of these numbers, counted from 1."""

    down: range
    sent: int = field(default=0, init=False)
    charged: int = field(default=0, init=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse the connection, or answer with a picture."""
        self.sent += 1
        await request.extensions["trace"]("connection.connect_tcp.started", {})
        await anyio.lowlevel.checkpoint()
        if self.sent in self.down:
            raise httpx.ConnectError("refused")
        await request.extensions["trace"]("http11.send_request_headers.started", {})
        self.charged += 1
        return httpx.Response(200, json={"data": [{"b64_json": pybase64.b64encode_as_string(PNG)}]})


async def run(folder: Path, service: Service, events: list | None = None, **options):
    """Run a job of forty prompts against a service, four at a time, without waits of its own."""
    manifest = folder / "prompts.txt"
    manifest.write_text("\n".join(f"cat {number}" for number in range(40)))
    config = Config(base_url="http://localhost", retry=RetryPolicy(backoff=0), concurrency=4)
    observer = None if events is None else events.append
    with anyio.fail_after(PATIENCE):
        async with (
            AsyncNebula("sk-1", config=config, transport=service, observer=observer) as nebula,
            BulkJob(manifest, folder / "out", nebula, defaults=SMALL, **options) as job,
        ):
            return await job.run()


async def test_no_item_is_lost_to_an_outage(tmp_path):
    """What fails while the API is away is sent again when it is back: all are done in one run, each paid once (F29)."""
    service, events = Service(range(5, 60)), []
    report = await run(tmp_path, service, events)

    assert (40, 0, Charges(40, 40), 40) == (report.done, report.exit_code, report.charges, service.charged)
    assert [OutageBegan, OutageEnded] == [type(it) for it in events if isinstance(it, OutageBegan | OutageEnded)]


async def test_a_service_that_never_answers_stops_the_job(tmp_path):
    """Without any connection the job stops after a few probes, having paid nothing, and the same one resumes (F1)."""
    service = Service(range(1, 10_000))
    report = await run(tmp_path, service)

    assert (0, 40, 3, Charges(0, 0)) == (report.done, report.waiting, report.exit_code, report.charges)
    assert isinstance(report.stopped_by, NotSentError)
    assert service.sent <= 40
    again = Service(range(0))
    report = await run(tmp_path, again)
    assert (40, 0, 40) == (report.done, report.exit_code, again.charged)


async def test_a_drain_ends_the_waiting_for_an_outage(tmp_path):
    """Ctrl-C during an outage ends the run: what waits for the end of the outage waits for the next run."""
    manifest = tmp_path / "prompts.txt"
    manifest.write_text("\n".join(f"cat {number}" for number in range(40)))
    config = Config(base_url="http://localhost", concurrency=4)
    numbers = itertools.count()

    def drain(event: object) -> None:
        if isinstance(event, OutageBegan):
            next(numbers)
            job.drain()

    with anyio.fail_after(PATIENCE):
        async with (
            AsyncNebula("sk-1", config=config, transport=Service(range(9, 10_000)), observer=drain) as nebula,
            BulkJob(manifest, tmp_path / "out", nebula, defaults=SMALL) as job,
        ):
            report = await job.run()

    assert (8, 32, 130, Charges(8, 8)) == (report.done, report.waiting, report.exit_code, report.charges)
    assert 1 == next(numbers)
