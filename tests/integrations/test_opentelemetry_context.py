"""Whose child the span of a call is, and who are its own."""

from __future__ import annotations

import pytest
from collected import SMALL, Collected, client
from opentelemetry import trace

from nebula_async.integrations.telemetry import genai
from nebula_async.sinks.memory import MemorySink
from nebula_async.sync import NebulaClient

pytestmark = pytest.mark.anyio


async def test_what_a_sink_does_is_part_of_the_call(emulator, collected):
    """The span of a call is the current one while it runs: spans of a sink are its children."""

    class Traced(MemorySink):
        async def open(self, key):
            with collected.tracer.start_as_current_span("stored"):
                return await super().open(key)

    async with client(emulator, collected) as nebula:
        await nebula.generate("a cat", **SMALL, sink=Traced())

    stored, call = collected.spans
    assert ("stored", call.context.span_id) == (stored.name, stored.parent.span_id)
    assert stored.context.trace_id == call.context.trace_id
    assert "1-1" == call.attributes[genai.CHARGES]


async def test_a_sink_may_write_into_the_span(emulator, collected):
    """What somebody adds to the current span during a call stands in the call's span; nobody else can end it."""

    class Noting(MemorySink):
        async def open(self, key):
            span = trace.get_current_span()
            span.set_attribute("mine", key)
            span.end()
            return await super().open(key)

    async with client(emulator, collected) as nebula:
        await nebula.generate("a cat", **SMALL, sink=Noting())

    assert ("a-cat", "1-1") == tuple(collected.spans[0].attributes[name] for name in ("mine", genai.CHARGES))
    assert 1 == len(collected.spans)


async def test_a_call_inside_of_a_call(emulator, collected):
    """A call that a sink makes is a child of the one it belongs to."""
    nebula = client(emulator, collected)

    class Again(MemorySink):
        async def open(self, key):
            await nebula.generate("a mouse", **SMALL)
            return await super().open(key)

    async with nebula:
        await nebula.generate("a cat", **SMALL, sink=Again())

    inner, outer = sorted(collected.spans, key=lambda span: span.parent is None)
    assert outer.context.span_id == inner.parent.span_id


@pytest.mark.parametrize("is_async", [False, True], ids=["iterable", "async iterable"])
async def test_the_calls_of_many_belong_to_where_they_were_asked_for(emulator, collected, is_async):
    """All calls of `generate_many` are children of the span in which its block was entered."""

    async def source():
        for number in range(40):
            with collected.tracer.start_as_current_span("reading"):
                yield f"cat {number}"

    prompts = source() if is_async else [f"cat {number}" for number in range(40)]
    async with client(emulator, collected, concurrency=4) as nebula:
        with collected.tracer.start_as_current_span("mine") as mine:
            async with nebula.generate_many(prompts, **SMALL) as results:
                assert 40 == len([result async for result in results])
            assert mine is trace.get_current_span()

    assert 40 == len(collected.calls())
    assert {mine.get_span_context().span_id} == {span.parent.span_id for span in collected.calls()}
    assert 40 == len({span.context.span_id for span in collected.calls()})


async def test_a_call_without_a_caller_begins_a_trace(emulator, collected):
    """Without a span of the caller each call is a trace of its own."""
    async with client(emulator, collected) as nebula:
        await nebula.generate_all(["a cat", "a dog"], **SMALL)
    assert [None, None] == [span.parent for span in collected.spans]
    assert 2 == len({span.context.trace_id for span in collected.spans})


async def test_what_is_not_sampled_is_not_recorded(emulator, collected):
    """Where the caller's trace is not sampled, neither is the call."""
    context = trace.SpanContext(7, 7, is_remote=True, trace_flags=trace.TraceFlags(0))
    async with client(emulator, collected) as nebula:
        with trace.use_span(trace.NonRecordingSpan(context)):
            await nebula.generate("a cat", **SMALL)
    assert () == collected.spans


def test_the_client_without_async_belongs_to_its_caller(emulator):
    """Calls of `NebulaClient` are children of the span of the thread that calls."""
    collected = Collected()
    with (
        NebulaClient(emulator.key, base_url=emulator.base_url, observer=collected.telemetry()) as nebula,
        collected.tracer.start_as_current_span("mine") as mine,
    ):
        nebula.generate("a cat", **SMALL)
    assert mine.get_span_context().span_id == collected.calls()[0].parent.span_id
