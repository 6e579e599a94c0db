"""A job's calls wait for the end of an outage: none loses its attempts, one at a time probes."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import httpx
import pytest
from trio.testing import MockClock
from wire import ask, keep, make_caller, seeded

from nebula_async.config import RetryPolicy
from nebula_async.engine.breaker import Breaker
from nebula_async.engine.call import Caller
from nebula_async.engine.outage import Outage
from nebula_async.errors import NebulaError, NotSentError, ServerError
from nebula_async.events import OutageBegan, OutageEnded, Retrying, Sent

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})]),
]

URL = "http://localhost"
SERVICE_SECONDS = 3.0


class Service(httpx.AsyncBaseTransport):
    """A service that is there while `is_up` says so, at that time; a success takes three seconds.

    While it is not, connections are refused, or its gateway answers with a page of its own.
    """

    def __init__(self, is_up: Callable[[float], bool], page: bytes | None = None) -> None:
        self.is_up = is_up
        self.page = page
        self.sent: list[float] = []
        self.under_way = self.most_under_way = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse the connection, or answer."""
        await request.extensions["trace"]("connection.connect_tcp.started", {})
        self.sent.append(anyio.current_time())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if not self.is_up(anyio.current_time()):
                await anyio.sleep(0.1)
                if self.page is None:
                    raise httpx.ConnectError("refused")
                await request.extensions["trace"]("http11.send_request_headers.started", {})
                return httpx.Response(502, content=self.page)
            await request.extensions["trace"]("http11.send_request_headers.started", {})
            await anyio.sleep(SERVICE_SECONDS)
        finally:
            self.under_way -= 1
        return httpx.Response(200, content=b"{}")


def make(service: Service, events: list | None = None, **retry) -> tuple[Caller, Breaker]:
    """Return a caller of a service, and the breaker of a job."""
    caller = make_caller(URL, events, service, retry=RetryPolicy(**retry), concurrency=8)
    return caller, Breaker(Outage(seeded(2)))


async def call_all(caller: Caller, breaker: Breaker, count: int) -> list:
    """Make so many calls, eight at a time, as a job does; return what they ended with."""
    ended: list = []
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            try:
                ended.append(await caller.call(ask(URL), keep, is_patient=True, breaker=breaker))
            except NebulaError as error:
                ended.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(work)
    return ended


@pytest.mark.parametrize("page", [None, b"<html>Bad Gateway</html>"], ids=["refused", "page"])
async def test_no_call_loses_its_attempts_to_an_outage(page):
    """Half an hour without a connection, and every call succeeds: few probes meanwhile, and a start within a minute
    (F1, F29).
    """
    begun, events = anyio.current_time(), []
    ends = begun + 1800 + 10
    service = Service(lambda now: not begun + 10 <= now < ends, page)
    caller, breaker = make(service, events)
    ended = await call_all(caller, breaker, 60)

    assert [1] * 60 == [done.charges.at_most for done in ended]
    meanwhile = [moment for moment in service.sent if begun + 10 <= moment < ends]
    assert len(meanwhile) <= 90
    assert min(moment for moment in service.sent if moment >= ends) <= ends + 61
    assert [OutageBegan, OutageEnded] == [type(it) for it in events if isinstance(it, OutageBegan | OutageEnded)]


async def test_probes_go_one_by_one():
    """Between the beginning and the end of an outage one attempt at a time is under way."""
    events, most, begun = [], [], anyio.current_time()
    service = Service(lambda now: not begun + 10 <= now < begun + 300)
    caller, breaker = make(service, events)

    def watch(event: object) -> None:
        if isinstance(event, Sent) and breaker.outage.is_open:
            most.append(service.under_way)

    caller.notify = watch
    ended = await call_all(caller, breaker, 60)

    assert {1} == {done.charges.at_most for done in ended if not isinstance(done, NebulaError)}
    assert {0} == set(most[8:])


async def test_an_address_that_never_answers_is_given_up():
    """Where nothing was ever answered, calls end after half a minute of probing, for nothing."""
    begun = anyio.current_time()
    caller, breaker = make(Service(lambda _now: False))
    ended = await call_all(caller, breaker, 8)

    assert {NotSentError} == {type(error) for error in ended}
    assert {0} == {error.charges.at_most for error in ended}
    assert breaker.outage.is_hopeless
    assert anyio.current_time() - begun < 60


async def test_what_may_be_paid_is_not_handed_back():
    """During an outage a call that may have been paid for is still sent `1 + resend_unknown` times at most (F27)."""
    service = httpx.MockTransport(lambda _request: httpx.Response(500))
    caller, breaker = make(service)
    ended = await call_all(caller, breaker, 30)

    assert 2 == max(error.attempts for error in ended)  # the last ones are not sent: it is hopeless by then
    assert {ServerError, NotSentError} == {type(error) for error in ended}
    assert all(error.charges.at_most == error.attempts for error in ended)


async def test_without_others_that_are_answered_a_failure_is_not_counted():
    """While nobody is answered a call goes on beyond its attempts; as soon as others are, its failures count."""
    caller, breaker = make(Service(lambda _now: False), budget=1000)
    with anyio.move_on_after(5):
        await caller.call(ask(URL), keep, is_patient=True, breaker=breaker)
        pytest.fail("it ended")

    events: list = []
    caller, breaker = make(Service(lambda _now: False), events, budget=1000)
    caller.notify = lambda event: (events.append(event), breaker.outage.succeeded(anyio.current_time(), is_probe=False))
    with pytest.raises(NotSentError) as caught:
        await caller.call(ask(URL), keep, is_patient=True, breaker=breaker)
    assert 3 == caught.value.attempts


async def test_the_end_of_the_job_ends_the_waiting():
    """When a job ends, those who wait for the end of an outage end as well, with what they may have cost."""
    caller, breaker = make(Service(lambda _now: False))
    ended: list = []

    async def run() -> None:
        ended.extend(await call_all(caller, breaker, 8))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.sleep(10)
        breaker.give_up()
    assert [NotSentError] * 8 == [type(error) for error in ended]


async def test_a_cancelled_probe_lets_the_next_one_go():
    """Whoever is cancelled while it probes leaves the probing to the next."""
    begun = anyio.current_time()
    service = Service(lambda now: now > begun + 10)
    caller, breaker = make(service)
    breaker.open()
    for _ in range(3):
        with anyio.move_on_after(2):
            await caller.call(ask(URL), keep, is_patient=True, breaker=breaker)
    await anyio.sleep_until(begun + 20)
    done = await caller.call(ask(URL), keep, is_patient=True, breaker=breaker)

    assert 1 == done.attempts


async def test_the_budget_of_a_client_opens_it():
    """Once a client may repeat nothing more a job waits, probing, instead of losing items."""
    begun, events = anyio.current_time(), []
    service = Service(lambda now: now > begun + 10)
    caller, breaker = make(service, events, budget=0)
    done = await caller.call(ask(URL), keep, is_patient=True, breaker=breaker)

    assert 1 == done.charges.at_least
    assert OutageBegan in [type(event) for event in events]
    assert Retrying in [type(event) for event in events]
