"""What is known after an attempt: whether it was charged, and with that whether it may be repeated.

Phase and reply give exactly one class, and each class has its charges. None of this is documented: it follows
from what an HTTP exchange proves, and from the statuses observed of this API.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum
from ssl import SSLCertVerificationError

from attrs import frozen

from nebula_async.api.envelope import read_body, read_error
from nebula_async.api.messages import Reply
from nebula_async.charges import Charges
from nebula_async.engine.phase import Progress
from nebula_async.errors import (
    APIStatusError,
    AuthenticationError,
    NebulaError,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
    SinkError,
    without_frames,
)

FAST_SECONDS = 1.0
FAST_SHARE = 0.25


class Known(Enum):
    """The classes of outcome."""

    NOT_SENT = "not sent"
    THROTTLED = "throttled"
    GATEWAY_REFUSED = "refused by the gateway"
    SERVER_FAILED = "server failed"
    UNKNOWN = "outcome unknown"
    PAID_LOST = "paid, reply lost"
    PAID_UNUSABLE = "paid, reply unusable"
    REFUSED = "refused"
    FATAL = "refused for every request"

    @property
    def charges(self) -> Charges:
        """What an attempt is charged for each picture it asks for."""
        return CHARGES.get(self, Charges(0, 0))


CHARGES = {
    Known.SERVER_FAILED: Charges(0, 1),
    Known.UNKNOWN: Charges(0, 1),
    Known.PAID_LOST: Charges(1, 1),
    Known.PAID_UNUSABLE: Charges(1, 1),
}

CERTAINLY_FREE = frozenset({Known.NOT_SENT, Known.THROTTLED, Known.GATEWAY_REFUSED})
PERHAPS_PAID = frozenset({Known.SERVER_FAILED, Known.UNKNOWN, Known.PAID_LOST})

PASSED_THE_LIMIT = frozenset({Known.SERVER_FAILED, Known.PAID_LOST, Known.PAID_UNUSABLE, Known.REFUSED})
"""What was refused for its key or by a gateway has not been counted; of what is unknown that is unknown as well."""

FATAL_ERRORS = (AuthenticationError, PermissionDeniedError, QuotaExhaustedError)


@frozen
class Verdict:
    """The class of an attempt that failed, and the exception that a call ending here raises."""

    known: Known
    error: NebulaError


def judge_failure(progress: Progress, failure: Exception) -> Verdict:
    """Judge an attempt that got no complete reply; the error's cause is what happened below."""
    verdict = _verdict_of_failure(progress, failure)
    # Without frames: those of the layers below hold the request as it was written, with the key.
    verdict.error.__cause__ = without_frames(failure.__cause__ or failure)
    return verdict


def judge_reply(
    reply: Reply,
    *,
    now: float,
    seconds: float = math.inf,
    usual_seconds: float | None = None,
    is_replayed: bool = False,
) -> Verdict:
    """Judge a reply that is no success.

    `seconds` is how long it took, `usual_seconds` a success takes; `is_replayed`: the server promises one charge a key.
    """
    error = read_error(reply, now=now)
    known = _class_of(error, reply, is_fast=seconds < fast_seconds(usual_seconds))
    if is_replayed and reply.status == 409:  # the first request under this key is still being worked on
        known = Known.UNKNOWN
    asked_to_stop = any(name.lower() == b"x-should-retry" and value == b"false" for name, value in reply.headers)
    error.retryable = not asked_to_stop and known in CERTAINLY_FREE | PERHAPS_PAID
    return Verdict(known, error)


def judge_unusable(error: NebulaError) -> Verdict:
    """Judge a 2xx that cannot be used, or whose body says by a known code that it failed."""
    if isinstance(error, SinkError):
        error.__traceback__ = None  # as below; the sink's own error keeps its frames
    else:
        without_frames(error)  # they hold the reply, in which a server may have repeated the key
    if not isinstance(error, APIStatusError):
        return Verdict(Known.PAID_UNUSABLE, error)
    known = _class_by_kind(error) or Known.REFUSED
    error.retryable = known in CERTAINLY_FREE
    return Verdict(known, error)


def is_fatal(error: NebulaError) -> bool:
    """Whether every other request would be refused for the same reason: the key or the credit, not the request."""
    if isinstance(error, NotFoundError):
        return error.code is None
    return isinstance(error, FATAL_ERRORS)


def charges_if_stopped(progress: Progress) -> Charges:
    """Return what an attempt that we gave up ourselves may be charged for each picture."""
    if progress.is_accepted:
        return Known.PAID_LOST.charges
    if progress.is_refused:
        return Charges(0, 0)
    return Known.UNKNOWN.charges if progress.may_be_sent else Charges(0, 0)


def fast_seconds(usual_seconds: float | None) -> float:
    """Return below how many seconds no picture can have been made."""
    return FAST_SECONDS if usual_seconds is None else min(FAST_SECONDS, FAST_SHARE * usual_seconds)


def _verdict_of_failure(progress: Progress, failure: Exception) -> Verdict:
    if not progress.may_be_sent:
        return Verdict(Known.NOT_SENT, _not_sent(failure))
    if progress.is_accepted:
        lost = f"the API accepted the request, then its reply was lost: {failure}"
        return Verdict(Known.PAID_LOST, OutcomeUnknownError(lost, retryable=True))
    unknown = f"the request was sent and no complete reply came back: {failure}"
    return Verdict(Known.UNKNOWN, OutcomeUnknownError(unknown, retryable=True))


def _not_sent(failure: Exception) -> NotSentError:
    if any(isinstance(error, SSLCertVerificationError) for error in _chain(failure)):
        step = "check the URL, this machine's clock, and which certificates it trusts"
        return NotSentError(f"the server cannot be trusted, so nothing was sent: {failure}; {step}")
    return NotSentError(f"no connection could be made: {failure}", retryable=True)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _class_of(error: APIStatusError, reply: Reply, *, is_fast: bool) -> Known:
    by_kind = _class_by_kind(error)
    if by_kind is not None:
        return by_kind
    if not isinstance(error, ServerError):
        return Known.REFUSED
    if reply.status == 503 and error.retry_after is not None:
        return Known.THROTTLED
    return _class_of_failure(reply, is_fast=is_fast)


def _class_of_failure(reply: Reply, *, is_fast: bool) -> Known:
    if reply.status not in (500, 502, 503):
        return Known.UNKNOWN
    if reply.status != 500 and is_fast and not read_body(reply.body).is_envelope:
        return Known.GATEWAY_REFUSED
    return Known.SERVER_FAILED


def _class_by_kind(error: APIStatusError) -> Known | None:
    if isinstance(error, RateLimitError) or error.status in (408, 425):
        return Known.THROTTLED
    return Known.FATAL if is_fatal(error) else None
