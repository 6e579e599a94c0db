"""Every span ends, however its call does, and the caller's is the current one again."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from contextlib import suppress

import anyio
import pytest
from attrs import evolve
from collected import SCHNELL, SMALL, Collected, client
from opentelemetry import trace

from nebula_async import AsyncNebula, BadRequestError
from nebula_async.events import Asked, Sent
from nebula_async.integrations import opentelemetry
from nebula_async.integrations.telemetry import genai

pytestmark = pytest.mark.anyio

PATIENCE = 60.0


async def test_a_call_cancelled_under_way(emulator, collected):
    """A call that is cancelled while its picture is made ends its span, as cancelled and perhaps charged."""
    emulator.next("delay=30")
    left = anyio.Event()

    def tell(event: object) -> None:
        if isinstance(event, Sent):
            left.set()

    telemetry = collected.telemetry()
    async with client(emulator, collected, observer=lambda event: (telemetry(event), tell(event))) as nebula:
        with collected.tracer.start_as_current_span("mine") as mine:
            async with anyio.create_task_group() as group:
                group.start_soon(_generate, nebula)
                await left.wait()
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
            assert mine is trace.get_current_span()

    span = collected.calls()[0]
    assert ("cancelled", "0-1") == (span.attributes[genai.ERROR_TYPE], span.attributes[genai.CHARGES])
    assert span.parent.span_id == mine.get_span_context().span_id


async def test_a_call_cancelled_in_the_queue(emulator, collected):
    """A call that never left ends its span too, charged with nothing."""
    emulator.next("delay=30")
    async with client(emulator, collected, concurrency=1) as nebula, anyio.create_task_group() as group:
        group.start_soon(_generate, nebula)
        group.start_soon(_generate, nebula)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()

    assert {"0-0"} <= {span.attributes[genai.CHARGES] for span in collected.calls()}
    assert 2 == len(collected.calls())


async def test_the_callers_span_is_the_current_one_again(emulator, collected):
    """After a call, whether it came to something or not, the caller's span is the current one."""
    emulator.next("400")
    async with client(emulator, collected) as nebula:
        with collected.tracer.start_as_current_span("mine") as mine:
            with pytest.raises(BadRequestError):
                await nebula.generate("a cat", **SMALL)
            assert mine is trace.get_current_span()
            await nebula.generate("a cat", **SMALL)
            assert mine is trace.get_current_span()
        assert trace.INVALID_SPAN is trace.get_current_span()


async def test_a_span_is_not_held_back_by_a_long_call(emulator, collected):
    """The span of a call that has ended arrives while a longer one is still under way."""
    emulator.next("delay=30")
    arrived = threading.Event()
    export = collected.exporter.export
    collected.exporter.export = lambda spans: (export(spans), arrived.set())[0]
    async with client(emulator, collected) as nebula, anyio.create_task_group() as group:
        group.start_soon(_generate, nebula)
        await anyio.wait_all_tasks_blocked()
        await nebula.generate("a cat", **SMALL)
        assert await anyio.to_thread.run_sync(arrived.wait, PATIENCE)
        assert 1 == len(collected.calls())
        group.cancel_scope.cancel()
    assert 2 == len(collected.calls())


async def test_memory_is_bounded_where_nothing_ends(collected, monkeypatch):
    """Of calls that begin and never end only so many are remembered."""
    monkeypatch.setattr(opentelemetry, "MOST_UNDER_WAY", 8)
    telemetry = collected.telemetry()
    began = Asked(
        call="0",
        model=SCHNELL,
        dialect="serverless",
        pictures=1,
        width=None,
        height=None,
        seed=None,
        address="localhost",
        port=80,
        per_minute=None,
        concurrency=1,
    )
    for number in range(100):
        telemetry(evolve(began, call=str(number % 50)))
    assert {(SCHNELL,): 8} == collected.numbers(genai.ACTIVE_METRIC, genai.REQUEST_MODEL)


def test_a_call_that_nobody_awaits_any_more(emulator):
    """A call whose coroutine is closed after its loop ended leaves nothing behind, and its span comes later."""
    collected = Collected()
    telemetry = collected.telemetry()

    async def begin():
        call = client(emulator, collected, observer=telemetry).generate("a cat", **SMALL)
        call.send(None)
        return call

    async def generate():
        async with client(emulator, collected, observer=telemetry) as nebula:
            await nebula.generate("a cat", **SMALL)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        abandoned = asyncio.run(begin())
        with suppress(RuntimeError):  # no event loop runs
            abandoned.close()
        del abandoned
        gc.collect()
        asyncio.run(generate())

    assert trace.INVALID_SPAN is trace.get_current_span()
    abandoned, made = collected.calls()
    assert genai.ERROR_TYPE in abandoned.attributes
    assert genai.ERROR_TYPE not in made.attributes


async def _generate(nebula: AsyncNebula) -> None:
    await nebula.generate("a cat", **SMALL)
