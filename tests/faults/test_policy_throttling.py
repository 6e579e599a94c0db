"""The server says that it is too much: nobody sends before it is time, nothing is lost, and nothing is stormed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import anyio
import pytest
from attrs import evolve
from invariants import SMALL, end_of
from scripted import MADE, REFUSED, VIRTUAL, Answer, Scripted, all_of, client_of, in_turn, meet, says, throttled

from nebula_async import BadRequestError, Charges, Failure, Generation, RateLimitError, RetryPolicy, ServerError, Tier
from nebula_async.events import Held, LimitChanged

pytestmark = pytest.mark.anyio

FREE = Charges(0, 0)
PROMPTS = [f"cat {number}" for number in range(60)]

# A wait that the server names


def in_seconds(seconds: float) -> dict[str, str]:
    """Name a wait in seconds."""
    return {"Retry-After": f"{seconds:g}"}


def in_milliseconds(seconds: float) -> dict[str, str]:
    """Name a wait in milliseconds, beside another one that does not count."""
    return {"Retry-After-Ms": f"{1000 * seconds:g}", "Retry-After": "1"}


def as_a_date(seconds: float) -> dict[str, str]:
    """Name a moment, by a clock of the server's own."""
    return {
        "Date": "Wed, 21 Oct 2015 07:28:00 GMT",
        "Retry-After": f"Wed, 21 Oct 2015 07:{28 + seconds // 60:02.0f}:{seconds % 60:02.0f} GMT",
    }


FORMS = pytest.mark.parametrize("form", [in_seconds, in_milliseconds, as_a_date])


@FORMS
@pytest.mark.parametrize("seconds", [2, 30, 119])
@pytest.mark.parametrize("status", [429, 503])
@VIRTUAL
async def test_a_wait_that_is_named(status, seconds, form):
    """After a refusal that names a wait nothing is sent before its end, and the next soon after it (F21, F31)."""
    server = Scripted(in_turn(says(status, headers=form(seconds)), then=REFUSED))
    ended = await meet(server)

    assert (BadRequestError, 2, FREE) == (type(ended), ended.attempts, ended.charges)
    first, second = (asked.at for asked in server.asked)
    assert seconds <= second - first <= seconds + min(0.1 * seconds + 0.25, 5)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_short_wait_that_is_named(status):
    """After a wait that is named and over, the picture is made and paid for once (F21)."""
    server = Scripted(in_turn(says(status, headers=in_milliseconds(0.05))))
    ended = await meet(server)

    assert (Generation, 2, Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)
    assert 0.05 <= server.asked[1].at - server.asked[0].at


@FORMS
@VIRTUAL
async def test_a_wait_is_everyones(form):
    """What one call was told to wait, all others wait as well (F21)."""
    server = Scripted(in_turn(says(429, headers=form(30), seconds=1.0), then=evolve(REFUSED, seconds=1.0)))
    ends = await all_of(server, PROMPTS, concurrency=4)

    refused = server.asked[0].at + 1.0
    assert not [asked for asked in server.asked if refused < asked.at < refused + 30]
    assert 8 >= sum(asked.at <= refused for asked in server.asked)
    assert {BadRequestError} == {type(ended.error) for ended in ends}


@pytest.mark.parametrize(("status", "error"), [(429, RateLimitError), (503, ServerError)])
@VIRTUAL
async def test_a_wait_that_is_too_long_for_a_call(status, error):
    """A call that would have to wait for more than two minutes is told so at once, with the wait (F21, F31)."""
    server = Scripted(in_turn(then=says(status, headers=in_seconds(121))))
    begun = anyio.current_time()
    ended = await meet(server)

    assert (error, 1, FREE) == (type(ended), ended.attempts, ended.charges)
    assert (121.0, True) == (ended.retry_after, ended.retryable)
    assert begun == anyio.current_time()


# A refusal that names nothing


@pytest.mark.parametrize(
    ("refusals", "error", "attempts"), [(1, BadRequestError, 2), (2, BadRequestError, 3), (9, RateLimitError, 3)]
)
@VIRTUAL
async def test_one_call_counts_its_refusals(refusals, error, attempts):
    """A single call that is refused as one too many waits, tries again, and gives up after its attempts (F22)."""
    server = Scripted(in_turn(*[throttled()] * refusals, then=REFUSED))
    ended = await meet(server)

    assert (error, attempts, FREE) == (type(ended), ended.attempts, ended.charges)
    times = [asked.at for asked in server.asked]
    assert all(0 < later - earlier < 60 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("refusals", [1, 3, 6])
@VIRTUAL
async def test_an_item_of_many_does_not(refusals):
    """An item of many waits for the limit as often as it takes, even where it has a single attempt (F22)."""
    server = Scripted(in_turn(*[throttled()] * refusals, then=REFUSED))
    (ended,) = await all_of(server, PROMPTS[:1], retry=RetryPolicy(attempts=1))

    assert (BadRequestError, 1 + refusals, FREE) == (type(ended.error), ended.error.attempts, ended.error.charges)


@pytest.mark.parametrize("answer", [throttled(30), throttled()], ids=["named", "not-named"])
@VIRTUAL
async def test_a_storm_is_one_refusal_virtually(answer):
    """Fifty requests that are refused together hold everyone once; then all are answered (F23)."""
    _ends, holds = await _storm(answer, then=REFUSED)

    assert 1 == holds


async def test_a_storm_is_one_refusal():
    """Fifty requests that are refused together, as far as a busy machine can tell, cut the rate once; then all are
    made, and paid for once (F23).
    """
    ends, _holds = await _storm(says(429, headers=in_milliseconds(0.3)), then=MADE)

    assert {Charges(1, 1)} == {ended.charges for ended in ends}


async def _storm(answer: Answer, then: Answer) -> tuple[list[Generation | Failure], int]:
    events: list = []
    server = Scripted(in_turn(*[evolve(answer, seconds=0.3)] * 50, then=then))
    ends = await all_of(server, PROMPTS[:50], concurrency=50, rate_limit=60_000, observer=events.append)

    limits = [event.per_minute for event in events if isinstance(event, LimitChanged)]
    assert limits == sorted(limits), "after the first cut the limit was cut again"
    assert 100 == len(server.asked)
    assert server.asked[0].at + 0.3 < server.asked[50].at  # no sooner than the first refusal
    return ends, sum(isinstance(event, Held) for event in events)


# The day's quota

HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
def two_hours_left(monkeypatch) -> Callable[[], float]:
    """Let it be 22:00 UTC, by a wall clock that follows the test's own; return that clock."""
    midnight = 20_000 * DAY
    begun: list[float] = []

    def now() -> float:
        begun.append(anyio.current_time())
        return midnight - 2 * HOUR + begun[-1] - begun[0]

    monkeypatch.setattr(time, "time", now)
    return now


REFUSING = {
    "named": throttled(2 * HOUR - 60),
    "not-named": throttled(),
}


@pytest.mark.parametrize("answer", REFUSING.values(), ids=REFUSING)
@VIRTUAL
async def test_the_day_is_over(answer, two_hours_left):
    """When nothing more is accepted that day, many items end with one error that says so, the rest untaken; until
    midnight nobody asks more often than once a minute; then everything goes on (F25).
    """
    midnight = 20_000 * DAY
    two_hours_left()
    server = Scripted(lambda _asked: answer if time.time() < midnight else REFUSED)
    prompts, ends, probes = iter(PROMPTS), [], 0
    async with client_of(server, concurrency=4) as nebula:
        with pytest.raises(RateLimitError) as caught:
            await _drain(nebula.generate_many(prompts, **SMALL), ends)
        left, asked = list(prompts), len(server.asked)
        for _ in range(60):
            await anyio.sleep(10)
            refused = await end_of(nebula)
            assert (True, FREE) == (refused.is_daily, refused.charges)
        probes = len(server.asked) - asked
        await anyio.sleep(midnight - time.time() + 1)
        await _drain(nebula.generate_many(left, **SMALL), later := [])

    assert (True, 0, FREE) == (caught.value.is_daily, caught.value.attempts, caught.value.charges)
    assert len(PROMPTS) == len(ends) + len(left)
    assert 1 <= len(ends) <= 8
    assert {(True, FREE)} == {(ended.error.is_daily, ended.error.charges) for ended in ends}
    assert 10 >= probes
    assert [BadRequestError] * len(left) == [type(ended.error) for ended in later]


async def _drain(block, ends: list) -> None:
    async with block as results:
        async for result in results:
            ends.append(result)  # noqa: PERF401 - what came before an exception is kept


@VIRTUAL
async def test_the_day_is_used_up_by_our_own_count(two_hours_left):
    """A known limit of the day is kept without asking: what goes beyond it is not sent before midnight (F25)."""
    server = Scripted(in_turn(then=REFUSED))
    async with client_of(server, tier=Tier("mine", per_minute=6000, per_day=5)) as nebula:
        two_hours_left()
        ends = await nebula.generate_all(PROMPTS[:20], **SMALL)
        await anyio.sleep(2 * HOUR + 1)
        later = await end_of(nebula)

    assert [BadRequestError] * 5 == [type(ended.error) for ended in ends[:5]]
    assert {(RateLimitError, "day", FREE)} == {
        (type(ended.error), ended.error.scope, ended.error.charges) for ended in ends[5:]
    }
    assert 6 == len(server.asked)
    assert BadRequestError is type(later)


# The wall clock


@pytest.mark.parametrize("jumps", [(DAY,), (-DAY,), (DAY, -DAY)], ids=["forward", "backward", "both"])
@VIRTUAL
async def test_the_wall_clock_jumps(jumps, monkeypatch):
    """A wall clock that is set a day forward or back at every request changes nothing of the pace (F47)."""
    wall, jump = 20_000.5 * DAY, itertools.cycle(jumps)
    monkeypatch.setattr(time, "time", lambda: wall)

    def script(_asked: object) -> Answer:
        nonlocal wall
        wall += next(jump)
        return REFUSED

    server = Scripted(script)
    await all_of(server, PROMPTS, rate_limit=600)

    times = [asked.at for asked in server.asked]
    expected = 60 / (0.98 * 600)
    assert [pytest.approx(expected)] * 59 == [later - earlier for earlier, later in itertools.pairwise(times)]
