"""What an answer refuses for good, and what a key of the call says of an earlier attempt."""

from __future__ import annotations

import pytest
from attrs import evolve
from invariants import SMALL, end_of
from scripted import MADE, Answer, Scripted, all_of, check_all, client_of, in_turn, meet, says

from nebula_async import (
    AuthenticationError,
    BadRequestError,
    Charges,
    ContentPolicyError,
    Failure,
    Generation,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    UnusableReplyError,
)
from nebula_async.events import Held

pytestmark = pytest.mark.anyio

PROMPTS = [f"cat {number}" for number in range(40)]
FREE, UNKNOWN, ONCE, ONCE_OR_TWICE = Charges(0, 0), Charges(0, 1), Charges(1, 1), Charges(1, 2)
IMPATIENT = RetryPolicy(backoff=0)

# Fatal: every other request would be refused as well

FATAL = {
    "F24-429": (says(429, "insufficient_quota", headers={"Retry-After": "60"}), QuotaExhaustedError),
    "F24-400": (says(400, "insufficient_quota"), QuotaExhaustedError),
    "F24-500": (says(500, "insufficient_quota"), QuotaExhaustedError),
    "F24-402": (says(402), QuotaExhaustedError),
    "F32-401": (says(401), AuthenticationError),
    "F32-403": (says(403), PermissionDeniedError),
    "F32-404": (says(404), NotFoundError),
}
fatal = pytest.mark.parametrize(("answer", "error"), FATAL.values(), ids=FATAL)


@fatal
async def test_what_is_refused_for_every_request(answer, error):
    """A refused key, and credit that is used up, are not asked about again, and cost nothing (F24, F32)."""
    ended = await meet(Scripted(in_turn(then=answer)))

    assert (error, 1, FREE, False) == (type(ended), ended.attempts, ended.charges, ended.retryable)


@fatal
async def test_a_refusal_in_the_middle_of_many(answer, error):
    """Of many items those that were made are there, and each of the others says in one attempt why it is not; nobody is
    held for it, and nothing waits (F24, F32).
    """
    events: list = []
    server = Scripted(lambda asked: MADE if asked.number <= 10 else answer)
    ends = await all_of(server, PROMPTS, observer=events.append)

    failed = [ended.error for ended in ends if isinstance(ended, Failure)]
    assert (10, {(error, 1, FREE)}) == (
        len(ends) - len(failed),
        {(type(each), each.attempts, each.charges) for each in failed},
    )
    assert [] == [event for event in events if isinstance(event, Held)]


async def test_a_key_that_is_rotated():
    """A key from a callable is asked for at each attempt: once it is the new one, calls succeed again (F32)."""
    key, valid = "sk-old", "sk-new"
    server = Scripted(lambda asked: MADE if asked.authorization == f"Bearer {valid}" else says(401))
    async with client_of(server, api_key=lambda: key) as nebula:
        refused = await end_of(nebula)
        key = valid
        made = await end_of(nebula)
    check_all([refused, made], server)

    assert [AuthenticationError, Generation] == [type(refused), type(made)]


# A success that says that it failed


@pytest.mark.parametrize("status", ["error", "failed"])
@pytest.mark.parametrize(
    ("code", "error", "attempts", "charges"),
    [
        ("rate_limit_exceeded", RateLimitError, 3, FREE),
        ("insufficient_quota", QuotaExhaustedError, 1, FREE),
        ("content_policy_violation", ContentPolicyError, 1, FREE),
        ("model_not_found", NotFoundError, 1, FREE),
        ("gpu_on_fire", UnusableReplyError, 1, ONCE),
        (None, UnusableReplyError, 1, ONCE),
    ],
)
async def test_a_success_that_says_it_failed(code, error, attempts, charges, status):
    """A 200 whose body says that it failed is what its code says; one that nobody documented was paid for, and is not
    sent again (F34).
    """
    said = b"null" if code is None else b'{"code": "%s", "message": "so"}' % code.encode()
    answer = Answer(body=b'{"status": "%s", "error": %s, "data": null}' % (status.encode(), said))
    ended = await meet(Scripted(in_turn(then=evolve(answer, is_billed=charges == ONCE))), retry=IMPATIENT)

    assert (error, attempts, charges) == (type(ended), ended.attempts, ended.charges)
    assert ended.retryable == (error is RateLimitError)


# The key of a call


@pytest.mark.parametrize("resend_unknown", [0, 1])
@pytest.mark.parametrize("idempotency", ["off", "unknown", "replay"])
async def test_the_key_on_the_wire(idempotency, resend_unknown):
    """The key of a call goes along in quotes, the same at each attempt, or not at all; only where it is trusted what
    may have been paid for is sent again as often as anything, and is paid for once (D8, D1).
    """
    server = Scripted(in_turn(then=says(504)))
    policy = RetryPolicy(attempts=4, backoff=0, resend_unknown=resend_unknown)
    ended = await meet(server, idempotency=idempotency, retry=policy)

    attempts = 4 if idempotency == "replay" else 1 + resend_unknown
    assert (attempts, Charges(0, 1 if idempotency == "replay" else attempts)) == (ended.attempts, ended.charges)
    sent = None if idempotency == "off" else f'"{ended.idempotency_key}"'
    assert {sent} == {asked.idempotency_key for asked in server.asked}
    assert 32 == len(ended.idempotency_key)


async def test_each_call_has_a_key_of_its_own():
    """Two items never share a key, whatever else they share (D8)."""
    server = Scripted(in_turn(says(504), says(500)))
    ends = await all_of(server, PROMPTS, idempotency="unknown", retry=IMPATIENT)

    keys = {ended.idempotency_key for ended in ends}
    assert len(PROMPTS) == len(keys)
    assert {f'"{key}"' for key in keys} == {asked.idempotency_key for asked in server.asked}


AT_WORK = says(409, headers={"Retry-After-Ms": "10"})


@pytest.mark.parametrize("resend_unknown", [0, 1])
async def test_an_attempt_that_is_still_at_work(resend_unknown):
    """Where keys are trusted, the answer that the first attempt is still at work is waited out, and what that attempt
    made is fetched by the third; it is paid for once (F35).
    """
    first, replayed = says(504, is_billed=True), evolve(MADE, is_billed=False)
    server = Scripted(in_turn(first, AT_WORK, then=replayed))
    policy = RetryPolicy(backoff=0, resend_unknown=resend_unknown)
    ended = await meet(server, idempotency="replay", retry=policy)

    assert (Generation, 3, ONCE) == (type(ended), ended.attempts, ended.charges)
    assert 1 == len({asked.idempotency_key for asked in server.asked})


@pytest.mark.parametrize("idempotency", ["off", "unknown"])
async def test_a_conflict_where_keys_are_not_trusted(idempotency):
    """Where they are not, a conflict is a refusal like any other (F35)."""
    ended = await meet(Scripted(in_turn(then=AT_WORK)), idempotency=idempotency, retry=IMPATIENT)

    assert (409, 1, FREE, False) == (ended.status, ended.attempts, ended.charges, ended.retryable)


@pytest.mark.parametrize("code", ["idempotency_key_reused", "idempotency_key_mismatch"])
async def test_a_key_that_was_used(code):
    """A key refused as used says only that the first attempt arrived: its error is raised, the refusal is the cause,
    and it may have been paid once (F36).
    """
    server = Scripted(in_turn(says(504, is_billed=True), then=says(422, code)))
    ended = await meet(server, idempotency="unknown", retry=IMPATIENT)

    assert (ServerError, 504, 2, UNKNOWN) == (type(ended), ended.status, ended.attempts, ended.charges)
    assert (BadRequestError, 422, code) == (type(ended.__cause__), ended.__cause__.status, ended.__cause__.code)


async def test_a_key_that_was_used_by_others():
    """A first attempt that is refused so has nothing before it to blame: the refusal itself is raised (F36)."""
    ended = await meet(Scripted(in_turn(then=says(422, "idempotency_key_reused"))), idempotency="unknown")

    assert (BadRequestError, 422, 1, FREE) == (type(ended), ended.status, ended.attempts, ended.charges)


@pytest.mark.parametrize(("promoted", "attempts"), [(says(504), 1), (says(500), 1), (says(429), 1), (says(400), 1)])
async def test_a_server_that_forbids_another_attempt(promoted, attempts):
    """`x-should-retry: false` ends a call after its first attempt, whatever the status (D1)."""
    answer = evolve(promoted, headers={"x-should-retry": "false"})
    ended = await meet(Scripted(in_turn(then=answer)), retry=IMPATIENT)

    assert (attempts, False) == (ended.attempts, ended.retryable)


@pytest.mark.parametrize("status", [400, 504])
async def test_a_server_that_asks_for_another_attempt(status):
    """`x-should-retry: true` promotes neither what is refused nor what may have been paid for (D1)."""
    answer = says(status, headers={"x-should-retry": "true"})
    ended = await meet(Scripted(in_turn(then=answer)), retry=RetryPolicy(backoff=0, resend_unknown=0))

    assert 1 == ended.attempts


async def test_one_item_is_no_reason_to_stop():
    """Many items of which some are refused for their own sake all end, in order, each by itself (F24)."""
    refusals = {"cat 3": says(400, "content_policy_violation"), "cat 5": says(404, "model_not_found")}
    server = Scripted(lambda asked: refusals.get(asked.prompt, MADE))
    async with client_of(server) as nebula, nebula.generate_many(PROMPTS, ordered=True, **SMALL) as results:
        ends = [result async for result in results]
    check_all(ends, server)

    assert list(range(40)) == [ended.index for ended in ends]
    assert [3, 5] == [ended.index for ended in ends if isinstance(ended, Failure)]
