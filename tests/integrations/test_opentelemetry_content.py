"""What no span, metric or log may hold, and what spans hold when they are asked to."""

from __future__ import annotations

import base64
import json
import logging

import pytest
from collected import SMALL, client, steps
from opentelemetry import trace

from nebula_async import AsyncNebula, Config, InferenceRequest
from nebula_async.emulator import Emulator, Fault
from nebula_async.events import log_event, observers
from nebula_async.integrations.opentelemetry import Telemetry
from nebula_async.integrations.telemetry import genai

pytestmark = pytest.mark.anyio

PROMPT = "a canary sings behind the greenhouse"
NEGATIVE = "an owl above the weathercock"
ECHO = json.dumps({"error": {"message": PROMPT, "code": PROMPT, "type": PROMPT, "details": [PROMPT]}, "detail": PROMPT})


async def test_no_content_unless_asked(collected, caplog):
    """No prompt, key, URL or picture stands in any span, metric or log: not of successes, nor of failures that the API
    words with the prompt.
    """
    faults = [
        Fault("400", body=ECHO.encode(), headers={"X-Request-Id": PROMPT}, at=1),
        Fault("500", body=ECHO.encode(), at=2),
        Fault("drop", at=4),
    ]
    with Emulator(faults=faults) as emulator, caplog.at_level(logging.DEBUG):
        config = Config(
            base_url=emulator.base_url,
            inference_url=emulator.inference_url,
            allowed_image_hosts=(emulator.storage_host,),
        )
        observer = observers(collected.telemetry(), log_event)
        async with AsyncNebula(emulator.key, config=config, observer=observer) as nebula:
            ended = await nebula.generate_all([PROMPT] * 4, **SMALL, negative_prompt=NEGATIVE, concurrency=1)
            ended += await nebula.generate_all([InferenceRequest(PROMPT, model="sdxl", size="64x64")])

    pictures = [result.image for result in ended if hasattr(result, "image")]
    secrets = [PROMPT, NEGATIVE, emulator.key, *(image.url for image in pictures if image.url)]
    secrets += [base64.b64encode(image.data).decode()[100:160] for image in pictures]
    told = "".join(span.to_json() for span in collected.spans) + collected.reader.get_metrics_data().to_json()
    told += "".join(f"{record.getMessage()}{record.__dict__}" for record in caplog.records if "nebula" in record.name)
    assert [] == [secret for secret in secrets if secret in told]
    assert 5 == len(collected.calls())
    assert len(pictures) >= 3
    assert any(image.url for image in pictures)


@pytest.mark.parametrize("way", ["argument", "variable"])
async def test_content_where_it_is_asked_for(emulator, collected, monkeypatch, way):
    """With `capture_content`, or with the variable of the conventions, spans hold the prompts, and metrics do not."""
    if way == "variable":
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    observer = collected.telemetry(**({"capture_content": True} if way == "argument" else {}))
    async with client(emulator, collected, observer=observers(log_event, observer)) as nebula:
        await nebula.generate(PROMPT, **SMALL, negative_prompt=NEGATIVE)

    (span,) = collected.calls()
    message = {"role": "user", "parts": [{"type": "text", "content": PROMPT}]}
    assert [message] == json.loads(span.attributes[genai.INPUT_MESSAGES])
    assert NEGATIVE == span.attributes[genai.NEGATIVE_PROMPT]
    assert PROMPT not in collected.reader.get_metrics_data().to_json()


@pytest.mark.parametrize("value", ["", "false", "no_content", "event_only", "perhaps"])
async def test_other_values_of_the_variable(emulator, collected, monkeypatch, value):
    """Any other value of the variable asks for nothing, and an argument wins over it."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", value)
    async with client(emulator, collected) as nebula:
        await nebula.generate(PROMPT, **SMALL)
    assert PROMPT not in collected.spans[0].to_json()
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    assert Telemetry().tell_prompt is not None
    assert Telemetry(capture_content=False).tell_prompt is None


async def test_a_long_prompt_is_cut(emulator, collected):
    """A span holds the first 32,768 characters of a prompt."""
    async with client(emulator, collected, observer=collected.telemetry(capture_content=True)) as nebula:
        await nebula.generate("cat " * 20_000, **SMALL)
    (message,) = json.loads(collected.spans[0].attributes[genai.INPUT_MESSAGES])
    assert 32_769 == len(message["parts"][0]["content"])


async def test_a_span_that_a_sink_asked_for_holds_the_prompt_too(emulator, collected):
    """The prompt stands in the span also where somebody asked for the current span before the call ended."""
    telemetry = collected.telemetry(capture_content=True)
    seen = []

    def look(event: object) -> None:
        seen.append(trace.get_current_span().get_span_context().is_valid)

    async with client(emulator, collected, observer=observers(telemetry, look)) as nebula:
        await nebula.generate(PROMPT, **SMALL)
    assert [True, True, False] == seen
    assert [("nebula.attempt", {})] == steps(collected.spans[0])
