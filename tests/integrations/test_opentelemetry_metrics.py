"""What metrics count: durations, pictures, charges, retries, waits and limits."""

from __future__ import annotations

import anyio
import pytest
from collected import SCHNELL, SMALL, Collected, client

from nebula_async import AsyncNebula
from nebula_async.events import Asked
from nebula_async.integrations.opentelemetry import Telemetry
from nebula_async.integrations.telemetry import genai
from nebula_async.integrations.telemetry.figures import DURATION_BUCKETS

pytestmark = pytest.mark.anyio

MODEL = genai.REQUEST_MODEL


async def test_durations_by_how_calls_ended(emulator, collected):
    """Each call is one duration in seconds, by model and kind of error, in buckets from a quarter second to minutes."""
    emulator.next("400=invalid_prompt")
    async with client(emulator, collected) as nebula:
        await nebula.generate_all(["a cat"], **SMALL)
        await nebula.generate_all(["a cat", "a dog"], **SMALL)

    points = collected.numbers(genai.DURATION_METRIC, MODEL, genai.ERROR_TYPE)
    assert {(SCHNELL, "invalid_prompt"): 1, (SCHNELL, None): 2} == {key: point.count for key, point in points.items()}
    assert DURATION_BUCKETS == points[SCHNELL, None].explicit_bounds
    assert 0 < points[SCHNELL, None].sum < 10


async def test_pictures_and_charges(emulator, collected):
    """Pictures that came and that were charged are counted, an unknown outcome as between none and one."""
    emulator.next("drop")
    async with client(emulator, collected) as nebula:
        await nebula.generate_all(["a cat"], **SMALL)
        await nebula.generate_all(["a dog", "a fox"], **SMALL)

    assert {(SCHNELL,): 3} == collected.numbers(genai.IMAGES_METRIC, MODEL)
    assert {(SCHNELL,): 3} == collected.numbers(genai.AT_LEAST_METRIC, MODEL)
    assert {(SCHNELL,): 4} == collected.numbers(genai.AT_MOST_METRIC, MODEL)
    emulator.assert_charged(4)


async def test_retries_and_waits(emulator, collected):
    """Attempts that were repeated are counted by reason, and the seconds for which refusals held everyone."""
    emulator.next("429", "500")
    async with client(emulator, collected) as nebula:
        await nebula.generate("a cat", **SMALL)

    reasons = collected.numbers(genai.RETRIES_METRIC, MODEL, genai.RETRY_REASON)
    assert {(SCHNELL, "throttled"): 1, (SCHNELL, "server failed"): 1} == reasons
    assert [True] == [seconds >= 0 for seconds in collected.numbers(genai.WAIT_METRIC).values()]


async def test_limits_and_calls_under_way(emulator, collected):
    """The limits that the client keeps to can be seen, and how many calls are under way."""
    emulator.next("delay=30")
    observed = collected.telemetry()
    begun = anyio.Event()

    def tell(event: object) -> None:
        observed(event)
        if isinstance(event, Asked):
            begun.set()

    async with (
        client(emulator, collected, observer=tell, rate_limit=600, concurrency=7) as nebula,
        anyio.create_task_group() as group,
    ):
        group.start_soon(_generate, nebula)
        await begun.wait()
        assert {(SCHNELL,): 1} == collected.numbers(genai.ACTIVE_METRIC, MODEL)
        group.cancel_scope.cancel()

    assert {(SCHNELL,): 0} == collected.numbers(genai.ACTIVE_METRIC, MODEL)
    assert [True] == [580 < rate <= 600 for rate in collected.numbers(genai.RATE_METRIC).values()]
    assert [7] == list(collected.numbers(genai.CONCURRENCY_METRIC).values())
    points = collected.numbers(genai.DURATION_METRIC, genai.ERROR_TYPE)
    assert 1 == points["cancelled",].count


async def test_clients_that_tell_the_same_meter(emulator, collected):
    """Several clients, each with an observer of its own, are counted together: no sum is lost."""
    for _ in range(3):
        async with client(emulator, collected) as nebula:
            await nebula.generate("a cat", **SMALL)
    assert {(SCHNELL,): 3} == collected.numbers(genai.IMAGES_METRIC, MODEL)


async def test_made_up_models_are_counted_together(emulator, collected):
    """However many models are asked for, the metrics tell only so many apart."""
    emulator.next(*["404=model_not_found"] * 50)
    async with client(emulator, collected) as nebula:
        for number in range(50):
            await nebula.generate_all(["a cat"], model=f"made/up-{number}")

    counts = collected.numbers(genai.DURATION_METRIC, MODEL)
    assert 33 == len(counts)
    assert 18 == counts[genai.OTHER,].count


async def test_nobody_who_reads_needs_a_trace(emulator):
    """Metrics without traces, where a program has only a provider for these."""
    collected = Collected()
    observer = Telemetry(meter_provider=collected.meters)
    async with AsyncNebula(emulator.key, base_url=emulator.base_url, observer=observer) as nebula:
        await nebula.generate("a cat", **SMALL)
    assert {(SCHNELL,): 1} == collected.numbers(genai.IMAGES_METRIC, MODEL)
    assert () == collected.spans


async def _generate(nebula: AsyncNebula) -> None:
    await nebula.generate("a cat", **SMALL)
