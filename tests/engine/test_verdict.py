"""What an attempt is known to have cost decides everything that follows, so it is judged from a table."""

from __future__ import annotations

import ssl

import pytest
from wire import says

from nebula_async.api.messages import Reply
from nebula_async.charges import Charges
from nebula_async.engine.phase import Phase, Progress
from nebula_async.engine.transport import ExchangeError
from nebula_async.engine.verdict import (
    CERTAINLY_FREE,
    PASSED_THE_LIMIT,
    PERHAPS_PAID,
    Known,
    charges_if_stopped,
    fast_seconds,
    judge_failure,
    judge_reply,
    judge_unusable,
)
from nebula_async.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
    SinkError,
    UnusableReplyError,
)

FREE, UNKNOWN, PAID = Charges(0, 0), Charges(0, 1), Charges(1, 1)

PLAIN = b'{"status": "failed", "message": "no"}'
PAGE = b"<html>502 Bad Gateway</html>"
RETRY_AFTER = ((b"Retry-After", b"7"),)


def judged(status: int, body: bytes = PLAIN, headers=(), **facts):
    """Judge a complete reply that is no success."""
    return judge_reply(Reply(status=status, headers=headers, body=body), now=0.0, **facts)


@pytest.mark.parametrize(
    ("status", "body", "known", "error", "charges"),
    [
        (429, PLAIN, Known.THROTTLED, RateLimitError, FREE),
        (429, PAGE, Known.THROTTLED, RateLimitError, FREE),
        (429, b"", Known.THROTTLED, RateLimitError, FREE),
        (400, says("rate_limit_exceeded"), Known.THROTTLED, RateLimitError, FREE),
        (500, says("rate_limit_exceeded"), Known.THROTTLED, RateLimitError, FREE),
        (408, PLAIN, Known.THROTTLED, APIStatusError, FREE),
        (425, PLAIN, Known.THROTTLED, APIStatusError, FREE),
        (500, PLAIN, Known.SERVER_FAILED, ServerError, UNKNOWN),
        (502, PLAIN, Known.SERVER_FAILED, ServerError, UNKNOWN),
        (503, PLAIN, Known.SERVER_FAILED, ServerError, UNKNOWN),
        (500, PAGE, Known.SERVER_FAILED, ServerError, UNKNOWN),
        (504, PLAIN, Known.UNKNOWN, ServerError, UNKNOWN),
        (501, PLAIN, Known.UNKNOWN, ServerError, UNKNOWN),
        (505, PLAIN, Known.UNKNOWN, ServerError, UNKNOWN),
        (520, PAGE, Known.UNKNOWN, ServerError, UNKNOWN),
        (524, PAGE, Known.UNKNOWN, ServerError, UNKNOWN),
        (599, b"", Known.UNKNOWN, ServerError, UNKNOWN),
        (400, PLAIN, Known.REFUSED, BadRequestError, FREE),
        (404, says("model_not_found"), Known.REFUSED, NotFoundError, FREE),
        (405, b"", Known.REFUSED, BadRequestError, FREE),
        (409, b"", Known.REFUSED, BadRequestError, FREE),
        (413, PAGE, Known.REFUSED, BadRequestError, FREE),
        (415, b"", Known.REFUSED, BadRequestError, FREE),
        (422, b'{"detail": []}', Known.REFUSED, BadRequestError, FREE),
        (418, b"", Known.REFUSED, BadRequestError, FREE),
        (301, b"", Known.REFUSED, BadRequestError, FREE),
        (307, b"", Known.REFUSED, BadRequestError, FREE),
        (400, says("invalid_prompt"), Known.REFUSED, BadRequestError, FREE),
        (500, says("invalid_size"), Known.REFUSED, BadRequestError, FREE),
        (400, says("content_policy_violation"), Known.REFUSED, ContentPolicyError, FREE),
        (401, PLAIN, Known.FATAL, AuthenticationError, FREE),
        (402, PLAIN, Known.FATAL, QuotaExhaustedError, FREE),
        (403, PLAIN, Known.FATAL, PermissionDeniedError, FREE),
        (404, PLAIN, Known.FATAL, NotFoundError, FREE),
        (404, PAGE, Known.FATAL, NotFoundError, FREE),
        (429, says("insufficient_quota"), Known.FATAL, QuotaExhaustedError, FREE),
        (500, says("insufficient_quota"), Known.FATAL, QuotaExhaustedError, FREE),
        (400, says("invalid_api_key"), Known.FATAL, AuthenticationError, FREE),
    ],
)
def test_complete_replies(status, body, known, error, charges):
    """A complete reply has one class, by its code before its status; the class has its charges, error and licence."""
    verdict = judged(status, body)

    assert (known, error, charges) == (verdict.known, type(verdict.error), verdict.known.charges)
    assert status == verdict.error.status
    assert (known in CERTAINLY_FREE | PERHAPS_PAID) == verdict.error.retryable


@pytest.mark.parametrize(
    ("status", "headers", "known"),
    [
        (503, RETRY_AFTER, Known.THROTTLED),
        (503, (), Known.SERVER_FAILED),
        (500, RETRY_AFTER, Known.SERVER_FAILED),
        (502, RETRY_AFTER, Known.SERVER_FAILED),
    ],
)
def test_a_server_that_names_a_time_is_only_busy(status, headers, known):
    """A 503 with Retry-After was not worked on; any other failure may have been, Retry-After or not."""
    assert known is judged(status, headers=headers).known


@pytest.mark.parametrize(
    ("status", "body", "seconds", "usual", "known"),
    [
        (502, PAGE, 0.99, None, Known.GATEWAY_REFUSED),
        (503, PAGE, 0.99, None, Known.GATEWAY_REFUSED),
        (503, b"", 0.99, None, Known.GATEWAY_REFUSED),
        (502, PAGE, 1.0, None, Known.SERVER_FAILED),
        (502, PAGE, 0.24, 1.0, Known.GATEWAY_REFUSED),
        (502, PAGE, 0.25, 1.0, Known.SERVER_FAILED),
        (502, PAGE, 0.99, 60.0, Known.GATEWAY_REFUSED),
        (502, PLAIN, 0.0, None, Known.SERVER_FAILED),
        (500, PAGE, 0.0, None, Known.SERVER_FAILED),
        (504, PAGE, 0.0, None, Known.UNKNOWN),
    ],
)
def test_a_gateway_that_refuses_is_known_by_its_speed_and_its_words(status, body, seconds, usual, known):
    """A 502 or 503 page that is faster than any picture is free; one in the API's own words, or slow, may be paid."""
    verdict = judged(status, body, seconds=seconds, usual_seconds=usual)

    assert known is verdict.known
    assert (FREE if known is Known.GATEWAY_REFUSED else UNKNOWN) == verdict.known.charges


def test_what_is_fast_follows_from_what_is_usual():
    """A quarter of what a success usually takes, and never more than a second."""
    assert [1.0, 1.0, 0.5] == [fast_seconds(usual) for usual in (None, 40.0, 2.0)]


def test_a_server_can_forbid_to_try_again():
    """`x-should-retry: false` makes an error final; `true` promotes nothing that may have been paid or was refused."""
    says_no, says_yes = ((b"X-Should-Retry", b"false"),), ((b"x-should-retry", b"true"),)

    assert [False, False, False] == [judged(status, headers=says_no).error.retryable for status in (429, 503, 400)]
    assert [True, True, False] == [judged(status, headers=says_yes).error.retryable for status in (429, 503, 400)]


def test_a_conflict_is_worth_waiting_for_where_keys_are_replayed():
    """A 409 under a replayed key means that the first request is still being worked on; otherwise it is a refusal."""
    waiting, refused = judged(409, is_replayed=True), judged(409)

    assert (Known.UNKNOWN, True) == (waiting.known, waiting.error.retryable)
    assert (Known.REFUSED, False) == (refused.known, refused.error.retryable)


@pytest.mark.parametrize(
    ("progress", "known", "error", "charges"),
    [
        (Progress(), Known.NOT_SENT, NotSentError, FREE),
        (Progress(phase=Phase.CONNECTING), Known.NOT_SENT, NotSentError, FREE),
        (Progress(phase=Phase.SENDING), Known.UNKNOWN, OutcomeUnknownError, UNKNOWN),
        (Progress(phase=Phase.SENT), Known.UNKNOWN, OutcomeUnknownError, UNKNOWN),
        (Progress(is_traced=False), Known.UNKNOWN, OutcomeUnknownError, UNKNOWN),
        (Progress(phase=Phase.BODY, status=500), Known.UNKNOWN, OutcomeUnknownError, UNKNOWN),
        (Progress(phase=Phase.HEADERS, status=200), Known.PAID_LOST, OutcomeUnknownError, PAID),
        (Progress(phase=Phase.BODY, status=201), Known.PAID_LOST, OutcomeUnknownError, PAID),
    ],
)
def test_failures_by_phase(progress, known, error, charges):
    """Without a complete reply the phase decides: not sent is free, sent is unknown, accepted is paid."""
    verdict = judge_failure(progress, ExchangeError("it broke"))

    assert (known, error, charges) == (verdict.known, type(verdict.error), verdict.known.charges)
    assert verdict.error.retryable
    assert charges == charges_if_stopped(progress)


async def _traced(*events: str) -> Progress:
    progress = Progress(is_traced=False)
    for event in events:
        await progress.trace(event, {})
    return progress


@pytest.mark.anyio
@pytest.mark.parametrize("layer", ["http11", "http2"])
async def test_phases_follow_httpcore(layer):
    """Whether a byte may have left is read from httpcore's events, over HTTP/2 too: a transport may be the user's."""
    assert (await _traced()).may_be_sent
    assert not (await _traced("connection.connect_tcp.started", "connection.connect_tcp.failed")).may_be_sent
    assert (await _traced("connection.connect_tcp.started", f"{layer}.send_request_headers.started")).may_be_sent


def test_the_cause_is_what_happened_below():
    """An error of this library leads to the exception of the layer below, not to a wrapper of our own."""
    below = ConnectionResetError("reset by peer")
    failure = ExchangeError("it broke")
    failure.__cause__ = below

    assert below is judge_failure(Progress(phase=Phase.SENT), failure).error.__cause__


def test_an_untrusted_certificate_is_not_tried_again():
    """A server that cannot prove its name will not be able to a second later, however deep the reason lies."""
    failure = ExchangeError("no handshake")
    failure.__cause__ = OSError("wrapped")
    failure.__cause__.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    failure.__cause__.__cause__.__context__ = ssl.SSLWantReadError("more bytes")

    assert not judge_failure(Progress(phase=Phase.CONNECTING), failure).error.retryable


@pytest.mark.parametrize(
    ("error", "known", "raised", "charges"),
    [
        (UnusableReplyError("no picture"), Known.PAID_UNUSABLE, UnusableReplyError, PAID),
        (RateLimitError("", status=200, code="rate_limit_exceeded"), Known.THROTTLED, RateLimitError, FREE),
        (QuotaExhaustedError("", status=200, code="insufficient_quota"), Known.FATAL, QuotaExhaustedError, FREE),
        (BadRequestError("", status=200, code="invalid_prompt"), Known.REFUSED, BadRequestError, FREE),
        (ContentPolicyError("", status=200, code="content_policy_violation"), Known.REFUSED, ContentPolicyError, FREE),
    ],
)
def test_success_in_the_status_alone(error, known, raised, charges):
    """A 2xx that says by a known code that it failed is judged by the code; one that cannot be used is paid."""
    verdict = judge_unusable(error)

    assert (known, raised, charges) == (verdict.known, type(verdict.error), verdict.known.charges)
    assert (known is Known.THROTTLED) == verdict.error.retryable


FREE_AGAIN, PERHAPS_AGAIN, NEVER_AGAIN = "again, for nothing", "again, and perhaps paid", "never again"

CLASSES = {
    "not sent": (FREE, FREE_AGAIN, False),
    "throttled": (FREE, FREE_AGAIN, False),
    "refused by the gateway": (FREE, FREE_AGAIN, False),
    "server failed": (UNKNOWN, PERHAPS_AGAIN, True),
    "outcome unknown": (UNKNOWN, PERHAPS_AGAIN, False),
    "paid, reply lost": (PAID, PERHAPS_AGAIN, True),
    "paid, reply unusable": (PAID, NEVER_AGAIN, True),
    "refused": (FREE, NEVER_AGAIN, True),
    "refused for every request": (FREE, NEVER_AGAIN, False),
}
"""By the word that ledgers keep: what it costs, whether it is repeated, and whether it used up some of the limit."""


@pytest.mark.parametrize("known", Known)
def test_a_class_means_what_its_word_says_in_ledgers(known):
    """What older runs wrote of an attempt is read as they meant it, and nothing belongs to two kinds."""
    again = [FREE_AGAIN] * (known in CERTAINLY_FREE) + [PERHAPS_AGAIN] * (known in PERHAPS_PAID) or [NEVER_AGAIN]

    assert CLASSES[known.value] == (known.charges, *again, known in PASSED_THE_LIMIT)


def test_every_word_has_its_class():
    """No word that a ledger may hold is unknown."""
    assert CLASSES.keys() == {known.value for known in Known}


@pytest.mark.parametrize(
    ("progress", "charges"),
    [
        (Progress(phase=Phase.BODY, status=400), FREE),
        (Progress(phase=Phase.HEADERS, status=499), FREE),
        (Progress(phase=Phase.BODY, status=399), UNKNOWN),
        (Progress(phase=Phase.BODY, status=500), UNKNOWN),
    ],
)
def test_a_refusal_that_nobody_waited_for_is_free(progress, charges):
    """Giving up in the middle of a refusal's body costs nothing; in that of any other failure, perhaps a picture."""
    assert charges == charges_if_stopped(progress)


def raised(error: Exception, cause: Exception) -> Exception:
    """Return an error that was raised by another one, both with the frames of who raised them."""
    try:
        try:
            raise cause  # noqa: TRY301 - so that it has frames
        except Exception as below:
            raise error from below
    except Exception as met:  # noqa: BLE001 - whatever is given
        return met


def test_an_unusable_reply_leads_to_no_frame():
    """The frames that held a reply, in which a server may repeat the key, are kept by nothing that led to the error."""
    error = raised(UnusableReplyError("no picture"), cause := ValueError("no base64"))
    judge_unusable(error)

    assert (None, None) == (error.__traceback__, cause.__traceback__)


def test_a_sinks_own_frames_are_kept():
    """Whoever wrote a sink that fails sees where; the frames of the call that used it are not kept."""
    error = raised(SinkError("the sink failed"), cause := OSError("disk full"))

    assert Known.PAID_UNUSABLE is judge_unusable(error).known
    assert error.__traceback__ is None
    assert cause.__traceback__ is not None
