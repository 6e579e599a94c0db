"""Traces through the places where calls are made: a web application, a bulk job."""

from __future__ import annotations

import httpx
import pytest
from collected import SMALL, Collected, client
from fastapi import FastAPI, HTTPException
from opentelemetry import trace
from opentelemetry.propagate import extract, inject

from nebula_async import BadRequestError, BulkJob
from nebula_async.integrations.fastapi import Nebula, get_nebula
from nebula_async.integrations.telemetry import genai

pytestmark = pytest.mark.anyio


async def test_a_request_to_a_web_application_is_one_trace(emulator, collected):
    """The visitor's span, the server's and the call's are one trace, whether the picture comes or not."""
    emulator.next("400=invalid_prompt")
    async with client(emulator, collected) as nebula, _visitor(_application(collected, nebula)) as visitor:
        codes = []
        for _ in range(2):
            with collected.tracer.start_as_current_span("visit") as visit:
                headers: dict[str, str] = {}
                inject(headers)
                codes.append((await visitor.post("/pictures", headers=headers)).status_code)
            call, server = collected.spans[-3:-1]
            assert visit.get_span_context().trace_id == server.context.trace_id == call.context.trace_id
            assert server.context.span_id == call.parent.span_id
            assert visit.get_span_context().span_id == server.parent.span_id

    assert [422, 200] == codes
    assert ["invalid_prompt", None] == [span.attributes.get(genai.ERROR_TYPE) for span in collected.calls()]


async def test_the_items_of_a_job_belong_to_who_runs_it(emulator, collected, tmp_path):
    """Each item of a bulk job is a call with a span, a child of the one in which the job was run."""
    (tmp_path / "cats.txt").write_text("a cat\na dog\na fox\n")
    async with client(emulator, collected) as nebula:
        with collected.tracer.start_as_current_span("mine") as mine:
            async with BulkJob(tmp_path / "cats.txt", out=tmp_path / "out", nebula=nebula, defaults=SMALL) as job:
                report = await job.run()

    assert 0 == report.exit_code
    assert [mine.get_span_context().span_id] * 3 == [span.parent.span_id for span in collected.calls()]
    assert ["1-1"] * 3 == [span.attributes[genai.CHARGES] for span in collected.calls()]


def _application(collected: Collected, nebula) -> FastAPI:
    app = FastAPI()
    app.dependency_overrides[get_nebula] = lambda: nebula

    @app.post("/pictures")
    async def make(nebula: Nebula) -> str:
        try:
            return (await nebula.generate("a cat", **SMALL)).image.media_type
        except BadRequestError as error:
            raise HTTPException(422) from error

    async def traced(scope, receive, send):
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        with collected.tracer.start_as_current_span("POST /pictures", extract(headers), kind=trace.SpanKind.SERVER):
            await app(scope, receive, send)

    return traced


def _visitor(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
