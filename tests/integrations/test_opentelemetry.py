"""The span of each call: what it says, and how it is set up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from collected import SCHNELL, SMALL, Collected, client, steps
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from nebula_async import AsyncNebula, ConfigurationError, InferenceRequest, InvalidRequestError
from nebula_async.integrations.opentelemetry import Telemetry
from nebula_async.integrations.telemetry import genai

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent


async def test_a_call_is_one_client_span(emulator, collected):
    """A call is one span of kind CLIENT, with the names of the conventions, and its attempt as an event."""
    async with client(emulator, collected) as nebula:
        cat = await nebula.generate("a flying cat", **SMALL)

    (span,) = collected.spans
    host, _, port = emulator.base_url.removeprefix("http://").partition("/")[0].partition(":")
    assert (f"generate_content {SCHNELL}", SpanKind.CLIENT) == (span.name, span.kind)
    assert {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "nebula_block",
        "gen_ai.output.type": "image",
        "gen_ai.request.model": SCHNELL,
        "gen_ai.request.seed": cat.request.seed,
        "server.address": host,
        "server.port": int(port),
        "nebula.image.width": 16,
        "nebula.image.height": 16,
        "nebula.charges": "1-1",
        "nebula.request_id": cat.request_id,
    } == dict(span.attributes)
    assert [("nebula.attempt", {})] == steps(span)
    assert span.start_time <= span.events[0].timestamp <= span.end_time
    assert StatusCode.UNSET is span.status.status_code


async def test_several_pictures_of_the_other_api(emulator, collected):
    """How many pictures are asked for, and their size, stand in the span of a call of the inference API too."""
    request = InferenceRequest("a lake", model="sdxl", n=2, size="256x512", response_format="b64_json")
    config = emulator.config()
    async with AsyncNebula(emulator.key, config=config, observer=collected.telemetry()) as nebula:
        await nebula.generate(request)

    facts = collected.spans[0].attributes
    assert (2, 256, 512, "2-2") == tuple(
        facts[name] for name in (genai.REQUEST_COUNT, genai.WIDTH, genai.HEIGHT, genai.CHARGES)
    )


async def test_attempts_are_events(emulator, collected):
    """A repeated attempt tells why, after what status and after how long, and the span how often."""
    emulator.next("500", "429")
    async with client(emulator, collected) as nebula:
        await nebula.generate("a cat", **SMALL)

    (span,) = collected.spans
    names = [name for name, _ in steps(span) if name in (genai.ATTEMPT, genai.RETRY)]
    assert [genai.ATTEMPT, genai.RETRY, genai.ATTEMPT, genai.RETRY, genai.ATTEMPT] == names
    first, second = [facts for name, facts in steps(span) if name == genai.RETRY]
    assert ("server failed", 500, 1) == tuple(
        first[name] for name in (genai.RETRY_REASON, genai.STATUS, genai.ATTEMPT_NUMBER)
    )
    assert ("throttled", 429) == (second[genai.RETRY_REASON], second[genai.STATUS])
    assert 2 == span.attributes[genai.RESENT]
    assert "1-2" == span.attributes[genai.CHARGES]


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [("400=invalid_prompt", "invalid_prompt", 400), ("400=made_up", "BadRequestError", 400), ("drop", None, None)],
    ids=["known code", "unknown code", "no answer"],
)
async def test_a_failed_call_is_an_error(emulator, collected, fault, error, status):
    """A call that failed has the status ERROR, and the kind of error: the API's code if known, else the class."""
    emulator.next(fault, fault, fault)
    async with client(emulator, collected) as nebula:
        results = await nebula.generate_all(["a cat"], **SMALL)

    (span,) = collected.spans
    assert StatusCode.ERROR is span.status.status_code
    assert (error or type(results[0].error).__name__) == span.attributes[genai.ERROR_TYPE]
    assert status == span.attributes.get(genai.STATUS)
    assert str(results[0].error.charges) == span.attributes[genai.CHARGES]


async def test_a_call_that_is_refused_unsent(emulator, collected):
    """A call that is refused before anything is sent has its span, without an attempt."""
    async with client(emulator, collected) as nebula:
        with pytest.raises(InvalidRequestError):
            await nebula.generate("a cat", **SMALL, image=b"\x89PNG\r\n\x1a\n")

    (span,) = collected.spans
    assert ("InvalidRequestError", "0-0") == (
        span.attributes[genai.ERROR_TYPE],
        span.attributes[genai.CHARGES],
    )
    assert [] == steps(span)


async def test_no_model_fills_up_the_names_of_spans(emulator, collected):
    """Of models that are made up the first ones are told apart by name; each span has the model that was asked."""
    emulator.next(*["404=model_not_found"] * 40)
    async with client(emulator, collected) as nebula:
        await nebula.generate_all(["a cat"], model=SCHNELL, width=16, height=16)
        for number in range(39):
            await nebula.generate_all(["a cat"], model=f"made/up-{number}")

    assert 34 == len({span.name for span in collected.spans})
    assert 40 == len({span.attributes[genai.REQUEST_MODEL] for span in collected.spans})
    assert genai.GENERATE_CONTENT in {span.name for span in collected.spans}


@pytest.mark.parametrize(
    ("options", "name"),
    [({"tracer_provider": "jaeger"}, "tracer_provider"), ({"meter_provider": Collected}, "meter_provider")],
    ids=["text", "class"],
)
async def test_what_is_no_provider_is_refused(options, name):
    """Something else than a provider is refused, by name."""
    with pytest.raises(ConfigurationError, match=f"{name} must be a .*Provider of OpenTelemetry; got"):
        Telemetry(**options)


async def test_without_an_sdk(emulator):
    """Where OpenTelemetry has only its API, calls go as ever, and there is no current span."""
    seen = []
    telemetry = Telemetry()
    observer = lambda event: (telemetry(event), seen.append(trace.get_current_span().is_recording()))  # noqa: E731
    async with AsyncNebula(emulator.key, base_url=emulator.base_url, observer=observer) as nebula:
        await nebula.generate("a cat", **SMALL)
    assert [False] * 3 == seen


def test_providers_may_be_set_later():
    """`Telemetry()` made before the program sets its global providers tells these, and so does one made afterwards."""
    program = """
import anyio
from opentelemetry import metrics, trace
from nebula_async import AsyncNebula
from nebula_async.emulator import Emulator
from nebula_async.integrations.opentelemetry import Telemetry
from collected import SMALL, Collected

early = Telemetry()
collected = Collected()
trace.set_tracer_provider(collected.tracers)
metrics.set_meter_provider(collected.meters)

async def main():
    with Emulator() as emulator:
        for observer in (early, Telemetry(), Telemetry(collected.tracers, collected.meters)):
            async with AsyncNebula(emulator.key, base_url=emulator.base_url, observer=observer) as nebula:
                await nebula.generate("a cat", **SMALL)

anyio.run(main)
print(len(collected.spans), list(collected.numbers("nebula.client.images").values()))
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=HERE, capture_output=True, text=True, check=False)
    assert ("3 [3]\n", "") == (ended.stdout, ended.stderr)


def test_it_is_not_loaded_by_others():
    """`import nebula_async` loads nothing of OpenTelemetry, and the integration nothing of its SDK."""
    program = "import sys, nebula_async; print('opentelemetry' in sys.modules); "
    program += "import nebula_async.integrations.opentelemetry; print('opentelemetry.sdk' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "False\nFalse\n" == ended.stdout
