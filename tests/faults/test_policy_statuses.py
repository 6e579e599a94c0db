"""What a failing server means for the next attempt: who is asked again, how often, and what it may have cost."""

from __future__ import annotations

import anyio
import pytest
from attrs import evolve
from invariants import end_of
from scripted import (
    CUT,
    DROPPED,
    MADE,
    PAGE,
    REFUSED,
    VIRTUAL,
    Answer,
    Scripted,
    all_of,
    client_of,
    in_turn,
    meet,
    says,
)

from nebula_async import BadRequestError, Charges, Failure, Generation, OutcomeUnknownError, RetryPolicy, ServerError

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("resend_unknown", [0, 1])


def policy(resend_unknown: int, **options) -> RetryPolicy:
    """Return a policy without waits of its own."""
    return RetryPolicy(backoff=0, resend_unknown=resend_unknown, **options)


# One call

STATUSES = [500, 501, 502, 503, 504, 505, 520, 521, 522, 523, 524, 599]


@both
@pytest.mark.parametrize("status", STATUSES)
async def test_a_server_error_that_lasts(status, resend_unknown):
    """A server error is sent again as often as allowed and no more, and counts as perhaps paid each time (D1, D9)."""
    server = Scripted(lambda asked: says(status, is_billed=asked.number == 1))
    ended = await meet(server, retry=policy(resend_unknown))

    assert (ServerError, status, True) == (type(ended), ended.status, ended.retryable)
    assert (1 + resend_unknown, Charges(0, 1 + resend_unknown)) == (ended.attempts, ended.charges)


@both
@pytest.mark.parametrize("status", [500, 504, 524])
async def test_a_server_error_that_passes(status, resend_unknown):
    """After one server error there is a picture, or nothing was risked (D1, D9)."""
    ended = await meet(Scripted(in_turn(says(status, is_billed=True))), retry=policy(resend_unknown))

    expected = (Generation, 2, Charges(1, 2)) if resend_unknown else (ServerError, 1, Charges(0, 1))
    assert expected == (type(ended), ended.attempts, ended.charges)


A, L, SLOW_G, T = says(504), CUT, says(500), says(429, headers={"Retry-After-Ms": "1"})


@pytest.mark.parametrize(
    ("answers", "attempts", "charges"),
    [
        ((A, L), (1, 2, 3), (Charges(0, 1), Charges(1, 2), Charges(2, 3))),
        ((L, SLOW_G), (1, 2, 3), (Charges(1, 1), Charges(1, 2), Charges(2, 3))),
        ((SLOW_G, A), (1, 2, 3), (Charges(0, 1), Charges(0, 2), Charges(1, 3))),
        ((A, T, A), (1, 3, 4), (Charges(0, 1), Charges(0, 2), Charges(1, 3))),
        ((DROPPED, T, CUT), (1, 3, 4), (Charges(0, 1), Charges(1, 2), Charges(2, 3))),
        ((A,), (1, 2, 2), (Charges(0, 1), Charges(1, 2), Charges(1, 2))),
        ((L,), (1, 2, 2), (Charges(1, 1), Charges(2, 2), Charges(2, 2))),
        ((T, T), (3, 3, 3), (Charges(1, 1), Charges(1, 1), Charges(1, 1))),
    ],
    ids=["A-L", "L-slowG", "slowG-A", "A-T-A", "A-T-L", "A", "L", "T-T"],
)
@pytest.mark.parametrize("resend_unknown", [0, 1, 2])
async def test_one_allowance(answers, attempts, charges, resend_unknown):
    """All that may have been paid shares one allowance of re-sends, and throttling does not use it up (D2)."""
    ended = await meet(Scripted(in_turn(*answers)), retry=policy(resend_unknown, attempts=5))

    assert (attempts[resend_unknown], charges[resend_unknown]) == (ended.attempts, ended.charges)


@both
@pytest.mark.parametrize(
    ("first", "error", "charges"),
    [
        (A, ServerError, Charges(0, 1)),
        (SLOW_G, ServerError, Charges(0, 1)),
        (L, OutcomeUnknownError, Charges(1, 1)),
        (DROPPED, OutcomeUnknownError, Charges(0, 1)),
    ],
    ids=["A", "slowG", "L", "dropped"],
)
async def test_a_refusal_after_what_may_be_paid(first, error, charges, resend_unknown):
    """A call that is refused at its second attempt says what the first may have cost, and how that failed (D11)."""
    ended = await meet(Scripted(in_turn(first, then=REFUSED)), retry=policy(resend_unknown))

    assert (1 + resend_unknown, charges) == (ended.attempts, ended.charges)
    if resend_unknown:
        assert (BadRequestError, False, error) == (type(ended), ended.retryable, type(ended.__cause__))
    else:
        assert (error, True) == (type(ended), ended.retryable)


CUTS = {
    "dropped": (DROPPED, OutcomeUnknownError),
    "500": (says(500), ServerError),
    "502": (Answer(status=502, body=PAGE), ServerError),
    "503": (Answer(status=503, body=PAGE), ServerError),
    "504": (Answer(status=504, body=PAGE), ServerError),
}


@both
@pytest.mark.parametrize(("answer", "error"), CUTS.values(), ids=CUTS)
@VIRTUAL
async def test_a_gateway_that_cuts_off_after_a_minute(answer, error, resend_unknown):
    """Work that is done and billed while a gateway gives up on it is paid for once more at most, and never with
    `resend_unknown=0`; the call says so (F30).
    """
    server = Scripted(in_turn(then=evolve(answer, is_billed=True, seconds=60.0)))
    ended = await meet(server, retry=RetryPolicy(resend_unknown=resend_unknown))

    assert (error, 1 + resend_unknown) == (type(ended), ended.attempts)
    assert (Charges(0, 1 + resend_unknown), 1 + resend_unknown) == (ended.charges, server.charged.total())


BUSY = {
    "asks to wait": (says(503, headers={"Retry-After-Ms": "20"}), 3, Charges(0, 0), 0.02),
    "at once, a page": (Answer(status=503, body=PAGE), 3, Charges(0, 0), None),
    "at once, its own words": (says(503), 2, Charges(0, 2), None),
    "late, a page": (Answer(status=503, body=PAGE, seconds=1.0), 2, Charges(0, 2), None),
}


@pytest.mark.parametrize(("answer", "attempts", "charges", "retry_after"), BUSY.values(), ids=BUSY)
@VIRTUAL
async def test_a_busy_server(answer, attempts, charges, retry_after):
    """A 503 that asks to wait, or comes too fast for any work, cost nothing; any other may have been paid (F31)."""
    ended = await meet(Scripted(in_turn(then=answer)), retry=policy(1))

    assert (ServerError, attempts, charges) == (type(ended), ended.attempts, ended.charges)
    assert (retry_after, True) == (ended.retry_after, ended.retryable)


@pytest.mark.parametrize(("seconds", "charges"), [(0.2, Charges(0, 0)), (0.3, Charges(0, 2))])
@VIRTUAL
async def test_what_is_too_fast_for_work_is_learnt(seconds, charges):
    """Once pictures took a second, a gateway's page after more than a quarter of that may mean work (F29, F31)."""
    server = Scripted(in_turn(evolve(MADE, seconds=1.0), then=Answer(status=502, body=PAGE, seconds=seconds)))
    async with client_of(server, retry=policy(1)) as nebula:
        made, ended = await end_of(nebula), await end_of(nebula)

    assert (Charges(1, 1), ServerError, charges) == (made.charges, type(ended), ended.charges)


# Many calls

PROMPTS = [f"cat {number}" for number in range(200)]


@both
async def test_a_prompt_that_always_fails(resend_unknown):
    """A prompt that the server cannot answer is sent twice at most, and no other one suffers (F27)."""
    server = Scripted(lambda asked: says(500, is_billed=True) if asked.prompt == "cat 7" else MADE)
    ends = await all_of(server, PROMPTS[:30], retry=policy(resend_unknown))

    failed = ends.pop(7)
    assert (Failure, ServerError) == (type(failed), type(failed.error))
    assert (1 + resend_unknown, Charges(0, 1 + resend_unknown)) == (failed.error.attempts, failed.error.charges)
    assert {(1, Charges(1, 1))} == {(ended.attempts, ended.charges) for ended in ends}


FAILING = frozenset({3, 50, 51, 52, 88, 120, 121, 150, 199, 200, 204})


@both
@pytest.mark.parametrize("is_billed", [True, False], ids=["billed", "free"])
async def test_one_in_twenty_fails(resend_unknown, is_billed):
    """Where one request in twenty fails, only what fails again is a failure, and says what it cost (F28)."""
    failing = says(500, is_billed=is_billed)
    server = Scripted(lambda asked: failing if asked.number in FAILING else MADE)
    ends = await all_of(server, PROMPTS, retry=policy(resend_unknown))

    for ended in ends:
        has_failed = [asked.number in FAILING for asked in server.asked if asked.prompt == ended.request.prompt]
        assert len(has_failed) <= 1 + resend_unknown
        assert all(has_failed[:-1])
        assert isinstance(ended, Failure) == has_failed[-1]


@pytest.mark.parametrize("attempts", [3, 10])
@VIRTUAL
async def test_an_outage_behind_a_gateway(attempts):
    """While a gateway answers with its own page for a minute nothing is charged, and what all calls send again is ten
    requests, however many attempts each has; the first call after it is answered (F29).
    """
    is_down, errors = True, []
    server = Scripted(lambda _asked: Answer(status=502, body=PAGE) if is_down else REFUSED)
    async with client_of(server, retry=RetryPolicy(attempts=attempts)) as nebula:
        begun = anyio.current_time()
        while anyio.current_time() < begun + 60:
            errors.append(await end_of(nebula))
            await anyio.sleep(0.1)
        is_down = False
        answered = await end_of(nebula)

    assert {(ServerError, Charges(0, 0), True)} == {(type(each), each.charges, each.retryable) for each in errors}
    assert (BadRequestError, 1) == (type(answered), answered.attempts)
    assert len(errors) + 1 + 10 == len(server.asked)


@pytest.mark.parametrize("failing", [says(500), DROPPED, CUT], ids=["slowG", "A", "L"])
async def test_failures_are_not_amplified(failing):
    """However much fails, no more than a tenth of the successes is sent on top, and ten once (F28)."""
    server = Scripted(lambda asked: failing if asked.number % 2 else MADE)
    await all_of(server, PROMPTS, retry=policy(9, attempts=10))

    assert len(PROMPTS) < len(server.asked) <= len(PROMPTS) + 10 + 0.1 * len(PROMPTS)
