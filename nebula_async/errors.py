"""Every exception the library raises on purpose.

NebulaError
├── ConfigurationError          a setting is missing or wrong; nothing was sent
├── InvalidRequestError         (also a ValueError) refused before sending
├── NotSentError                the request never left: no connection
├── OutcomeUnknownError         it left, and no complete answer came back
├── UnusableReplyError          paid for, and the answer cannot be used
├── SinkError                   paid for, and the sink did not keep it
├── DownloadError               paid for, and the picture's URL does not give it
├── DeadlineError               (also a TimeoutError) the total time of the call is over
├── APIStatusError              the API answered with an error
│   ├── AuthenticationError     the key is refused
│   ├── PermissionDeniedError   the key may not do this
│   ├── NotFoundError           the model, or the key, is not known
│   ├── RateLimitError          too many requests: `retry_after` seconds, `scope` "day" where it is known
│   ├── QuotaExhaustedError     no credit left
│   ├── ContentPolicyError      the prompt is against the content policy
│   ├── BadRequestError         the API refuses the request as it is
│   └── ServerError             the API failed
└── JobError                    a bulk job cannot start or go on
    └── BudgetExceededError     its budget is used up

All carry plain data in positional fields, so they survive pickling; none holds image bytes or the key.
"""

from __future__ import annotations

from typing import Any, TypeVar

from attrs import define, field

from nebula_async.charges import Charges

Exc = TypeVar("Exc", bound=BaseException)


@define(slots=False)
class NebulaError(Exception):
    """The base of all errors: `except NebulaError` catches what this library raises on purpose.

    `attempts` were started and `charges` says what they may have cost, over the whole call. `retryable` says whether
    the same request may succeed later; with `charges` that decides whether trying again can pay twice.
    """

    message: str
    attempts: int = 0
    charges: Charges = field(factory=Charges)
    retryable: bool = False
    request_id: str | None = None
    idempotency_key: str | None = None
    details: Any = None

    def __str__(self) -> str:
        return self.message


class ConfigurationError(NebulaError):
    """A setting is missing or wrong: key, URL, timeout, tier. Nothing was sent."""


class InvalidRequestError(NebulaError, ValueError):
    """The request was refused before sending: it cost nothing."""


class NotSentError(NebulaError):
    """No connection could be made; the request never left and cost nothing."""


class OutcomeUnknownError(NebulaError):
    """The request left and no complete answer came back: it may have been paid for."""


class UnusableReplyError(NebulaError):
    """The API answered with success, and the answer holds no usable picture: it was paid for, and is not repeated."""


class SinkError(NebulaError):
    """The picture was made and paid for, and the sink that should have kept it failed: `__cause__` is its own error.

    Nothing of the picture is left, but for those of the same reply that were stored before. The request
    is not repeated.
    """


@define(slots=False)
class DownloadError(NebulaError):
    """The picture was made and paid for, and its URL does not give it: gone, expired, or the storage fails.

    `images` are the pictures that have a URL and no bytes; `retryable` says whether `nebula.download(image)` may fetch
    one later, before its `expires_at`. The request is not repeated: that would pay again. `is_forbidden` says that the
    URL was not called, because it leads where pictures may not be fetched from.
    """

    images: tuple[Any, ...] = ()
    is_forbidden: bool = False


class DeadlineError(NebulaError, TimeoutError):
    """The total time allowed for the call is over; `charges` counts the attempt it interrupted."""


@define(slots=False)
class APIStatusError(NebulaError):
    """The API answered with an error: HTTP `status`, the API's own `code` where it gave one."""

    status: int = 0
    code: str | None = None
    retry_after: float | None = None


class AuthenticationError(APIStatusError):
    """The key is refused."""


class PermissionDeniedError(APIStatusError):
    """The key is known and may not do this."""


class NotFoundError(APIStatusError):
    """The model is not known; without a `code`, the key most likely is not (the only 404 ever seen meant that)."""


@define(slots=False)
class RateLimitError(APIStatusError):
    """Too many requests: try again after `retry_after` seconds. `scope` is "day" once that limit is what refuses."""

    scope: str | None = None

    @property
    def is_daily(self) -> bool:
        """Whether nothing will be accepted before 00:00 UTC."""
        return self.scope == "day"


class QuotaExhaustedError(APIStatusError):
    """The account has no credit or quota left; waiting does not help."""


class ContentPolicyError(APIStatusError):
    """The request is against the content policy; sending it again does not help."""


class BadRequestError(APIStatusError):
    """The API refuses the request as it is; sending it again does not help."""


class ServerError(APIStatusError):
    """The API or its gateway failed; `charges` says whether it may have been paid for."""


class JobError(NebulaError):
    """A bulk job cannot start or go on: its folder, its ledger or its manifest."""


class BudgetExceededError(JobError):
    """The job's budget does not allow what would come next; nothing of that was sent."""


def without_frames(error: Exc) -> Exc:
    """Return an exception, and all that led to it, without tracebacks: their frames hold requests, replies and keys."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
