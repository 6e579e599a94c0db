"""Behind an application, from synchronous code, with telemetry: secrets stay where they are."""

from __future__ import annotations

import anyio
import pytest
from canaries import KEY, PROMPT, everything_logged, found, report
from echoing import REPLIES, TARGETS, echoing
from fastapi import FastAPI, Response
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from nebula_async import AsyncNebula, Config, InferenceRequest, NebulaError, RetryPolicy
from nebula_async.events import log_event, observers
from nebula_async.integrations.fastapi import Nebula, handle_errors, image_response, nebula_lifespan
from nebula_async.integrations.opentelemetry import Telemetry
from nebula_async.sync import NebulaClient

WISH = InferenceRequest(PROMPT, model="sdxl")
SCRIPTS = [(REPLIES["in a header line that is none"], False), (REPLIES["in the error's JSON"], False)]
SCRIPTS += [(TARGETS["refused"], True), (TARGETS["delivered behind a redirect"], True)]


def config(server) -> Config:
    """Return settings for a server, which send nothing twice."""
    return Config(
        base_url=f"http://{server.place}/api/v1",
        inference_url=f"http://{server.place}/v1",
        allowed_image_hosts=[server.place],
        retry=RetryPolicy(attempts=1, backoff=0),
        timeouts=2,
    )


@pytest.mark.parametrize(("script", "leads_to_url"), SCRIPTS)
def test_visitors_and_logs_of_an_application_see_no_secret(script, leads_to_url):
    """Whatever the API answers: no answer, header or log of a FastAPI application shows key, prompt or signed URL."""
    with echoing(script, leads_to_url=leads_to_url) as server, everything_logged() as log:
        app = FastAPI(lifespan=nebula_lifespan(api_key=KEY, config=config(server)))
        handle_errors(app)

        @app.post("/")
        async def create(nebula: Nebula) -> Response:
            return image_response(await nebula.generate(WISH))

        with TestClient(app) as visitor:
            answer = visitor.post("/")
    assert (answer.status_code == 200) == (script is TARGETS["delivered behind a redirect"])
    assert [] == found(f"{answer.headers}".encode() + answer.content)
    assert [] == found(log.text, "key", "signature")
    ours = [told for told in log.told if "nebula_async" in told]
    assert [] == found("\n".join(ours))


@pytest.mark.parametrize(("script", "leads_to_url"), SCRIPTS)
def test_spans_and_metrics_hold_no_secret(script, leads_to_url):
    """What OpenTelemetry exports of a call holds no key, no prompt and no URL, unless prompts are asked for."""
    spans, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    observer = observers(Telemetry(tracers, MeterProvider([reader])), log_event)

    async def call(server) -> None:
        async with AsyncNebula(KEY, config=config(server), observer=observer) as nebula:
            await nebula.generate_all([WISH])

    with echoing(script, leads_to_url=leads_to_url) as server, everything_logged() as log:
        anyio.run(call, server)
    told = "".join(span.to_json() for span in spans.get_finished_spans()) + reader.get_metrics_data().to_json()
    assert "generate_content" in told
    assert [] == found(told + log.text)


@pytest.mark.parametrize(("script", "leads_to_url"), SCRIPTS[:3])
def test_synchronous_code_sees_no_secret_in_errors(script, leads_to_url):
    """Errors that reach synchronous code, through another thread, show as little as those of asynchronous code."""
    with echoing(script, leads_to_url=leads_to_url) as server, everything_logged() as log:
        with NebulaClient(KEY, config=config(server)) as nebula, pytest.raises(NebulaError) as caught:
            nebula.generate(WISH)
        assert [] == found(f"{nebula!r} {vars(nebula)}", "key")
    assert [] == found(f"{caught.value} {caught.value!r}") + found(report(caught.value), "key", "signature")
    assert [] == found(log.text)
