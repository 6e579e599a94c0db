"""What calls of one client learn together: limits that the API names, holds, what may still be repeated."""

from __future__ import annotations

import anyio
import httpx
import pytest
from trio.testing import MockClock
from wire import answer, ask, closed_url, keep, make_caller

from nebula_async.charges import Charges
from nebula_async.config import RetryPolicy
from nebula_async.errors import NebulaError, NotSentError, RateLimitError
from nebula_async.events import Held, LimitChanged, Resumed, Sent

pytestmark = pytest.mark.anyio

VIRTUAL = pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])
URL = "http://localhost"


def throttling(*replies: httpx.Response) -> httpx.MockTransport:
    """Return a transport that answers so, one reply after the other, and then with success."""
    waiting = iter(replies)
    return httpx.MockTransport(lambda _request: next(waiting, httpx.Response(200)))


@VIRTUAL
async def test_a_hold_and_its_end_are_told():
    """Observers hear that everyone waits, and when the first one leaves again."""
    events: list = []
    caller = make_caller(URL, events, throttling(httpx.Response(429, headers={"Retry-After": "20"})))
    await caller.call(ask(URL), keep)
    told = [event for event in events if isinstance(event, Held | Resumed | Sent)]

    assert [Sent, Held, Resumed, Sent] == [type(event) for event in told]
    assert 20 <= told[1].seconds <= 22.25
    assert pytest.approx(told[1].seconds) == told[2].seconds


@VIRTUAL
async def test_a_limit_that_falls_is_told():
    """A refusal lowers the rate that is believed in, and observers hear the new one."""
    events: list = []
    caller = make_caller(URL, events, throttling(httpx.Response(429)), rate_limit=600)
    await caller.call(ask(URL), keep)
    changed = [event.per_minute for event in events if isinstance(event, LimitChanged)]

    assert changed
    assert changed[0] < 588
    assert caller.gate.limits.per_minute < 588


@VIRTUAL
async def test_a_limit_that_is_only_known_is_not_told():
    """What was given by the user is no change."""
    events: list = []
    caller = make_caller(URL, events, throttling(), rate_limit=600)
    for _ in range(5):
        await caller.call(ask(URL), keep)

    assert [] == [event for event in events if isinstance(event, LimitChanged)]


@VIRTUAL
@pytest.mark.parametrize(("given", "learned"), [(None, 58.8), (600, 58.8), (30, 29.4)])
async def test_a_policy_of_the_api_lowers_the_limit(given, learned):
    """What `RateLimit-Policy` names is kept to; it never raises what the user set."""
    headers = {"RateLimit-Policy": '"default";q=60;w=60'}
    caller = make_caller(URL, None, throttling(httpx.Response(200, headers=headers)), rate_limit=given)
    await caller.call(ask(URL), keep)

    assert pytest.approx(learned) == caller.gate.limits.per_minute


@VIRTUAL
async def test_a_call_that_cannot_wait_out_a_hold_is_told_at_once():
    """While everyone is held for a minute, a call with ten seconds ends at once, unsent, and says for how long."""
    caller = make_caller(URL, None, throttling(httpx.Response(429, headers={"Retry-After": "60"})))
    ended: list = []

    async def call(seconds: float) -> None:
        try:
            ended.append(await caller.call(ask(URL), keep, seconds=seconds))
        except NebulaError as error:
            ended.append((anyio.current_time(), error))

    async with anyio.create_task_group() as group:
        group.start_soon(call, 200)
        await anyio.sleep(1)
        begun = anyio.current_time()
        group.start_soon(call, 10)
    at, error = ended[0]

    assert (begun, RateLimitError, 0, Charges(0, 0)) == (at, type(error), error.attempts, error.charges)
    assert 58 <= error.retry_after <= 65
    assert 2 == ended[1].attempts


async def test_what_a_client_repeats_is_bounded():
    """However many calls fail, a client sends ten more than it makes calls, and a tenth of its successes."""
    url, events = closed_url(), []
    caller = make_caller(url, events)
    ended = []
    for _ in range(50):
        with pytest.raises(NotSentError) as caught:
            await caller.call(ask(url), keep)
        ended.append(caught.value)
    await caller.transport.aclose()

    assert 60 == sum(isinstance(event, Sent) for event in events)
    assert [3] * 5 + [1] * 45 == [error.attempts for error in ended]


async def test_refusals_of_the_rate_limit_cost_nothing_of_the_budget(replies):
    """Waiting for the limit is no burden on the service: without any budget a throttled call goes on."""
    server = replies(answer(429), answer(429), answer(200))
    caller = make_caller(server.url, retry=RetryPolicy(backoff=0, budget=0))
    done = await caller.call(ask(server.url), keep)
    await caller.transport.aclose()

    assert 3 == done.attempts
