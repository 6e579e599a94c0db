"""Health: whether an application can make pictures, without buying any."""

from __future__ import annotations

import json

import pytest
from asgi import started
from starlette.applications import Starlette

from nebula_async import ConfigurationError
from nebula_async.emulator import Emulator, Fault
from nebula_async.errors import NebulaError
from nebula_async.integrations.starlette import health_routes, nebula_lifespan

pytestmark = pytest.mark.anyio
SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}


def application(emulator: Emulator, credits_seconds: float | None = None, **options) -> Starlette:
    """Return an application that has nothing but its health."""
    lifespan = nebula_lifespan(api_key=emulator.key, base_url=emulator.base_url, **options)
    return Starlette(routes=health_routes(credits_seconds=credits_seconds), lifespan=lifespan)


async def test_readiness_tells_the_limits_and_buys_nothing(emulator):
    """The limits are those of the client, no picture is asked for, and neither key nor URL is told."""
    async with started(application(emulator, rate_limit=120)) as running:
        await running.state["nebula"].generate("a cat", **SMALL)
        answer = await running.get("/health/ready")
        assert (200, {"state": "live"}) == (
            (await running.get("/health/live")).status,
            (await running.get("/health/live")).json,
        )
    assert (200, "ready", "no-store") == (answer.status, answer.json["state"], answer.headers["cache-control"])
    limits = answer.json["limits"]
    assert (120, 1, 0) == (limits["known_per_minute"], limits["used_today"], limits["in_flight"])
    assert {"running": 0, "departed": 0} == answer.json["visits"]
    assert 1 == len(emulator.journal.requests)
    assert emulator.key not in answer.body.decode()
    assert "http" not in answer.body.decode()


async def test_the_balance_is_asked_for_now_and_then():
    """With `credits_seconds` the balance is told, and asked of the API once in so many seconds; it is left out else."""
    with Emulator(latency=0, credit="12.5") as emulator:
        async with started(application(emulator, credits_seconds=60)) as running:
            told = [(await running.get("/health/ready")).json["credits"] for _ in range(5)]
        async with started(application(emulator)) as running:
            assert "credits" not in (await running.get("/health/ready")).json
        assert ["12.50000"] * 5 == told
        assert 1 == len(emulator.journal.requests)


async def test_a_balance_that_cannot_be_read_harms_nobody():
    """Readiness does not depend on the balance."""
    async with started(Starlette(routes=health_routes(credits_seconds=1), lifespan=dead_end())) as running:
        answer = await running.get("/health/ready")
    assert (200, None) == (answer.status, answer.json["credits"])


def dead_end():
    """Return a lifespan whose API is not there."""
    from nebula_async import Config, RetryPolicy

    config = Config(base_url="http://127.0.0.1:9/api/v1", retry=RetryPolicy(attempts=1))
    return nebula_lifespan(api_key="sk-nobody-there", config=config)


async def test_a_day_that_is_over_is_told_and_no_503():
    """When the day's limit is used up readiness says "closed"; the process stays in service for all else."""
    with Emulator(latency=0, faults=[Fault("429", at=1, headers={"Retry-After": "40000"})]) as emulator:
        async with started(application(emulator)) as running:
            with pytest.raises(NebulaError):
                await running.state["nebula"].generate("a cat", **SMALL)
            answer = await running.get("/health/ready")
    assert 200 == answer.status
    assert answer.json["state"] in ("closed", "held")
    json.dumps(answer.json, allow_nan=False)


async def test_an_application_that_has_not_started_is_not_ready():
    """Without the lifespan readiness is a 503, and liveness is not."""
    async with started(Starlette(routes=health_routes("/-/health/"))) as running:
        assert (503, "not started") == (
            (await running.get("/-/health/ready")).status,
            (await running.get("/-/health/ready")).json["state"],
        )
        assert 200 == (await running.get("/-/health/live")).status


@pytest.mark.parametrize("given", [0, -1, float("nan")], ids=repr)
def test_a_time_that_cannot_be_meant_is_refused(given):
    """A balance is asked for at most every so many seconds, above none."""
    with pytest.raises(ConfigurationError, match="credits_seconds must be above 0"):
        health_routes(credits_seconds=given)
