"""One call against a server that fails on purpose: how it ends, what it tried, and what it says it may have cost."""

from __future__ import annotations

import json
import socket
import struct
import threading
from contextlib import ExitStack, suppress
from functools import partial
from traceback import TracebackException

import anyio
import anyio.lowlevel
import httpx
import pytest
from attrs import evolve
from trio.testing import MockClock
from wire import PATIENCE, RawServer, answer, ask, closed_url, keep, make_caller, says

from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.arrival import AnswerArrival
from nebula_async.charges import Charges
from nebula_async.config import RetryPolicy, Timeouts
from nebula_async.emulator import Emulator, Fault
from nebula_async.engine.call import Caller, Completed
from nebula_async.engine.reading import WholeReply
from nebula_async.engine.verdict import Known, Verdict
from nebula_async.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ContentPolicyError,
    DeadlineError,
    NebulaError,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
    UnusableReplyError,
)
from nebula_async.events import Abandoned, Held, Retrying, Sent
from nebula_async.sinks.keeping import InMemory

pytestmark = pytest.mark.anyio

VIRTUAL = pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])

PICTURE = {"prompt": "a cat", "model": "black-forest-labs/FLUX.1-schnell", "width": 16, "height": 16}


@pytest.fixture
def start():
    """Start an emulator with these options."""
    with ExitStack() as stack:
        yield lambda *faults, **options: stack.enter_context(Emulator(faults=faults, **options))


def read() -> AnswerArrival:
    """Read a reply with pictures."""
    return AnswerArrival(1, InMemory())


def picture(url: str) -> HttpRequest:
    """Return a request for one small picture."""
    return HttpRequest(method="POST", url=f"{url}/images/generation", body=json.dumps(PICTURE).encode(), pictures=1)


async def outcome(caller: Caller, request: HttpRequest, read=read, **options) -> Completed | NebulaError:
    """Make a call and return what it ends with."""
    try:
        return await caller.call(request, read, **options)
    except NebulaError as error:
        return error


async def end(caller: Caller, request: HttpRequest, read=read, **options) -> Completed | NebulaError:
    """Make the only call of a caller and return what it ends with."""
    try:
        return await outcome(caller, request, read, **options)
    finally:
        await caller.transport.aclose()


async def meet(emulator: Emulator, *, is_patient: bool = False, **settings) -> Completed | NebulaError:
    """Make a call of an emulator, and check what the call says it cost against what it did cost."""
    caller = make_caller(emulator.base_url, **settings)
    ended = await end(caller, picture(emulator.base_url), is_patient=is_patient)
    assert ended.charges.at_least <= emulator.journal.charged <= ended.charges.at_most
    assert ended.attempts == len(emulator.journal.generations)
    return ended


THROTTLED = ("429", "429=rate_limit_exceeded", "400=rate_limit_exceeded", "408", "425")


@pytest.mark.parametrize(
    ("fault", "attempts", "charges"),
    [
        *((kind, 2, Charges(1, 1)) for kind in THROTTLED),
        ("502", 2, Charges(1, 1)),
        ("500", 2, Charges(1, 2)),
        ("503", 2, Charges(1, 2)),
        ("504", 2, Charges(1, 2)),
        ("520", 2, Charges(1, 2)),
        ("599", 2, Charges(1, 2)),
        ("refuse", 2, Charges(1, 2)),
        ("drop", 2, Charges(1, 2)),
        ("cut", 2, Charges(2, 2)),
        ("delay=0.01", 1, Charges(1, 1)),
    ],
)
async def test_one_failure_is_survived(start, fault, attempts, charges):
    """After one failure that may be repeated the call succeeds; what the failure may have cost is said."""
    done = await meet(start(f"{fault}:@1"))

    assert isinstance(done, Completed)
    assert (attempts, charges) == (done.attempts, done.charges)
    assert 1 == len(done.value.images)


@pytest.mark.parametrize(
    ("fault", "error", "attempts", "charges"),
    [
        ("429", RateLimitError, 3, Charges(0, 0)),
        ("502", ServerError, 3, Charges(0, 0)),
        ("500", ServerError, 2, Charges(0, 2)),
        ("504", ServerError, 2, Charges(0, 2)),
        ("524", ServerError, 2, Charges(0, 2)),
        ("drop", OutcomeUnknownError, 2, Charges(0, 2)),
        ("refuse", OutcomeUnknownError, 2, Charges(0, 2)),
        ("cut", OutcomeUnknownError, 2, Charges(2, 2)),
        ("malformed", UnusableReplyError, 1, Charges(1, 1)),
        ("malformed=base64", UnusableReplyError, 1, Charges(1, 1)),
        ("malformed=html", UnusableReplyError, 1, Charges(1, 1)),
        ("400", BadRequestError, 1, Charges(0, 0)),
        ("400=invalid_prompt", BadRequestError, 1, Charges(0, 0)),
        ("400=content_policy_violation", ContentPolicyError, 1, Charges(0, 0)),
        ("404=model_not_found", NotFoundError, 1, Charges(0, 0)),
        ("404", NotFoundError, 1, Charges(0, 0)),
        ("401", AuthenticationError, 1, Charges(0, 0)),
        ("402", QuotaExhaustedError, 1, Charges(0, 0)),
        ("403", PermissionDeniedError, 1, Charges(0, 0)),
        ("429=insufficient_quota", QuotaExhaustedError, 1, Charges(0, 0)),
    ],
)
async def test_a_failure_that_lasts(start, fault, error, attempts, charges):
    """A call against a server that always fails the same way ends with the error of the class, and with its sums."""
    ended = await meet(start(f"{fault}:1"))

    assert (error, attempts, charges) == (type(ended), ended.attempts, ended.charges)
    assert ended.idempotency_key is not None


MAY_BE_PAID = ("500", "503", "504", "520", "drop", "refuse", "cut")


@pytest.mark.parametrize("fault", MAY_BE_PAID)
async def test_never_paid_twice(start, fault):
    """With `resend_unknown=0` nothing that may have been paid is sent again (D1)."""
    emulator = start(f"{fault}:1")
    ended = await meet(emulator, retry=RetryPolicy(resend_unknown=0, backoff=0))

    assert 1 == ended.attempts
    assert 1 >= emulator.journal.charged


@pytest.mark.parametrize(
    ("faults", "attempts", "charges"),
    [
        (("drop:@1", "cut:@2"), 2, Charges(1, 2)),
        (("cut:@1", "500:@2"), 2, Charges(1, 2)),
        (("500:@1", "drop:@2"), 2, Charges(0, 2)),
        (("drop:@1", "429:@2", "drop:@3"), 3, Charges(0, 2)),
        (("drop:@1",), 2, Charges(1, 2)),
    ],
)
async def test_one_allowance(start, faults, attempts, charges):
    """Everything that may have been paid shares one allowance of one re-send, which throttling does not use up (D2)."""
    ended = await meet(start(*faults))

    assert (attempts, charges) == (ended.attempts, ended.charges)


async def test_a_refusal_after_an_unknown_outcome(start):
    """A call that is refused at its second attempt still says that the first may have been paid (D11)."""
    ended = await meet(start("drop:@1", "400:@2"))

    assert (BadRequestError, 2, Charges(0, 1), False) == (type(ended), ended.attempts, ended.charges, ended.retryable)


async def test_work_that_was_billed_and_reported_as_failed(start):
    """A server that bills and then answers 500 is within what the call says it may have cost (F30)."""
    for status in ("500", "502", "503", "504"):
        emulator = start(Fault(status, at=[1], billed=True), Fault(status, at=[2], body=b'{"status": "failed"}'))
        ended = await meet(emulator, retry=RetryPolicy(resend_unknown=0, backoff=0), timeouts=Timeouts(total=5))
        if status != "502":
            assert Charges(0, 1) == ended.charges


@pytest.mark.parametrize(("name", "value"), [("Retry-After-Ms", "300"), ("Retry-After", "0.3")])
@pytest.mark.parametrize("status", ["429", "503"])
async def test_retry_after_is_honoured(start, status, name, value):
    """Nothing is sent before the moment that the server names."""
    emulator = start(Fault(status, at=[1], headers={name: value}))
    begun = anyio.current_time()
    done = await meet(emulator)

    assert (2, Charges(1, 1)) == (done.attempts, done.charges)
    assert anyio.current_time() - begun >= 0.3


async def test_one_refusal_holds_everyone(start):
    """While one call waits out a refusal, no other call of the client sends."""
    emulator = start(Fault("429", at=[1], headers={"Retry-After-Ms": "300"}))
    events: list = []
    held = anyio.Event()

    def notify(event) -> None:
        events.append((anyio.current_time(), event))
        if isinstance(event, Held):
            held.set()

    caller = evolve(make_caller(emulator.base_url), notify=notify)
    async with anyio.create_task_group() as group:
        group.start_soon(caller.call, picture(emulator.base_url), read)
        await held.wait()
        for _ in range(5):
            group.start_soon(caller.call, picture(emulator.base_url), read)
    await caller.transport.aclose()

    began = next(at for at, event in events if isinstance(event, Held))
    assert 1 == sum(isinstance(event, Held) for _, event in events)
    assert all(at - began >= 0.3 for at, event in events if isinstance(event, Sent) and at > began)


async def test_a_burst_of_refusals_is_one_hold(start):
    """Sixteen calls that are refused together hold everyone once, and then all succeed (F23)."""
    emulator = start(Fault("429", at=range(1, 17), headers={"Retry-After-Ms": "200"}))
    events: list = []
    caller = make_caller(emulator.base_url, events)
    async with anyio.create_task_group() as group:
        for _ in range(16):
            group.start_soon(caller.call, picture(emulator.base_url), read)
    await caller.transport.aclose()

    assert 16 == emulator.journal.charged
    assert 32 == len(emulator.journal.generations)
    assert 3 >= sum(isinstance(event, Held) for event in events)


async def test_a_wait_that_does_not_fit_is_not_begun(start):
    """A wait that is longer than what is left of the deadline is raised at once, with the wait on the error."""
    emulator = start(Fault("429", at=[1], headers={"Retry-After": "60"}))
    begun = anyio.current_time()
    ended = await meet(emulator, timeouts=Timeouts(total=5))

    assert (RateLimitError, 60.0, 1, True) == (type(ended), ended.retry_after, ended.attempts, ended.retryable)
    assert anyio.current_time() - begun < 1


@pytest.mark.parametrize(("asked", "attempts", "least", "most"), [("119", 3, 238, 249), ("121", 1, 0, 0)])
@VIRTUAL
async def test_the_longest_delay(asked, attempts, least, most):
    """A wait that is longer than `longest_delay` is raised at once, though the deadline would allow it."""
    caller = make_caller("http://localhost", custom=httpx.MockTransport(lambda _request: _throttled(asked)))
    begun = anyio.current_time()
    ended = await end(caller, ask("http://localhost"), keep)

    assert (RateLimitError, attempts) == (type(ended), ended.attempts)
    assert least <= anyio.current_time() - begun <= most


def _throttled(seconds: str | None) -> httpx.Response:
    return httpx.Response(429, headers={} if seconds is None else {"Retry-After": seconds})


def _refusing_until(moment: float, seconds: str | None) -> httpx.MockTransport:
    return httpx.MockTransport(
        lambda _request: _throttled(seconds) if anyio.current_time() < moment else httpx.Response(200)
    )


@VIRTUAL
@pytest.mark.parametrize(("asked", "seconds"), [(None, 100), ("30", 100), ("600", 1000)])
async def test_patience_spends_neither_attempts_nor_time(asked, seconds):
    """A patient call waits for the rate limit as long as the server asks, far over its attempts and its deadline."""
    begun = anyio.current_time()
    transport = _refusing_until(begun + seconds, asked)
    caller = make_caller(
        "http://localhost", custom=transport, timeouts=Timeouts(total=5), retry=RetryPolicy(attempts=1)
    )
    done = await end(caller, ask("http://localhost"), keep, is_patient=True)

    assert isinstance(done, Completed)
    assert Charges(1, 1) == done.charges
    assert seconds <= anyio.current_time() - begun


@VIRTUAL
@pytest.mark.parametrize("asked", [None, "30"])
async def test_refusals_without_end_mean_the_day(asked):
    """Refused for more than two minutes and never accepted: the day's limit is reached, and that is said."""
    caller = make_caller("http://localhost", custom=_refusing_until(1e9, asked), retry=RetryPolicy())
    begun = anyio.current_time()
    ended = await end(caller, ask("http://localhost"), keep, is_patient=True)

    assert (RateLimitError, "day", Charges(0, 0)) == (type(ended), ended.scope, ended.charges)
    assert 120 < anyio.current_time() - begun < 200


@pytest.mark.parametrize("is_patient", [True, False])
@VIRTUAL
async def test_a_wait_of_hours_means_the_day(is_patient):
    """A server that asks to wait for hours names the day's limit; nobody is held that long, or sent after it."""
    caller = make_caller("http://localhost", custom=_refusing_until(1e9, "7200"))
    begun = anyio.current_time()
    first, then = [await outcome(caller, ask("http://localhost"), keep, is_patient=is_patient) for _ in range(2)]

    assert [(RateLimitError, "day", 1), (RateLimitError, "day", 0)] == [
        (type(each), each.scope, each.attempts) for each in (first, then)
    ]
    assert 7200.0 == first.retry_after
    assert 0 < then.retry_after <= 86_400
    assert 0.0 == anyio.current_time() - begun


@VIRTUAL
async def test_a_patient_call_obeys_a_server_that_forbids_to_try_again():
    """`x-should-retry: false` ends a patient call, too."""
    refusal = httpx.Response(429, headers={"x-should-retry": "false"})
    caller = make_caller("http://localhost", custom=httpx.MockTransport(lambda _request: refusal))
    ended = await end(caller, ask("http://localhost"), keep, is_patient=True)

    assert (RateLimitError, 1, False) == (type(ended), ended.attempts, ended.retryable)


async def test_a_success_that_says_it_was_throttled(replies):
    """A 200 with the code `rate_limit_exceeded` is a refusal: nothing was charged, and it is sent again."""
    server = replies(answer(200, says("rate_limit_exceeded")))
    ended = await end(make_caller(server.url, retry=RetryPolicy(attempts=1)), picture(server.url))

    assert (RateLimitError, Charges(0, 0), True) == (type(ended), ended.charges, ended.retryable)


async def test_a_success_with_an_unknown_code_is_paid(replies):
    """A 200 that says it failed, for a reason nobody documented, counts as paid (F34)."""
    server = replies(answer(200, says("gpu_on_fire")))
    ended = await end(make_caller(server.url), picture(server.url))

    assert (UnusableReplyError, 1, Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)


TOTAL = 0.4


@pytest.mark.parametrize(
    ("faults", "attempts", "charges"),
    [
        (("delay=30:@1",), 1, Charges(0, 1)),
        (("drop:@1", "delay=30:@2"), 2, Charges(0, 2)),
        (("cut:@1", "delay=30:@2"), 2, Charges(1, 2)),
        (("429:@1", "delay=30:@2"), 2, Charges(0, 1)),
    ],
)
async def test_the_deadline_ends_the_call(start, faults, attempts, charges):
    """A call ends at its total time, and its charges count the attempt that this interrupted."""
    begun = anyio.current_time()
    ended = await meet(start(*faults), timeouts=Timeouts(total=TOTAL))

    assert pytest.approx(TOTAL, abs=0.2) == anyio.current_time() - begun
    assert (DeadlineError, attempts, charges, True) == (type(ended), ended.attempts, ended.charges, ended.retryable)
    assert isinstance(ended, TimeoutError)
    assert (attempts > 1) == isinstance(ended.__cause__, NebulaError)


@VIRTUAL
async def test_the_deadline_in_a_wait_of_our_own():
    """A wait that does not fit into the deadline is not begun: the call ends with what it knows, at once."""
    transport = httpx.MockTransport(lambda _request: httpx.Response(500))
    ends = set()
    for _ in range(20):
        caller = make_caller(
            "http://localhost", custom=transport, timeouts=Timeouts(total=0.1), retry=RetryPolicy(backoff=10)
        )
        ended = await end(caller, ask("http://localhost"), keep)
        ends.add(type(ended))
        assert Charges(0, ended.attempts) == ended.charges
    assert {ServerError} == ends


@VIRTUAL
async def test_the_deadline_while_queueing():
    """A call that spends its time in the queue was never sent, and says so."""
    caller = make_caller(
        "http://localhost",
        custom=httpx.MockTransport(lambda _request: httpx.Response(200)),
        rate_limit=1,
        timeouts=Timeouts(total=30),
    )
    await caller.call(ask("http://localhost"), keep)
    begun = anyio.current_time()
    ended = await end(caller, ask("http://localhost"), keep)

    assert (DeadlineError, 0, Charges(0, 0)) == (type(ended), ended.attempts, ended.charges)
    assert 30.0 == anyio.current_time() - begun


@VIRTUAL
async def test_queueing_is_free_for_the_patient():
    """A patient call that queues for an hour has all its time left when its turn comes."""
    seconds = 20

    async def slow(_request: httpx.Request) -> httpx.Response:
        await anyio.sleep(seconds)
        return httpx.Response(200)

    caller = make_caller(
        "http://localhost", custom=httpx.MockTransport(slow), rate_limit=1 / 60, timeouts=Timeouts(total=30)
    )
    done = [await outcome(caller, ask("http://localhost"), keep, is_patient=True) for _ in range(2)]
    seconds = 40
    late = await end(caller, ask("http://localhost"), keep, is_patient=True)

    assert [1, 1] == [each.attempts for each in done]
    assert (DeadlineError, Charges(0, 1)) == (type(late), late.charges)


async def test_the_deadline_while_reading(start):
    """A reply that is here is read, though the deadline strikes meanwhile: it is paid for."""
    emulator = start()

    async def slowly(reply: Reply) -> bytes:
        await anyio.sleep(TOTAL)
        return reply.body

    caller = make_caller(emulator.base_url, timeouts=Timeouts(total=TOTAL / 2))
    done = await end(caller, picture(emulator.base_url), partial(WholeReply, slowly))

    assert (Completed, Charges(1, 1)) == (type(done), done.charges)


async def test_a_request_for_nothing_costs_nothing(start, replies):
    """A request that asks for no picture is charged nothing, however it ends, and is repeated freely."""
    emulator = start()
    caller = make_caller(emulator.base_url)
    done = await end(caller, HttpRequest(method="GET", url=f"{emulator.base_url}/users/credits"), keep)
    server = replies(answer(500), answer(504), answer(500))
    free = HttpRequest(method="GET", url=server.url)
    ended = await end(make_caller(server.url, retry=RetryPolicy(backoff=0, resend_unknown=0)), free, keep)

    assert Charges(0, 0) == done.charges
    assert (3, Charges(0, 0)) == (ended.attempts, ended.charges)


async def test_what_is_usual_is_learnt_from_pictures(start):
    """Quick requests that cost nothing do not make a gateway's refusal look like slow work."""
    emulator = start("502:@1")
    caller = make_caller(emulator.base_url)
    for _ in range(5):
        await caller.call(HttpRequest(method="GET", url=f"{emulator.base_url}/users/credits"), keep)
    done = await end(caller, picture(emulator.base_url))

    assert Charges(1, 1) == done.charges


@pytest.mark.parametrize(
    ("idempotency", "sent", "attempts", "charges"),
    [
        ("off", False, 2, Charges(0, 2)),
        ("unknown", True, 2, Charges(0, 2)),
        ("replay", True, 3, Charges(0, 1)),
    ],
)
async def test_idempotency(replies, idempotency, sent, attempts, charges):
    """The key goes along where wanted, quoted, the same at each attempt; only a replayed one frees re-sends (D8)."""
    server = replies(*[answer(504)] * 3)
    ended = await end(make_caller(server.url, idempotency=idempotency), ask(server.url), keep)
    keys = {_header(text, b"idempotency-key") for text in server.requests}

    assert (ServerError, attempts, charges) == (type(ended), ended.attempts, ended.charges)
    assert {f'"{ended.idempotency_key}"'.encode() if sent else None} == keys


async def test_a_bare_key(replies):
    """For servers that do not read the draft's quotes the key goes along without them (D8)."""
    server = replies(answer(200))
    caller = make_caller(server.url, idempotency="unknown", idempotency_form="bare")
    done = await end(caller, ask(server.url), keep)

    assert done.key.encode() == _header(server.requests[0], b"idempotency-key")


def _header(text: bytes, name: bytes) -> bytes | None:
    lines = dict(line.split(b": ", 1) for line in text.split(b"\r\n\r\n")[0].split(b"\r\n")[1:])
    return {key.lower(): value for key, value in lines.items()}.get(name)


async def test_a_key_in_progress_is_waited_for(replies):
    """Where keys are replayed, a conflict with the first attempt is waited out, and paid once (F35)."""
    server = replies(answer(504), answer(409), answer(200, b"{}"))
    done = await end(make_caller(server.url, idempotency="replay"), ask(server.url), keep)

    assert (3, Charges(1, 1)) == (done.attempts, done.charges)


async def test_a_key_that_was_used_names_the_first_failure(replies):
    """A key refused as used before says no more than that the first attempt arrived: its error is raised (F36)."""
    server = replies(answer(504), answer(422, says("idempotency_key_reused")))
    ended = await end(make_caller(server.url, idempotency="unknown"), ask(server.url), keep)

    assert (ServerError, 504, 2, Charges(0, 1)) == (type(ended), ended.status, ended.attempts, ended.charges)
    assert 422 == ended.__cause__.status


async def test_nothing_listens():
    """Where there is no server the call tries as often as its policy allows, and costs nothing (F1)."""
    events: list = []
    url = closed_url()
    ended = await end(make_caller(url, events), ask(url), keep)

    assert (NotSentError, 3, Charges(0, 0)) == (type(ended), ended.attempts, ended.charges)
    assert OSError is not type(ended.__cause__)
    assert [Sent, Retrying, Sent, Retrying, Sent] == [type(event) for event in events]


async def test_events_tell_the_story(start):
    """Observers see each attempt, each retry with its reason, and all under the key of the call."""
    events: list = []
    caller = make_caller(start("drop:@1").base_url, events)
    done = await end(caller, picture(caller.config.base_url))

    assert [Sent(call=done.key, attempt=1), Sent(call=done.key, attempt=2)] == [events[0], events[2]]
    assert Retrying(call=done.key, attempt=1, reason="outcome unknown", delay_seconds=0.0) == events[1]


async def test_a_slot_is_free_while_a_call_waits(start):
    """A call that waits before its next attempt holds up nobody."""
    emulator = start(Fault("500", at=[1], headers={"Retry-After": "30"}))
    caller = make_caller(emulator.base_url, concurrency=1)
    retrying = anyio.Event()
    caller.notify = lambda event: retrying.set() if isinstance(event, Retrying) else None
    async with anyio.create_task_group() as group:
        group.start_soon(caller.call, picture(emulator.base_url), read)
        await retrying.wait()
        with anyio.fail_after(PATIENCE):
            await caller.call(picture(emulator.base_url), read)
        group.cancel_scope.cancel()
    await caller.transport.aclose()


async def test_cancellation_goes_through(serve):
    """A cancelled call is cancelled: it raises nothing else, and frees its slot."""
    arrived = threading.Semaphore(0)

    def handle(server: RawServer, connection) -> None:
        server.read_request(connection)
        arrived.release()
        connection.recv(1)

    server = serve(handle)
    caller = make_caller(server.url, concurrency=1)
    for _ in range(3):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.call, ask(server.url), keep)
            assert await anyio.to_thread.run_sync(arrived.acquire, True, PATIENCE)
            group.cancel_scope.cancel()
    await caller.transport.aclose()

    assert 3 == len(server.requests)


async def test_other_exceptions_come_out_bare(start):
    """An exception that is none of ours, of a sink or a program error, ends the call as it is, and frees its slot."""
    emulator = start()
    caller = make_caller(emulator.base_url, concurrency=1)

    async def broken(_reply: Reply) -> None:
        raise LookupError("mine")

    for _ in range(2):
        with pytest.raises(LookupError, match="mine"):
            await caller.call(picture(emulator.base_url), partial(WholeReply, broken))
    await caller.transport.aclose()


def _reset(server: RawServer, connection: socket.socket) -> None:
    """Read a request, and end the connection with a reset."""
    server.read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _close(server: RawServer, connection: socket.socket) -> None:
    """Read a request, and end the connection in order."""
    server.read_request(connection)


def _refuse_with_a_look(request: httpx.Request) -> httpx.Response:
    """Fail as a proxy does, with the request's headers in a local variable."""
    looked_at = dict(request.headers)
    raise httpx.ProxyError(f"no way with {len(looked_at)} headers")


@pytest.mark.parametrize("handle", [_reset, _close])
async def test_a_report_of_a_lost_connection_shows_no_key(serve, handle):
    """A report that prints the local variables of every frame does not show the key of a call that was cut off."""
    server = serve(handle)
    ended = await end(make_caller(server.url, key="sk-secret"), ask(server.url), keep)

    assert OutcomeUnknownError is type(ended)
    assert b"sk-secret" in server.requests[0]
    assert_hides_the_key(ended)


async def test_a_report_of_a_refusing_proxy_shows_no_key():
    """Nor does one of a call that a proxy refused."""
    transport = httpx.MockTransport(_refuse_with_a_look)
    ended = await end(make_caller("http://localhost", custom=transport, key="sk-secret"), ask("http://localhost"), keep)

    assert NotSentError is type(ended)
    assert_hides_the_key(ended)


def assert_hides_the_key(error: BaseException) -> None:
    """Check that what led to an error holds no frames, and that no report of it shows the key."""
    cause = error.__cause__
    assert cause is not None
    while cause is not None:
        assert cause.__traceback__ is None
        cause = cause.__cause__ or cause.__context__
    assert "sk-secret" not in "".join(TracebackException.from_exception(error, capture_locals=True).format())


@pytest.mark.parametrize(("status", "headers"), [(408, {}), (425, {}), (503, {"Retry-After": "1"})])
@VIRTUAL
async def test_a_busy_server_is_waited_for(status, headers):
    """What asks to come again later, unsent, is waited for by a patient call; a single one has its attempts."""
    waiting = [httpx.Response(status, headers=headers)] * 20
    transport = httpx.MockTransport(lambda _request: waiting.pop() if waiting else httpx.Response(200))
    caller = make_caller("http://localhost", custom=transport, retry=RetryPolicy(attempts=4))
    ended = await outcome(caller, ask("http://localhost"), keep)
    assert (status, 4, Charges(0, 0)) == (ended.status, ended.attempts, ended.charges)

    done = await end(caller, ask("http://localhost"), keep, is_patient=True)
    assert (17, Charges(1, 1)) == (done.attempts, done.charges)


@pytest.mark.parametrize("status", [400, 404, 500])
@VIRTUAL
async def test_other_answers_show_that_the_day_is_not_over(status):
    """Where requests pass the limit and are refused or fail for reasons of their own, no quota is blamed."""
    answered = 0

    def alternate(_request: httpx.Request) -> httpx.Response:
        nonlocal answered
        answered += 1
        if answered % 4:
            return httpx.Response(429)
        return httpx.Response(status, json={"error": {"code": "model_not_found", "message": "no such model"}})

    caller = make_caller("http://localhost", custom=httpx.MockTransport(alternate), retry=RetryPolicy(resend_unknown=0))
    begun = anyio.current_time()
    ends = [await outcome(caller, ask("http://localhost"), keep, is_patient=True) for _ in range(100)]
    await caller.transport.aclose()

    assert {status} == {ended.status for ended in ends}
    assert anyio.current_time() - begun > 240


@VIRTUAL
async def test_the_daily_quota_is_named():
    """An error that means the day's quota says so, and when it is renewed."""
    caller = make_caller("http://localhost", custom=_refusing_until(1e9, "7200"))
    ended = await end(caller, ask("http://localhost"), keep)

    assert ended.is_daily
    assert ended.message.startswith("the daily quota is used up (the API answered: ")
    assert "Trying again can help from 00:00 UTC on, in 2 h 00 min. Wait until then" in str(ended)


@pytest.mark.parametrize(("status", "error"), [(429, RateLimitError), (401, AuthenticationError)])
async def test_a_refusal_whose_body_is_slow_is_a_refusal(serve, status, error):
    """The status decides: that the rest of a refusal takes longer than an attempt may does not make it unknown."""

    def drip(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(answer(status, b"{", length=13))
        gone = threading.Event()
        for _ in range(12):
            gone.wait(0.05)
            connection.sendall(b" ")

    server = serve(drip)
    caller = make_caller(server.url, timeouts=Timeouts(attempt=0.3), retry=RetryPolicy(attempts=1))
    ended = await end(caller, ask(server.url), keep)

    assert (error, status, 1, Charges(0, 0)) == (type(ended), ended.status, ended.attempts, ended.charges)


async def test_a_proxy_that_refuses_is_not_asked_again():
    """A proxy's refusal comes before the request: it cost nothing, and another attempt would change nothing."""

    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ProxyError("407 Proxy Authentication Required")

    caller = make_caller("http://localhost", custom=httpx.MockTransport(refuse))
    ended = await end(caller, ask("http://localhost"), keep)

    assert (NotSentError, 1, Charges(0, 0), False) == (type(ended), ended.attempts, ended.charges, ended.retryable)
    assert "407 Proxy Authentication Required" in str(ended)


async def test_a_transport_with_a_mistake_in_it():
    """What a user's transport raises that is no error of a transport is the cause, and what it cost is unknown."""
    mine = KeyError("mine")

    def fail(_request: httpx.Request) -> httpx.Response:
        raise mine

    ended = await end(make_caller("http://localhost", custom=httpx.MockTransport(fail)), ask("http://localhost"), keep)

    assert (OutcomeUnknownError, 2, Charges(0, 2)) == (type(ended), ended.attempts, ended.charges)
    assert mine is ended.__cause__


async def _abandon(caller: Caller, begun: anyio.Event, request: HttpRequest) -> None:
    """Make a call and cancel it once something has begun."""
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.call, request, keep)
            await begun.wait()
            group.cancel_scope.cancel()
    await caller.transport.aclose()


async def test_a_call_cancelled_in_the_queue_is_told():
    """A call that is cancelled before its turn is told to observers, and cost nothing."""
    events: list = []
    transport = httpx.MockTransport(lambda _request: httpx.Response(200))
    caller = make_caller("http://localhost", events, transport, rate_limit=1)
    first = await caller.call(ask("http://localhost"), keep)
    queued = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(_abandon, caller, queued, ask("http://localhost"))
        await anyio.wait_all_tasks_blocked()
        queued.set()

    assert [Sent, Abandoned] == [type(event) for event in events]
    assert first.key == events[0].call != events[1].call
    assert (0, Charges(0, 0)) == (events[1].attempts, events[1].charges)


async def test_a_call_cancelled_under_way_is_told(serve):
    """A call that is cancelled when its request has left is told to observers with what it may have cost."""
    arrived = threading.Semaphore(0)

    def handle(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        arrived.release()
        connection.recv(1)

    server, events, begun = serve(handle), [], anyio.Event()
    caller = make_caller(server.url, events)
    async with anyio.create_task_group() as group:
        group.start_soon(_abandon, caller, begun, ask(server.url, pictures=2))
        assert await anyio.to_thread.run_sync(arrived.acquire, True, PATIENCE)
        begun.set()

    assert Abandoned(call=events[0].call, attempts=1, charges=Charges(0, 2)) == events[1]
    assert 2 == len(events)


class Notes:
    """A journal that looks at what a server has got, and notes what it is told; it may raise at an attempt."""

    def __init__(self, server: RawServer, fails_at: int = 0) -> None:
        self.server = server
        self.fails_at = fails_at
        self.told: list = []
        self.call_key = "0123456789abcdef" * 2

    async def sending(self) -> None:
        """Note how many requests have arrived when all that could happen has happened."""
        await anyio.wait_all_tasks_blocked()
        self.told.append(len(self.server.requests))
        if self.told[-1] + 1 == self.fails_at:
            raise ConfigurationError("the journal is full")

    async def ended(self, verdict: Verdict | None, charges: Charges) -> None:
        """Note the class of the outcome, and the sums."""
        self.told.append((verdict and verdict.known, charges))


async def test_a_journal_knows_of_each_attempt_before_it_leaves(replies):
    """Each attempt is noted once before a byte of it leaves, and once it has ended, with the sums up to then."""
    server = replies(answer(429), answer(500), answer(200))
    notes = Notes(server)
    done = await end(make_caller(server.url), ask(server.url), keep, journal=notes)

    assert (3, Charges(1, 2)) == (done.attempts, done.charges)
    throttled, failed, answered = (
        (Known.THROTTLED, Charges(0, 0)),
        (Known.SERVER_FAILED, Charges(0, 1)),
        (None, Charges(1, 2)),
    )
    assert [0, throttled, 1, failed, 2, answered] == notes.told
    assert notes.call_key == done.key


@pytest.mark.parametrize(("fails_at", "attempts", "charges"), [(1, 0, Charges(0, 0)), (2, 1, Charges(0, 1))])
async def test_what_a_journal_cannot_note_is_not_sent(replies, fails_at, attempts, charges):
    """An attempt that the journal refuses does not leave; the call ends with the refusal and its sums."""
    server = replies(answer(500), answer(200))
    ended = await end(make_caller(server.url), ask(server.url), keep, journal=Notes(server, fails_at))

    assert (ConfigurationError, attempts, charges) == (type(ended), ended.attempts, ended.charges)
    assert ended.idempotency_key is not None
    assert attempts == len(server.requests)


@pytest.mark.parametrize(("status", "charges"), [(400, Charges(0, 0)), (500, Charges(0, 1)), (200, Charges(1, 1))])
async def test_the_deadline_after_the_status(serve, status, charges):
    """A call that the deadline ends in the middle of a reply counts what its status has settled."""

    def hang(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(answer(status, b"{", length=1000))
        with suppress(OSError):
            connection.recv(1)

    server = serve(hang)
    ended = await end(make_caller(server.url, timeouts=Timeouts(total=TOTAL)), ask(server.url), keep)

    assert (DeadlineError, 1, charges) == (type(ended), ended.attempts, ended.charges)


@VIRTUAL
async def test_a_free_call_waits_as_it_is_asked_to():
    """A list or a balance that is refused as one too many is asked for again when the server says, and holds nobody."""
    times = []

    def reply(_request: httpx.Request) -> httpx.Response:
        times.append(anyio.current_time())
        return httpx.Response(200 if len(times) > 1 else 429, json={}, headers={"Retry-After": "7"})

    events = []
    caller = make_caller("http://localhost", events, custom=httpx.MockTransport(reply))
    await caller.call(HttpRequest(method="GET", url="http://localhost/serverless/models"), keep)

    assert 7 <= times[1] - times[0] <= 7 + 0.1 * 7 + 0.25
    assert [] == [event for event in events if isinstance(event, Held)]


@VIRTUAL
async def test_a_call_may_be_given_less_time():
    """What comes before a call, such as reading a picture, is taken off its time."""
    never = httpx.MockTransport(lambda _request: anyio.sleep_forever())
    caller = make_caller("http://localhost", custom=never, timeouts=Timeouts(total=100))
    started = anyio.current_time()
    with pytest.raises(DeadlineError):
        await caller.call(ask("http://localhost"), keep, seconds=30)

    assert 30 == pytest.approx(anyio.current_time() - started)
