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

from typing import Any, ClassVar, TypeVar

from attrs import define, field

from nebula_async.advice import ASK, ASK_WHY, FETCH_LATER, NEXT_DAY, after, cost_of, in_sentences, prospect_of, step_for
from nebula_async.charges import Charges

Exc = TypeVar("Exc", bound=BaseException)

DAY = "day"
"""The scope of a limit that nothing passes any more before 00:00 UTC."""


@define(slots=False)
class NebulaError(Exception):
    """The base of all errors: `except NebulaError` catches what this library raises on purpose.

    `str(error)` says on one line what happened, what it may have cost, whether trying again can help, and the next
    step; each alone is `message`, `paid`, `prospect` and `next_step`. `attempts` were started and `charges` says what
    they may have cost, over the whole call. `retryable` says whether the same request may succeed later; with `charges`
    that decides whether trying again can pay twice.
    """

    message: str
    attempts: int = 0
    charges: Charges = field(factory=Charges)
    retryable: bool = False
    request_id: str | None = None
    idempotency_key: str | None = None
    details: Any = None

    says_what_to_do: ClassVar[bool] = False
    """Whether the messages of this class say what to do by themselves; they need no more words than what was paid."""

    def __str__(self) -> str:
        if self.says_what_to_do:
            return in_sentences(self.message, self.paid) if self.charges.at_most else self.message
        return in_sentences(self.message, self.paid, self.prospect, self.next_step, self._reference)

    @property
    def paid(self) -> str:
        """What may have been paid for, and in how many attempts, in words."""
        return cost_of(self.charges) + (f", in {self.attempts} attempts" if self.attempts > 1 else "")

    @property
    def prospect(self) -> str:
        """Whether trying again can help, and whether that may be paid for once more, in words; "" where the message
        says what to do first.
        """
        return "" if self.says_what_to_do else prospect_of(self.charges, retryable=self.retryable)

    @property
    def next_step(self) -> str:
        """What to do now, in words; "" where the message says it already."""
        return step_for(type(self).__name__)

    @property
    def _reference(self) -> str:
        """What the API's makers want to know, where they are to be asked."""
        is_asked = self.request_id is not None and ASK in self.next_step
        return f"the request_id is {self.request_id}" if is_asked else ""


class ConfigurationError(NebulaError):
    """A setting is missing or wrong: key, URL, timeout, tier. Nothing was sent."""

    says_what_to_do = True


class InvalidRequestError(NebulaError, ValueError):
    """The request was refused before sending: it cost nothing."""

    says_what_to_do = True


class NotSentError(NebulaError):
    """No connection could be made; the request never left and cost nothing."""

    @property
    def next_step(self) -> str:
        """What to do now; "" where the message says it, because the connection is refused and will be again."""
        return step_for("NotSentError") if self.retryable else ""


class OutcomeUnknownError(NebulaError):
    """The request left and no complete answer came back: it may have been paid for."""

    @property
    def next_step(self) -> str:
        """What to do now; where nothing could be charged, as for a list of models, it is as if it had not been sent."""
        return super().next_step if self.charges.at_most else step_for("NotSentError")


class UnusableReplyError(NebulaError):
    """The API answered with success, and the answer holds no usable picture: it was paid for, and is not repeated."""

    @property
    def next_step(self) -> str:
        """What to do now; a list or a balance that cannot be read was free, and no job asks for it again."""
        return super().next_step if self.charges.at_most else ASK_WHY


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

    @property
    def paid(self) -> str:
        """What was paid for: by the call that made the picture, where this one only fetched it."""
        return super().paid if self.charges.at_most else "it was paid for when it was made"

    @property
    def prospect(self) -> str:
        """Whether fetching it again can help, which is free, or another one is to be paid for."""
        if self.retryable:
            return "fetching it again can help, and costs nothing"
        if self.is_forbidden:
            return "fetching it later costs nothing"
        return "fetching it again does not help, and another picture is paid for anew"

    @property
    def next_step(self) -> str:
        """What to do now: the picture may still be fetched, or not; "" where the message says what forbids it."""
        if self.is_forbidden:
            return ""
        return FETCH_LATER if self.retryable else super().next_step


class DeadlineError(NebulaError, TimeoutError):
    """The total time allowed for the call is over; `charges` counts the attempt it interrupted."""


@define(slots=False)
class APIStatusError(NebulaError):
    """The API answered with an error: HTTP `status`, the API's own `code` where it gave one."""

    status: int = 0
    code: str | None = None
    retry_after: float | None = None

    @property
    def prospect(self) -> str:
        """Whether trying again can help, and when; and whether that may be paid for once more."""
        return prospect_of(self.charges, retryable=self.retryable, when=after(self.retry_after))

    @property
    def next_step(self) -> str:
        """What to do now, by what the API said: its code, else the status."""
        return step_for(type(self).__name__, code=self.code, status=self.status)


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
        return self.scope == DAY

    @property
    def prospect(self) -> str:
        """Whether trying again can help, and when: after a delay, or on the next day."""
        when = after(self.retry_after, is_daily=self.is_daily)
        return prospect_of(self.charges, retryable=self.retryable, when=when)

    @property
    def next_step(self) -> str:
        """What to do now: the day's limit is another thing than the minute's."""
        return NEXT_DAY if self.is_daily else super().next_step


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

    says_what_to_do = True


class BudgetExceededError(JobError):
    """The job's budget does not allow what would come next; nothing of that was sent."""


def cause_of(error: NebulaError) -> str:
    """Return what errors are grouped by: the class's name, with the API's code where it gave one, else the status; of
    the day's limit with "day".
    """
    name = type(error).__name__
    if isinstance(error, RateLimitError) and error.is_daily:
        return f"{name} {DAY}"
    if not isinstance(error, APIStatusError) or not error.status:
        return name
    return f"{name} {error.code}" if error.code else f"{name} HTTP {error.status}"


def next_step_of(cause: str) -> str:
    """Return the next step after a cause as `cause_of` gives it, or after the name of a class.

    "" where the message of such an error says it already, and for what is no cause.
    """
    name, _, detail = cause.partition(" ")
    status = detail.removeprefix("HTTP ")
    if detail == DAY:
        return NEXT_DAY
    if detail.startswith("HTTP ") and status.isdecimal():
        return step_for(name, status=int(status))
    return step_for(name, code=detail or None)


def without_frames(error: Exc) -> Exc:
    """Return an exception, and all that led to it, without tracebacks: their frames hold requests, replies and keys."""
    for link in chain_of(error):
        link.__traceback__ = None
    return error


def chain_of(error: BaseException) -> list[BaseException]:
    """Return an exception and all that led to it, also what a report leaves out."""
    found: list[BaseException] = [error]
    for link in found:
        parts = link.exceptions if isinstance(link, BaseExceptionGroup) else ()
        for each in (link.__cause__, link.__context__, *parts):
            if each is not None and not any(each is other for other in found):
                found.append(each)
    return found
